"""An app's webhook settings and subscriptions, by hand and by the vendor's own SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hubspot import HubSpot
from hubspot.webhooks import (
    ApiException,
    BatchInputSubscriptionBatchUpdateRequest,
    SettingsChangeRequest,
    SubscriptionBatchUpdateRequest,
    SubscriptionCreateRequest,
    SubscriptionPatchRequest,
    ThrottlingSettings,
)
from hubspot_client import HubSpotClient, fresh, hubspot_client
from webhook_receiver import Receiver, only, receiver, settled


@pytest.fixture(scope="module")
def inbox() -> Iterator[Receiver]:
    with receiver() as server:
        yield server


@pytest.fixture
def hubspot(inbox: Receiver) -> Iterator[HubSpotClient]:
    inbox.requests.clear()
    with hubspot_client() as client:  # settings survive a reset, so each test has a sandbox of its own
        yield fresh(client)


@pytest.fixture
def sdk(hubspot: HubSpotClient) -> HubSpot:
    return HubSpot(api_key=hubspot.env["HUBSPOT_DEVELOPER_API_KEY"], host=hubspot.env["HUBSPOT_BASE_URL"])


def app(hubspot: HubSpotClient) -> int:
    return int(hubspot.env["HUBSPOT_APP_ID"])


def settings(inbox: Receiver, concurrent: int = 10) -> SettingsChangeRequest:
    return SettingsChangeRequest(
        target_url=inbox.url, throttling=ThrottlingSettings(max_concurrent_requests=concurrent)
    )


def test_settings_and_subscriptions_by_the_sdk_make_the_events_flow(
    hubspot: HubSpotClient, sdk: HubSpot, inbox: Receiver
) -> None:
    made = sdk.webhooks.settings_api.configure(app(hubspot), settings(inbox))
    assert (made.target_url, made.throttling.max_concurrent_requests) == (inbox.url, 10)
    subscriptions = sdk.webhooks.subscriptions_api
    paused = subscriptions.create(app(hubspot), SubscriptionCreateRequest(event_type="contact.creation"))
    email = SubscriptionCreateRequest(event_type="contact.propertyChange", property_name="email", active=True)
    active = subscriptions.create(app(hubspot), email)
    assert (paused.active, active.active, active.property_name) == (False, True, "email")
    hubspot.contact(email="a@example.com", firstname="Ann")
    settled(hubspot.control)
    assert [event["subscriptionId"] for event in inbox.events] == [int(active.id)]
    subscriptions.update(int(paused.id), app(hubspot), SubscriptionPatchRequest(active=True))
    hubspot.contact(email="b@example.com")
    settled(hubspot.control)
    assert [event["subscriptionType"] for event in inbox.events[1:]] == ["contact.creation", "contact.propertyChange"]
    assert only(hubspot.control)["secret"] == hubspot.env["HUBSPOT_CLIENT_SECRET"]
    assert hubspot.violations() == []


def test_subscriptions_are_listed_changed_in_batches_and_deleted(
    hubspot: HubSpotClient, sdk: HubSpot, inbox: Receiver
) -> None:
    api = sdk.webhooks.subscriptions_api
    sdk.webhooks.settings_api.configure(app(hubspot), settings(inbox))
    kinds = ("contact.creation", "deal.deletion", "ticket.merge")
    ids = [int(api.create(app(hubspot), SubscriptionCreateRequest(event_type=kind, active=True)).id) for kind in kinds]
    assert [found.event_type for found in api.get_all(app(hubspot)).results] == list(kinds)
    pause = [SubscriptionBatchUpdateRequest(id=id, active=False) for id in ids[:2]]
    done = api.update_batch(app(hubspot), BatchInputSubscriptionBatchUpdateRequest(inputs=pause))
    assert (done.status, [found.active for found in done.results]) == ("COMPLETE", [False, False])
    api.archive(ids[2], app(hubspot))
    assert [found.active for found in api.get_all(app(hubspot)).results] == [False, False]
    with pytest.raises(ApiException) as missing:
        api.get_by_id(ids[2], app(hubspot))
    assert missing.value.status == 404
    hubspot.contact(email="a@example.com")
    assert settled(hubspot.control)["made"] == 0


def test_cleared_settings_end_the_events(hubspot: HubSpotClient, sdk: HubSpot, inbox: Receiver) -> None:
    api = sdk.webhooks.settings_api
    with pytest.raises(ApiException) as missing:
        api.get_all(app(hubspot))
    assert missing.value.status == 404
    api.configure(app(hubspot), settings(inbox))
    wanted = SubscriptionCreateRequest(event_type="contact.creation", active=True)
    sdk.webhooks.subscriptions_api.create(app(hubspot), wanted)
    hubspot.contact(email="a@example.com")
    settled(hubspot.control)
    api.clear(app(hubspot))
    hubspot.contact(email="b@example.com")
    assert hubspot.control.get("webhooks") == {"webhooks": []}
    assert len(inbox.requests) == 1


def test_the_concurrency_asked_for_is_kept(hubspot: HubSpotClient, sdk: HubSpot, inbox: Receiver) -> None:
    sdk.webhooks.settings_api.configure(app(hubspot), settings(inbox, 6))
    wanted = SubscriptionCreateRequest(event_type="contact.creation", active=True)
    sdk.webhooks.subscriptions_api.create(app(hubspot), wanted)
    inbox.reply = lambda request: None
    try:
        hubspot.by_hand("contacts", *({"fields": {"email": f"{n}@example.com"}} for n in range(700)))
        inbox.wait(6)
        webhook = only(hubspot.control)
    finally:
        inbox.reply = lambda request: (204, b"")
    assert (webhook["in_flight"], webhook["waiting"]) == (6, 700)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "settings", {"targetUrl": "https://example.com"}, 400),
        ("PUT", "settings", {"targetUrl": "https://example.com", "throttling": {"maxConcurrentRequests": 5}}, 400),
        ("PUT", "settings", {"targetUrl": "example", "throttling": {"maxConcurrentRequests": 9}}, 400),
        ("POST", "subscriptions", {}, 400),
        ("POST", "subscriptions", {"eventType": "contact.birthday"}, 400),
        ("POST", "subscriptions", {"eventType": "contact.propertyChange"}, 400),
        ("POST", "subscriptions", {"eventType": "deal.propertyChange", "propertyName": "hs_lastmodifieddate"}, 400),
        ("POST", "subscriptions", {"eventType": "object.creation"}, 400),
        ("POST", "subscriptions", {"eventType": "object.creation", "objectTypeId": "0-999"}, 400),
        ("POST", "subscriptions", {"eventType": "contact.associationChange"}, 501),
        ("POST", "subscriptions", {"eventType": "contact.creation", "active": "yes"}, 400),
        ("PATCH", "subscriptions/1", {"active": True}, 404),
        ("POST", "subscriptions/batch/update", {"inputs": [{"id": 1, "active": True}]}, 404),
    ],
)
def test_what_the_vendor_would_not_take_is_refused(
    hubspot: HubSpotClient, method: str, path: str, body: dict[str, Any], status: int
) -> None:
    key = hubspot.env["HUBSPOT_DEVELOPER_API_KEY"]
    answer = hubspot.call(method, f"/webhooks/v3/{app(hubspot)}/{path}", body, hapikey=key)
    assert answer.status_code == status, answer.text


def test_the_same_subscription_twice_is_refused(hubspot: HubSpotClient) -> None:
    path, key = f"/webhooks/v3/{app(hubspot)}/subscriptions", hubspot.env["HUBSPOT_DEVELOPER_API_KEY"]
    statuses = [hubspot.call("POST", path, {"eventType": "contact.creation"}, hapikey=key).status_code for _ in "ab"]
    assert statuses == [201, 400]


def test_a_token_is_not_enough_and_a_foreign_app_is_not_found(hubspot: HubSpotClient) -> None:
    path = f"/webhooks/v3/{app(hubspot)}/settings"
    assert hubspot.call("GET", path).status_code == 401  # with the private app's token
    assert hubspot.call("GET", path, hapikey="wrong").status_code == 401
    key = hubspot.env["HUBSPOT_DEVELOPER_API_KEY"]
    assert hubspot.call("GET", "/webhooks/v3/1/settings", hapikey=key).status_code == 404
