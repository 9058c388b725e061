"""The hourly job that deletes old events of the warm lane, ours and Dagster's."""

import dagster as dg

from sync_platform.components.installation import told
from sync_platform.session import Session


@dg.op(description="Deletes events that were delivered long ago, and their traces in Dagster.")
def delete_old_events(context: dg.OpExecutionContext, installation: dg.ResourceParam[Session]) -> None:
    """Deletes and logs how many rows of each kind."""
    from sync_platform.realtime import purge as purging

    with told(installation):
        deleted = purging.purge(installation.database, installation.now())
    context.log.info("deleted: " + ", ".join(f"{count} {name}" for name, count in deleted.items()))


@dg.job(
    name="purge_runless_events",
    description="Deletes events of the warm lane delivered over two weeks (hints of followed logs: six hours) ago.",
    executor_def=dg.in_process_executor,
)
def purge() -> None:
    """One step."""
    delete_old_events()


purge_schedule = dg.ScheduleDefinition(
    job=purge,
    cron_schedule="17 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
