"""The first half of a two-way run: what changed on either side since the last delivery, mapped in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from sync_platform.engine.changeset import open_change_set
from sync_platform.engine.desired import Prepared, looked_up, refuse_wrong, streams_of, with_payload
from sync_platform.engine.twoway.changes import target_of
from sync_platform.engine.twoway.foreseen import Foreseen
from sync_platform.engine.twoway.merges import merges_in
from sync_platform.engine.twoway.pairing import Pairing
from sync_platform.engine.twoway.refusing import refuse_loops
from sync_platform.engine.twoway.staged import StagedSide
from sync_platform.engine.twoway.terms import pairing_of
from sync_platform.engine.validation import validate
from sync_platform.ledger.conflicts import resolved_keys
from sync_platform.ledger.plans import LIFETIME, PART_ROWS, Plan, PlanFiles, insert_plan, new_plan_id
from sync_platform.ledger.positions import read_position
from sync_platform.ledger.unsettled import unsettled_keys
from sync_platform.model import DELETED, KEY, SEQ
from sync_platform.staging.tables import high_seq

if TYPE_CHECKING:
    import duckdb

    from sync_platform.engine.spec import Side, SyncSpec
    from sync_platform.ledger.positions import SyncPosition
    from sync_platform.session import Session

SOURCE_VALUE: Final = "_src:"  # before the name of a source field, beside the mapped target fields


def prepare_both(session: Session, spec: SyncSpec, *, full: bool = False) -> Prepared:
    """Writes a plan's parts `desired` (source records, mapped), `fresh` (target records nobody links) and `left`.

    Nothing is sent and no link moves: records that were merged are the part `merges`. Raises ConfigError for a side
    that was never staged.
    """
    session.hold(spec.name)
    plan_id = new_plan_id()
    with session.lake.connect() as con:
        con.begin()
        try:
            return _prepare(session, spec, con, plan_id, full)
        finally:
            con.rollback()


def _prepare(session: Session, spec: SyncSpec, con: duckdb.DuckDBPyConnection, plan_id: str, full: bool) -> Prepared:
    source = StagedSide.open(con, session.database, spec.source, "source")
    target = StagedSide.open(con, session.database, spec.target, "target")
    now = session.now()
    with session.database.connection() as connection:
        position = read_position(connection, spec.name)
        asked = [*unsettled_keys(connection, spec), *resolved_keys(connection, spec.name)]
    told = {name: high_seq(con, *name.split("/", 1)) for name in streams_of(session, spec)}
    full = full or position.fresh or position.config_hash != spec.config_hash()
    found = pairing_of(session, spec, source.schema, target.schema)
    refuse_wrong(session, spec, found.forward, source.schema)
    if full:  # the first run of this configuration
        refuse_loops(session, spec, found, source, target)
    files = PlanFiles(session.database.home.lake, plan_id)
    foreseen = _foresee(session, spec, files, source, target, position, full)
    asked_targets = [id for key in asked if (id := target_of(key)) is not None]
    drifted = _write_fresh(foreseen, found, files, source, target, position, asked_targets, full)
    keys = [key for key in asked if target_of(key) is None]
    changes = open_change_set(
        con,
        spec,
        positions=position.streams,
        evaluated_at=position.evaluated_at,
        now=now,
        extra_keys=[*keys, *drifted],
        full=full,
        newer=source.newer,
    )
    with changes:
        since = 0 if position.fresh else position.streams.get(str(spec.source), 0)
        counts = _write_desired(session, spec, con, changes, files, found, since)
    files.write("duplicates", 0, changes.duplicates)
    files.write("left", 0, changes.left)
    prepared = Prepared(plan_id=plan_id, duplicates=0, left=changes.left.height, **counts)
    plan = Plan(
        plan_id=plan_id, sync=spec.name, digest="", config_hash=spec.config_hash(), compare="target",
        positions_from=position.streams, positions_to=told, evaluated_at=now, state="building", reason=None,
        created_at=now, expires_at=now + LIFETIME,
    )  # fmt: skip
    with session.database.connection() as connection:
        insert_plan(connection, replace(plan, summary=asdict(prepared)), session.run_id)
    return prepared


def _foresee(
    session: Session,
    spec: SyncSpec,
    files: PlanFiles,
    source: StagedSide,
    target: StagedSide,
    position: SyncPosition,
    full: bool,
) -> Foreseen:
    """The links as they will be when they followed the records that were merged since the last delivery."""
    foreseen = Foreseen(session, spec)
    sides: tuple[tuple[Side, StagedSide], ...] = (("source", source), ("target", target))
    for side, staged in sides:
        stream = session.connector(staged.place.connection).stream(staged.place.object)
        since = position.streams.get(str(staged.place), 0)
        rows = staged.telling(since, stream.merged_ids, everything=full)
        for sentence in foreseen.see(side, merges_in(session, staged.place, rows)):
            session.say(sentence)
    foreseen.write(files)
    return foreseen


def _write_fresh(
    foreseen: Foreseen,
    found: Pairing,
    files: PlanFiles,
    source: StagedSide,
    target: StagedSide,
    position: SyncPosition,
    asked: Sequence[str],
    full: bool,
) -> list[str]:
    """Writes the parts `fresh`; returns the source records to look at because of what moved at the target.

    Those are the partners of linked records and what an unlinked one may be; with `full` all are looked at anyway.
    """
    since, sources = position.streams.get(str(target.place), 0), list[str]()
    for number, moved in enumerate(target.moved(since, asked, everything=full)):
        fresh, linked = _unlinked(foreseen, moved)
        files.write("fresh", number, fresh.with_columns(_changed=pl.col(SEQ) > since))
        if not full:
            sources += [*linked, *_known_sources(found, source, fresh)]
    return sources


def _unlinked(foreseen: Foreseen, moved: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The living moved target records that nobody links, and the source records of those that are linked."""
    keys = moved[KEY].to_list()
    linked = foreseen.partners(keys)
    lost = foreseen.merged_away("target", keys)
    fresh = moved.filter(~pl.col(DELETED) & ~pl.col(KEY).is_in([*linked, *lost]))
    return fresh, list(linked.values())


def _known_sources(found: Pairing, source: StagedSide, fresh: pl.DataFrame) -> list[str]:
    """The source records that unlinked target records may be, by their match values."""
    on = found.reversed.match
    if not on or fresh.is_empty():
        return []
    mapped = found.back.apply(fresh)
    if on[0] not in mapped.columns:
        return []
    values = mapped[on[0]].cast(pl.String).to_list()
    return list(source.having(on[0], values)[KEY])


def _write_desired(
    session: Session,
    spec: SyncSpec,
    con: duckdb.DuckDBPyConnection,
    changes: Any,
    files: PlanFiles,
    found: Pairing,
    since: int,
) -> dict[str, int]:
    contract = session.project.load(spec.contract, field_name="contract") if spec.contract else None
    counts = {"desired": 0, "invalid": 0, "cells_filled": 0, "cells_total": 0}
    for number, frame in enumerate(changes.frames(PART_ROWS)):
        news = frame.with_columns(_changed=pl.col(SEQ) > since)
        mapped = found.forward.apply(news, looked_up(con, spec, found.forward, news))
        checked = validate(mapped, contract, required=found.forward.required)
        if checked.invalid.height:
            refused = mapped.join(checked.invalid.select(KEY).unique(), on=KEY, how="semi")
            files.write("refused", number, with_payload(refused, checked.invalid))
            counts["invalid"] += refused.height
        raw = [pl.col(n).alias(SOURCE_VALUE + n) for n in found.source_fields if n in frame.columns]
        files.write("desired", number, pl.concat([mapped, frame.select(raw)], how="horizontal"))
        counts["desired"] += mapped.height
        counts["cells_filled"] += checked.cells_filled
        counts["cells_total"] += checked.cells_total
    return counts
