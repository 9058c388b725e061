"""Salesforce contacts and HubSpot contacts of one sandbox, kept in step in this process: real connectors, real HTTP.

The lake is in memory and loads go past dlt, so that a history of thirty steps takes a second or two.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import PrivateAttr

from sync_platform.connectors.connector import Connector
from sync_platform.connectors.hubspot import HubSpot
from sync_platform.connectors.salesforce import Salesforce
from sync_platform.engine.spec import Endpoint, Expression, SyncSpec, TwoWay
from sync_platform.model import Change, Outcome
from sync_platform.sandbox.server import SandboxThread, env_lines
from sync_platform.state.database import Database
from tests.staged_directly import stage_directly, types_of
from tests.unit.twoway.couple import QUIET, Couple
from tests.unit.twoway.memory import Killed

#: Salesforce field -> HubSpot property of the sync of these tests; edits are made to all but the key.
FIELDS = {
    "Email": "email", "FirstName": "firstname", "LastName": "lastname", "Title": "jobtitle", "Phone": "phone",
}  # fmt: skip


#: What is staged of the two objects, which have hundreds of fields.
STAGED = {
    "crm": ("Id", "SystemModstamp", *FIELDS),
    "hub": ("id", "lastmodifieddate", "hs_merged_object_ids", *FIELDS.values()),
}


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


def contacts_both_ways(two_way: TwoWay, **settings: Any) -> SyncSpec:
    """Contacts of both systems, matched by e-mail."""
    return SyncSpec(
        name="contacts",
        source=Endpoint(connection="crm", object="Contact"),
        target=Endpoint(connection="hub", object="contacts"),
        mapping={target: Expression(sql=source) for source, target in FIELDS.items()},
        match=("email",),
        first_sync="create",
        errors=QUIET,
        two_way=two_way,
        **settings,
    )


class CrmCouple(Couple):
    """A couple whose systems are the sandbox's."""

    def __init__(self, database: Database, sandbox: SandboxThread, spec: SyncSpec) -> None:
        told = dict(line.split("=", 1) for line in env_lines(sandbox.port))
        crm: Connector = MortalSalesforce(
            base_url=told["SALESFORCE_BASE_URL"], client_id=told["SALESFORCE_CLIENT_ID"],
            client_secret=told["SALESFORCE_CLIENT_SECRET"],
        )  # fmt: skip
        hub: Connector = MortalHubSpot(
            base_url=told["HUBSPOT_BASE_URL"], access_token=told["HUBSPOT_ACCESS_TOKEN"], index_lag_seconds=0
        )
        super().__init__(database, spec, itertools.count(1), crm, hub)
        self.control = sandbox.control
        self._kept: dict[str, Any] = {}  # what one process works out once
        self._types: dict[str, Any] = {}
        self.marks = {system: self._last() for system in ("salesforce", "hubspot")}

    def session(self) -> Any:
        """A run; its systems are connected once, as a process does it."""
        made = super().session()
        if not hasattr(self, "_project"):
            self._project = made.project
            self._project.__dict__["connectors"] = {"crm": self.crm, "hub": self.hub}
            self._project.__dict__["sources"] = {}
            self._ready = {name: made.connector(name) for name in ("crm", "hub")}
        made.project, made.kept = self._project, self._kept
        made._connectors.update(self._ready)
        return made

    def stage(self) -> None:
        """Loads both sides into the lake."""
        self.session()
        for name, place in (("crm", self.spec.source), ("hub", self.spec.target)):
            if name not in self._types:
                self._types[name] = types_of(self._ready[name], place, STAGED[name])
            stage_directly(self.lake, self.database, self._ready[name], place, self._types[name])

    def die(self, side: str, when: str) -> None:
        """The next write to a side kills our process."""
        self.session()
        self._ready[side].die(when)

    def held(self, side: str) -> dict[str, dict[str, Any]]:
        """The living records of a side by id."""
        place = "salesforce/Contact" if side == "crm" else "hubspot/contacts"
        return {one["id"]: one["fields"] for one in self.control.get(f"records/{place}")["records"]}

    def _last(self) -> int:
        requests = self.control.get("log")["requests"]
        return int(requests[-1]["seq"]) if requests else 0

    def writes(self) -> int:
        """How many records we wrote on either side since this was asked last."""
        count = 0
        for request in self.control.get(f"log?since={min(self.marks.values())}")["requests"]:
            count += sum(one["applied"] and one["op"] != "noop" for one in request["records"])
        self.marks = dict.fromkeys(self.marks, self._last())
        return count
