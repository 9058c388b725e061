"""Targets that know which of their objects refer to which: records are there before those that refer to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Related(Protocol):
    """A target with references between its objects that it enforces (foreign keys)."""

    def refers_to(self, stream: str, others: Sequence[str]) -> list[str]:
        """Those of `others`, without the stream itself, whose records must be there before its own."""
