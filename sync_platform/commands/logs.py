"""`log`: every write of one record, from PostgreSQL and from the lake's bulk outcomes."""

from __future__ import annotations

from typing import Any

from sync_platform.staging.lake import Lake
from sync_platform.staging.outcomes import lake_outcomes_of
from sync_platform.state.database import open_state


def outcome_log(sync: str, key: str) -> list[dict[str, Any]]:
    """One entry per field write (or per outcome without fields), oldest first."""
    database = open_state()
    with database.connection() as connection:
        rows = connection.execute(
            """SELECT time, run_id, op, status, reason, fields, side FROM sync.outcomes
               WHERE sync = %s AND source_key = %s ORDER BY id""",
            (sync, key),
        ).fetchall()
    names = ("time", "run_id", "op", "status", "reason", "fields")
    found = [dict(zip((*names, "side"), row, strict=True)) for row in rows]
    with Lake(database).connect() as con:
        found += [{name: row[name] for name in names} for row in lake_outcomes_of(con, sync, key)]
    found.sort(key=lambda row: row["time"])
    return [entry for row in found for entry in _entries(row)]


def _entries(row: dict[str, Any]) -> list[dict[str, Any]]:
    shared = {
        "time": row["time"].isoformat(),
        "run_id": str(row["run_id"]),
        "op": row["op"],
        "status": row["status"],
        "reason": row["reason"],
    }
    if row.get("side"):
        shared["side"] = row["side"]  # of a two-way sync: where it was written
    fields = row["fields"] or {}
    if not fields:
        return [{**shared, "field": None, "old": None, "new": None}]
    return [{**shared, "field": name, "old": pair[0], "new": pair[1]} for name, pair in fields.items()]
