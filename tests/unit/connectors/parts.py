"""Parts of a plan as the engine hands them to a database, and what the database answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa


def part(keys: Sequence[str], targets: Sequence[str | None] | None = None, **fields: Any) -> pa.Table:
    """Rows to write: a column for each field."""
    columns = {"_key": pa.array(keys, pa.string()), "_target_id": pa.array(targets or [None] * len(keys), pa.string())}
    return pa.table(columns | {n: v if isinstance(v, pa.Array) else pa.array(v) for n, v in fields.items()})


def told(outcomes: pa.Table) -> dict[str, Mapping[str, Any]]:
    """The outcomes by key."""
    return {row["_key"]: row for row in outcomes.to_pylist()}


def statuses(outcomes: pa.Table) -> list[str]:
    """The outcomes' statuses, in the order of the rows."""
    return outcomes["_status"].to_pylist()
