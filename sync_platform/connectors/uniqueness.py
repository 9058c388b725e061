"""Targets that can tell that a record to be created is there already, because one of its constraints says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniqueness:
    """What a target says about a set of fields: whether no two of its records share their values."""

    ensured: bool
    problem: str | None = None  # why what looks like a constraint over these fields cannot be relied on
    mend: str | None = None


@runtime_checkable
class UniqueTarget(Protocol):
    """A bulk target in which a create that meets a record with the same match values tells that record's id."""

    def uniqueness(self, stream: str, match: Sequence[str]) -> Uniqueness:
        """Whether the target itself ensures that no two records share these fields' values."""

    def write_bulk(self, stream: str, op: str, rows: pa.Table, delivery: str, match: Sequence[str] = ()) -> pa.Table:
        """As `BulkTarget.write_bulk`, but a create whose record is there already is told.

        Where `uniqueness` of `match` is ensured, such a create writes nothing and comes back REFUSED with the
        `_target_id` of the record it met.
        """
