"""Salesforce and HubSpot of a sandbox as a history drives them (see `two_way_history`)."""

from __future__ import annotations

from typing import Any, Final, Literal

from sync_platform.engine.spec import Guards, TwoWay
from sync_platform.sandbox.server import SandboxThread
from sync_platform.state.database import Database
from tests.crm_couple import CrmCouple, contacts_both_ways
from tests.unit.twoway.desk import Desk

Side = Literal["crm", "hub"]
_PLACE: Final = {"crm": "salesforce/Contact", "hub": "hubspot/contacts"}
_FIELDS: Final[dict[str, dict[str, str]]] = {
    "crm": {"first": "FirstName", "title": "Title", "phone": "Phone"},
    "hub": {"first": "firstname", "title": "jobtitle", "phone": "phone"},
}
BOTH: Final = TwoWay(deleted_at_source="propagate", deleted_at_target="propagate")
#: What a history leaves in the state; outcomes are append-only and stay.
LEFT: Final = (
    "links pairs positions held dead_letters intents conflicts merged_records observed queue inbox claims plans runs"
)


class CrmKept:
    """Contacts of both systems of one sandbox; each history begins with empty ones."""

    def __init__(self, database: Database, sandbox: SandboxThread) -> None:
        sandbox.control.post("reset", {})
        with database.connection() as connection:
            for table in LEFT.split():
                connection.execute(f"DELETE FROM sync.{table}")
        self.couple = CrmCouple(database, sandbox, contacts_both_ways(BOTH, guards=unguarded()))
        self.desk = Desk(self.couple)
        self.control = sandbox.control

    def make(self, side: Side, number: int) -> str:
        fields = {"Email": f"p{number}@x.org", "LastName": f"L{number}", "FirstName": f"F{number}"}
        told = fields if side == "crm" else {name.lower(): value for name, value in fields.items()}
        return str(self.control.post(f"records/{_PLACE[side]}", [{"fields": told}])["ids"][0])

    def edit(self, side: Side, key: str, name: str, value: str | None) -> None:
        cleared = None if side == "crm" else ""
        fields = {_FIELDS[side][name]: cleared if value is None else value}
        self.control.post(f"records/{_PLACE[side]}", [{"id": key, "fields": fields}])

    def remove(self, side: Side, key: str) -> None:
        self.control.delete(f"records/{_PLACE[side]}", [key])

    def merge(self, side: Side, survivor: str, loser: str) -> str | None:
        return str(self.control.post(f"merge/{_PLACE[side]}", {"survivor": survivor, "merged": [loser]})["id"])

    def values(self, side: Side) -> dict[str, dict[str, Any]]:
        names = _FIELDS[side].items()
        held = self.couple.held(side)
        return {key: {name: fields.get(there) for name, there in names} for key, fields in held.items()}

    def links(self) -> dict[str, str]:
        return self.couple.links()

    def run(self) -> None:
        self.couple.run()

    def die(self, side: Side, when: str) -> None:
        self.couple.die(side, when)

    def event(self, side: Side, key: str, kind: str, times: int) -> None:
        self.desk.event(side, key, kind, times=times)

    def work(self) -> None:
        self.desk.work()

    def writes(self) -> int:
        return self.couple.writes()


def unguarded() -> Guards:
    """A history deletes as much as it likes."""
    return Guards(max_deletes=None)
