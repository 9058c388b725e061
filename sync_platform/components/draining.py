"""The job that delivers a sync's waiting events when no worker does.

It is a job of its own rather than the sync's: it delivers exactly the events that wait, in a few calls and
with the workers' rules, while the sync's run reads both sides and would have to settle events it never saw.
It does not hold the sync: like a worker it shares it with a batch run, record by record.
"""

import dagster as dg

from sync_platform.components.frequency import next_tick
from sync_platform.components.installation import told
from sync_platform.engine.spec import SyncSpec
from sync_platform.run_tags import DRAINS
from sync_platform.session import Session


def drain_job_name(sync: str) -> str:
    """The job that drains a sync."""
    return f"{sync}_drain"


def drain_job(spec: SyncSpec) -> dg.JobDefinition:
    """The job of one sync; its only step is a worker that stops when nothing is left."""

    @dg.op(name=f"deliver_events_of_{spec.name}", description=f"Delivers the events that wait for {spec.target}.")
    def deliver_events(context: dg.OpExecutionContext, installation: dg.ResourceParam[Session]) -> None:
        with told(installation):
            batches = drain(installation, spec, context.instance)
        context.log.info(f"{spec.name}: delivered {batches} batches of events")

    @dg.job(
        name=drain_job_name(spec.name),
        description=f"Delivers what waits for {spec.name} when no worker does.",
        executor_def=dg.in_process_executor,
        tags={DRAINS: spec.name},
    )
    def drain_events() -> None:
        deliver_events()

    return drain_events


def drain(session: Session, spec: SyncSpec, instance: dg.DagsterInstance) -> int:
    """Delivers what waits for a sync and tells Dagster; how many batches."""
    from sync_platform.realtime.telling import Teller
    from sync_platform.realtime.window import Windows
    from sync_platform.realtime.worker import Worker

    specs = {spec.name: spec}
    with Teller(session.database, lambda: specs, lambda: instance, session.say) as teller:
        windows = Windows(
            session.database,
            teller.publish,
            lambda one: next_tick(one.frequency, one.timezone, session.now()),
            session.traffic,
        )
        return Worker(session, windows, lambda: specs, say=session.say).drain([spec.name])
