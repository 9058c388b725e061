"""The Source component: objects of one connection, staged in the lake."""

from typing import Any

import dagster as dg
from pydantic import BaseModel

from sync_platform.components.attributes import SourceAttributes, StreamOptions
from sync_platform.components.installation import told
from sync_platform.components.scaffolding import SourceScaffolder
from sync_platform.engine.spec import Endpoint
from sync_platform.meanwhile import importing
from sync_platform.run_tags import SYNC
from sync_platform.session import Session


def staging_key(endpoint: Endpoint) -> dg.AssetKey:
    """The asset of a staged stream: staging/<connection>/<object>."""
    return dg.AssetKey(["staging", endpoint.connection, endpoint.object])


@dg.scaffold_with(SourceScaffolder)
class Source(dg.Component):
    """The objects of one connection that are staged: each becomes an asset staging/<connection>/<object>.

    ```yaml
    type: sync_platform.Source
    attributes:
      connection: salesforce
      streams:
        - object: Lead
    ```
    """

    def __init__(self, attributes: SourceAttributes) -> None:
        self.attributes = attributes

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """The schema of the YAML attributes."""
        return SourceAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> "Source":
        """The component of one YAML document."""
        assert isinstance(attributes, SourceAttributes)
        return cls(attributes)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """One asset, one job and at most one schedule per stream."""
        return dg.Definitions.merge(
            *[
                staging_definitions(
                    Endpoint(connection=self.attributes.connection, object=stream.object),
                    stream,
                    self.attributes.description,
                )
                for stream in self.attributes.streams
            ]
        )


def staging_definitions(endpoint: Endpoint, options: StreamOptions, description: str = "") -> dg.Definitions:
    """The asset that loads one stream, its job and its schedule."""
    asset = _staging_asset(endpoint, options, description)
    name = f"load_{endpoint.connection}_{endpoint.object}".replace(".", "_").replace("-", "_")
    job = dg.define_asset_job(name, selection=[asset.key], executor_def=dg.in_process_executor)
    schedules = [dg.ScheduleDefinition(job=job, cron_schedule=options.schedule)] if options.schedule else []
    return dg.Definitions(assets=[asset], jobs=[job], schedules=schedules)


def _staging_asset(endpoint: Endpoint, options: StreamOptions, description: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=staging_key(endpoint),
        group_name=endpoint.connection,
        description=description or f"{endpoint.object} of {endpoint.connection}, as the source has it.",
        kinds={endpoint.connection, "dlt", "duckdb"},
        metadata={"dagster/table_name": f"staging.{endpoint.connection}.{endpoint.object}"},
    )
    def staged(context: dg.AssetExecutionContext, installation: dg.ResourceParam[Session]) -> dg.MaterializeResult:  # type: ignore[type-arg]
        with told(installation):
            _heed(installation, endpoint, context.run.tags.get(SYNC))
            return _materialize(installation, endpoint, options)

    return staged


def _heed(session: Session, endpoint: Endpoint, sync: str | None) -> None:
    """A sync that waits when a schema changes does so before its source is loaded: the load may not take the change."""
    declared = session.project.syncs.get(sync) if sync else None
    if declared is None or declared.spec.drift != "pause" or declared.spec.source != endpoint:
        return
    from sync_platform.engine.drift import heed_drift
    from sync_platform.staging.tables import columns

    with session.lake.connect() as con:
        staged = columns(con, endpoint.connection, endpoint.object)
    if staged is not None:
        heed_drift(session, declared.spec, staged)


def _materialize(session: Session, endpoint: Endpoint, options: StreamOptions) -> dg.MaterializeResult[Any]:
    from sync_platform.staging.load import Progress, stage

    def tell(progress: Progress) -> None:
        if progress.waiting:
            session.progress(f"{endpoint}: another load is reading it; waiting for it to end")
        else:
            session.progress(f"{endpoint}: {progress.rows_read:,} read, {progress.rows_changed:,} changed")

    importing("sync_platform.components.steps")  # what a sync needs next, while the source answers
    session.progress(f"{endpoint}: looking for changes")
    with session.timed("extract"):
        load = stage(
            session.lake,
            session.connector(endpoint.connection),
            endpoint.connection,
            endpoint.object,
            fields=options.fields,
            where=options.filter,
            requested_at=session.opened_at,
            on_progress=tell,
        )
    return dg.MaterializeResult(
        metadata={
            "rows_read": load.rows_read,
            "rows_changed": load.rows_changed,
            "rows_deleted": load.rows_deleted,
            "joined_another_load": load.joined,
            "load_id": load.load_id,
        }
    )
