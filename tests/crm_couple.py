"""Salesforce contacts and HubSpot contacts of one sandbox, kept in step in this process: real connectors, real HTTP.

The lake is in memory and loads go past dlt, so that a history of thirty steps takes a second or two.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import PrivateAttr

from sync_platform.connectors.connector import Connector
from sync_platform.connectors.hubspot import HubSpot
from sync_platform.connectors.salesforce import Salesforce
from sync_platform.model import Change, Outcome
from sync_platform.project import Project
from sync_platform.sandbox.server import SandboxThread, env_lines
from sync_platform.state.database import Database
from tests.staged_directly import stage_directly, types_of
from tests.unit.twoway.couple import Couple
from tests.unit.twoway.memory import Killed

#: The one sync of the project: matched by e-mail, deletions follow without limit.
SYNC: Final = """
type: sync_platform.Sync
attributes:
  name: contacts
  direction: two_way
  source: {connection: crm, object: Contact}
  target: {connection: hub, object: contacts, match: [email]}
  first_sync: create
  mapping: {email: Email, firstname: FirstName, lastname: LastName, jobtitle: Title, phone: Phone}
  on_delete: {source: propagate, target: propagate}
  guards: {max_deletes: null}
  errors: {retries: 1, backoff_seconds: 0}
  frequency: realtime
"""

#: What is staged of the two objects, which have hundreds of fields.
STAGED: Final = {
    "crm": ("Id", "SystemModstamp", "Email", "FirstName", "LastName", "Title", "Phone"),
    "hub": ("id", "lastmodifieddate", "hs_merged_object_ids", "email", "firstname", "lastname", "jobtitle", "phone"),
}
#: The last part of the address Salesforce is given; it signs nothing.
PATH_SECRET: Final = "a-path-nobody-guesses"


class Mortal:
    """Lets our process die right before or right after a write is sent: `die('before' | 'after')`."""

    _dies: str | None = PrivateAttr(default=None)

    def die(self, when: str | None) -> None:
        """The next write call kills us."""
        self._dies = when

    def write(self, stream: str, changes: Sequence[Change]) -> Iterator[Outcome]:
        """As the connector's own, unless we die."""
        when, self._dies = self._dies, None
        if when == "before":
            raise Killed
        outcomes = list(super().write(stream, changes))  # type: ignore[misc]
        if when == "after":
            raise Killed
        yield from outcomes


class MortalSalesforce(Mortal, Salesforce):
    """Salesforce, and a process that may die."""


class MortalHubSpot(Mortal, HubSpot):
    """HubSpot, and a process that may die."""


def crm_project(root: Path, sandbox: SandboxThread) -> Project:
    """A project with the one sync, written below `root`, whose connections lead to the sandbox."""
    file = root / "assets" / "contacts" / "defs.yaml"
    if not file.exists():
        file.parent.mkdir(parents=True)
        file.write_text(SYNC)
    told = dict(line.split("=", 1) for line in env_lines(sandbox.port))
    project = Project(root)
    project.__dict__["connectors"] = {
        "crm": MortalSalesforce(
            base_url=told["SALESFORCE_BASE_URL"], client_id=told["SALESFORCE_CLIENT_ID"],
            client_secret=told["SALESFORCE_CLIENT_SECRET"], webhook_secret=PATH_SECRET,
            organization_id=told["SALESFORCE_ORGANIZATION_ID"],
        ),
        "hub": MortalHubSpot(
            base_url=told["HUBSPOT_BASE_URL"], access_token=told["HUBSPOT_ACCESS_TOKEN"],
            client_secret=told["HUBSPOT_CLIENT_SECRET"], index_lag_seconds=0,
        ),
    }  # fmt: skip
    return project


class CrmCouple(Couple):
    """A couple whose systems are the sandbox's."""

    def __init__(self, database: Database, sandbox: SandboxThread, project: Project) -> None:
        self._project = project
        crm, hub = (project.connectors[name] for name in ("crm", "hub"))
        super().__init__(database, project.sync("contacts").spec, itertools.count(1), crm, hub)
        self.control = sandbox.control
        self._kept: dict[str, Any] = {}  # what one process works out once
        self._types: dict[str, Any] = {}
        self._ready: dict[str, Connector] = {}
        self._mark = 0

    def session(self) -> Any:
        """A run; its systems are connected once, as a process does it."""
        made = super().session()
        made.project, made.kept = self._project, self._kept
        if not self._ready:
            self._ready = {name: made.connector(name) for name in ("crm", "hub")}
        made._connectors.update(self._ready)
        return made

    def stage(self) -> None:
        """Loads both sides into the lake."""
        self.session()
        for name, place in (("crm", self.spec.source), ("hub", self.spec.target)):
            if name not in self._types:
                self._types[name] = types_of(self._ready[name], place, STAGED[name])
            stage_directly(self.lake, self.database, self._ready[name], place, self._types[name])

    def die(self, side: str, when: str | None) -> None:
        """The next write to a side kills our process."""
        self.session()
        self._ready[side].die(when)  # type: ignore[attr-defined]

    def held(self, side: str) -> dict[str, dict[str, Any]]:
        """The living records of a side by id."""
        place = "salesforce/Contact" if side == "crm" else "hubspot/contacts"
        return {one["id"]: one["fields"] for one in self.control.get(f"records/{place}")["records"]}

    def writes(self) -> int:
        """How many records we wrote on either side since this was asked last, by the simulators' logs."""
        requests = self.control.get(f"log?since={self._mark}")["requests"]
        if requests:
            self._mark = int(requests[-1]["seq"])
        return sum(one["applied"] and one["op"] != "noop" for request in requests for one in request["records"])
