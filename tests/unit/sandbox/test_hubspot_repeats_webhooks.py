"""HubSpot's webhooks when the receiver fails, goes away or is removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hubspot_client import HubSpotClient, fresh
from webhook_receiver import Receiver, Request, only, receiver, settled
from webhook_subscriber import DAY, SECRET, move, renamed, subscribe, told

from sync_platform.sandbox.server import SandboxProcess


@pytest.fixture
def hubspot(running: HubSpotClient) -> Iterator[HubSpotClient]:
    client = fresh(running)
    client.habit("private_app_limit", on=False)
    client.habit("webhook_event_ids_repeat", on=False)
    yield client
    running.control.delete("webhooks", {"system": "hubspot"})


# ---- failures


def failing(*statuses: int) -> Any:
    """Answers each request with the next status, then with 200."""
    left = list(statuses)
    return lambda request: (left.pop(0) if left else 200, b"")


def test_a_failed_event_comes_again_up_to_ten_times_within_a_day(hubspot: HubSpotClient, inbox: Receiver) -> None:
    inbox.reply = lambda request: (500, b"")
    subscribe(hubspot, inbox, "contact.creation")
    hubspot.contact(email="a@example.com")
    settled(hubspot.control, waiting=1)
    for _ in range(95):  # all but the last quarter of an hour
        hubspot.advance(900)
        settled(hubspot.control, waiting=None)
    done = settled(hubspot.control)
    assert told(inbox.events, "attemptNumber") == [(n,) for n in range(11)]
    assert len({event["eventId"] for event in inbox.events}) == 1
    assert (done["failed"], done["requests"], done["refused"], done["acknowledged"]) == (1, 11, 11, 0)
    deliveries = hubspot.control.get("deliveries?system=hubspot")["deliveries"]
    assert [each["status"] for each in deliveries] == [500] * 11
    assert [each["notifications"][0]["attempt"] for each in deliveries] == list(range(11))
    assert max(each["time"] for each in deliveries) < "2026-09-22T14:13:20"


@pytest.mark.parametrize("status", [301, 400, 404, 429, 503])
def test_whatever_is_not_a_2xx_is_a_failure(hubspot: HubSpotClient, inbox: Receiver, status: int) -> None:
    inbox.reply = failing(status)
    subscribe(hubspot, inbox, "contact.creation")
    hubspot.contact(email="a@example.com")
    settled(hubspot.control, waiting=1)
    hubspot.advance(60)
    assert settled(hubspot.control)["acknowledged"] == 1
    assert told(inbox.events, "attemptNumber") == [(0,), (1,)]


def test_five_seconds_of_silence_are_a_failure(hubspot: HubSpotClient, inbox: Receiver) -> None:
    inbox.reply = lambda request: None
    subscribe(hubspot, inbox, "contact.creation")
    hubspot.contact(email="a@example.com")
    inbox.wait(1)
    hubspot.advance(4.9)
    assert only(hubspot.control)["refused"] == 0
    inbox.reply = lambda request: (204, b"")
    hubspot.advance(0.1)
    assert settled(hubspot.control, waiting=1)["refused"] == 1
    assert hubspot.control.get("deliveries")["deliveries"][-1]["error"] == "no answer in time"
    hubspot.advance(60)
    assert settled(hubspot.control)["acknowledged"] == 1


def test_a_receiver_that_is_not_there_is_a_failure(hubspot: HubSpotClient) -> None:
    with receiver() as gone:
        pass
    body = {"system": "hubspot", "target_url": gone.url, "secret": SECRET}
    hubspot.control.post("webhooks", {**body, "subscriptions": [{"eventType": "contact.creation"}]})
    hubspot.contact(email="a@example.com")
    assert settled(hubspot.control, waiting=1)["refused"] == 1
    (failed,) = hubspot.control.get("deliveries")["deliveries"]
    assert (failed["status"], failed["acknowledged"]) == (None, False)
    assert failed["error"].startswith("no connection")


def test_events_that_failed_together_are_retried_one_by_one(hubspot: HubSpotClient, inbox: Receiver) -> None:
    inbox.reply = failing(500)
    ids = renamed(hubspot, 30)
    subscribe(hubspot, inbox)
    move(hubspot, ids)
    settled(hubspot.control, waiting=30)
    for _ in range(60):
        hubspot.advance(1)
    settled(hubspot.control)
    assert len(inbox.requests) > 3
    assert sorted(told(inbox.events[30:], "objectId", "attemptNumber")) == [(int(id), 1) for id in sorted(ids, key=int)]


# ---- removal and reset


def test_nothing_is_sent_after_the_removal(hubspot: HubSpotClient, inbox: Receiver) -> None:
    inbox.reply = failing(500)
    subscribe(hubspot, inbox, "contact.creation")
    hubspot.contact(email="a@example.com")
    settled(hubspot.control, waiting=1)
    assert hubspot.control.delete("webhooks", {"system": "hubspot", "target_url": "http://other/"}) == {"removed": 0}
    assert hubspot.control.delete("webhooks", {"system": "hubspot", "target_url": inbox.url}) == {"removed": 1}
    hubspot.contact(email="b@example.com")
    hubspot.advance(2 * DAY)
    assert hubspot.control.get("webhooks") == {"webhooks": []}
    assert len(inbox.requests) == 1
    subscribe(hubspot, inbox)
    removed = hubspot.control.post("webhooks", {"system": "hubspot", "target_url": ""})
    assert removed == {"webhook": {}, "removed": 1}


def test_a_reset_forgets_what_is_on_its_way_but_not_who_is_told(hubspot: HubSpotClient, inbox: Receiver) -> None:
    inbox.reply = lambda request: None
    subscribe(hubspot, inbox, "contact.creation")
    hubspot.contact(email="a@example.com")
    inbox.wait(1)
    hubspot.control.post("reset", {"system": "hubspot"})
    (webhook,) = hubspot.control.get("webhooks")["webhooks"]
    assert (webhook["made"], webhook["requests"], webhook["waiting"]) == (0, 0, 0)
    assert hubspot.control.get("deliveries") == {"deliveries": []}
    inbox.reply = lambda request: (200, b"")
    hubspot.advance(2 * DAY)
    hubspot.contact(email="b@example.com")
    assert settled(hubspot.control)["acknowledged"] == 1
    assert len(inbox.requests) == 2


def test_the_same_url_again_replaces_the_webhook(hubspot: HubSpotClient, inbox: Receiver) -> None:
    subscribe(hubspot, inbox, "contact.creation")
    subscribe(hubspot, inbox, "contact.creation", "contact.propertyChange:email", drop_rate=1.0)
    hubspot.contact(email="a@example.com")
    assert settled(hubspot.control)["dropped"] == 2
    assert inbox.requests == []


def test_two_receivers_are_told_independently(hubspot: HubSpotClient, inbox: Receiver) -> None:
    subscribe(hubspot, inbox, "contact.creation")
    with receiver() as second:
        second.reply = lambda request: (500, b"")
        subscribe(hubspot, second, "contact.creation")
        hubspot.contact(email="a@example.com")
        inbox.wait(1)
        second.wait(1)
        counts = [(each["target_url"], each["made"]) for each in hubspot.control.get("webhooks")["webhooks"]]
    assert counts == [(inbox.url, 1), (second.url, 1)]


# ---- many


def test_a_flood_is_delivered_once_each_while_the_simulator_answers(hubspot: HubSpotClient, inbox: Receiver) -> None:
    ids = renamed(hubspot, 1000)
    subscribe(hubspot, inbox, "contact.propertyChange:city")
    for round_ in range(6):
        for first in range(0, 1000, 100):
            some = [{"id": id, "properties": {"city": f"City {round_}"}} for id in ids[first : first + 100]]
            hubspot.post("/crm/v3/objects/contacts/batch/update", {"inputs": some})
    done = settled(hubspot.control)
    assert (done["made"], done["acknowledged"], done["failed"]) == (6000, 6000, 0)
    seen = Counter(told(inbox.events, "objectId", "propertyValue"))
    assert len(seen) == 6000 == seen.total()


def test_a_sandbox_in_a_process_of_its_own_delivers_too(inbox: Receiver) -> None:
    with SandboxProcess() as sandbox:  # on another event loop: uvloop
        sandbox.control.post("webhooks", {"system": "hubspot", "target_url": inbox.url, "secret": SECRET})
        for n in range(20):
            sandbox.control.post("records/hubspot/contacts", [{"fields": {"email": f"{n}@example.com"}}])
        assert settled(sandbox.control)["acknowledged"] == 40
    assert len(inbox.events) == 40


def test_a_request_is_answered_though_its_receiver_is_silent(hubspot: HubSpotClient, inbox: Receiver) -> None:
    def never(request: Request) -> None:
        return None

    inbox.reply = never
    subscribe(hubspot, inbox)
    for n in range(30):
        hubspot.contact(email=f"{n}@example.com")
    assert only(hubspot.control)["requests"] == 10
