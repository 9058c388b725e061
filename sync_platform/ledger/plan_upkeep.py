"""Deletes the Parquet parts of plans that nobody can deliver any more. The plans' rows, which say what became of
them, stay."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

from sync_platform.ledger.plans import PlanFiles

if TYPE_CHECKING:
    from sync_platform.state.database import Database


def forget_parts(database: Database, *, keep: dt.timedelta) -> int:
    """Deletes the parts of ended plans older than `keep`; returns how many plans lost theirs.

    A plan ended when it was delivered, superseded, failed or is past its time. One whose delivery broke off keeps its
    parts: the next run needs them. Parts without a row are those of a process that died before it wrote the row.
    """
    folder = PlanFiles(database.home.lake, "").folder
    if not folder.exists():
        return 0
    before = dt.datetime.now(dt.UTC) - keep
    kept = _needed(database, before)
    ended = [path for path in folder.iterdir() if path.name not in kept and _changed(path) < before]
    for path in ended:
        PlanFiles(database.home.lake, path.name).remove()
    return len(ended)


def _needed(database: Database, before: dt.datetime) -> set[str]:
    """The ids of plans whose parts somebody may still want."""
    with database.connection() as connection:
        rows = connection.execute(
            """SELECT plan_id::text FROM sync.plans WHERE state = 'delivering' OR created_at >= %(before)s
                   OR (state IN ('building', 'ready', 'blocked') AND expires_at >= %(before)s)""",
            {"before": before},
        ).fetchall()
    return {str(row[0]) for row in rows}


def _changed(path: Path) -> dt.datetime:
    return dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
