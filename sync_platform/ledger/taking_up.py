"""What a handful of linked records needs before it is written, in one trip: claims, links, and what is known of them.

The claims are taken first and the links read after them, in one transaction: what is decided cannot be older than
the claims. Whatever is not the usual case is told, and left to `claims`, `links` and `intents`, which know it all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sync_platform.ledger.claims import ORDER, RELEASE, TAKE
from sync_platform.ledger.links import names_of

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.state.database import Database

_TAKE: Final = TAKE.format(
    wanted="""(SELECT DISTINCT 'id:' || l.target_id AS key FROM sync.links l
               WHERE l.sync = %(sync)s AND l.source_key = ANY(%(records)s) ORDER BY 1) AS linked"""
)
# Each record is looked up by its key whatever the statistics say: a plan that reads these tables whole costs more than
# all the rest of a batch (OFFSET 0 keeps the planner from making a join of it).
_LOOK: Final = """
    SELECT k.key, l.target_id, l.base, l.version_cursor, l.version_read_at,
           o.row, o.deleted, o.version_cursor, o.version_read_at, o.read_cursor, o.field_times, o.xmin,
           NOT EXISTS (SELECT 1 FROM sync.intents WHERE sync = %(sync)s AND source_key = ANY(%(records)s))
           AND EXISTS (SELECT 1 FROM sync.pairs p WHERE p.sync = %(sync)s
                         AND (p.source_connection, p.source_object, p.target_connection, p.target_object)
                           = (%(source_connection)s, %(source_object)s, %(target_connection)s, %(target_object)s))
    FROM unnest(%(records)s::text[]) AS k(key)
    LEFT JOIN LATERAL (
        SELECT target_id, base, version_cursor, version_read_at FROM sync.links
        WHERE source_key = k.key AND sync = %(sync)s OFFSET 0) AS l ON true
    LEFT JOIN LATERAL (
        SELECT row, deleted, version_cursor, version_read_at, read_cursor, field_times, xmin::text FROM sync.observed
        WHERE (connection, stream, key) = (%(source_connection)s, %(source_stream)s, k.key) OFFSET 0) AS o ON true"""


class Link(NamedTuple):
    """What a source record is linked to, and the version that was delivered."""

    target_id: str
    base: int | None
    cursor: int | None
    read_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenUp:
    """Claimed records: each with its link, and its row of `sync.observed` (None: not known).

    `usual`: every record is linked, to a target of its own which is claimed, and no create of theirs is open.
    """

    claims: Sequence[str]
    links: Mapping[str, Link]
    known: Mapping[str, Sequence[Any] | None]
    usual: bool


def take_up(database: Database, spec: SyncSpec, stream: str, keys: Sequence[str], owner: str, lease: float) -> TakenUp:
    """Claims the target records that these source records are linked to, as far as they are free.

    `stream`: the source stream as `sync.observed` names it. Release what was claimed (`release`), usual or not.
    """
    told = names_of(spec) | {
        "source_stream": stream, "records": list(keys), "owner": owner, "lease": lease, "all": False,
        "place": f"claims {spec.target}", "connection": spec.target.connection, "object": spec.target.object,
    }  # fmt: skip
    with database.connection() as connection, connection.pipeline():
        connection.execute(ORDER, told)
        claimed = connection.execute(_TAKE, told)
        looked = connection.execute(_LOOK, told)
        connection.commit()
        claims, rows = [str(row[0]) for row in claimed.fetchall()], looked.fetchall()
    links = {row[0]: Link(*row[1:5]) for row in rows if row[1] is not None}
    wanted = {f"id:{one.target_id}" for one in links.values()}
    return TakenUp(
        claims=claims,
        links=links,
        known={row[0]: row[5:12] if row[5] is not None else None for row in rows},
        usual=bool(rows) and rows[0][12] and len(wanted) == len(rows) == len(keys) and wanted == set(claims),
    )


def release(database: Database, spec: SyncSpec, claims: Sequence[str], owner: str) -> None:
    """Gives claims back."""
    if claims:
        with database.reading() as connection:
            connection.execute(RELEASE, (spec.target.connection, spec.target.object, list(claims), owner))
