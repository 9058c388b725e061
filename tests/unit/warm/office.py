"""A source, a target, one sync between them and a worker: events go in as the gateway stores them."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sync_platform.connectors.shared import Traffic
from sync_platform.engine.spec import Expression, SyncSpec
from sync_platform.project import Project
from sync_platform.realtime.window import Windows
from sync_platform.realtime.worker import Worker
from sync_platform.session import Session
from sync_platform.staging.lake import Lake
from sync_platform.staging.load import stage
from sync_platform.state.database import Database
from tests.unit.engine.shelf import Shelf
from tests.unit.engine.workshop import Workshop, a_sync
from tests.unit.warm.crm import Crm

NAMES = {"email": Expression(sql="Email"), "name": Expression(sql="Name")}


@dataclass
class Office:
    """One state with its source `crm`, its target `shop` and the sync `leads`."""

    database: Database
    spec: SyncSpec = field(default_factory=lambda: a_sync(frequency="realtime", mapping=NAMES))
    crm: Crm = field(default_factory=Crm)
    shelf: Shelf = field(default_factory=Shelf)
    more: list[SyncSpec] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lake = Lake(self.database)

    @property
    def batch(self) -> Workshop:
        """The batch lane of the same sync."""
        return Workshop(self.database, self.shelf, self.spec)

    def session(self) -> Session:
        """A session on the two systems."""
        project = Project(self.database.home.root, {"crm": self.crm, "shop": self.shelf})
        project.__dict__["sources"] = {}
        return Session(project, self.database, self.lake, str(uuid.uuid4()), self.said.append)

    def syncs(self) -> Mapping[str, SyncSpec]:
        """The sync, and those that were added."""
        return {one.name: one for one in (self.spec, *self.more)}

    def worker(self, **settings: Any) -> Worker:
        """A worker of its own."""
        windows = Windows(
            database=self.database, publish=lambda _, report: self.reports.append(report),
            next_sync=lambda _: None, traffic=Traffic,
        )  # fmt: skip
        return Worker(session=self.session(), windows=windows, syncs=self.syncs, say=self.said.append, **settings)

    def work(self, times: int = 1) -> int:
        """Lets a worker deliver what waits, again after every pause it was told to make."""
        done = 0
        for _ in range(times):
            done += self.worker().drain()
            self.rows("UPDATE sync.queue SET not_before = NULL RETURNING 1")
            self.rows("UPDATE sync.circuits SET retry_at = now() RETURNING 1")
        return done

    def stage(self) -> None:
        """Loads the source into the lake."""
        stage(self.lake, self.crm, "crm", "Lead")

    def event(
        self,
        key: str,
        kind: str = "updated",
        *,
        event_id: str | None = None,
        at: dt.datetime | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> str:
        """Stores an event and its queue rows, as the gateway does; returns its id."""
        import orjson

        name = event_id or str(uuid.uuid4())
        made = self.rows(
            """INSERT INTO sync.inbox (connection, event_id, stream, key, kind, occurred_at, fields)
               VALUES ('crm', %s, 'Lead', %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING seq""",
            name, key, kind, at or dt.datetime.now(dt.UTC), orjson.dumps(dict(fields or {})).decode(),
        )  # fmt: skip
        for (seq,) in made:
            for sync in self.syncs():
                self.rows("INSERT INTO sync.queue (sync, seq, key) VALUES (%s, %s, %s) RETURNING 1", sync, seq, key)
        return name

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of the state."""
        with self.database.connection() as connection:
            return connection.execute(query, parameters).fetchall()

    def queue(self) -> list[tuple[str, str, str | None]]:
        """Key, state and outcome of every queue row, in order of arrival."""
        return [tuple(row) for row in self.rows("SELECT key, state, outcome FROM sync.queue ORDER BY seq, sync")]

    def another(self, name: str, **settings: Any) -> SyncSpec:
        """Adds a sync of the same stream."""
        made = replace(self.spec, name=name, **settings)
        self.more.append(made)
        return made
