"""A HubSpot sandbox on a clock that stands still until told, and an outsider's client of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests

from sync_platform.sandbox.server import Control, SandboxThread

START = 1_790_000_000.0


class HubSpotClient:
    """Speaks HTTP to the simulator and to the control API."""

    def __init__(self, sandbox: SandboxThread, env: Mapping[str, str]) -> None:
        self.control: Control = sandbox.control
        self.world = sandbox.door.world
        self.env = env
        self.base = f"{sandbox.url}/hubspot"
        self.session = requests.Session()
        self.session.trust_env = False
        self.token: str | None = env["HUBSPOT_ACCESS_TOKEN"]

    def call(self, method: str, path: str, body: object = None, **query: Any) -> requests.Response:
        """One request below /hubspot."""
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        return self.session.request(method, self.base + path, json=body, params=query, headers=headers, timeout=30)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET that must succeed."""
        answer = self.call("GET", path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: object, status: int = 200) -> Any:
        """The JSON of a POST that must be answered with `status`."""
        answer = self.call("POST", path, body)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def search(self, **body: Any) -> Any:
        """The answer of a contact search that must succeed."""
        return self.post("/crm/v3/objects/contacts/search", body)

    def contact(self, **properties: Any) -> str:
        """The id of a new contact."""
        return str(self.post("/crm/v3/objects/contacts", {"properties": properties}, 201)["id"])

    def by_hand(self, stream: str, *items: Mapping[str, Any]) -> list[str]:
        """The ids of records written by a person in the vendor's pages."""
        ids: list[str] = self.control.post(f"records/hubspot/{stream}", list(items))["ids"]
        return ids

    def habit(self, name: str, **setting: Any) -> None:
        """Sets a habit."""
        self.control.post("habits", {"system": "hubspot", "name": name, **setting})

    def advance(self, seconds: float) -> None:
        """Moves the sandbox clock."""
        self.control.post("clock", {"advance_seconds": seconds})

    def stored(self, id: str) -> dict[str, Any]:
        """The fields of a contact as they are stored, also when it is archived."""
        records = self.control.get("records/hubspot/contacts?deleted=include")["records"]
        return next(record["fields"] for record in records if record["id"] == id)

    def violations(self) -> list[str]:
        """What the vendor would refuse, so far."""
        return [found["reason"] for found in self.control.get("violations")["violations"]]

    def effects(self) -> list[tuple[str, bool]]:
        """(op, applied) of the last request."""
        last = self.control.get("log?system=hubspot")["requests"][-1]
        return [(record["op"], record["applied"]) for record in last["records"]]


@contextmanager
def hubspot_client() -> Iterator[HubSpotClient]:
    """A running sandbox with HubSpot alone."""
    with SandboxThread(systems=["hubspot"], clock=lambda: START) as sandbox:
        env = sandbox.door.world.systems["hubspot"].env(f"{sandbox.url}/hubspot")
        yield HubSpotClient(sandbox, env)


def fresh(client: HubSpotClient) -> HubSpotClient:
    """The client on an empty sandbox with every habit as documented."""
    client.control.post("reset")
    client.token = client.env["HUBSPOT_ACCESS_TOKEN"]
    for spec in client.world.systems["hubspot"].habits:
        client.habit(spec.name, on=spec.on, value=spec.value)
    return client
