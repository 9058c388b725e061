"""HubSpot's webhook subscriptions, against a local server that keeps them as webhooks API v3 does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sync_platform.connectors.hubspot import HubSpot
from sync_platform.connectors.webhook import Subscriber
from sync_platform.errors import AuthError, ConfigError
from tests.unit.connectors.local_server import Asked, LocalServer, Reply, serving

KEY, APP = "developer-api-key-0123", "4242"


class AppSettings:
    """One app: its address, and its subscriptions by id."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] | None = None
        self.kept: dict[str, dict[str, Any]] = {}

    def __call__(self, asked: Asked) -> Reply:
        if asked.query.get("hapikey") != KEY:
            return Reply(status=401, data={"status": "error", "message": "The hapikey is wrong", "category": "INVALID"})
        match asked.method, asked.path.removeprefix(f"/webhooks/v3/{APP}/").split("/"):
            case "GET", ["settings"]:
                return Reply(data=self.settings) if self.settings else Reply(status=404, data={"message": "none"})
            case "PUT", ["settings"]:
                self.settings = asked.json
                return Reply(data=self.settings)
            case "GET", ["subscriptions"]:
                return Reply(data={"results": list(self.kept.values())})
            case "POST", ["subscriptions"]:
                made = {"id": str(len(self.kept) + 1), "createdAt": "2026-11-23T12:00:00Z", **asked.json}
                self.kept[made["id"]] = made
                return Reply(status=201, data=made)
            case "DELETE", ["subscriptions", one]:
                self.kept.pop(one)
                return Reply(status=204)
            case _:
                return Reply(status=404, data={"message": "no such address"})


@pytest.fixture
def app() -> AppSettings:
    return AppSettings()


@pytest.fixture
def server(app: AppSettings) -> Iterator[LocalServer]:
    with serving(app) as running:
        yield running


@pytest.fixture
def subscriber(server: LocalServer) -> Subscriber:
    return HubSpot(base_url=server.url, access_token="t", app_id=APP, developer_api_key=KEY).subscriber()


def test_an_app_without_settings_calls_nobody_and_is_told_whom_to_call(
    subscriber: Subscriber, app: AppSettings
) -> None:
    assert (subscriber.target(), subscriber.subscriptions()) == (None, [])
    subscriber.subscribe("https://hooks.example.com/webhooks/hubspot", {})
    assert subscriber.target() == "https://hooks.example.com/webhooks/hubspot"


def test_a_stream_is_subscribed_to_with_its_life_and_each_field_and_nothing_twice(
    subscriber: Subscriber, app: AppSettings
) -> None:
    url = "https://hooks.example.com/webhooks/hubspot"
    first = subscriber.subscribe(url, {"contacts": ["email"]})
    assert [(one.event, one.field) for one in first] == [
        ("contact.creation", None),
        ("contact.deletion", None),
        ("contact.merge", None),
        ("contact.restore", None),
        ("contact.propertyChange", "email"),
    ]
    second = subscriber.subscribe(url, {"contacts": ["email", "firstname"]})
    assert [(one.event, one.field, one.active) for one in second] == [("contact.propertyChange", "firstname", True)]
    assert len(app.kept) == len(subscriber.subscriptions()) == 6


def test_a_subscription_is_ended_by_its_id(subscriber: Subscriber, app: AppSettings) -> None:
    made = subscriber.subscribe("https://x.example", {"companies": ["name"]})
    subscriber.unsubscribe([made[-1].id])
    assert [one.event for one in subscriber.subscriptions()] == [one.event for one in made[:-1]]


def test_an_object_without_webhooks_is_refused_before_anything_is_sent(
    subscriber: Subscriber, server: LocalServer
) -> None:
    with pytest.raises(ConfigError, match="2-123"):
        subscriber.subscribe("https://x.example", {"2-123": ["email"]})
    assert server.asked == []


def test_the_key_never_shows(server: LocalServer) -> None:
    connector = HubSpot(base_url=server.url, access_token="t", app_id=APP, developer_api_key="another-developer-key")
    with pytest.raises(AuthError) as refused:
        connector.subscriber().subscriptions()
    assert "another-developer-key" not in str(refused.value) + repr(connector)


def test_without_the_key_it_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match="unavailable: ") as refused:
        HubSpot(access_token="t", app_id=APP).subscriber()
    assert refused.value.field == "developer_api_key"
