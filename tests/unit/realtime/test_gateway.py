"""The gateway through its port: what it stores, what it refuses, and what it says."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import pytest
import requests

from tests.unit.realtime.gateways import (
    NEW,
    OLD,
    OLD_PATH,
    PATH,
    RunningGateway,
    Written,
    change,
    notification,
    outbound,
    raw,
    signed,
)

pytestmark = pytest.mark.xdist_group("gateway")


def refused(gateway: RunningGateway, reason: str, connection: str = "hubspot") -> float:
    """How many requests were refused for a reason so far."""
    return gateway.metrics().get(f'sync_webhook_refused_total{{connection="{connection}",reason="{reason}"}}', 0.0)


def head(gateway: RunningGateway, length: int | None, headers: dict[str, str]) -> bytes:
    """The head of a raw request to hubspot's address."""
    given = {"Host": f"127.0.0.1:{gateway.port}", **headers}
    given |= {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    lines = [f"{name}: {value}" for name, value in given.items()]
    return "\r\n".join(["POST /webhooks/hubspot HTTP/1.1", *lines, "", ""]).encode()


# What is taken


def test_a_signed_webhook_is_stored_and_queued_for_every_realtime_sync_of_its_object(gateway: RunningGateway) -> None:
    sent = change(101, "ada@x.example")
    answer = gateway.hubspot(sent)
    assert (answer.status_code, answer.content) == (200, b"")
    identity = f"{sent['eventId']}:7:101:1764000000000:email"
    fields = {"email": "ada@x.example"}
    assert gateway.stored("key = '101'") == [("hubspot", identity, "contacts", "101", "updated", fields)]
    assert gateway.queued("101") == ["contacts_to_more_people", "contacts_to_people"]


def test_a_doubled_webhook_is_answered_well_and_stored_once(gateway: RunningGateway) -> None:
    event = change(102)
    before = gateway.metrics().get('sync_events_doubled_total{connection="hubspot"}', 0.0)
    assert [gateway.hubspot(event, event).status_code, gateway.hubspot(event).status_code] == [200, 200]
    assert len(gateway.stored("key = '102'")) == 1
    assert len(gateway.queued("102")) == 2
    assert gateway.metrics()['sync_events_doubled_total{connection="hubspot"}'] == before + 2


def test_events_keep_their_own_times_and_the_order_in_which_they_came(gateway: RunningGateway) -> None:
    later, earlier = change(103, "new", occurredAt=1_764_000_002_000), change(103, "old", occurredAt=1_764_000_001_000)
    gateway.hubspot(later)
    gateway.hubspot(earlier)
    query = "SELECT fields->>'email', extract(epoch FROM occurred_at)::int % 100 FROM sync.inbox WHERE key = '103' "
    assert gateway.rows(query + "ORDER BY seq") == [("new", 2), ("old", 1)]


def test_an_event_of_an_object_no_sync_reads_is_stored_and_waits_for_nobody(gateway: RunningGateway) -> None:
    assert gateway.hubspot(change(104, subscriptionType="deal.propertyChange")).status_code == 200
    assert [row[2] for row in gateway.stored("key = '104'")] == ["deals"]
    assert gateway.queued("104") == []
    assert gateway.metrics()['sync_events_unrouted_total{connection="hubspot"}'] == 1


def test_a_merge_queues_the_record_that_remains_and_those_that_are_gone(gateway: RunningGateway) -> None:
    merge = {"subscriptionType": "contact.merge", "primaryObjectId": 106, "mergedObjectIds": [107], "newObjectId": 105}
    gateway.hubspot({**change(105), **merge})
    stored = gateway.stored("key IN ('105', '106', '107')")
    assert [(row[3], row[4]) for row in stored] == [("105", "merged"), ("106", "deleted"), ("107", "deleted")]
    assert all(len(gateway.queued(key)) == 2 for key in ("105", "106", "107"))


def test_webhooks_that_come_at_once_are_all_stored_and_each_once(gateway: RunningGateway) -> None:
    events = [change(20_000 + number) for number in range(200)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(gateway.hubspot, [*events, *events[::-1]]))
    assert {answer.status_code for answer in answers} == {200}
    assert len(gateway.stored("key::bigint BETWEEN 20000 AND 20199")) == 200
    assert gateway.rows("SELECT count(*) FROM sync.queue WHERE key::bigint BETWEEN 20000 AND 20199") == [(400,)]


def test_a_value_postgresql_cannot_hold_is_left_out_and_the_event_kept(gateway: RunningGateway) -> None:
    assert gateway.hubspot(change(108, "nul \0 inside")).status_code == 200
    assert gateway.stored("key = '108'")[0][5] == {}
    assert gateway.hubspot(change(109, "a \\u0000 in words")).status_code == 200
    assert gateway.stored("key = '109'")[0][5] == {"email": "a \\u0000 in words"}


def test_an_id_postgresql_cannot_hold_is_malformed_and_harms_nothing_else(
    gateway: RunningGateway,
) -> None:
    bad, good = [change(110, propertyName="x" * 3_000) for _ in range(10)], [change(111 + n) for n in range(10)]
    with ThreadPoolExecutor(20) as pool:
        answers = [answer.status_code for answer in pool.map(gateway.hubspot, [*bad, *good])]
    assert answers == [400] * 10 + [200] * 10
    assert len(gateway.stored("key::bigint BETWEEN 110 AND 120")) == 10


# Who is believed


def test_a_forged_webhook_is_refused_and_leaves_nothing(gateway: RunningGateway) -> None:
    before, url = refused(gateway, "forged"), f"{gateway.url}/webhooks/hubspot"
    body = json.dumps([change(130)]).encode()
    good = signed(body, url)
    attempts = [
        gateway.post("hubspot", body),
        gateway.post("hubspot", body, {**good, "X-HubSpot-Signature-v3": "bm90IHNpZ25lZA=="}),
        gateway.post("hubspot", body, {**good, "X-HubSpot-Signature-v3": good["X-HubSpot-Signature-v3"][:-1]}),
        gateway.post("hubspot", body, {**good, "X-HubSpot-Signature-v3": "\xe9" * 44}),
        gateway.post("hubspot", body + b" ", good),
        gateway.post("hubspot?extra=1", body, good),
        gateway.post("asking", body, good),
        gateway.post("hubspot", body, signed(body, url, secret="somebody else's")),
    ]
    assert [(one.status_code, one.json()) for one in attempts] == [(401, {"error": "forged"})] * len(attempts)
    assert gateway.stored("key = '130'") == []
    assert refused(gateway, "forged") + refused(gateway, "forged", "asking") == before + len(attempts)


@pytest.mark.parametrize("seconds", [-301, 302, 3_000_000_000])
def test_a_webhook_signed_long_ago_or_in_the_future_is_refused(gateway: RunningGateway, seconds: float) -> None:
    before, body = refused(gateway, "stale"), json.dumps([change(131)]).encode()
    answer = gateway.post("hubspot", body, signed(body, f"{gateway.url}/webhooks/hubspot", seconds=seconds))
    assert (answer.status_code, answer.json()) == (401, {"error": "stale"})
    assert gateway.stored("key = '131'") == []
    assert refused(gateway, "stale") == before + 1


def test_both_secrets_are_believed_while_they_are_changed_and_a_third_is_not(gateway: RunningGateway) -> None:
    codes = [gateway.hubspot(change(132), secret=secret).status_code for secret in (NEW, OLD, "a third")]
    assert codes == [200, 200, 401]
    codes = [gateway.salesforce(secret=secret).status_code for secret in (PATH, OLD_PATH, "a-third-one-of-that-length")]
    assert codes == [200, 200, 401]


def test_the_query_of_the_address_is_part_of_what_is_signed(gateway: RunningGateway) -> None:
    body = json.dumps([change(133)]).encode()
    path = "hubspot?tenant=a%20b&x=%C3%A9"
    assert gateway.post(path, body, signed(body, f"{gateway.url}/webhooks/{path}")).status_code == 200


def test_a_secret_may_come_from_an_optional_variable(gateway: RunningGateway) -> None:
    assert gateway.hubspot(change(136), connection="by_variable").status_code == 200


@pytest.mark.parametrize("name", ["secretless", "unset", "optional"])
def test_a_connection_without_its_secret_asks_the_vendor_to_come_again(gateway: RunningGateway, name: str) -> None:
    answer = gateway.hubspot(change(134), connection=name)
    assert (answer.status_code, answer.json(), answer.headers["Retry-After"]) == (503, {"error": "unconfigured"}, "60")
    assert gateway.stored("key = '134'") == []


def test_what_a_connection_lacks_is_told_when_the_gateway_starts(gateway: RunningGateway) -> None:
    told = gateway.log.read_text()
    assert "webhooks of unset are refused until it is configured: " in told
    assert "NOBODY_SETS_THIS" in told
    assert "webhooks of optional" not in told


def test_only_connections_whose_vendor_sends_webhooks_have_an_address(gateway: RunningGateway) -> None:
    before = refused(gateway, "unknown_connection", "")
    body = json.dumps([change(135)]).encode()
    for path in ("nobody", "database", "hubspot/a-secret-where-there-is-none"):
        answer = gateway.post(path, body, signed(body, f"{gateway.url}/webhooks/{path}"))
        assert answer.status_code == 404, path
    assert refused(gateway, "unknown_connection", "") == before + 2
    assert gateway.stored("key = '135'") == []


def test_a_vendor_that_asks_who_we_are_is_answered_and_others_may_not_read(gateway: RunningGateway) -> None:
    answer = requests.get(f"{gateway.url}/webhooks/asking?challenge=4711", timeout=10)
    assert (answer.status_code, answer.text) == (200, "4711")
    assert requests.get(f"{gateway.url}/webhooks/hubspot?challenge=4711", timeout=10).status_code == 405


# What is too much, too little, or nonsense


@pytest.mark.parametrize("framed", [True, False])
def test_a_body_beyond_the_limit_is_refused_with_and_without_a_length(gateway: RunningGateway, framed: bool) -> None:
    before = refused(gateway, "too_large")
    size = 1_048_577
    body = b"[" + b" " * (size - 2) + b"]"
    headers = signed(body, f"{gateway.url}/webhooks/hubspot")
    if framed:
        answer = raw(gateway.port, head(gateway, size, headers))
    else:
        answer = raw(gateway.port, head(gateway, None, headers), f"{size:x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert refused(gateway, "too_large") == before + 1
    assert gateway.post("hubspot", body[:-2] + b"]", signed(body[:-2] + b"]", f"{gateway.url}/webhooks/hubspot")).ok


def test_a_body_that_ends_too_early_leaves_nothing(gateway: RunningGateway) -> None:
    before, body = refused(gateway, "truncated"), json.dumps([change(140)]).encode()
    headers = signed(body, f"{gateway.url}/webhooks/hubspot")
    raw(gateway.port, head(gateway, len(body), headers), body[:-10])
    deadline = time.monotonic() + 10
    while refused(gateway, "truncated") == before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert refused(gateway, "truncated") == before + 1
    assert gateway.stored("key = '140'") == []


@pytest.mark.parametrize("body", [b"", b"{}", b'[{"eventId": 1', b"\xff\xfe", b'"text"', b"[" * 5_000])
def test_a_signed_body_that_is_not_a_list_of_events_is_malformed(gateway: RunningGateway, body: bytes) -> None:
    before = refused(gateway, "malformed")
    url = f"{gateway.url}/webhooks/hubspot"
    if body == b"\xff\xfe":  # HubSpot's own library signs text only
        from sync_platform.connectors.hubspot.webhooks import signature

        headers = signed(b"", url)
        headers["X-HubSpot-Signature-v3"] = signature(NEW, "POST", url, body, headers["X-HubSpot-Request-Timestamp"])
    else:
        headers = signed(body, url)
    answer = gateway.post("hubspot", body, headers)
    assert (answer.status_code, answer.json()) == (400, {"error": "malformed"})
    assert refused(gateway, "malformed") == before + 1


# Salesforce, which signs nothing


def test_an_outbound_message_is_stored_and_acknowledged_in_soap(gateway: RunningGateway) -> None:
    one = notification("04l5g00000AAAAAAA1", "00Q5g00000BBBBBBB1", fields="<sf:Email>a@x.example</sf:Email>")
    two = notification("04l5g00000AAAAAAA2", "00Q5g00000BBBBBBB2")
    answer = gateway.salesforce(one, two)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/xml; charset=utf-8")
    assert acknowledged(answer.content) == "true"
    rows = gateway.stored("connection = 'salesforce' AND key LIKE '00Q5g00000BBBBBBB%'")
    assert [row[1:5] for row in rows] == [
        ("04l5g00000AAAAAAA1", "Lead", "00Q5g00000BBBBBBB1", "updated"),
        ("04l5g00000AAAAAAA2", "Lead", "00Q5g00000BBBBBBB2", "updated"),
    ]
    assert gateway.queued("00Q5g00000BBBBBBB1") == ["leads_to_people"]
    again = gateway.salesforce(one)
    assert acknowledged(again.content) == "true"
    assert len(gateway.stored("key = '00Q5g00000BBBBBBB1'")) == 1


def acknowledged(body: bytes) -> str | None:
    """The text of Ack where Salesforce looks for it."""
    path = "{http://schemas.xmlsoap.org/soap/envelope/}Body/{http://soap.sforce.com/2005/09/outbound}"
    space = "{http://soap.sforce.com/2005/09/outbound}"
    return ElementTree.fromstring(body).findtext(f"{path}notificationsResponse/{space}Ack")


def test_an_outbound_message_without_the_secret_or_of_another_organization_is_refused(gateway: RunningGateway) -> None:
    message = notification("04l5g00000AAAAAAA3", "00Q5g00000BBBBBBB3")
    attempts = [
        gateway.post("salesforce", outbound(message)),
        gateway.salesforce(message, secret=PATH[:-1]),
        gateway.salesforce(message, secret=PATH + "x"),
        gateway.salesforce(message, secret="%C3%A9"),
        gateway.salesforce(message, organization="00D5g000004AnotherOrg"),
    ]
    assert [(one.status_code, one.json()) for one in attempts] == [(401, {"error": "forged"})] * 5
    assert gateway.stored("key = '00Q5g00000BBBBBBB3'") == []


def test_a_message_that_unfolds_into_gigabytes_is_refused_and_the_gateway_works_on(gateway: RunningGateway) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "ha">{entities}]><x>&e9;</x>'.encode()
    answer = gateway.post(f"salesforce/{PATH}", bomb)
    assert (answer.status_code, answer.json()) == (400, {"error": "malformed"})
    assert gateway.metrics()["process_resident_memory_bytes"] < 1e9
    assert gateway.salesforce().status_code == 200


# What it tells


def test_the_metrics_count_every_event_and_show_what_waits(gateway: RunningGateway) -> None:
    names = ("sync_events_received_total", "sync_events_stored_total", "sync_events_doubled_total")
    before = gateway.metrics()
    event = change(150)
    gateway.hubspot(event, change(151), change(152))
    gateway.hubspot(event)
    after = gateway.metrics()
    labelled = [f'{name}{{connection="hubspot"}}' for name in names]
    assert [after[name] - before.get(name, 0) for name in labelled] == [4, 3, 1]
    commits = 'sync_webhook_commit_seconds_count{connection="hubspot"}'
    assert after[commits] - before.get(commits, 0) == 2
    waiting = dict(gateway.rows("SELECT sync, count(*) FROM sync.queue WHERE state = 'waiting' GROUP BY sync"))
    for sync in ("contacts_to_people", "contacts_to_more_people"):
        assert after[f'sync_queue_depth{{sync="{sync}"}}'] == waiting[sync]
        assert after[f'sync_queue_oldest_seconds{{sync="{sync}"}}'] > 0
    assert "contacts_every_night" not in str(after)


def test_an_open_circuit_shows(gateway: RunningGateway) -> None:
    rows = "('hubspot', 9, now(), now(), 'down'), ('database', 1, null, null, null)"
    gateway.rows(f"INSERT INTO sync.circuits VALUES {rows} RETURNING 1")
    told = gateway.metrics()
    assert told['sync_circuit_open{connection="hubspot"}'] == 1
    assert told['sync_circuit_open{connection="database"}'] == 0


def test_a_followed_log_shows(gateway: RunningGateway) -> None:
    gateway.rows(
        """INSERT INTO sync.captures (connection, owner, stored, behind_bytes, updated_at)
           VALUES ('shop', gen_random_uuid(), 7, 4096, now()),
                  ('dead', gen_random_uuid(), 1, null, now() - interval '1h')
           RETURNING 1"""
    )
    told = gateway.metrics()
    for name, figure in (("following", 1), ("events_total", 7), ("behind_bytes", 4096)):
        assert told[f'sync_capture_{name}{{connection="shop"}}'] == figure
    assert told['sync_capture_following{connection="dead"}'] == 0


def test_a_new_sync_gets_events_without_a_restart_and_a_broken_one_stops_nothing(gateway: RunningGateway) -> None:
    project = Written(root=gateway.project)
    gateway.hubspot(change(160, subscriptionType="company.propertyChange"))
    assert gateway.queued("160") == []
    file = project.sync("companies", object="companies")
    assert queued_for(gateway, 161) == ["companies"]
    file.write_text("type: sync_platform.Sync\nattributes: {nonsense")
    assert logged(gateway, "the routes stay as they were")
    assert queued_for(gateway, 170) == ["companies"]
    file.unlink()
    assert queued_for(gateway, 180, wanted=[]) == []


def queued_for(gateway: RunningGateway, first: int, wanted: list[str] | None = None) -> list[str]:
    """What an event of a company is queued for, tried with new ones for some seconds until it is as wanted."""
    for number in range(first, first + 9):
        gateway.hubspot(change(number, subscriptionType="company.propertyChange"))
        found = gateway.queued(str(number))
        if found == (["companies"] if wanted is None else wanted):
            return found
        time.sleep(0.5)
    return found


def logged(gateway: RunningGateway, words: str) -> bool:
    """Whether the gateway said so within some seconds."""
    deadline = time.monotonic() + 10
    while words not in gateway.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    return words in gateway.log.read_text()


def test_the_log_tells_of_refusals_without_any_secret(gateway: RunningGateway) -> None:
    gateway.hubspot(change(190), secret="a-secret-that-somebody-guessed")
    gateway.salesforce(secret="a-path-that-somebody-guessed")
    assert logged(gateway, "signature does not fit")
    assert logged(gateway, "its address does not end in the secret")
    told = gateway.log.read_text()
    for secret in (NEW, OLD, PATH, OLD_PATH, "guessed", "Traceback"):
        assert secret not in told
