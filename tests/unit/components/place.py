"""An installation of the reference project as the code server sees it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import dagster as dg

from sync_platform.components.sync import sync_definitions
from sync_platform.engine.spec import SyncSpec
from sync_platform.project import Project
from sync_platform.state.database import Database
from tests.world import SYNC


@dataclass
class Place:
    """An installation as the code server sees it."""

    database: Database
    instance: dg.DagsterInstance

    @property
    def spec(self) -> SyncSpec:
        """The reference sync."""
        return Project.current().sync(SYNC).spec

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Runs a statement on the state; its rows, if it has any."""
        with self.database.connection() as connection:
            done = connection.execute(query, values)  # type: ignore[call-overload]
            return done.fetchall() if done.description else []

    def event(self, key: str, *, age: float, sync: str = SYNC) -> int:
        """An event of the source that waits for the sync since `age` seconds; its number."""
        ((seq,),) = self.sql(
            """INSERT INTO sync.inbox (connection, event_id, stream, key, kind, occurred_at, received_at)
               VALUES ('salesforce', %s, 'Lead', %s, 'updated', now(), now() - make_interval(secs => %s))
               RETURNING seq""",
            uuid.uuid4().hex, key, age,
        )  # fmt: skip
        self.sql("INSERT INTO sync.queue (sync, seq, key) VALUES (%s, %s, %s)", sync, seq, key)
        return int(seq)

    def worker(self, *, silent: float = 0.0) -> str:
        """A worker that said `silent` seconds ago that it lives."""
        made = str(uuid.uuid4())
        self.sql(
            "INSERT INTO sync.workers (worker_id, host, pid, seen_at)"
            " VALUES (%s, 'here', 7, now() - make_interval(secs => %s))",
            made, silent,
        )  # fmt: skip
        return made

    def evaluate(self, name: str, cursor: str | None = None, spec: SyncSpec | None = None) -> Any:
        """One tick of a sensor, through Dagster."""
        from sync_platform.components.alert_sensors import alert_sensors

        sensors = [*alert_sensors(), *(sync_definitions(spec or self.spec).sensors or ())]
        (sensor,) = [one for one in sensors if one.name == name]
        assert isinstance(sensor, dg.SensorDefinition)
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
        return sensor.evaluate_tick(dg.build_sensor_context(instance=self.instance, cursor=cursor))
