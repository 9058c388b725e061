"""Salesforce and HubSpot of a sandbox as a history drives them (see `two_way_history`).

Edits are made as a person makes them, and the simulators themselves tell the gateway of them, signed as the vendors
sign, lost, doubled, shuffled and late as a history wants.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sync_platform.sandbox.kit_webhooks import Webhook
from sync_platform.sandbox.server import SandboxThread
from sync_platform.state.database import Database
from tests.crm_couple import PATH_SECRET, CrmCouple, crm_project
from tests.gateway_thread import GatewayThread
from tests.properties.two_way_history import Post, Side, forget
from tests.unit.twoway.desk import Desk

_PLACE: Final = {"crm": "salesforce/Contact", "hub": "hubspot/contacts"}
_FIELDS: Final[dict[str, dict[str, str]]] = {
    "crm": {"first": "FirstName", "title": "Title", "phone": "Phone"},
    "hub": {"first": "firstname", "title": "jobtitle", "phone": "phone"},
}
#: A field that no sync reads.
_OTHER: Final = {"crm": "Department", "hub": "city"}


class CrmKept:
    """Contacts of both systems of one sandbox; each history begins with empty ones. `told` counts the webhooks."""

    def __init__(self, database: Database, sandbox: SandboxThread, couple: CrmCouple, gateway: GatewayThread) -> None:
        self.database, self.couple, self.gateway = database, couple, gateway
        self.control = sandbox.control
        self.desk = Desk(couple)
        self.told: Counter[str] = Counter()
        self._world = sandbox.door.world
        self._stirred = 0

    def anew(self) -> CrmKept:
        """Both systems empty, and nothing known of them."""
        self._arrive()
        self._count()
        self.control.post("reset", {})
        forget(self.database)
        self.couple.lake.close()
        shutil.rmtree(self.database.home.lake / "plans", ignore_errors=True)
        self.couple.die("crm", None)
        self.couple.die("hub", None)
        for system in _PLACE.values():
            self.control.post("webhooks", {"system": system.partition("/")[0], "target_url": ""})
        return self

    def subscribe(self, post: Post) -> None:
        options = {
            "duplicate_rate": post.doubled, "drop_rate": post.lost, "reorder": post.shuffled,
            "delay_ms": post.late * 1000,
        }  # fmt: skip
        for system, path in (("salesforce", f"crm/{PATH_SECRET}"), ("hubspot", "hub")):
            url = f"{self.gateway.url}/webhooks/{path}"
            self.control.post("webhooks", {"system": system, "target_url": url, "options": options})

    # -- what people do --------------------------------------------------------------------------

    def make(self, side: Side, number: int) -> str:
        fields = {"Email": f"p{number}@x.org", "LastName": f"L{number}", "FirstName": f"F{number}"}
        told = fields if side == "crm" else {name.lower(): value for name, value in fields.items()}
        return str(self.control.post(f"records/{_PLACE[side]}", [{"fields": told}])["ids"][0])

    def edit(self, side: Side, key: str, name: str, value: str | None) -> None:
        self._edit(side, key, _FIELDS[side][name], value)

    def stir(self, side: Side, key: str) -> None:
        self._stirred += 1
        self._edit(side, key, _OTHER[side], f"other {self._stirred}")

    def _edit(self, side: Side, key: str, field: str, value: str | None) -> None:
        cleared = None if side == "crm" else ""
        fields = {field: cleared if value is None else value}
        self.control.post(f"records/{_PLACE[side]}", [{"id": key, "fields": fields}])

    def remove(self, side: Side, key: str) -> None:
        self.control.delete(f"records/{_PLACE[side]}", [key])

    def merge(self, side: Side, survivor: str, loser: str) -> str | None:
        return str(self.control.post(f"merge/{_PLACE[side]}", {"survivor": survivor, "merged": [loser]})["id"])

    def values(self, side: Side) -> dict[str, dict[str, Any]]:
        names = _FIELDS[side].items()
        held = self.couple.held(side)
        return {key: {name: fields.get(there) for name, there in names} for key, fields in held.items()}

    # -- what we do ------------------------------------------------------------------------------

    def links(self) -> dict[str, str]:
        return self.couple.links()

    def run(self) -> None:
        self.couple.run()

    def die(self, side: Side, when: str | None) -> None:
        self.couple.die(side, when)

    def work(self) -> None:
        self.passes(0.1)  # longer than a shuffled webhook is held back
        self.desk.work()

    def passes(self, seconds: float) -> None:
        self._arrive()  # no request is under way for as long as the clock jumps
        self.control.post("clock", {"advance_seconds": seconds})
        self._arrive()

    def writes(self) -> int:
        return self.couple.writes()

    # -- webhooks under way ----------------------------------------------------------------------

    def _hooks(self) -> list[Webhook]:
        return [hook for system in self._world.systems.values() for hook in system.outbox.webhooks.values()]

    def _arrive(self) -> None:
        """Waits until the gateway has taken every webhook that is due."""
        quiet = 0
        while quiet < 2:
            self.control.get("health")  # a round trip: what the last request caused has begun
            quiet = 0 if any(hook.ready or hook.flying for hook in self._hooks()) else quiet + 1

    def _count(self) -> None:
        for hook in self._hooks():
            for name in ("acknowledged", "dropped", "duplicated", "refused"):
                self.told[name] += getattr(hook.counts, name)


@contextmanager
def crm_kept(database: Database, sandbox: SandboxThread, root: Path) -> Iterator[CrmKept]:
    """Both systems with a gateway of our own before them."""
    couple = CrmCouple(database, sandbox, crm_project(root, sandbox))
    with GatewayThread(crm_project(root, sandbox), database) as gateway:
        kept = CrmKept(database, sandbox, couple, gateway)
        yield kept
        kept.anew()
    couple.lake.close()
