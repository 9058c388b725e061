"""`trace`, `webhooks` and the view `sync.events`, beside a running gateway."""

from __future__ import annotations

import uuid

import pytest

from tests.unit.realtime.gateways import RunningGateway, change

pytestmark = pytest.mark.xdist_group("gateway")


def test_verify_finds_the_gateway_at_its_address_and_stores_nothing(gateway: RunningGateway) -> None:
    for name in ("hubspot", "salesforce"):
        code, told = gateway.cli("webhooks", "verify", name, "--public-url", gateway.url)
        assert (code, told["ok"], [one["ok"] for one in told["checks"]]) == (0, True, [True, True]), told
        assert told["url"] == f"{gateway.url}/webhooks/{name}"
    assert gateway.stored() == []


def test_verify_finds_another_address_another_secret_and_no_gateway_at_all(gateway: RunningGateway) -> None:
    code, told = gateway.cli(
        "webhooks", "verify", "hubspot", "--public-url", gateway.url.replace("127.0.0.1", "localhost")
    )
    assert (code, told["ok"]) == (0, True)  # the request's own address is signed when no public one is set
    code, told = gateway.cli("webhooks", "verify", "hubspot", "--public-url", "http://127.0.0.1:1")
    assert (code, told["ok"], [one["ok"] for one in told["checks"]]) == (3, False, [False, False])
    assert "start the gateway" in told["checks"][0]["mend"]
    code, told = gateway.cli("webhooks", "verify", "hubspot", "--public-url", f"{gateway.url}/elsewhere")
    assert (code, [one["told"] for one in told["checks"]]) == (3, ["HTTP 404", "HTTP 404"])


def test_where_there_is_no_api_the_command_says_why(gateway: RunningGateway) -> None:
    code, told = gateway.cli("webhooks", "list", "salesforce")
    assert (code, told["error"]["code"]) == (2, "config")
    assert told["error"]["message"].startswith("unavailable: ")
    code, told = gateway.cli("webhooks", "delete", "hubspot")
    assert (code, told["error"]["field"]) == (2, "--id")
    code, told = gateway.cli("webhooks", "verify", "nobody")
    assert (code, told["error"]["value"]) == (2, "nobody")


def test_the_story_of_an_event_is_told_from_its_receipt_to_each_syncs_outcome(gateway: RunningGateway) -> None:
    sent = change(301)
    gateway.hubspot(sent)
    plan = str(uuid.uuid4())
    done = f"SET state = 'done', outcome = 'applied', attempts = 2, plan_id = '{plan}', finished_at = now()"
    gateway.rows(f"UPDATE sync.queue {done} WHERE key = '301' AND sync = 'contacts_to_people' RETURNING 1")
    gateway.rows(
        "INSERT INTO sync.outcomes (sync, plan_id, lane, source_key, target_id, op, status) VALUES "
        f"('contacts_to_people', '{plan}', 'realtime', '301', 't1', 'update', 'applied'), "
        f"('contacts_to_people', '{uuid.uuid4()}', 'batch', '301', 't1', 'update', 'applied') RETURNING 1"
    )
    code, told = gateway.cli("trace", str(sent["eventId"]))
    assert code == 0
    (event,) = told["events"]
    assert event["event_id"] == f"{sent['eventId']}:7:301:1764000000000:email"
    assert (event["connection"], event["stream"], event["key"], event["kind"]) == (
        "hubspot",
        "contacts",
        "301",
        "updated",
    )
    other, own = event["syncs"]
    assert (other["sync"], other["state"], other["outcomes"]) == ("contacts_to_more_people", "waiting", [])
    assert (own["sync"], own["state"], own["outcome"], own["attempts"]) == ("contacts_to_people", "done", "applied", 2)
    assert [(one["op"], one["target_id"], one["status"]) for one in own["outcomes"]] == [("update", "t1", "applied")]
    assert event["received_at"] < own["finished_at"]
    code, told = gateway.cli("trace", event["event_id"])
    assert (code, len(told["events"])) == (0, 1)


def test_an_event_nobody_stored_has_no_story(gateway: RunningGateway) -> None:
    code, told = gateway.cli("trace", "4711%")
    assert (code, told["error"]["field"], told["error"]["value"]) == (2, "EVENT_ID", "4711%")


def test_the_events_are_there_for_sql(gateway: RunningGateway) -> None:
    gateway.hubspot(change(302, subscriptionType="deal.propertyChange"), change(303))
    query = "SELECT key, sync, state FROM sync.events WHERE key IN ('302', '303') ORDER BY key, sync"
    code, told = gateway.cli("sql", query)
    assert (code, told) == (
        0,
        [
            {"key": "302", "sync": None, "state": None},
            {"key": "303", "sync": "contacts_to_more_people", "state": "waiting"},
            {"key": "303", "sync": "contacts_to_people", "state": "waiting"},
        ],
    )
