"""The sensors of a realtime sync: events nobody delivers, and changes of sources that send no events.

Sensors are evaluated every few seconds in Dagster's code server, so each asks one small question.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import dagster as dg
from dagster._core.storage.dagster_run import RunRecord

from sync_platform.components.draining import drain_job_name
from sync_platform.connectors.connector import Connector
from sync_platform.errors import SyncError
from sync_platform.ledger.captures import standings
from sync_platform.project import Project
from sync_platform.run_tags import SYNC
from sync_platform.staging.debts import debts
from sync_platform.state.database import Database, open_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_platform.engine.spec import Endpoint, SyncSpec

EVERY_SECONDS: Final = 5  # as often as the daemon looks at all
PROBE_SECONDS: Final = 15
#: After a run that failed the next one waits: whatever broke it rarely mends itself in seconds.
AFTER_FAILURE: Final = dt.timedelta(seconds=60)
#: A worker says every five seconds that it lives.
WORKER_SECONDS: Final = 15.0
Answer = dg.RunRequest | dg.SkipReason


def realtime_sensors(
    spec: SyncSpec, connector: Connector, target: Connector | None = None
) -> list[dg.SensorDefinition]:
    """The sensors of one sync; `connector` is its source's, which need not be connected, `target` a two-way one's."""
    if spec.frequency != "realtime":
        return []
    ends = [spec.source] if has_probe(connector) else []
    if spec.two_way is not None and target is not None and has_probe(target):
        ends.append(spec.target)
    return [_backlog_sensor(spec), *([_change_sensor(spec, ends)] if ends else [])]


def has_probe(connector: Connector) -> bool:
    """Whether a source can be asked cheaply if it changed; those that send events need not be."""
    return type(connector).probe is not Connector.probe


def _last_run(instance: dg.DagsterInstance, job: str) -> RunRecord | None:
    return next(iter(instance.get_run_records(dg.RunsFilter(job_name=job), limit=1)), None)


def _requested(what: str, last: RunRecord | None, tags: dict[str, str]) -> Answer:
    """A run unless one is in progress or one has just failed. Its key names the run before it: one each."""
    if last is not None and not last.dagster_run.is_finished:
        run = last.dagster_run
        return dg.SkipReason(f"a run is in progress: {run.run_id} ({run.status.value.lower()})")
    if last is not None and last.dagster_run.status is dg.DagsterRunStatus.FAILURE:
        ended = dt.datetime.fromtimestamp(last.end_time or last.create_timestamp.timestamp(), dt.UTC)
        left = ended + AFTER_FAILURE - dt.datetime.now(dt.UTC)
        if left > dt.timedelta():
            return dg.SkipReason(f"the last run failed; the next one may start in {left.total_seconds():.0f} s")
    before = last.dagster_run.run_id if last is not None else "first"
    return dg.RunRequest(run_key=f"{what}, after {before}", tags=tags)


# -- backlog -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What waits for one sync. Ages are in seconds; None: there is no such event."""

    waiting: float | None  # the oldest event that is not delivered
    free: float | None  # the oldest that somebody could deliver now
    seq: int | None  # its number
    retry: float | None  # seconds until the next one may be tried again
    away: str | None  # why a system of the sync is left alone for now
    worker: str | None  # a worker that lives

    @classmethod
    def of(cls, database: Database, spec: SyncSpec) -> Backlog:
        """One look at the state."""
        told = {
            "sync": spec.name,
            "connections": [spec.source.connection, spec.target.connection],
            "worker": WORKER_SECONDS,
        }
        with database.connection() as connection:
            row = connection.execute(_BACKLOG, told).fetchone()
        assert row is not None
        waiting, free, seq, retry, away, worker = row
        return cls(waiting=waiting, free=free, seq=seq, retry=retry, away=away, worker=worker)


_BACKLOG: Final = """
    SELECT (SELECT extract(epoch FROM now() - i.received_at)::float8
            FROM sync.queue q JOIN sync.inbox i USING (seq)
            WHERE q.sync = %(sync)s AND q.state = 'waiting' ORDER BY q.seq LIMIT 1),
           extract(epoch FROM now() - free.received_at)::float8, free.seq,
           (SELECT extract(epoch FROM min(q.not_before) - now())::float8 FROM sync.queue q
            WHERE q.sync = %(sync)s AND q.state = 'waiting' AND q.not_before > now()),
           (SELECT format('%%s does not answer: %%s', c.connection, c.reason) FROM sync.circuits c
            WHERE c.connection = ANY(%(connections)s) AND c.retry_at > now() LIMIT 1),
           (SELECT format('%%s (pid %%s)', w.host, w.pid) FROM sync.workers w
            WHERE w.seen_at > now() - make_interval(secs => %(worker)s) ORDER BY w.seen_at DESC LIMIT 1)
    FROM (SELECT 1) AS one
    LEFT JOIN LATERAL (
        SELECT q.seq, i.received_at FROM sync.queue q JOIN sync.inbox i USING (seq)
        WHERE q.sync = %(sync)s AND q.state = 'waiting' AND (q.not_before IS NULL OR q.not_before <= now())
          AND (q.owner IS NULL OR q.lease_until < now())
        ORDER BY q.seq LIMIT 1) AS free ON true"""


def _backlog_sensor(spec: SyncSpec) -> dg.SensorDefinition:
    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        backlog = Backlog.of(open_state(), spec)
        answer = decide(spec, backlog, float(context.cursor) if context.cursor else None)
        if isinstance(answer, dg.RunRequest):
            answer = _requested(answer.run_key or "", _last_run(context.instance, drain_job_name(spec.name)), {})
        cursor = "" if backlog.free is None else str(backlog.free)
        if isinstance(answer, dg.RunRequest):
            return dg.SensorResult(run_requests=[answer], cursor=cursor)
        return dg.SensorResult(skip_reason=answer, cursor=cursor)

    return dg.SensorDefinition(
        name=f"{spec.name}_backlog",
        job_name=drain_job_name(spec.name),
        evaluation_fn=evaluate,
        description=f"Starts a run that delivers events when they wait longer than {spec.max_lag:g} s.",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )


def decide(spec: SyncSpec, backlog: Backlog, before: float | None) -> Answer:
    """Whether a run must take over; `before` is how old the oldest free event was at the last look.

    A worker that lives and catches up is left to it; one that falls behind gets help.
    """
    if backlog.waiting is None:
        return dg.SkipReason("no backlog")
    if backlog.waiting <= spec.max_lag:
        return dg.SkipReason(f"backlog is {backlog.waiting:.0f} s old, max_lag {spec.max_lag:g} s")
    if backlog.away is not None:
        return dg.SkipReason(f"backlog is {backlog.waiting:.0f} s old and waits: {backlog.away}")
    if backlog.free is None or backlog.free <= spec.max_lag:
        if backlog.retry is not None:
            return dg.SkipReason(f"events wait for their next try in {backlog.retry:.0f} s")
        return dg.SkipReason(f"a worker is alive and works on it: {backlog.worker or 'its lease is valid'}")
    if backlog.worker is not None and (before is None or backlog.free < before):
        return dg.SkipReason(f"a worker is alive and catches up: {backlog.worker}, {backlog.free:.0f} s behind")
    return dg.RunRequest(run_key=f"event {backlog.seq}")


# -- changes -------------------------------------------------------------------------------------


def _change_sensor(spec: SyncSpec, ends: Sequence[Endpoint]) -> dg.SensorDefinition:
    names = " and ".join(map(str, ends))

    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from sync_platform.session import Session

        def requested(what: str) -> Answer:
            return _requested(what, _last_run(context.instance, spec.name), {SYNC: spec.name})

        try:
            session = Session.open(Project.current())
            debt = _debt_of(session.database, ends)
            if debt is not None:
                return _answered(requested(debt), context.cursor)
            followed = {name for name, one in standings(session.database).items() if one.follows}
            asked = [end for end in ends if end.connection not in followed]
            if not asked:
                return dg.SensorResult(skip_reason=f"capture tells what changes in {names}", cursor=context.cursor)
            told = [session.connector(end.connection).probe(end.object) for end in asked]
        except SyncError as error:
            return dg.SensorResult(skip_reason=f"{names} cannot be asked: {error.message}")
        seen = " ".join(one for one in told if one is not None)
        if not seen or seen == context.cursor:
            return dg.SensorResult(skip_reason=f"{names} did not change")
        return _answered(requested(seen), seen)

    return dg.SensorDefinition(
        name=f"{spec.name}_changes",
        job_name=spec.name,
        evaluation_fn=evaluate,
        description=f"Runs the sync when {names} changed, or owes a full compare.",
        minimum_interval_seconds=PROBE_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )


def _answered(answer: Answer, cursor: str | None) -> dg.SensorResult:
    """The cursor moves with a run only: a run in progress may have read before the change."""
    if isinstance(answer, dg.SkipReason):
        return dg.SensorResult(skip_reason=answer)
    return dg.SensorResult(run_requests=[answer], cursor=cursor)


def _debt_of(database: Database, ends: Sequence[Endpoint]) -> str | None:
    """Which stream owes a full compare since when, which the sync's run pays; None when none does."""
    owed = debts(database, [(end.connection, end.object) for end in ends])
    return next((f"{name}/{stream} owes a compare since {one.since}" for (name, stream), one in owed.items()), None)
