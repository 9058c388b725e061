"""The job that keeps the lake small: every load leaves a few small files, which somebody must merge and delete."""

import datetime as dt
from typing import Any

import dagster as dg
from pydantic import Field

from sync_platform.components.installation import told
from sync_platform.session import Session

#: Between the quarter hours at which realtime syncs run.
HOURLY = "37 * * * *"


class UpkeepConfig(dg.Config):
    """What a person may change when launching `lake_upkeep` in the UI."""

    keep_hours: float = Field(
        24.0, ge=0.0, description="Old versions are kept this long; longer than any reader or run takes"
    )
    patience_seconds: float = Field(
        60.0, ge=0.0, description="A table that is written for longer than this is left for the next time"
    )


def upkeep_definitions() -> dg.Definitions:
    """The job `lake_upkeep` and its hourly schedule, which `up` keeps running."""

    @dg.op(description="Merge the lake's small files; delete what no snapshot needs and the parts of ended plans.")
    def compact_and_expire(
        context: dg.OpExecutionContext, config: UpkeepConfig, installation: dg.ResourceParam[Session]
    ) -> dict[str, Any]:
        with told(installation):
            done = _upkeep(installation, config)
        context.log.info(
            f"compacted {len(done['compacted'])} tables, left {', '.join(done['busy']) or 'none'} for the next time, "
            f"removed {done['snapshots']} snapshots, {done['files']} files and the parts of {done['plans']} ended plans"
        )
        context.add_output_metadata(done)
        return done

    @dg.job(
        name="lake_upkeep",
        executor_def=dg.in_process_executor,
        description="Merges the small files that loads leave in the lake and deletes versions nobody reads any more.",
    )
    def job() -> None:
        compact_and_expire()

    schedule = dg.ScheduleDefinition(
        name="lake_upkeep_schedule",
        job=job,
        cron_schedule=HOURLY,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return dg.Definitions(jobs=[job], schedules=[schedule])


def _upkeep(session: Session, config: UpkeepConfig) -> dict[str, Any]:
    from sync_platform.ledger.plan_upkeep import forget_parts
    from sync_platform.staging.maintain import upkeep

    keep = dt.timedelta(hours=config.keep_hours)
    done = upkeep(
        session.lake,
        keep=keep,
        patience=dt.timedelta(seconds=config.patience_seconds),
    )
    return {
        "compacted": list(done.compacted),
        "busy": list(done.busy),
        "snapshots": done.expired.snapshots,
        "files": done.expired.files,
        "plans": forget_parts(session.database, keep=keep),
    }
