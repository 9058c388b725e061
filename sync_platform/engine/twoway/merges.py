"""Records the vendor merged: links follow to the survivor, and the loser is never taken for a deletion.

A merge in a CRM leaves one record of two. The other one's id is deleted (Salesforce) or answers with the survivor
(HubSpot), and its values are in the survivor. What was linked to the loser is linked to the survivor from then on; when
both were linked, the survivor keeps its own partner, and the loser's partner is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from sync_platform.connectors.connector import TellsMerges
from sync_platform.ledger.bases import merged_away, partners, remember_merged
from sync_platform.ledger.settle import settle, settled_frame
from sync_platform.model import DELETED, KEY, Op, Status

if TYPE_CHECKING:
    import psycopg

    from sync_platform.engine.spec import Endpoint, Side, SyncSpec
    from sync_platform.session import Session
    from sync_platform.state.database import Database


def merges_in(session: Session, place: Endpoint, rows: pl.DataFrame) -> dict[str, str]:
    """The merges that rows of a stream tell of: loser -> survivor.

    A deleted row is asked about, unless it is known; a survivor may list its losers itself (`Stream.merged_ids`).
    """
    connector = session.connector(place.connection)
    stream = connector.stream(place.object)
    found: dict[str, str] = {}
    if stream.merged_ids is not None and stream.merged_ids in rows.columns:
        for key, losers in rows.select(KEY, stream.merged_ids).drop_nulls().iter_rows():
            found |= {loser.strip(): key for loser in str(losers).split(";") if loser.strip()}
    gone = [key for key in rows.filter(pl.col(DELETED))[KEY] if key not in found]
    return found | merges_of(session, place, gone)


def merges_of(session: Session, place: Endpoint, gone: Sequence[str]) -> dict[str, str]:
    """Of records that are gone those that were merged away, as remembered or as the vendor says."""
    known = merged_away(session.database, place, gone)
    asked = [key for key in gone if key not in known]
    connector = session.connector(place.connection)
    if asked and isinstance(connector, TellsMerges):
        known |= {loser: survivor for loser, survivor in connector.merged(place.object, asked).items() if survivor}
    return known


def follow(
    session: Session, spec: SyncSpec, side: Side, merged: Mapping[str, str], plan_id: str, *, lane: str = "batch"
) -> list[str]:
    """Remembers merges and moves the links of the losers; returns a sentence for each link that was touched.

    Of several losers of one survivor the first one's link follows: vendors list first the record people merged into.
    """
    if not merged:
        return []
    place = spec.source if side == "source" else spec.target
    said: list[str] = []
    with session.database.connection() as connection:
        remember_merged(connection, place, merged)
    ends = merged_away(session.database, place, list(merged))
    with session.database.connection() as connection:
        links = _links(connection, spec, side, [*ends, *ends.values()])
        rows = []
        for loser in [one for one in merged if one in ends and one in links]:
            row, taken = touched(side, loser, ends[loser], links)
            if not taken:
                _move(connection, spec, side, loser, ends[loser])
                links[ends[loser]] = links.pop(loser)
            elif _told_before(connection, spec, row):
                continue
            rows.append(row)
            said.append(f"{spec.name}: {row['reason']}")
        settle(
            connection, spec, settled_frame(rows), run_id=session.run_id, plan_id=plan_id, lane=lane, side=side
        )  # fmt: skip
    return said


def _links(connection: psycopg.Connection[Any], spec: SyncSpec, side: Side, ids: Sequence[str]) -> dict[str, str]:
    """This side's ids with the other side's, for the links of this sync."""
    mine, other, table = _columns(side)
    rows = connection.execute(
        f"SELECT {mine}, {other} FROM {table} WHERE sync = %s AND {mine} = ANY(%s)", (spec.name, list(ids))
    ).fetchall()
    return {str(row[0]): str(row[1]) for row in rows}


def _columns(side: Side) -> tuple[str, str, str]:
    """Where a link has this side's id and where the other one's, and what finds links by this side's."""
    if side == "source":
        return "source_key", "target_id", "sync.links"
    return "target_id", "source_key", "sync.links_by_target"


def touched(side: Side, loser: str, survivor: str, links: Mapping[str, str]) -> tuple[dict[str, Any], bool]:
    """The outcome row that says what became of the loser's link; whether the survivor has a partner of its own."""
    taken = survivor in links
    if taken:
        reason = (
            f"{side} {loser} was merged into {survivor}, which is linked to {links[survivor]}; {links[loser]} is left "
            "as it is and no longer kept in step"
        )
    else:
        reason = f"{side} {loser} was merged into {survivor}; its link to {links[loser]} follows"
    here = loser if taken else survivor
    row = {
        "source_key": here if side == "source" else links[loser],
        "target_id": links[loser] if side == "source" else here,
        "op": str(Op.SKIP),
        "status": str(Status.NOOP),
        "fields": "{}",
        "reason": reason,
    }
    return row, taken


def _move(connection: psycopg.Connection[Any], spec: SyncSpec, side: Side, loser: str, survivor: str) -> None:
    column, _, table = _columns(side)
    connection.execute(
        f"""UPDATE sync.links SET {column} = %(survivor)s, version_cursor = NULL, updated_at = now()
            WHERE sync = %(sync)s AND {column} = %(loser)s
              AND source_key IN (SELECT source_key FROM {table} WHERE sync = %(sync)s AND {column} = %(loser)s)""",
        {"survivor": survivor, "sync": spec.name, "loser": loser},
    )


def was_told(database: Database, spec: SyncSpec, row: Mapping[str, Any]) -> bool:
    """Whether an outcome of `touched` is in the ledger already: a loser that keeps its link is met again and again."""
    with database.reading() as connection:
        return _told_before(connection, spec, row)


def _told_before(connection: psycopg.Connection[Any], spec: SyncSpec, row: Mapping[str, Any]) -> bool:
    found = connection.execute(
        "SELECT 1 FROM sync.outcomes WHERE sync = %s AND source_key = %s AND reason = %s LIMIT 1",
        (spec.name, row["source_key"], row["reason"]),
    ).fetchone()
    return found is not None


def parked(session: Session, spec: SyncSpec, keys: Sequence[str], target_ids: Sequence[str]) -> set[str]:
    """Of linked pairs the source keys of those that one side merged away: nothing is done for them any more."""
    lost = set(merged_away(session.database, spec.source, keys))
    gone = merged_away(session.database, spec.target, target_ids)
    return lost | set(partners(session.database, spec, list(gone)).values()) if gone else lost
