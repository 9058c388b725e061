"""HubSpot's webhooks as a receiver meets them, over HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from hubspot.utils.signature import Signature
from hubspot_client import START, HubSpotClient, fresh
from webhook_receiver import Receiver, only, settled
from webhook_subscriber import DAY, SECRET, move, renamed, subscribe, told

from sync_platform.sandbox.server import SandboxThread


@pytest.fixture
def hubspot(running: HubSpotClient) -> Iterator[HubSpotClient]:
    client = fresh(running)
    client.habit("private_app_limit", on=False)
    client.habit("webhook_event_ids_repeat", on=False)
    yield client
    running.control.delete("webhooks", {"system": "hubspot"})


# ---- what is sent


def test_a_new_contact_makes_a_creation_and_a_change_of_each_property(hubspot: HubSpotClient, inbox: Receiver) -> None:
    subscribe(hubspot, inbox)
    id = int(hubspot.contact(email="Ann@Example.com", firstname="Ann"))
    settled(hubspot.control)
    assert told(inbox.events, "subscriptionType", "objectId", "propertyName", "propertyValue", "changeFlag") == [
        ("contact.creation", id, None, None, "CREATED"),
        ("contact.propertyChange", id, "email", "ann@example.com", None),
        ("contact.propertyChange", id, "firstname", "Ann", None),
    ]
    event = inbox.events[1]
    assert event == {
        "eventId": event["eventId"], "subscriptionId": event["subscriptionId"], "appId": event["appId"],
        "portalId": int(hubspot.env["HUBSPOT_PORTAL_ID"]), "occurredAt": int(START * 1000), "attemptNumber": 0,
        "subscriptionType": "contact.propertyChange", "objectId": id, "propertyName": "email",
        "propertyValue": "ann@example.com", "changeSource": "INTEGRATION", "sourceId": str(event["appId"]),
        "isSensitive": False,
    }  # fmt: skip
    assert len({event["subscriptionId"] for event in inbox.events}) == 3


def test_a_person_and_an_app_are_told_apart_and_an_emptied_property_is_an_empty_text(
    hubspot: HubSpotClient, inbox: Receiver
) -> None:
    (id,) = hubspot.by_hand("companies", {"fields": {"name": "Acme", "city": "Rome"}})
    subscribe(hubspot, inbox)
    hubspot.by_hand("companies", {"id": id, "fields": {"city": None, "name": "Acme"}})
    inbox.wait(1)
    hubspot.call("PATCH", f"/crm/v3/objects/companies/{id}", {"properties": {"city": "Bern"}})
    settled(hubspot.control)
    assert told(inbox.events, "subscriptionType", "propertyName", "propertyValue", "changeSource") == [
        ("company.propertyChange", "city", "", "CRM_UI"),
        ("company.propertyChange", "city", "Bern", "INTEGRATION"),
    ]
    assert [event["sourceId"].partition(":")[0] for event in inbox.events] == ["userId", str(inbox.events[0]["appId"])]


def test_archives_restores_erasures_and_merges_are_told(hubspot: HubSpotClient, inbox: Receiver) -> None:
    ids = [int(id) for id in renamed(hubspot, 4)]
    subscribe(hubspot, inbox)
    hubspot.call("DELETE", f"/crm/v3/objects/contacts/{ids[0]}")
    inbox.wait(1)
    restored = {"system": "hubspot", "stream": "contacts", "ids": [str(ids[0])]}
    assert hubspot.control.post("restore", restored) == {"restored": 1}
    inbox.wait(2)
    hubspot.post("/crm/v3/objects/contacts/gdpr-delete", {"objectId": str(ids[1])}, 204)
    inbox.wait(3)
    merge = {"primaryObjectId": str(ids[2]), "objectIdToMerge": str(ids[3])}
    winner = int(hubspot.post("/crm/v3/objects/contacts/merge", merge)["id"])
    settled(hubspot.control)
    assert told(inbox.events, "subscriptionType", "objectId", "changeFlag", "changeSource") == [
        ("contact.deletion", ids[0], "DELETED", "INTEGRATION"),
        ("contact.restore", ids[0], None, "CRM_UI"),
        ("contact.privacyDeletion", ids[1], "DELETED", "INTEGRATION"),
        ("contact.deletion", ids[1], "DELETED", "INTEGRATION"),
        ("contact.merge", ids[2], None, "INTEGRATION"),
    ]
    merged = inbox.events[-1]
    assert winner not in ids
    assert told([merged], "primaryObjectId", "mergedObjectIds", "newObjectId", "numberOfPropertiesMoved") == [
        (ids[2], [ids[3]], winner, 0)
    ]


def test_only_what_is_subscribed_is_sent_and_derived_properties_only_when_asked_for(
    hubspot: HubSpotClient, inbox: Receiver
) -> None:
    types = ("contact.propertyChange:hs_email_domain", "contact.deletion")
    webhook = subscribe(hubspot, inbox, *types)
    id = hubspot.contact(email="ann@example.com", firstname="Ann")
    hubspot.contact(email="bea@example.com")
    hubspot.call("DELETE", f"/crm/v3/objects/contacts/{id}")
    made = settled(hubspot.control)
    known = {each["eventType"]: int(each["id"]) for each in webhook["subscriptions"]}
    assert sorted(told(inbox.events, "subscriptionType", "propertyValue", "subscriptionId")) == sorted([
        ("contact.propertyChange", "example.com", known["contact.propertyChange"]),
        ("contact.propertyChange", "example.com", known["contact.propertyChange"]),
        ("contact.deletion", None, known["contact.deletion"]),
    ])  # fmt: skip
    assert made["made"] == 3


def test_the_newer_event_types_name_the_object_type(hubspot: HubSpotClient, inbox: Receiver) -> None:
    body = {"system": "hubspot", "target_url": inbox.url, "secret": SECRET}
    wanted = [{"eventType": "object.creation", "objectTypeId": "0-1"}, {"eventType": "contact.creation"}]
    hubspot.control.post("webhooks", {**body, "subscriptions": wanted})
    hubspot.contact(email="ann@example.com")
    hubspot.by_hand("companies", {"fields": {"name": "Acme"}})
    settled(hubspot.control)
    assert told(inbox.events, "subscriptionType", "objectTypeId") == [
        ("object.creation", "0-1"), ("contact.creation", None),
    ]  # fmt: skip


def test_what_is_refused_or_rolled_back_or_seeded_is_told_to_nobody(hubspot: HubSpotClient, inbox: Receiver) -> None:
    subscribe(hubspot, inbox)
    hubspot.control.post("seed", {"system": "hubspot", "stream": "contacts", "count": 5})
    inputs = [{"properties": {"email": "a@example.com"}}, {"properties": {"email": "A@example.com"}}]
    hubspot.post("/crm/v3/objects/contacts/batch/create", {"inputs": inputs}, 409)
    hubspot.post("/crm/v3/objects/contacts", {"properties": {"nope": "x"}}, 400)
    id = hubspot.contact(email="b@example.com")
    hubspot.call("PATCH", f"/crm/v3/objects/contacts/{id}", {"properties": {"email": "b@example.com"}})
    hubspot.advance(10)  # the modified stamp moves once more by itself
    assert settled(hubspot.control)["made"] == 2
    assert told(inbox.events, "objectId") == [(int(id),)] * 2


def test_an_event_id_is_not_always_unique(hubspot: HubSpotClient, inbox: Receiver) -> None:
    hubspot.habit("webhook_event_ids_repeat", on=True, value=0.2)
    ids = renamed(hubspot, 60)
    subscribe(hubspot, inbox)
    move(hubspot, ids)
    settled(hubspot.control)
    repeated = [id for id, times in Counter(event["eventId"] for event in inbox.events).items() if times > 1]
    assert repeated
    shared = [event["objectId"] for event in inbox.events if event["eventId"] == repeated[0]]
    assert len(set(shared)) == len(shared)  # different events, whatever their id says


# ---- signatures


def test_every_signature_follows_the_documented_formula(hubspot: HubSpotClient, inbox: Receiver) -> None:
    subscribe(hubspot, inbox)
    hubspot.contact(email="zoë@example.com", firstname="Zoë 美咲")
    (request,) = inbox.wait(1)
    stamp = request.headers["x-hubspot-request-timestamp"]
    text = f"POST{inbox.url}{request.body.decode()}{stamp}"
    assert request.target == "/hooks/one?key=a%20b"
    assert stamp == str(int(START * 1000))
    signed = hmac.digest(SECRET.encode(), text.encode(), "sha256")
    assert base64.b64decode(request.headers["x-hubspot-signature-v3"]) == signed
    older = hashlib.sha256(SECRET.encode() + request.body).hexdigest()
    assert (request.headers["x-hubspot-signature"], request.headers["x-hubspot-signature-version"]) == (older, "v1")
    assert request.headers["content-type"] == "application/json"


def test_the_vendors_sdk_accepts_both_signatures_also_after_the_clock_was_advanced(inbox: Receiver) -> None:
    with SandboxThread(systems=["hubspot"]) as sandbox:
        sandbox.control.post("clock", {"advance_seconds": 5 * DAY})
        body = {"system": "hubspot", "target_url": inbox.url, "secret": SECRET}
        sandbox.control.post("webhooks", body)
        sandbox.control.post("records/hubspot/contacts", [{"fields": {"firstname": "Zoë", "email": "z@example.com"}}])
        (request,) = inbox.wait(1)
    headers, content = request.headers, request.body.decode()
    newest = {"http_uri": inbox.url, "timestamp": headers["x-hubspot-request-timestamp"], "signature_version": "v3"}
    assert Signature.is_valid(headers["x-hubspot-signature-v3"], SECRET, content, **newest)
    assert not Signature.is_valid(headers["x-hubspot-signature-v3"], SECRET, content + " ", **newest)
    assert Signature.is_valid(headers["x-hubspot-signature"], SECRET, content, signature_version="v1")
    assert request.events[0]["occurredAt"] > (time.time() + 4 * DAY) * 1000


# ---- batches, order, doubles, losses


def test_events_are_batched_by_a_hundred_and_at_most_ten_requests_fly(hubspot: HubSpotClient, inbox: Receiver) -> None:
    ids = renamed(hubspot, 1500)
    subscribe(hubspot, inbox)
    inbox.reply = lambda request: None
    move(hubspot, ids)
    inbox.wait(10)
    silent = only(hubspot.control)
    assert (silent["requests"], silent["sent"], silent["waiting"]) == (10, 1000, 1500)
    inbox.reply = lambda request: (200, b"")
    hubspot.advance(5)  # the ten are given up, the rest goes out
    done = settled(hubspot.control, waiting=1000)
    assert (done["requests"], done["refused"], done["acknowledged"]) == (15, 10, 500)
    assert {len(request.events) for request in inbox.requests} == {100}


def test_connections_are_kept_alive(hubspot: HubSpotClient, inbox: Receiver) -> None:
    subscribe(hubspot, inbox, "contact.creation")
    for count in range(1, 6):
        hubspot.contact(email=f"{count}@example.com")
        inbox.wait(count)
        settled(hubspot.control)
    assert len({request.connection for request in inbox.requests}) == 1


def test_doubles_have_the_same_id_some_in_one_request_and_some_later(hubspot: HubSpotClient, inbox: Receiver) -> None:
    ids = renamed(hubspot, 400)
    subscribe(hubspot, inbox, duplicate_rate=0.25)
    move(hubspot, ids)
    done = settled(hubspot.control)
    keys = Counter(told(inbox.events, "eventId", "objectId", "occurredAt"))
    assert len(keys) == 400
    assert set(keys.values()) == {1, 2}
    assert 60 < done["duplicated"] == sum(n - 1 for n in keys.values()) < 140
    within = sum(len(r.events) - len(set(told(r.events, "eventId"))) for r in inbox.requests)
    assert 0 < within < done["duplicated"]


def test_dropped_events_never_arrive_and_are_counted(hubspot: HubSpotClient, inbox: Receiver) -> None:
    ids = renamed(hubspot, 400)
    subscribe(hubspot, inbox, drop_rate=0.25)
    move(hubspot, ids)
    done = settled(hubspot.control)
    assert 60 < done["dropped"] < 140
    assert len(inbox.events) == 400 - done["dropped"]
    hubspot.advance(2 * DAY)
    assert settled(hubspot.control)["sent"] == 400 - done["dropped"]


def test_reordered_events_arrive_in_another_order_and_none_is_lost(hubspot: HubSpotClient, inbox: Receiver) -> None:
    (id,) = renamed(hubspot, 1)
    subscribe(hubspot, inbox, "contact.propertyChange:city", reorder=True)
    for n in range(40):
        move(hubspot, [id], f"City {n}")
        hubspot.advance(0.001)
    hubspot.advance(1)
    settled(hubspot.control)
    order = told(inbox.events, "occurredAt", "propertyValue")
    assert sorted(order) == [(int(START * 1000) + n, f"City {n}") for n in range(40)]
    assert order != sorted(order)


def test_the_same_seed_doubles_and_drops_the_same_events(hubspot: HubSpotClient, inbox: Receiver) -> None:
    seen = []
    for _ in range(2):
        hubspot.control.delete("webhooks", {"system": "hubspot"})
        hubspot.control.post("reset")
        ids = renamed(hubspot, 100)
        subscribe(hubspot, inbox, duplicate_rate=0.3, drop_rate=0.3)
        move(hubspot, ids)
        settled(hubspot.control)
        seen.append(sorted(told(inbox.events, "eventId", "objectId")))
        inbox.requests.clear()
    assert seen[0] == seen[1]


def test_a_delay_runs_on_the_sandbox_clock(hubspot: HubSpotClient, inbox: Receiver) -> None:
    subscribe(hubspot, inbox, "contact.creation", delay_ms=60_000)
    hubspot.contact(email="a@example.com")
    hubspot.advance(59)
    assert settled(hubspot.control, waiting=1)["sent"] == 0
    hubspot.advance(1)
    (event,) = inbox.wait(1)[0].events
    assert event["occurredAt"] == int(START * 1000)


def test_a_delay_passes_by_itself_where_the_clock_runs(inbox: Receiver) -> None:
    with SandboxThread(systems=["hubspot"]) as sandbox:
        body = {"system": "hubspot", "target_url": inbox.url, "secret": SECRET, "options": {"delay_ms": 30}}
        sandbox.control.post("webhooks", body)
        sandbox.control.post("records/hubspot/contacts", [{"fields": {"email": "z@example.com"}}])
        inbox.wait(1)  # no further request wakes the sandbox
