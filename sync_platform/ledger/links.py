"""Which target record a source record is, and what we last wrote to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
import psycopg

from sync_platform.ledger.copying import fetched

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.state.database import Database

LINKS = {
    "_key": pl.String,
    "_target_id": pl.String,
    "_base": pl.Int64,
    "_link_cursor": pl.Int64,
    "_link_read_at": pl.Int64,
}


def links_of(database: Database, spec: SyncSpec, keys: Sequence[str]) -> pl.DataFrame:
    """The links of these source keys, another sync's identity standing in where this sync has none.

    An identity stands in only while no other record of this sync has taken that target record over.
    Columns: `_key`, `_target_id`, `_base` (hash last written; null when another sync made the
    identity), `_link_cursor`, `_link_read_at`.
    """
    if not keys:
        return pl.DataFrame(schema=LINKS)
    # one record after the other, whatever the statistics say: reading all links for some thousand records takes eight
    # times as long, for a hundred thousand twice (OFFSET 0 keeps the planner from making a join of it)
    own = """
        SELECT k.key, l.target_id, l.base, l.version_cursor, l.version_read_at
        FROM unnest(%(keys)s::text[]) AS k(key) CROSS JOIN LATERAL (
            SELECT target_id, base, version_cursor, version_read_at FROM sync.links
            WHERE source_key = k.key AND sync = %(sync)s OFFSET 0) AS l"""
    query = """
        SELECT k.key, coalesce(l.target_id, i.target_id), l.base, l.version_cursor, l.version_read_at
        FROM unnest(%(keys)s::text[]) AS k(key)
        LEFT JOIN sync.links l ON l.sync = %(sync)s AND l.source_key = k.key
        LEFT JOIN LATERAL (
            SELECT o.target_id FROM sync.links o WHERE o.source_key = k.key AND o.sync = ANY(%(others)s)
            ORDER BY o.updated_at DESC LIMIT 1) i ON l.target_id IS NULL
        WHERE l.target_id IS NOT NULL
           OR (i.target_id IS NOT NULL AND NOT EXISTS (
                  SELECT 1 FROM sync.links o
                  WHERE o.sync = %(sync)s AND o.target_id = i.target_id AND o.target_id <> o.source_key
                    AND o.source_key <> k.key)
               AND NOT EXISTS (
                  SELECT 1 FROM sync.links o
                  WHERE o.sync = %(sync)s AND o.source_key = i.target_id AND o.target_id = o.source_key
                    AND o.source_key <> k.key))"""
    with database.reading() as connection:
        sync, others = _speaking(connection, spec)
        return fetched(
            connection, query if others else own, {"keys": list(keys), "sync": sync, "others": others}, LINKS
        )


def has_links(database: Database, spec: SyncSpec) -> bool:
    """Whether this pair of objects may have a link or an identity yet; before the first one was made it has none."""
    with database.reading() as connection:
        own = connection.execute("SELECT 1 FROM sync.pairs WHERE sync = %s", (spec.name,)).fetchone()
        return own is not None or bool(_speaking(connection, spec)[1])


def _speaking(connection: psycopg.Connection[Any], spec: SyncSpec) -> tuple[str | None, list[str]]:
    """The sync whose links count as this one's own, and the others that link the same two objects.

    What those linked is an identity for this one, too. A sync that was pointed to other objects since
    has no links of its own: the ids it remembers are those of other records.
    """
    found = connection.execute(
        """SELECT sync, (source_connection, source_object, target_connection, target_object)
                        = (%(source_connection)s, %(source_object)s, %(target_connection)s, %(target_object)s)
           FROM sync.pairs
           WHERE sync = %(sync)s
              OR (source_connection = %(source_connection)s AND source_object = %(source_object)s
                  AND target_connection = %(target_connection)s AND target_object = %(target_object)s)""",
        names_of(spec),
    ).fetchall()
    same = {str(sync): bool(equal) for sync, equal in found}
    return spec.name if same.pop(spec.name, True) else None, list(same)


def owners_of(database: Database, spec: SyncSpec, target_ids: Sequence[str]) -> pl.DataFrame:
    """The source keys linked by this sync to these target ids: `_target_id`, `_key`."""
    schema = {"_target_id": pl.String, "_key": pl.String}
    if not target_ids:
        return pl.DataFrame(schema=schema)
    query = "SELECT target_id, source_key FROM sync.links_by_target WHERE sync = %(sync)s AND target_id = ANY(%(ids)s)"
    with database.reading() as connection:
        return fetched(connection, query, {"sync": spec.name, "ids": list(target_ids)}, schema)


def members_of(database: Database, spec: SyncSpec, keys: Sequence[str]) -> pl.DataFrame:
    """The dedupe keys these source records had when they were last settled: `source_key`, `dedupe_key`."""
    query = """
        SELECT source_key, dedupe_key FROM sync.members
        WHERE sync = %(sync)s AND source_key = ANY(%(keys)s) AND dedupe_key IS NOT NULL"""
    with database.reading() as connection:
        return fetched(
            connection,
            query,
            {"sync": spec.name, "keys": list(keys)},
            {"source_key": pl.String, "dedupe_key": pl.String},
        )


def names_of(spec: SyncSpec) -> dict[str, str]:
    """The sync and its two objects, as parameters of a statement."""
    return {
        "sync": spec.name,
        "source_connection": spec.source.connection,
        "source_object": spec.source.object,
        "target_connection": spec.target.connection,
        "target_object": spec.target.object,
    }
