"""What both sides of a two-way sync held when they last agreed, and records that the vendor merged into another.

A link's base changes only with a settled outcome, in its transaction, and never back to an older version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson
import psycopg

from sync_platform.ledger.links import links_of, names_of

if TYPE_CHECKING:
    from sync_platform.engine.spec import Endpoint, SyncSpec
    from sync_platform.state.database import Database

Base: TypeAlias = Mapping[str, Any]

_BASES = """
    SELECT source_key, base_source, base_target FROM sync.links
    WHERE sync = %s AND source_key = ANY(%s) AND base_source IS NOT NULL"""
_OWNERS = """
    SELECT l.target_id, l.source_key FROM sync.links_by_target l JOIN sync.pairs p ON p.sync = l.sync
    WHERE l.target_id = ANY(%(ids)s)
      AND (p.source_connection, p.source_object, p.target_connection, p.target_object)
        = (%(source_connection)s, %(source_object)s, %(target_connection)s, %(target_object)s)
    ORDER BY l.sync = %(sync)s, l.updated_at"""
# What a later version settled meanwhile is not taken back.
_MOVE = """
    UPDATE sync.links l
    SET base_source = coalesce(l.base_source, '{}') || p.source, base_target = coalesce(l.base_target, '{}') || p.target
    FROM unnest(%(keys)s::text[], %(ids)s::text[], %(sources)s::jsonb[], %(targets)s::jsonb[], %(cursors)s::bigint[],
                %(read_ats)s::bigint[]) AS p(key, id, source, target, cursor, read_at)
    WHERE l.sync = %(sync)s AND l.source_key = p.key AND l.target_id = p.id
      AND (l.version_cursor IS NULL OR p.cursor IS NULL
           OR (l.version_cursor, coalesce(l.version_read_at, 0)) <= (p.cursor, coalesce(p.read_at, 0)))"""
_ONE_EACH = """
    DELETE FROM sync.links l
    USING sync.links_by_target t, unnest(%(keys)s::text[], %(ids)s::text[]) AS p(key, id)
    WHERE t.sync = %(sync)s AND t.target_id = ANY(%(ids)s::text[]) AND t.target_id = p.id AND t.source_key <> p.key
      AND l.sync = %(sync)s AND l.source_key = t.source_key AND l.target_id = t.target_id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLink:
    """A linked pair of records: its ids, the version of the source that was delivered, and its bases if it has some."""

    key: str
    target_id: str
    cursor: int | None = None
    read_at: int | None = None
    base_source: Base | None = None
    base_target: Base | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePatch:
    """The fields of a linked pair that are settled: what each side holds now, as JSON values."""

    key: str
    target_id: str
    source: Base
    target: Base
    cursor: int | None
    read_at: int | None


def pair_links(database: Database, spec: SyncSpec, keys: Sequence[str]) -> dict[str, PairLink]:
    """The links of these source records with their bases, by source key."""
    if not keys:
        return {}
    links = links_of(database, spec, keys)
    with database.reading() as connection:
        bases = {row[0]: row[1:] for row in connection.execute(_BASES, (spec.name, list(keys))).fetchall()}
    return {
        key: PairLink(
            key=key, target_id=target_id, cursor=cursor, read_at=read_at,
            base_source=bases.get(key, (None, None))[0], base_target=bases.get(key, (None, None))[1],
        )
        for key, target_id, _, cursor, read_at in links.iter_rows()
    }  # fmt: skip


def partners(database: Database, spec: SyncSpec, target_ids: Sequence[str]) -> dict[str, str]:
    """The source record of each of these target records that is linked, by this sync or another of the same objects."""
    if not target_ids:
        return {}
    with database.reading() as connection:
        rows = connection.execute(_OWNERS, names_of(spec) | {"ids": list(target_ids)}).fetchall()
    return {str(target_id): str(key) for target_id, key in rows}


def move_bases(connection: psycopg.Connection[Any], spec: SyncSpec, patches: Sequence[BasePatch]) -> None:
    """Folds settled fields into the bases of their links, in the caller's transaction."""
    if not patches:
        return
    told = {
        "sync": spec.name,
        "keys": [one.key for one in patches],
        "ids": [one.target_id for one in patches],
        "sources": [orjson.dumps(one.source).decode() for one in patches],
        "targets": [orjson.dumps(one.target).decode() for one in patches],
        "cursors": [one.cursor for one in patches],
        "read_ats": [one.read_at for one in patches],
    }
    connection.execute(_ONE_EACH, told)
    connection.execute(_MOVE, told)


def merged_away(database: Database, place: Endpoint, ids: Sequence[str]) -> dict[str, str]:
    """Of these records those known to be merged away, with the record that survives in the end."""
    if not ids:
        return {}
    with database.reading() as connection:
        rows = connection.execute(
            """WITH RECURSIVE chain(first, survivor) AS (
                   SELECT loser, survivor FROM sync.merged_records
                   WHERE connection = %(connection)s AND object = %(object)s AND loser = ANY(%(ids)s)
                   UNION SELECT c.first, m.survivor FROM chain c JOIN sync.merged_records m
                     ON m.connection = %(connection)s AND m.object = %(object)s AND m.loser = c.survivor)
               SELECT first, survivor FROM chain c WHERE NOT EXISTS (
                   SELECT 1 FROM sync.merged_records m
                   WHERE m.connection = %(connection)s AND m.object = %(object)s AND m.loser = c.survivor)""",
            {"connection": place.connection, "object": place.object, "ids": list(ids)},
        ).fetchall()
    return {str(loser): str(survivor) for loser, survivor in rows}


def remember_merged(connection: psycopg.Connection[Any], place: Endpoint, merged: Mapping[str, str]) -> list[str]:
    """Notes records that were merged into others; returns those that were not known before."""
    rows = connection.execute(
        """INSERT INTO sync.merged_records (connection, object, loser, survivor)
           SELECT %s, %s, d.loser, d.survivor FROM unnest(%s::text[], %s::text[]) AS d(loser, survivor)
           WHERE d.loser <> d.survivor
           ON CONFLICT DO NOTHING RETURNING loser""",
        (place.connection, place.object, list(merged), list(merged.values())),
    ).fetchall()
    return [str(row[0]) for row in rows]
