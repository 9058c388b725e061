"""One sync between a staged source and a target in memory, with a real state and a real lake, without Dagster."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from sync_platform.connectors.connector import Connector
from sync_platform.engine.deliver import deliver
from sync_platform.engine.desired import prepare
from sync_platform.engine.planning import Planned, make_plan
from sync_platform.engine.recover import recover
from sync_platform.engine.spec import Endpoint, ErrorHandling, Expression, SyncSpec
from sync_platform.ledger.plans import PlanFiles
from sync_platform.project import Project
from sync_platform.session import Session
from sync_platform.staging.lake import Lake
from sync_platform.staging.tables import create, table_name
from sync_platform.state.database import Database
from tests.unit.engine.shelf import Shelf

SOURCE = Endpoint(connection="crm", object="Lead")
COLUMNS = {"Id": pa.string(), "Email": pa.string(), "Name": pa.string()}
PATIENT = ErrorHandling(retries=2, backoff_seconds=0.0)


def a_sync(**settings: Any) -> SyncSpec:
    """The sync of these tests; `settings` replace its own."""
    plain = SyncSpec(
        name="leads",
        source=SOURCE,
        target=Endpoint(connection="shop", object="contacts"),
        mapping={"email": Expression(sql="Email"), "name": Expression(sql="Name")},
        match=("email",),
        first_sync="create",
        errors=PATIENT,
    )
    return replace(plain, **settings)


@dataclass
class Workshop:
    """A database, a lake and a target; every `session` is a run of its own."""

    database: Database
    target: Connector = field(default_factory=Shelf)
    spec: SyncSpec = field(default_factory=a_sync)
    seq: int = 0
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lake = Lake(self.database)

    @property
    def shelf(self) -> Shelf:
        """The target."""
        assert isinstance(self.target, Shelf)
        return self.target

    def session(self) -> Session:
        """A run that has not begun."""
        project = Project(self.database.home.root, {"shop": self.target})
        return Session(project, self.database, self.lake, str(uuid.uuid4()), self.said.append)

    def lead(self, key: str, email: str | None, name: str | None = None, *, deleted: bool = False) -> None:
        """Stages a version of a source record, newer than all before."""
        self.seq += 1
        with self.lake.connect() as con:
            create(con, SOURCE.connection, SOURCE.object, COLUMNS)
            table = table_name(SOURCE.connection, SOURCE.object)
            con.execute(f"DELETE FROM {table} WHERE _key = ?", [key])
            con.execute(
                f"INSERT INTO {table} (Id, Email, Name, _key, _hash, _seq, _deleted, _cursor, _read_at)"
                " VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?)",
                [key, email, name, key, self.seq, deleted, self.seq, self.seq],
            )

    def leads(self, count: int) -> None:
        """Stages `count` new leads: l0 with l0@x, and so on."""
        for number in range(count):
            self.lead(f"l{number}", f"l{number}@x", f"Lead {number}")

    def plan(self, session: Session) -> Planned:
        """Plans what changed since the last delivery; nothing is sent."""
        return make_plan(session, self.spec, prepare(session, self.spec))

    def planned(self) -> Planned:
        """A plan made by a run that ended there."""
        with self.session() as session:
            return self.plan(session)

    def deliver(self, plan_id: str, *, exact: bool = False, session: Session | None = None) -> dict[str, Any]:
        """Delivers a plan in a run of its own; returns the report."""
        with session or self.session() as running:
            return deliver(running, self.spec, plan_id, exact=exact, next_sync=None)

    def run(self) -> dict[str, Any]:
        """A whole run, as the assets do it: recover, prepare, plan, deliver."""
        with self.session() as session:
            recover(session, self.spec, sleep=lambda _: None)
            planned = self.plan(session)
            assert planned.blocked is None
            return deliver(session, self.spec, planned.plan_id, exact=False, next_sync=None)

    def ops(self, planned: Planned) -> dict[str, str]:
        """What a plan wants for each source record."""
        files = PlanFiles(self.database.home.lake, planned.plan_id)
        return {key: op for part in files.parts("changes") for key, op in part.select("_key", "_op").iter_rows()}

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of the state."""
        with self.database.connection() as connection:
            return connection.execute(query, parameters).fetchall()

    def links(self) -> dict[str, str]:
        """Target ids by source key."""
        return dict(self.rows("SELECT source_key, target_id FROM sync.links WHERE sync = %s", self.spec.name))

    def statuses(self, key: str) -> list[str]:
        """What became of a record's changes, oldest first."""
        return [row[0] for row in self.rows("SELECT status FROM sync.outcomes WHERE source_key = %s ORDER BY id", key)]

    def position(self) -> int | None:
        """The source position that was delivered; None before the first delivery."""
        found = self.rows("SELECT positions FROM sync.positions WHERE sync = %s", self.spec.name)
        return int(found[0][0][str(SOURCE)]) if found else None

    def waiting(self) -> Sequence[tuple[str, str]]:
        """Dead letters and holds that wait: (source key, kind)."""
        return self.rows(
            """SELECT source_key, kind FROM sync.dead_letters WHERE state IN ('open', 'retry')
               UNION ALL SELECT source_key, kind FROM sync.held ORDER BY 1, 2"""
        )
