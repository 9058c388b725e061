"""A project with webhooks, the gateway as a process of its own, and vendors that call it as their documents say."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import requests
from hubspot.utils.signature import Signature

from tests.forked_commands import ran
from tests.private_postgres import free_port
from tests.unit.state.processes import environment

NEW, OLD = "client-secret-of-today", "client-secret-of-yesterday"
PATH, OLD_PATH = "salesforce-path-secret-of-today", "salesforce-path-secret-of-yesterday"
ORGANIZATION = "00D5g000004XyZaEAK"

RESOURCES = f'''
from dagster import EnvVar

from sync_platform.connectors.hubspot import HubSpot
from sync_platform.connectors.postgres import Postgres
from sync_platform.connectors.salesforce import Salesforce
from sync_platform.connectors.variables import OptionalEnvVar
from sync_platform.connectors.webhook import Acknowledgement


class Asking(HubSpot):
    """A vendor that asks who we are before it sends anything."""

    def handshake(self, method, headers, body, url):
        asked = url.partition("?challenge=")[2]
        return Acknowledgement(body=asked.encode(), content_type="text/plain") if method == "GET" and asked else None


hubspot = HubSpot(access_token="t", client_secret={NEW!r}, previous_client_secret={OLD!r})
asking = Asking(access_token="t", client_secret={NEW!r})
secretless = HubSpot(access_token="t")
unset = HubSpot(access_token="t", client_secret=EnvVar("NOBODY_SETS_THIS"))
optional = HubSpot(access_token=EnvVar("GATEWAY_TEST_TOKEN"), client_secret=OptionalEnvVar("NOBODY_SETS_THIS"))
by_variable = HubSpot(access_token="t", client_secret=OptionalEnvVar("GATEWAY_TEST_SECRET"))
database = Postgres(url="postgresql://nobody@127.0.0.1:1/none")
salesforce = Salesforce(
    base_url="http://127.0.0.1:1", client_id="c", client_secret="s",
    webhook_secret={PATH!r}, previous_webhook_secret={OLD_PATH!r}, organization_id={ORGANIZATION!r},
)
'''

SYNC = """
type: sync_platform.Sync
attributes:
  name: {name}
  source: {{connection: {connection}, object: {object}}}
  target: {{connection: database, object: public.people, match: [email]}}
  mapping: {{email: email}}
  frequency: {frequency}
"""


@dataclass(frozen=True, kw_only=True)
class Written:
    """A project's folder."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> Written:
        """Two syncs read contacts in real time, one by the clock; one reads leads in real time."""
        for name in ("assets", "resources", "checks"):
            (root / name).mkdir(parents=True)
            (root / name / "__init__.py").touch()
        (root / "resources" / "systems.py").write_text(RESOURCES)
        made = cls(root=root)
        made.sync("contacts_to_people")
        made.sync("contacts_to_more_people")
        made.sync("contacts_every_night", frequency="0 3 * * *")
        made.sync("leads_to_people", connection="salesforce", object="Lead")
        return made

    def sync(
        self, name: str, *, connection: str = "hubspot", object: str = "contacts", frequency: str = "realtime"
    ) -> Path:
        """Writes a sync's defs.yaml."""
        file = self.root / "assets" / name / "defs.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(SYNC.format(name=name, connection=connection, object=object, frequency=frequency))
        return file


@dataclass(kw_only=True)
class RunningGateway:
    """`sync-platform gateway` on a free port, with a state of its own. Use as a context manager."""

    project: Path
    home: Path
    database_url: str = field(repr=False)
    options: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.home.parent / f"gateway-{self.port}.log"

    def environment(self) -> dict[str, str]:
        return environment(
            SYNC_HOME=str(self.home),
            SYNC_DATABASE_URL=self.database_url,
            SYNC_PROJECT=str(self.project),
            GATEWAY_TEST_TOKEN="a-token",
            GATEWAY_TEST_SECRET=NEW,
            **self.variables,
        )

    def __enter__(self) -> RunningGateway:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sync_platform.cli", "gateway", "--port", str(self.port), *self.options],
                env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 90
        while True:
            try:
                if requests.get(f"{self.url}/healthz", timeout=5).status_code == 200:
                    return self
            except requests.ConnectionError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)

    def cli(self, *arguments: str) -> tuple[int, Any]:
        """A command of the same installation: its exit code and its JSON."""
        done = ran([*arguments, "--json"], self.environment(), self.project, seconds=120)
        return done.code, done.json

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None, *, patience: float = 30.0
    ) -> requests.Response:
        """A request as it is given."""
        return requests.post(f"{self.url}/webhooks/{path}", data=body, headers=dict(headers or {}), timeout=patience)

    def hubspot(
        self, *events: Mapping[str, Any], secret: str = NEW, connection: str = "hubspot", patience: float = 30.0
    ) -> requests.Response:
        """A webhook as HubSpot sends it, signed by HubSpot's own library."""
        body = json.dumps(events).encode()
        headers = signed(body, f"{self.url}/webhooks/{connection}", secret=secret)
        return self.post(connection, body, headers, patience=patience)

    def salesforce(self, *records: str, secret: str = PATH, organization: str = ORGANIZATION) -> requests.Response:
        """An Outbound Message as Salesforce sends it."""
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '""'}
        return self.post(f"salesforce/{secret}", outbound(*records, organization=organization), headers)

    def stored(self, where: str = "true") -> list[tuple[Any, ...]]:
        """(connection, event_id, stream, key, kind, fields) of the inbox, in the order of arrival."""
        return self.rows(
            f"SELECT connection, event_id, stream, key, kind, fields FROM sync.inbox WHERE {where} ORDER BY seq"
        )

    def queued(self, key: str) -> list[str]:
        """The syncs an event of this key waits for."""
        query = f"SELECT sync FROM sync.queue WHERE key = '{key}' AND state = 'waiting' ORDER BY sync"
        return [row[0] for row in self.rows(query)]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the state answers."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query.encode()).fetchall()

    def metrics(self) -> dict[str, float]:
        """The sample lines of /metrics."""
        lines = requests.get(f"{self.url}/metrics", timeout=10).text.splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def signed(body: bytes, url: str, *, secret: str = NEW, seconds: float = 0.0) -> dict[str, str]:
    """HubSpot's headers, `seconds` from now."""
    stamp = str(int((time.time() + seconds) * 1000))
    proof = Signature.get_signature(secret, body.decode(), "v3", url, "POST", stamp)
    return {"X-HubSpot-Signature-v3": proof, "X-HubSpot-Request-Timestamp": stamp, "Content-Type": "application/json"}


_numbers = iter(range(1, 1_000_000))


def change(object_id: int, value: str = "a@x.example", **more: Any) -> dict[str, Any]:
    """A change of a contact's e-mail as HubSpot tells it."""
    return {
        "eventId": next(_numbers) * 1000 + os.getpid() % 1000,
        "subscriptionId": 7,
        "portalId": 62515,
        "appId": 54321,
        "occurredAt": 1_764_000_000_000,
        "subscriptionType": "contact.propertyChange",
        "attemptNumber": 0,
        "objectId": object_id,
        "propertyName": "email",
        "propertyValue": value,
        "changeSource": "CRM",
        **more,
    }


def notification(event: str, record: str, *, object: str = "Lead", fields: str = "") -> str:
    """One notification of an Outbound Message."""
    return (
        f'<Notification><Id>{event}</Id><sObject xsi:type="sf:{object}" '
        f'xmlns:sf="urn:sobject.enterprise.soap.sforce.com"><sf:Id>{record}</sf:Id>{fields}</sObject></Notification>'
    )


def outbound(*notifications: str, organization: str = ORGANIZATION) -> bytes:
    """The SOAP message around them."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
        'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
        '<notifications xmlns="http://soap.sforce.com/2005/09/outbound">'
        f"<OrganizationId>{organization}</OrganizationId><ActionId>04k5g000000TN8pAAG</ActionId>"
        '<SessionId xsi:nil="true"/><EnterpriseUrl>https://x.example/c</EnterpriseUrl>'
        f"<PartnerUrl>https://x.example/u</PartnerUrl>{''.join(notifications)}</notifications>"
        "</soapenv:Body></soapenv:Envelope>"
    ).encode()


def raw(port: int, *parts: bytes, wait: float = 30.0) -> bytes:
    """Sends bytes as they are, hangs up, and returns what was answered before."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        for part in parts:
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
        return answer
