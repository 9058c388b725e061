"""Signed webhooks."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

import pytest

from sync_platform.connectors.hubspot import HubSpot
from sync_platform.connectors.hubspot.webhooks import events_of, signature, verified_events
from sync_platform.errors import AuthError, ConfigError, ContractError
from sync_platform.model import Event

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
URL = "https://sync.example.com/hooks/hubspot?connection=a%20b"
SECRET = "app-secret"
CHANGE = {
    "eventId": 1,
    "subscriptionId": 2,
    "objectId": 512,
    "occurredAt": 1_700_000_000_000,
    "subscriptionType": "contact.propertyChange",
    "propertyName": "email",
    "propertyValue": "a@b.c",
}


def stamp(moment: dt.datetime) -> str:
    return str(int(moment.timestamp() * 1000))


def signed(body: bytes, moment: dt.datetime = NOW, url: str = URL, secret: str = SECRET) -> Mapping[str, str]:
    proof = signature(secret, "POST", url, body, stamp(moment))
    return {"X-HubSpot-Signature-v3": proof, "X-HubSpot-Request-Timestamp": stamp(moment)}


def accepted(headers: Mapping[str, str], body: bytes, url: str = URL) -> list[Event]:
    return verified_events(headers, body, url, secrets=[SECRET], now=NOW)


def test_the_signature_is_the_one_hubspots_own_library_computes() -> None:
    from hubspot.utils.signature import Signature

    body = json.dumps([CHANGE])
    theirs = Signature.get_signature(SECRET, body, "v3", URL, "POST", stamp(NOW))
    assert signature(SECRET, "POST", URL, body.encode(), stamp(NOW)) == theirs


def test_a_signed_body_gives_its_events() -> None:
    body = json.dumps([CHANGE]).encode()
    (event,) = accepted(signed(body), body)
    assert (event.stream, event.key, event.kind, event.fields) == ("contacts", "512", "updated", {"email": "a@b.c"})
    assert event.id == "1:2:512:1700000000000:email"


def test_header_names_are_read_without_regard_to_case() -> None:
    body = b"[]"
    assert accepted({name.lower(): value for name, value in signed(body).items()}, body) == []


def test_a_changed_body_a_changed_address_and_another_secret_are_refused() -> None:
    body = json.dumps([CHANGE]).encode()
    for headers, received, url in (
        (signed(body), body + b" ", URL),
        (signed(body), body, URL + "&x=1"),
        (signed(body, secret="other"), body, URL),
        ({**signed(body), "X-HubSpot-Signature-v3": "é"}, body, URL),
        ({}, body, URL),
        ({"X-HubSpot-Signature-v3": "x"}, body, URL),
    ):
        with pytest.raises(AuthError):
            accepted(headers, received, url)


@pytest.mark.parametrize("minutes", [-5.1, 5.1, 60 * 24 * 365 * 50])
def test_a_timestamp_too_far_in_the_past_or_the_future_is_refused(minutes: float) -> None:
    body = b"[]"
    with pytest.raises(AuthError, match="five minutes"):
        accepted(signed(body, NOW + dt.timedelta(minutes=minutes)), body)
    accepted(signed(body, NOW + dt.timedelta(minutes=4.9 if minutes > 0 else -4.9)), body)


def test_escapes_of_the_address_that_hubspot_decodes_before_signing_are_accepted() -> None:
    body = b"[]"
    assert accepted(signed(body, url="https://x.example/a:b?c=%3A"), body, "https://x.example/a%3Ab?c=%3A") == []


def test_events_that_share_an_event_id_keep_apart() -> None:
    other = {**CHANGE, "propertyName": "firstname"}
    assert len({event.id for event in events_of(json.dumps([CHANGE, other, CHANGE]).encode())}) == 2


def test_a_merge_tells_who_remains_and_who_is_gone() -> None:
    raw: dict[str, Any] = {
        "eventId": 1,
        "objectId": 9,
        "occurredAt": 1_700_000_000_000,
        "subscriptionType": "contact.merge",
        "primaryObjectId": 7,
        "mergedObjectIds": [8],
        "newObjectId": 9,
    }
    events = events_of(json.dumps([raw]).encode())
    assert [(event.key, event.kind) for event in events] == [("9", "merged"), ("7", "deleted"), ("8", "deleted")]
    assert len({event.id for event in events}) == 3


@pytest.mark.parametrize("body", [b"{}", b"not json", b'"x"'])
def test_a_body_that_is_not_a_list_of_events_is_named(body: bytes) -> None:
    with pytest.raises(ContractError):
        events_of(body)


def test_a_subscription_nobody_reads_is_passed_over() -> None:
    body = json.dumps([{**CHANGE, "subscriptionType": "conversation.newMessage"}, "x"]).encode()
    assert events_of(body) == []


def test_without_a_client_secret_no_webhook_is_believed() -> None:
    with pytest.raises(ConfigError) as refused:
        HubSpot(access_token="t").verify({}, b"[]", URL)
    assert refused.value.field == "client_secret"
