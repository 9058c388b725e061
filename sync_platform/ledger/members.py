"""The dedupe key every source record had when it was last settled: who shares one is decided together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
import psycopg

from sync_platform.ledger.copying import copy_in

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.state.database import Database


def mates_of(database: Database, spec: SyncSpec, dedupe_keys: Sequence[str]) -> list[str]:
    """The source records that were last settled under one of these dedupe keys."""
    if not dedupe_keys:
        return []
    with database.connection() as connection:
        rows = connection.execute(
            "SELECT source_key FROM sync.members WHERE sync = %s AND dedupe_key = ANY(%s)",
            (spec.name, list(dedupe_keys)),
        ).fetchall()
    return [str(row[0]) for row in rows]


def remember_members(connection: psycopg.Connection[Any], spec: SyncSpec, parts: Sequence[pl.DataFrame]) -> None:
    """Notes the dedupe keys of these records (`source_key`, `dedupe_key`) in the caller's transaction."""
    connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS settled_members (source_key text, dedupe_key text) ON COMMIT DELETE ROWS"
    )
    for part in parts:
        copy_in(connection, "settled_members", part.select("source_key", "dedupe_key"))
    connection.execute(
        """INSERT INTO sync.members (sync, source_key, dedupe_key)
           SELECT DISTINCT ON (source_key) %s, source_key, dedupe_key FROM settled_members
           ON CONFLICT (sync, source_key) DO UPDATE SET dedupe_key = excluded.dedupe_key""",
        (spec.name,),
    )
