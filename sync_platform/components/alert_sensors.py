"""The sensors that tell people: failed runs, stale data, and what waits (dead letters, systems that are away).

Each looks at what is so now and keeps no list of what it saw: a sensor that was off, or a recipient that was
away, learns the state at the next look. `alerts` decides what is news.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

import dagster as dg
from dagster._core.storage.dagster_run import JobBucket, RunRecord

from sync_platform.components.alerts import OK, Case, Message, tell
from sync_platform.components.capture_alerts import capture_cases
from sync_platform.components.checked import age_of_source
from sync_platform.components.draining import drain_job_name
from sync_platform.components.frequency import longest_gap, next_tick
from sync_platform.project import Project
from sync_platform.state.database import Database, open_state

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec

#: Runs that ended longer ago are no news; whatever was told about them stays told.
NEWS: Final = dt.timedelta(days=7)
#: A system that answers again within this is not worth a message.
BLIP_SECONDS: Final = 60.0
_ENDED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_FAILURES: Final = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}


def alert_sensors() -> list[dg.SensorDefinition]:
    """One sensor of each kind for the whole location."""
    return [
        _sensor("alert_run_failures", _failed_runs, "Tells when the runs of a sync begin or cease to fail.", 15),
        _sensor("alert_freshness", _stale, "Tells when a source was not read for too long, and when it was again.", 30),
        _sensor(
            "alert_waiting", _waiting, "Tells about dead letters, systems that do not answer and followed logs.", 30
        ),
    ]


Look = Callable[[dg.SensorEvaluationContext, Database, "list[SyncSpec]"], Iterator[Case]]


def _sensor(name: str, look: Look, description: str, seconds: int) -> dg.SensorDefinition:
    def evaluate(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        specs = [one.spec for one in Project.current().syncs.values() if one.spec.errors.alert]
        if not specs:
            return dg.SkipReason("no sync names anybody to tell (errors.alert)")
        database = open_state()
        told = tell(database, look(context, database, specs))
        for text in told.unreached:
            context.log.warning(text)
        return dg.SkipReason(str(told))

    return dg.SensorDefinition(
        name=name,
        evaluation_fn=evaluate,
        description=description,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )


# -- runs ----------------------------------------------------------------------------------------


def _failed_runs(context: dg.SensorEvaluationContext, database: Database, specs: list[SyncSpec]) -> Iterator[Case]:
    names = [name for spec in specs for name in (spec.name, drain_job_name(spec.name))]
    records = context.instance.get_run_records(
        dg.RunsFilter(statuses=_ENDED, updated_after=dt.datetime.now(dt.UTC) - NEWS),
        bucket_by=JobBucket(job_names=names, bucket_limit=5),
    )
    newest: dict[str, RunRecord] = {}
    for record in sorted(records, key=lambda one: one.storage_id, reverse=True):
        if _delivers(record):
            newest.setdefault(record.dagster_run.job_name, record)
    for spec in specs:
        for job, subject in ((spec.name, "run"), (drain_job_name(spec.name), "drain")):
            ended = newest.get(job)
            if ended is not None:
                failed = ended.dagster_run.status is dg.DagsterRunStatus.FAILURE
                yield Case(
                    sync=spec.name,
                    subject=subject,
                    state="failing" if failed else OK,
                    recipients=spec.errors.alert,
                    message=partial(_run_message, context.instance, spec, ended),
                )


def _delivers(record: RunRecord) -> bool:
    """Whether the run went to the end of its sync: a plan that succeeds does not say that deliveries do."""
    chosen = record.dagster_run.asset_selection
    return not chosen or any(key.path[-1] == "delivered" for key in chosen)


def _run_message(instance: dg.DagsterInstance, spec: SyncSpec, record: RunRecord) -> Message:
    run = record.dagster_run
    ended = dt.datetime.fromtimestamp(record.end_time or record.create_timestamp.timestamp(), dt.UTC)
    what = "events were delivered by a run" if run.job_name != spec.name else "a run"
    when = f"{ended:%Y-%m-%d %H:%M} UTC"
    if run.status is dg.DagsterRunStatus.SUCCESS:
        return Message(
            title=f"{spec.name}: runs succeed again",
            happened=f"Run {run.run_id} of {run.job_name} succeeded at {when}: {what} went to its end again.",
            follows=_next_run(spec),
        )
    step, reason, mend = _why(instance, run.run_id)
    return Message(
        title=f"{spec.name}: the last run failed",
        happened=f"Run {run.run_id} of {run.job_name} failed at {when}" + (f" in {step}." if step else "."),
        reason=reason,
        mend=mend or f"see the run in the UI, or `sync-platform run {spec.name}`",
        follows=f"{_next_run(spec)} There is no further message until a run succeeds.",
    )


def _why(instance: dg.DagsterInstance, run_id: str) -> tuple[str, str, str]:
    """Step, reason and mend of a failed run, as far as they are known."""
    for record in instance.get_records_for_run(run_id, of_type=_FAILURES).records:
        event = record.event_log_entry.get_dagster_event()
        if not event.is_step_failure:
            return "", event.message or "", ""
        data = event.step_failure_data
        if data.user_failure_data is not None:
            told = data.user_failure_data.metadata.get("mend")
            return event.step_key or "", data.user_failure_data.description or "", str(told.value) if told else ""
        error = data.error
        while error is not None and error.cause is not None:
            error = error.cause
        return event.step_key or "", error.message.strip() if error else event.message or "", ""
    return "", "", ""


def _next_run(spec: SyncSpec) -> str:
    tick = next_tick(spec.frequency, spec.timezone, dt.datetime.now(dt.UTC))
    return f"The next run starts at {tick:%Y-%m-%d %H:%M} UTC." if tick else "The sync runs on demand."


# -- freshness -----------------------------------------------------------------------------------


def _stale(context: dg.SensorEvaluationContext, database: Database, specs: list[SyncSpec]) -> Iterator[Case]:
    """Sources that were read longer ago than two intervals. One that never was counts from when it was first seen."""
    now = dt.datetime.now(dt.UTC)
    before: dict[str, float] = json.loads(context.cursor) if context.cursor else {}
    scheduled = [spec for spec in specs if spec.frequency != "on_demand"]
    seen = {spec.name: before.get(spec.name, now.timestamp()) for spec in scheduled}
    context.update_cursor(json.dumps(seen))
    for spec in scheduled:
        allowed = longest_gap(spec.frequency, spec.timezone, now)
        found = age_of_source(database, spec)
        age = dt.timedelta(seconds=now.timestamp() - seen[spec.name] if found is None else found)
        stale = age > allowed
        yield Case(
            sync=spec.name,
            subject="freshness",
            state="stale" if stale else OK,
            recipients=spec.errors.alert,
            message=partial(_freshness_message, spec, age, allowed, stale=stale),
        )


def _freshness_message(spec: SyncSpec, age: dt.timedelta, allowed: dt.timedelta, *, stale: bool) -> Message:
    if not stale:
        return Message(
            title=f"{spec.name}: up to date again",
            happened=f"{spec.source} was read {_minutes(age)} ago.",
            follows=_next_run(spec),
        )
    return Message(
        title=f"{spec.name}: not up to date",
        happened=f"{spec.source} was last read {_minutes(age)} ago; {_minutes(allowed)} are allowed.",
        reason="No run read the source to its end in that time.",
        mend=f"look with `sync-platform status` whether the daemon is up; run it: `sync-platform run {spec.name}`",
        follows=f"{_next_run(spec)} There is no further message until the source was read.",
    )


def _minutes(span: dt.timedelta) -> str:
    return f"{span.total_seconds() / 60:,.0f} minutes"


# -- what waits ----------------------------------------------------------------------------------


def _waiting(context: dg.SensorEvaluationContext, database: Database, specs: list[SyncSpec]) -> Iterator[Case]:
    with database.connection() as connection:
        letters = connection.execute(
            """SELECT sync, count(*), min(reason) FROM sync.dead_letters
               WHERE state IN ('open', 'retry') GROUP BY sync"""
        ).fetchall()
        circuits = connection.execute(
            "SELECT connection, reason FROM sync.circuits WHERE opened_at < now() - make_interval(secs => %s)",
            (BLIP_SECONDS,),
        ).fetchall()
    waiting = {str(sync): (int(count), str(reason or "")) for sync, count, reason in letters}
    for spec in specs:
        count, reason = waiting.get(spec.name, (0, ""))
        yield Case(
            sync=spec.name,
            subject="dead letters",
            state="open" if count else OK,
            recipients=spec.errors.alert,
            message=partial(_letters_message, spec.name, count, reason),
        )
    away = {str(name): str(reason or "") for name, reason in circuits}
    for name in dict.fromkeys(end.connection for spec in specs for end in (spec.source, spec.target)):
        users = [spec for spec in specs if name in (spec.source.connection, spec.target.connection)]
        yield Case(
            sync="*",
            subject=f"connection {name}",
            state="away" if name in away else OK,
            recipients=tuple(entry for spec in users for entry in spec.errors.alert),
            message=partial(_circuit_message, name, away.get(name), [spec.name for spec in users]),
        )
    yield from capture_cases(database, specs)


def _letters_message(sync: str, count: int, reason: str) -> Message:
    if not count:
        return Message(title=f"{sync}: no dead letters left", happened="Every record that was set aside is settled.")
    return Message(
        title=f"{sync}: {count} record{'s were' if count > 1 else ' was'} set aside",
        happened=f"{count} dead letter{'s wait' if count > 1 else ' waits'}; the other records went on.",
        reason=f"e.g. {reason}" if reason else "",
        mend=f"`sync-platform dead list {sync}`; correct the records, then `sync-platform dead retry`",
        follows="There is no further message until none is left.",
    )


def _circuit_message(connection: str, reason: str | None, syncs: list[str]) -> Message:
    if reason is None:
        return Message(
            title=f"{connection} answers again",
            happened=f"Events of {', '.join(syncs)} are delivered in their order.",
        )
    return Message(
        title=f"{connection} does not answer",
        happened=f"Events of {', '.join(syncs)} wait in their order; nothing is lost.",
        reason=reason,
        mend=f"see whether {connection} is up and whether its credentials are valid: `sync-platform doctor`",
        follows="It is tried at least every minute. There is no further message until it answers.",
    )
