"""A connector to an imitated Salesforce org, and what their tests look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from local_server import Clock, LocalServer
from salesforce_org import START, Org

from sync_platform.connectors.salesforce import Salesforce
from sync_platform.connectors.salesforce.bulk import Waiting
from sync_platform.model import Page, Position


class Account:
    """A connector, the org it talks to, and the clock both go by."""

    def __init__(self, server: LocalServer, org: Org, **options: Any) -> None:
        self.server, self.org = server, org
        org.url = server.url
        self.clock = Clock(START.timestamp() + 2 * 3600)
        self.connector = self.connect(**options)

    def connect(self, **options: Any) -> Salesforce:
        settings = {"client_id": "app", "client_secret": "org-secret", "base_url": self.server.url, **options}
        made = Salesforce(**settings)
        made._waiting = Waiting(clock=self.clock, sleep=self.clock.sleep)
        http = made.http
        http._clock, http._sleep = self.clock, self.clock.sleep
        return made

    def read(self, since: Position | None = None, **options: Any) -> list[Page]:
        return list(self.connector.read("Lead", since, **options))


def ids(pages: Sequence[Page]) -> list[str]:
    return [key for page in pages for key in page.table["Id"].to_pylist()]


def soql(server: LocalServer) -> list[str]:
    return [one.query["q"] for one in server.asked if "q" in one.query]
