"""The Source component: objects of one connection, staged in the lake."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import BaseModel

from sync_platform.components.attributes import SourceAttributes, StreamOptions
from sync_platform.components.frequency import next_tick
from sync_platform.components.installation import told
from sync_platform.components.scaffolding import SourceScaffolder
from sync_platform.engine.spec import Endpoint
from sync_platform.meanwhile import Begun, meanwhile
from sync_platform.run_tags import FULL, SYNC
from sync_platform.session import Session

if TYPE_CHECKING:
    from sync_platform.staging.ledger import StagedLoad


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
            return _materialize(installation, endpoint, options, context.run.tags)

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


def begin_load(session: Session, endpoint: Endpoint, options: StreamOptions, tags: Mapping[str, str]) -> None:
    """Starts to load a stream in a thread: its step takes the result, closing the session ends it.

    Raises what is wrong with the connection; nothing is begun then.
    """
    session.connector(endpoint.connection)

    def load(go_on: Callable[[], None]) -> "StagedLoad":
        return load_stream(session, endpoint, options, tags, go_on)

    session.begun[str(endpoint)] = Begun(load, f"loading {endpoint}")


def load_stream(
    session: Session,
    endpoint: Endpoint,
    options: StreamOptions,
    tags: Mapping[str, str],
    go_on: Callable[[], None] | None = None,
) -> "StagedLoad":
    """Brings the staged table of a stream up to date as the run's tags ask for it; `go_on` as for `stage`."""
    from sync_platform.staging.load import Progress, stage

    compared = 0

    def tell(progress: Progress) -> None:
        nonlocal compared
        compared = progress.compared
        if progress.waiting:
            session.progress(f"{endpoint}: another load is reading it; waiting for it to end")
        else:
            of = f"{progress.compared:,} compared by digests, " if progress.compared else ""
            session.progress(f"{endpoint}: {of}{progress.rows_read:,} read, {progress.rows_changed:,} changed")

    session.progress(f"{endpoint}: looking for changes")
    with session.timed("extract"):
        done = stage(
            session.lake,
            session.connector(endpoint.connection),
            endpoint.connection,
            endpoint.object,
            fields=options.fields,
            where=options.filter,
            full=FULL in tags or _full_read_is_due(session, endpoint, options),
            requested_at=session.opened_at,
            on_progress=tell,
            go_on=go_on,
        )
    if compared:
        session.say(f"{endpoint}: {compared:,} rows compared by digests, {done.rows_read:,} of them read")
    return done


def _materialize(
    session: Session, endpoint: Endpoint, options: StreamOptions, tags: Mapping[str, str]
) -> dg.MaterializeResult[Any]:
    begun = session.begun.pop(str(endpoint), None)
    ready = meanwhile(partial(_get_ready, session, tags.get(SYNC)))
    load = load_stream(session, endpoint, options, tags) if begun is None else begun.result()
    ready.join()  # what comes next would ask for the same things
    return dg.MaterializeResult(
        metadata={
            "rows_read": load.rows_read,
            "rows_changed": load.rows_changed,
            "rows_deleted": load.rows_deleted,
            "joined_another_load": load.joined,
            "load_id": load.load_id,
        }
    )


def _get_ready(session: Session, sync: str | None) -> None:
    """What a sync needs next, done while the source answers."""
    import sync_platform.components.steps  # noqa: F401
    from sync_platform.engine.warming import warm

    if sync is not None and sync in session.project.syncs:
        warm(session, session.project.syncs[sync].spec)


def _full_read_is_due(session: Session, endpoint: Endpoint, options: StreamOptions) -> bool:
    """Whether a tick of `full_read` has passed since the last complete read began."""
    from sync_platform.staging.ledger import last_complete

    if options.full_read is None:
        return False
    last = last_complete(session.database, endpoint.connection, endpoint.object)
    if last is None:
        return False  # the first read is a full one, or goes on where it was
    tick = next_tick(options.full_read, "UTC", last)
    return tick is not None and tick <= session.now()
