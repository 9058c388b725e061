"""The dedupe key every source record had when it was last settled: who shares one is decided together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
import psycopg

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.state.database import Database


def mates_of(database: Database, spec: SyncSpec, keys: Sequence[str], dedupe_keys: Sequence[str]) -> list[str]:
    """The source records last settled under one of these dedupe keys, or under one that `keys` had then."""
    with database.reading() as connection:
        rows = connection.execute(
            """SELECT source_key FROM sync.members
               WHERE sync = %(sync)s AND dedupe_key IN (
                   SELECT unnest(%(now)s::text[])
                   UNION SELECT dedupe_key FROM sync.members WHERE sync = %(sync)s AND source_key = ANY(%(keys)s))""",
            {"sync": spec.name, "keys": list(keys), "now": list(dedupe_keys)},
        ).fetchall()
    return [str(row[0]) for row in rows]


def remember_members(connection: psycopg.Connection[Any], spec: SyncSpec, parts: Sequence[pl.DataFrame]) -> None:
    """Notes the dedupe keys of these records (`source_key`, `dedupe_key`) in the caller's transaction."""
    told = {key: dedupe_key for part in parts for key, dedupe_key in part.iter_rows()}
    connection.execute(
        """INSERT INTO sync.members AS m (sync, source_key, dedupe_key)
           SELECT %s, d.key, d.dedupe_key FROM unnest(%s::text[], %s::text[]) AS d(key, dedupe_key) ORDER BY d.key
           ON CONFLICT (sync, source_key) DO UPDATE SET dedupe_key = excluded.dedupe_key
              WHERE m.dedupe_key IS DISTINCT FROM excluded.dedupe_key""",
        (spec.name, list(told), list(told.values())),
    )
