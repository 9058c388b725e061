"""A Salesforce sandbox on a clock that stands still until told, and an outsider's client of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import requests

from sync_platform.sandbox.server import Control, SandboxThread, env_lines

START = 1_790_000_000.0  # 2026-09-21T14:13:20Z, a Monday


class SalesforceClient:
    """Speaks HTTP to the simulator and to the control API."""

    def __init__(self, sandbox: SandboxThread) -> None:
        self.control: Control = sandbox.control
        self.url = sandbox.url
        lines = (line.partition("=") for line in env_lines(sandbox.port, ["salesforce"]))
        self.env = {key: value for key, _, value in lines}
        self.base = self.env["SALESFORCE_BASE_URL"]
        self.session = requests.Session()
        self.session.trust_env = False
        self.version = "v60.0"
        self.token = ""

    def login(self) -> SalesforceClient:
        """Takes a session by client credentials."""
        self.token = self.oauth("client_credentials").json()["access_token"]
        return self

    def oauth(self, grant: str, **form: str) -> requests.Response:
        """A token request with the app's credentials."""
        known = {"client_id": self.env["SALESFORCE_CLIENT_ID"], "client_secret": self.env["SALESFORCE_CLIENT_SECRET"]}
        body = {"grant_type": grant, **known, **form}
        return self.session.post(f"{self.base}/services/oauth2/token", data=body, timeout=30)

    def call(self, method: str, path: str, body: object = None, **options: Any) -> requests.Response:
        """One request below /services/data/vNN.0."""
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        url = f"{self.base}/services/data/{self.version}/{path}"
        return self.session.request(method, url, json=body, headers=headers, timeout=30, **options)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET that must succeed."""
        answer = self.call("GET", path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def rows(self, soql: str, resource: str = "query") -> list[dict[str, Any]]:
        """Every record of a query, all pages."""
        page = self.get(resource, q=soql)
        found = list(page["records"])
        while not page["done"]:
            answer = self.session.get(
                self.url + page["nextRecordsUrl"], headers={"Authorization": f"Bearer {self.token}"}, timeout=30
            )
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += page["records"]
        return found

    def names(self, where: str) -> list[str]:
        """The sorted last names of the leads that a condition lets through."""
        return sorted(row["LastName"] for row in self.rows(f"SELECT LastName FROM Lead WHERE {where}"))

    def refused(self, answer: requests.Response) -> tuple[int, str]:
        """Status and code of an error."""
        return answer.status_code, answer.json()[0]["errorCode"]

    def refusal(self, soql: str) -> tuple[int, str]:
        """Status and code of a query that must be refused."""
        return self.refused(self.call("GET", "query", params={"q": soql}))

    def leads(self, *fields: Mapping[str, Any]) -> list[str]:
        """Ids of leads a person types in; LastName and Company are filled in."""
        items = [{"fields": {"LastName": "Doe", "Company": "Acme", **given}} for given in fields]
        ids: list[str] = self.control.post("records/salesforce/Lead", items)["ids"]
        return ids

    def seed(self, count: int, stream: str = "Lead", **options: Any) -> list[str]:
        """Ids of seeded records."""
        body = {"system": "salesforce", "stream": stream, "count": count, "options": options}
        ids: list[str] = self.control.post("seed", body)["ids"]
        return ids

    def records(self, stream: str = "Lead", **query: str) -> list[dict[str, Any]]:
        """What the control API shows."""
        suffix = "?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else ""
        found: list[dict[str, Any]] = self.control.get(f"records/salesforce/{stream}{suffix}")["records"]
        return found

    def habit(self, name: str, **setting: Any) -> None:
        """Sets a habit."""
        self.control.post("habits", {"system": "salesforce", "name": name, **setting})

    def fault(self, kind: str, **setting: Any) -> None:
        """Sets a fault, once unless told otherwise."""
        times = {} if "rate" in setting else {"times": setting.pop("times", 1)}
        self.control.post("faults", {"system": "salesforce", "kind": kind, **times, **setting})

    def log(self) -> list[dict[str, Any]]:
        """The requests so far."""
        found: list[dict[str, Any]] = self.control.get("log")["requests"]
        return found

    def violations(self) -> list[str]:
        """The reasons of all violations."""
        return [violation["reason"] for violation in self.control.get("violations")["violations"]]

    def advance(self, seconds: float) -> None:
        """Moves the sandbox clock."""
        self.control.post("clock", {"advance_seconds": seconds})

    def collection(self, method: str, path: str, records: Sequence[object], all_or_none: bool = False) -> Any:
        """The results of a collections call."""
        body = {"allOrNone": all_or_none, "records": list(records)}
        answer = self.call(method, f"composite/sobjects{path}", body)
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def salesforce(seed: int = 7) -> Iterator[SalesforceClient]:
    """A sandbox with a Salesforce organization, and a client that is logged in."""
    with SandboxThread(seed=seed, systems=["salesforce"], clock=lambda: START) as sandbox:
        yield SalesforceClient(sandbox).login()


@contextmanager
def renewed(client: SalesforceClient) -> Iterator[SalesforceClient]:
    """The client with an empty organization; habits are put back afterwards."""
    before = client.control.get("habits")["habits"]
    client.control.post("reset")
    client.version = "v60.0"
    yield client.login()
    for habit in before:
        client.habit(habit["name"], on=habit["on"], value=habit["value"])
