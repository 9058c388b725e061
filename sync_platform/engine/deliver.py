"""The second half of a run: a plan is delivered, its outcomes are settled, and only then the position moves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import polars as pl
from psycopg.types.json import Jsonb

from sync_platform.connectors.connector import BulkTarget
from sync_platform.crash import crash_point
from sync_platform.engine.bulk import BulkDelivery
from sync_platform.engine.reconcile import TAKEN_OVER
from sync_platform.engine.recover import recover
from sync_platform.engine.report import Measured, Tally, build_report, counts_of, missing_required, resolution_for
from sync_platform.engine.rowwise import RowwiseDelivery
from sync_platform.engine.twoway.delivering import settle_rest, write_both
from sync_platform.errors import BlockedError
from sync_platform.ledger.audit import seal
from sync_platform.ledger.copying import copy_in
from sync_platform.ledger.plans import Plan, PlanFiles, load_plan, refuse_undeliverable, set_plan, supersede_others
from sync_platform.ledger.positions import SyncPosition, write_position
from sync_platform.ledger.settle import SETTLED, settle
from sync_platform.ledger.unsettled import close_waiting, count_open, hold_linked, waiting_keys
from sync_platform.model import Op, Status

if TYPE_CHECKING:
    import datetime as dt

    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session

ORDER = (Op.DELETE, Op.ARCHIVE, Op.UPDATE, Op.CREATE)


def deliver(
    session: Session, spec: SyncSpec, plan_id: str, *, exact: bool, next_sync: dt.datetime | None
) -> dict[str, Any]:
    """Writes exactly the plan's changes, settles every outcome, moves the position; returns the report.

    `exact` (apply): a target that moved since the plan is refused, not overwritten. Raises BlockedError
    for a plan that may not be delivered; AccessError when the target can't be reached (settled batches
    stay settled, the position does not move, the next run goes on).
    """
    session.hold(spec.name)
    begun = time.monotonic()
    with session.database.connection() as connection:
        plan = load_plan(connection, plan_id)
    files = PlanFiles(session.database.home.lake, plan_id)
    if plan.state == "settled" and exact:
        return _nothing(session, spec, plan, next_sync)
    refuse_undeliverable(plan, session.now())
    _refuse_altered(plan, files, spec)
    recover(session, spec)
    with session.database.connection() as connection:
        set_plan(connection, plan_id, "delivering")
    tally = Tally()
    with session.timed("deliver"):
        for settled in _write(session, spec, plan, files, exact):
            tally.add(settled)
            session.progress(f"{spec.name}: {tally.outcomes.total():,} written to {spec.target}")
        for settled in _settle_the_rest(session, spec, plan, files):
            tally.add(settled)
    return _finish(session, spec, plan, files, tally, time.monotonic() - begun, next_sync)


def _refuse_altered(plan: Plan, files: PlanFiles, spec: SyncSpec) -> None:
    if plan.config_hash != spec.config_hash():
        raise BlockedError(f"plan {plan.plan_id} was made with another mapping of {spec.name}", mend="make a new plan")
    if files.digest() != plan.summary.get("parts_sha256"):
        raise BlockedError(
            f"the stored changes of plan {plan.plan_id} are not those that were planned", mend="make a new plan"
        )


def _write(session: Session, spec: SyncSpec, plan: Plan, files: PlanFiles, exact: bool) -> Iterator[pl.DataFrame]:
    if spec.two_way is not None:
        yield from write_both(session, spec, plan, files, exact)
        return
    connector = session.connector(spec.target.connection)
    stream = connector.stream(spec.target.object)
    fields = files.fields()
    if isinstance(connector, BulkTarget):
        bulk = BulkDelivery(session, spec, plan, connector, connector, stream, fields, exact)
    else:
        bulk = None
    rowwise = RowwiseDelivery(session, spec, plan.plan_id, connector, stream, fields, exact)
    counts = plan.summary["counts"]
    total = sum(count for op, count in counts.items() if op != Op.INVALID)
    for op in ORDER:
        if not counts[str(op)]:
            continue
        # where nothing else is planned there is nothing to choose, which would copy every row
        wanted = pl.lit(True) if counts[str(op)] == total else pl.col("_op") == str(op)
        parts = files.numbered("changes", wanted)
        if bulk is not None:
            yield from bulk.deliver_parts(op, parts)
            continue
        for _, rows in parts:
            yield from rowwise.deliver(op, rows)
    if bulk is not None:
        yield from bulk.finish()


def _settle_the_rest(session: Session, spec: SyncSpec, plan: Plan, files: PlanFiles) -> Iterator[pl.DataFrame]:
    """Rows that need no call: new links of equal records, held rows, dead letters of the contract."""
    if spec.two_way is not None:
        yield from settle_rest(session, spec, plan, files)
        for invalid in files.parts("invalid"):
            yield _settle(session, spec, plan, contract_failures(invalid, spec))
        return
    for linked in files.chosen("changes", (pl.col("_op") == str(Op.SKIP)) & pl.col("_relink")):
        _settle(session, spec, plan, without_call(linked, Status.NOOP), outcomes=False)
    for held in files.chosen("changes", pl.col("_op") == str(Op.HOLD)):
        yield _settle(session, spec, plan, without_call(held, Status.HELD))
    for invalid in files.parts("invalid"):
        yield _settle(session, spec, plan, contract_failures(invalid, spec))


def contract_failures(invalid: pl.DataFrame, spec: SyncSpec) -> pl.DataFrame:
    """Records that the contract refused (see `desired`), as they are settled."""
    return invalid.select(
        source_key="_key", target_id=pl.lit(None), op=pl.lit(str(Op.INVALID)), status=pl.lit(str(Status.FAILED)),
        fields=pl.lit(None), field="field", reason="reason",
        resolution=pl.lit(resolution_for(None, spec)), request_id=pl.lit(None), token=pl.lit(None),
        base=pl.lit(None), version_cursor="_cursor", version_read_at="_read_at", payload="payload",
        reasons="reasons", kind=pl.lit("contract"),
    ).cast(SETTLED)  # fmt: skip


def without_call(rows: pl.DataFrame, status: Status) -> pl.DataFrame:
    """Changes that need no call (see `planning`), as they are settled."""
    nothing = pl.lit(None, dtype=pl.String)
    return rows.select(
        source_key="_key", target_id="_target_id", op="_op", status=pl.lit(str(status)), fields=nothing, field=nothing,
        reason="_reason", resolution=nothing, request_id=nothing, token=nothing, base="_base",
        version_cursor="_cursor", version_read_at="_read_at", payload=nothing, reasons=nothing, kind=nothing,
    ).cast(SETTLED)  # fmt: skip


def _settle(session: Session, spec: SyncSpec, plan: Plan, rows: pl.DataFrame, *, outcomes: bool = True) -> pl.DataFrame:
    with session.database.connection() as connection:
        settle(connection, spec, rows, run_id=session.run_id, plan_id=plan.plan_id, record_outcomes=outcomes)
    return rows


def _finish(
    session: Session,
    spec: SyncSpec,
    plan: Plan,
    files: PlanFiles,
    tally: Tally,
    seconds: float,
    next_sync: dt.datetime | None,
) -> dict[str, Any]:
    """Members, position, plan state, audit seal and report: one transaction."""
    counts = counts_of(files)
    with session.database.connection() as connection:
        if spec.dedupe:
            _remember_members(connection, spec, files)
        close_waiting(connection, spec.name, _needless(files, waiting_keys(connection, spec.name)))
        hold_linked(connection, spec.name, _not_handed_over(files))
        position = SyncPosition(streams=plan.positions_to, evaluated_at=plan.evaluated_at, config_hash=plan.config_hash)
        write_position(connection, spec.name, position, session.run_id)
        set_plan(connection, plan.plan_id, "settled")
        supersede_others(connection, plan)
        seal(connection, spec.name, session.run_id)
        report = build_report(
            spec,
            run_id=session.run_id,
            plan_id=plan.plan_id,
            lane="batch",
            tally=tally,
            counts=counts,
            completeness=float(plan.summary.get("completeness", 1.0)),
            missing=missing_required(files),
            open_letters=count_open(connection, spec.name),
            measured=_measured(session, seconds),
            next_sync=next_sync,
            first_sync_held=int(plan.summary.get("first_sync_held", 0)),
        )
        _store(connection, spec, session.run_id, report)
    crash_point("position_written")
    return report


def _needless(files: PlanFiles, waiting: list[str]) -> list[str]:
    """Of the records that wait, those this plan had nothing to do for (a delete that failed is not one of them)."""
    if not waiting:
        return []
    wanted = pl.col("_key").is_in(waiting)
    idle = {key for kind in ("left", "duplicates") for part in files.chosen(kind, wanted) for key in part["_key"]}
    busy = {key for part in files.chosen("invalid", wanted, "_key") for key in part["_key"]}
    for kind in ("changes", "back"):  # a two-way sync has several rows for one record
        for part in files.chosen(kind, wanted, "_key", "_op"):
            for key, op in part.iter_rows():
                (idle if op == Op.SKIP else busy).add(key)
    return sorted(idle - busy)


def _not_handed_over(files: PlanFiles) -> list[str]:
    """The records that left and whose target record another one was to take over (it may have been refused)."""
    going_on = (pl.col("_op") == str(Op.SKIP)) & pl.col("_reason").str.ends_with(TAKEN_OVER)
    return [key for part in files.chosen("changes", going_on, "_key") for key in part["_key"]]


def _nothing(session: Session, spec: SyncSpec, plan: Plan, next_sync: dt.datetime | None) -> dict[str, Any]:
    """The report of a plan that was applied before: nothing is written, nothing was processed."""
    with session.database.connection() as connection:
        report = build_report(
            spec,
            run_id=session.run_id,
            plan_id=plan.plan_id,
            lane="batch",
            tally=Tally(),
            counts={"processed": 0, "unchanged": 0, "invalid": 0, "duplicates": 0},
            completeness=1.0,
            missing=[],
            open_letters=count_open(connection, spec.name),
            measured=_measured(session, 0.0),
            next_sync=next_sync,
        )
        _store(connection, spec, session.run_id, report)
    return report


def _measured(session: Session, seconds: float) -> Measured:
    traffic = session.traffic()
    before = sum(value for name, value in session.seconds.items() if name != "deliver")
    return Measured(
        seconds=seconds + before,
        seconds_by_step={name: session.seconds.get(name, 0.0) for name in ("extract", "transform", "plan", "deliver")},
        api_calls=traffic.api_calls,
        bytes_sent=traffic.bytes_sent,
        seconds_waiting_for_quota=traffic.seconds_waiting_for_quota,
    )


def _store(connection: Any, spec: SyncSpec, run_id: str, report: dict[str, Any]) -> None:
    connection.execute(
        """INSERT INTO sync.reports (run_id, sync, lane, finished_at, report) VALUES (%s, %s, %s, now(), %s)
           ON CONFLICT (run_id) DO UPDATE SET finished_at = now(), report = excluded.report""",
        (run_id, spec.name, report["lane"], Jsonb(report)),
    )


def _remember_members(connection: Any, spec: SyncSpec, files: PlanFiles) -> None:
    """Every record of the set with the dedupe key it has now; those that left are forgotten."""
    connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS settled_members (source_key text, dedupe_key text) ON COMMIT DELETE ROWS"
    )
    for kind in ("desired", "invalid", "duplicates"):
        for part in files.parts(kind):
            copy_in(
                connection,
                "settled_members",
                part.select(source_key="_key", dedupe_key=pl.col("_dedupe_key").cast(pl.String)),
            )
    connection.execute(
        """INSERT INTO sync.members (sync, source_key, dedupe_key)
           SELECT DISTINCT ON (source_key) %s, source_key, dedupe_key FROM settled_members
           ON CONFLICT (sync, source_key) DO UPDATE SET dedupe_key = excluded.dedupe_key""",
        (spec.name,),
    )
    for part in files.parts("left"):
        gone = part.filter(pl.col("_why") != "duplicate")["_key"].to_list()
        connection.execute("DELETE FROM sync.members WHERE sync = %s AND source_key = ANY(%s)", (spec.name, gone))
