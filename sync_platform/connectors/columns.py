"""Targets to which fields can be added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import pyarrow as pa


@runtime_checkable
class AddsColumns(Protocol):
    """A target whose objects can be given new fields by us (databases)."""

    def column_ddl(self, stream: str, fields: Mapping[str, pa.DataType]) -> list[str]:
        """The statements that add these fields, as they are run and as a person may run them."""

    def add_columns(self, stream: str, fields: Mapping[str, pa.DataType]) -> None:
        """Adds fields that are not there yet. Raises AuthError with the statements where the role may not."""
