"""Two systems and one two-way sync between them, driven function by function: no Dagster, no dlt."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from sync_platform.connectors.connector import Connector
from sync_platform.engine.deliver import deliver
from sync_platform.engine.desired import prepare
from sync_platform.engine.planning import Planned, make_plan
from sync_platform.engine.recover import recover
from sync_platform.engine.spec import Endpoint, ErrorHandling, Expression, SyncSpec, TwoWay
from sync_platform.ledger.plans import PlanFiles
from sync_platform.project import Project
from sync_platform.session import Session
from sync_platform.state.database import Database
from tests.memory_lake import MemoryLake
from tests.staged_directly import stage_directly
from tests.unit.twoway.memory import Memory, text

CRM = Endpoint(connection="crm", object="people")
HUB = Endpoint(connection="hub", object="people")
QUIET = ErrorHandling(retries=1, backoff_seconds=0.0)


def a_two_way_sync(two_way: TwoWay | None = None, **settings: Any) -> SyncSpec:
    """Three plain fields both ways, matched by e-mail; `settings` replace its own."""
    plain = SyncSpec(
        name="people",
        source=CRM,
        target=HUB,
        mapping={
            "email": Expression(sql="Email"),
            "name": Expression(sql="Name"),
            "phone": Expression(sql="Phone"),
        },
        match=("email",),
        first_sync="create",
        errors=QUIET,
        two_way=two_way or TwoWay(),
    )
    return replace(plain, **settings)


@dataclass
class Couple:
    """One state with the systems `crm` and `hub`."""

    database: Database
    spec: SyncSpec = field(default_factory=a_two_way_sync)
    ticks: Any = field(default_factory=lambda: itertools.count(1))
    crm: Any = None
    hub: Any = None
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lake = MemoryLake(self.database)
        self.crm = self.crm or Memory.of(
            text("Email"), text("Name"), text("Phone"), text("Note"), prefix="c", ticks=self.ticks
        )
        self.hub = self.hub or Memory.of(
            text("email", folded=True), text("name"), text("phone"), text("note"), prefix="h", ticks=self.ticks
        )

    def session(self) -> Session:
        """A run that has not begun."""
        connectors: dict[str, Connector] = {"crm": self.crm, "hub": self.hub}
        return Session(
            Project(self.database.home.root, connectors), self.database, self.lake, str(uuid.uuid4()), self.said.append
        )

    def stage(self) -> None:
        """Loads both sides into the lake."""
        stage_directly(self.lake, self.database, self.crm, self.spec.source)
        stage_directly(self.lake, self.database, self.hub, self.spec.target)

    def plan(self, session: Session, *, full: bool = False) -> Planned:
        """Plans what changed; nothing is sent."""
        return make_plan(session, self.spec, prepare(session, self.spec, full=full))

    def planned(self) -> Planned:
        """A plan made by a run that ended there, of what both sides hold now."""
        self.stage()
        with self.session() as session:
            return self.plan(session)

    def deliver(self, plan_id: str, *, exact: bool = False) -> dict[str, Any]:
        """Delivers a plan in a run of its own; returns the report."""
        with self.session() as session:
            return deliver(session, self.spec, plan_id, exact=exact, next_sync=None)

    def run(self, *, full: bool = False) -> dict[str, Any]:
        """A whole run as the assets do it; returns the report."""
        self.stage()
        with self.session() as session:
            recover(session, self.spec, sleep=lambda _: None)
            planned = self.plan(session, full=full)
            assert planned.blocked is None, planned.blocked
            return deliver(session, self.spec, planned.plan_id, exact=False, next_sync=None)

    def silent(self, times: int = 2) -> bool:
        """Whether further runs write nothing on either side."""
        before = len(self.crm.written), len(self.hub.written)
        for _ in range(times):
            self.run()
        return before == (len(self.crm.written), len(self.hub.written))

    def linked(self, **values: Any) -> tuple[str, str]:
        """A record that both sides hold and agree on: its ids."""
        key = self.crm.put(**values)
        self.run()
        return key, self.links()[key]

    def links(self) -> dict[str, str]:
        """Target ids by source key."""
        return dict(self.rows("SELECT source_key, target_id FROM sync.links WHERE sync = %s", self.spec.name))

    def changes(self, planned: Planned) -> list[dict[str, Any]]:
        """Everything a plan would write or holds: side, op, key, values."""
        files = PlanFiles(self.database.home.lake, planned.plan_id)
        found = []
        for kind in ("changes", "back"):
            for part in files.chosen(kind, pl.col("_op") != "skip"):
                for row in part.iter_rows(named=True):
                    sent: Mapping[str, Any] = {name: row[f"new:{name}"] for name in row["_fields"] or ()}
                    found.append({"side": row["_side"], "op": row["_op"], "key": row["_key"], "sent": sent})
        return found

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of the state."""
        with self.database.connection() as connection:
            return connection.execute(query, parameters).fetchall()

    def conflicts(self) -> list[tuple[Any, ...]]:
        """The conflicts that wait: id, source key, field."""
        return self.rows("SELECT id, source_key, field FROM sync.conflicts WHERE state = 'open' ORDER BY id")
