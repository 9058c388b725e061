"""The Sync component: a rule that keeps one target object in step with one source object."""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
from pydantic import BaseModel

from sync_platform.components.attributes import SyncAttributes
from sync_platform.components.draining import drain_job
from sync_platform.components.frequency import cron_of
from sync_platform.components.installation import told
from sync_platform.components.scaffolding import SyncScaffolder
from sync_platform.components.sensors import realtime_sensors
from sync_platform.components.source import staging_key
from sync_platform.engine.spec import Endpoint, Lookup, SyncSpec
from sync_platform.project import Project
from sync_platform.run_tags import SYNC
from sync_platform.session import Session


@dg.scaffold_with(SyncScaffolder)
class Sync(dg.Component):
    """Keeps one target object in step with one source object.

    Becomes the assets `<sync>/desired`, `<sync>/plan` and `<sync>/delivered` with five checks, a job and,
    unless it runs on demand, a schedule; a realtime sync also gets a job that delivers waiting events and
    the sensors that start it. See docs/sync.md for every key.
    """

    def __init__(self, attributes: SyncAttributes, name: str) -> None:
        self.spec = attributes.to_spec(name)

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """The schema of the YAML attributes."""
        return SyncAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> "Sync":
        """The component of one YAML document; its folder names it."""
        assert isinstance(attributes, SyncAttributes)
        return cls(attributes, context.path.name)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The assets, checks, job and schedule of this sync."""
        return sync_definitions(self.spec)


def streams_read(spec: SyncSpec) -> list[Endpoint]:
    """The staged streams a sync may read: source, looked-up objects and, unless it compares by links, the target."""
    found = [spec.source]
    found += [
        Endpoint(connection=rule.connection, object=rule.object)
        for rule in spec.mapping.values()
        if isinstance(rule, Lookup)
    ]
    compare = "target" if spec.two_way is not None else spec.compare
    if compare is None:
        connector = Project.current().connector(spec.target.connection)
        compare = "links" if connector.stream(spec.target.object).compare == "links" else "target"
    if compare == "target":
        found.append(spec.target)
    return list(dict.fromkeys(found))


def sync_definitions(spec: SyncSpec) -> dg.Definitions:
    """One sync as Dagster sees it."""
    desired, plan, delivered = _desired(spec), _plan(spec), _delivered(spec)
    staged = [staging_key(endpoint) for endpoint in streams_read(spec)]
    job = dg.define_asset_job(
        spec.name,
        selection=dg.AssetSelection.assets(*staged, desired.key, plan.key, delivered.key),
        executor_def=dg.in_process_executor,
        description=spec.description or f"Runs {spec.name} once.",
        tags={SYNC: spec.name},
    )
    cron = cron_of(spec.frequency)
    schedules = (
        [
            dg.ScheduleDefinition(
                name=f"{spec.name}_schedule",
                job=job,
                cron_schedule=cron,
                execution_timezone=spec.timezone,
                default_status=dg.DefaultScheduleStatus.RUNNING,
            )
        ]
        if cron
        else []
    )
    target = None if spec.two_way is None else Project.current().connector(spec.target.connection)
    sensors = realtime_sensors(spec, Project.current().connector(spec.source.connection), target)
    drains = [drain_job(spec)] if sensors else []
    return dg.Definitions(assets=[desired, plan, delivered], jobs=[job, *drains], schedules=schedules, sensors=sensors)


def _desired(spec: SyncSpec) -> dg.AssetsDefinition:
    return _step(
        spec,
        "desired",
        deps=[staging_key(endpoint) for endpoint in streams_read(spec)],
        description=f"What {spec.target} should hold: mapped, deduplicated, checked against its contract.",
        kinds={"polars", "pandera"},
        checks={
            "contract": "Every record fits the target's contract.",
            "completeness": "Required and mapped cells are filled.",
            "duplicates": "Source records that share a dedupe key.",
        },
        run=lambda steps, session, tags: steps.desired(session, spec, tags),
    )


def _plan(spec: SyncSpec) -> dg.AssetsDefinition:
    return _step(
        spec,
        "plan",
        deps=[dg.AssetKey([spec.name, "desired"])],
        description=f"The exact changes to {spec.target}. Nothing is sent yet.",
        kinds={"polars"},
        checks={"delete_guard": "No guard blocks the plan."},
        run=lambda steps, session, tags: steps.plan(session, spec),
    )


def _delivered(spec: SyncSpec) -> dg.AssetsDefinition:
    return _step(
        spec,
        "delivered",
        deps=[dg.AssetKey([spec.name, "plan"])],
        description=f"The plan as {spec.target} answered it, record by record.",
        kinds={spec.target.connection},
        checks={"freshness": "What was delivered is not older than it may be."},
        run=lambda steps, session, tags: steps.delivered(session, spec, tags),
    )


def _step(
    spec: SyncSpec,
    name: str,
    *,
    deps: list[dg.AssetKey],
    description: str,
    kinds: set[str],
    checks: Mapping[str, str],
    run: Callable[[Any, Session, Mapping[str, str]], dg.MaterializeResult[Any]],
) -> dg.AssetsDefinition:
    """The asset <sync>/<name>; `run` gets the module `steps`, imported when it runs, the session and the run's tags."""
    key = dg.AssetKey([spec.name, name])

    @dg.asset(
        key=key,
        deps=deps,
        group_name=spec.name,
        description=description,
        kinds=kinds,
        check_specs=[dg.AssetCheckSpec(check, asset=key, description=text) for check, text in checks.items()],
    )
    def step(context: dg.AssetExecutionContext, installation: dg.ResourceParam[Session]) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from sync_platform.components import steps

        with told(installation):
            return run(steps, installation, context.run.tags)

    return step
