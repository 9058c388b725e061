"""Salesforce's outbound messages as a listener meets them, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from salesforce_client import SalesforceClient, renewed, salesforce
from webhook_receiver import Receiver, ack, only, receiver, settled

DAY = 86_400


@pytest.fixture(scope="module")
def running() -> Iterator[SalesforceClient]:
    with salesforce() as client:
        yield client


@pytest.fixture
def inbox() -> Iterator[Receiver]:
    with receiver() as server:
        server.reply = lambda request: ack()
        yield server


@pytest.fixture
def org(running: SalesforceClient) -> Iterator[SalesforceClient]:
    with renewed(running) as client:
        client.control.post("habits", {"system": "salesforce", "name": "late_commits", "on": False})
        yield client
    running.control.delete("webhooks", {"system": "salesforce"})


def listen(org: SalesforceClient, inbox: Receiver, *messages: dict[str, Any], **options: Any) -> None:
    body: dict[str, Any] = {"system": "salesforce", "target_url": inbox.url, "secret": "", "options": options}
    org.control.post("webhooks", {**body, "messages": list(messages)} if messages else body)


def lead(*fields: str) -> dict[str, Any]:
    return {"object": "Lead", "fields": ["Id", *fields]}


def sent(inbox: Receiver) -> list[dict[str, str]]:
    return [fields for request in inbox.requests for _, _, fields in request.notifications]


def ids(inbox: Receiver) -> list[str]:
    return [id for request in inbox.requests for id, _, _ in request.notifications]


# ---- what is sent


def test_a_new_lead_makes_a_message_with_the_chosen_fields(org: SalesforceClient, inbox: Receiver) -> None:
    listen(org, inbox, lead("Email", "AnnualRevenue", "LastName", "DoNotCall", "CreatedDate", "Phone"))
    (id,) = org.leads({"Email": "a&b@example.com", "AnnualRevenue": 120_000, "LastName": "<O'Neil>"})
    (request,) = inbox.wait(1)
    settled(org.control)
    assert request.headers["content-type"] == "text/xml; charset=utf-8"
    assert request.headers["soapaction"] == '""'
    ((notice, kind, fields),) = request.notifications
    assert (notice[:3], len(notice), kind) == ("04l", 18, "sf:Lead")
    assert list(fields.items()) == [  # Id first, then by name; Phone is null and has no element
        ("Id", id), ("AnnualRevenue", "120000.0"), ("CreatedDate", "2026-09-21T14:13:20.000Z"),
        ("DoNotCall", "false"), ("Email", "a&b@example.com"), ("LastName", "<O'Neil>"),
    ]  # fmt: skip
    assert request.text("OrganizationId") == org.env["SALESFORCE_ORGANIZATION_ID"]
    assert (request.text("ActionId") or "")[:3] == "04k"
    assert request.text("SessionId") == ""
    assert (request.text("EnterpriseUrl") or "").startswith(f"{org.base}/services/Soap/c/")
    assert (request.text("PartnerUrl") or "").startswith(f"{org.base}/services/Soap/u/")


def test_every_save_makes_one_and_a_deletion_none(org: SalesforceClient, inbox: Receiver) -> None:
    listen(org, inbox, lead("City"))
    (id,) = org.leads({"City": "Rome"})
    inbox.wait(1)
    org.call("PATCH", f"sobjects/Lead/{id}", {"City": "Bern"})
    inbox.wait(2)
    org.call("PATCH", f"sobjects/Lead/{id}", {"City": "Bern"})  # the rule is evaluated at every save
    inbox.wait(3)
    org.call("DELETE", f"sobjects/Lead/{id}")
    org.control.post("records/salesforce/Account", [{"fields": {"Name": "Acme"}}])  # no message is defined for it
    assert settled(org.control)["made"] == 3
    assert [fields["City"] for fields in sent(inbox)] == ["Rome", "Bern", "Bern"]


def test_what_is_refused_or_rolled_back_makes_none(org: SalesforceClient, inbox: Receiver) -> None:
    listen(org, inbox)
    bad = {"allOrNone": True, "records": [
        {"attributes": {"type": "Lead"}, "LastName": "a", "Company": "b"}, {"attributes": {"type": "Lead"}},
    ]}  # fmt: skip
    answer = org.call("POST", "composite/sobjects", bad)
    assert [item["success"] for item in answer.json()] == [False, False]
    org.seed(5)
    assert settled(org.control)["made"] == 0


def test_an_integration_user_without_the_permission_makes_none(org: SalesforceClient, inbox: Receiver) -> None:
    org.control.post("habits", {"system": "salesforce", "name": "outbound_for_integration_user", "on": False})
    listen(org, inbox, lead("LastName"))
    org.call("POST", "sobjects/Lead", {"LastName": "api", "Company": "b"})
    org.leads({"LastName": "person"})
    settled(org.control)
    org.control.post("habits", {"system": "salesforce", "name": "outbound_for_integration_user", "on": True})
    assert [fields["LastName"] for fields in sent(inbox)] == ["person"]


def test_a_message_holds_up_to_a_hundred_of_one_object(org: SalesforceClient, inbox: Receiver) -> None:
    listen(org, inbox, lead("LastName"), {"object": "Account", "fields": ["Name"]})
    org.leads(*({"LastName": f"P{n}"} for n in range(250)))
    org.control.post("records/salesforce/Account", [{"fields": {"Name": f"A{n}"}} for n in range(20)])
    settled(org.control)
    sizes = [(request.notifications[0][1], len(request.notifications)) for request in inbox.requests]
    assert sorted(sizes) == [("sf:Account", 20), ("sf:Lead", 50), ("sf:Lead", 100), ("sf:Lead", 100)]
    assert all(len({kind for _, kind, _ in request.notifications}) == 1 for request in inbox.requests)
    assert len(set(ids(inbox))) == 270


def test_text_that_no_xml_can_hold_is_left_out(org: SalesforceClient, inbox: Receiver) -> None:
    listen(org, inbox, lead("LastName", "Description"))
    org.leads({"LastName": "a\u0007b", "Description": "one\ntwo 🚀"})
    inbox.wait(1)
    assert [(fields["LastName"], fields["Description"]) for fields in sent(inbox)] == [("ab", "one\ntwo 🚀")]


# ---- acknowledgement and repeats


@pytest.mark.parametrize(
    "answer",
    [
        ack("false"), (200, b""), (200, b"OK"), (500, ack()[1]), (204, b""),
        (200, ack()[1].replace(b"2005/09/outbound", b"2005/09/inbound")),
        (200, ack()[1].replace(b"<s:Body>", b"").replace(b"</s:Body>", b"")),
    ],
)  # fmt: skip
def test_without_a_proper_ack_the_message_comes_again(
    org: SalesforceClient, inbox: Receiver, answer: tuple[int, bytes]
) -> None:
    inbox.reply = lambda request: answer
    listen(org, inbox, lead("LastName"))
    org.leads({})
    assert settled(org.control, waiting=1)["refused"] == 1
    inbox.reply = lambda request: ack("1")
    org.advance(30)
    done = settled(org.control)
    assert (done["acknowledged"], done["requests"]) == (1, 2)
    assert len(set(ids(inbox))) == 1


def test_a_repeat_carries_the_values_of_its_moment(org: SalesforceClient, inbox: Receiver) -> None:
    inbox.reply = lambda request: (503, b"")
    listen(org, inbox, lead("City"))
    (id,) = org.leads({"City": "Rome"})
    settled(org.control, waiting=1)
    org.control.post("records/salesforce/Lead", [{"id": id, "fields": {"City": "Bern"}}])
    settled(org.control, waiting=2)
    inbox.reply = lambda request: ack()
    org.advance(30)
    settled(org.control)
    first, second, *repeats = sent(inbox)
    assert (first["City"], second["City"]) == ("Rome", "Bern")
    assert [fields["City"] for fields in repeats] == ["Bern", "Bern"]  # Rome is never seen again
    assert len(set(ids(inbox))) == 2


def test_the_repeat_of_a_deleted_record_has_no_data(org: SalesforceClient, inbox: Receiver) -> None:
    inbox.reply = lambda request: (503, b"")
    listen(org, inbox, lead("City"))
    (id,) = org.leads({"City": "Rome"})
    settled(org.control, waiting=1)
    org.control.delete("records/salesforce/Lead", [id])
    inbox.reply = lambda request: ack()
    org.advance(30)
    settled(org.control)
    assert [(kind, fields) for _, kind, fields in inbox.requests[-1].notifications] == [("sf:Lead", {})]


def test_repeats_come_ever_later_up_to_two_hours_for_a_day(org: SalesforceClient, inbox: Receiver) -> None:
    inbox.reply = lambda request: (500, b"")
    listen(org, inbox, lead("LastName"))
    org.leads({})
    waited = []
    for wait in [30, 60, 120, 240, 480, 960, 1920, 3840, *[7200] * 10]:
        settled(org.control, waiting=1)
        before = len(inbox.requests)
        org.advance(wait - 0.001)
        assert settled(org.control, waiting=1)["requests"] == before
        org.advance(0.001)
        inbox.wait(before + 1)
        waited.append(wait)
    assert DAY - 7200 < sum(waited) < DAY
    assert settled(org.control)["failed"] == 1  # the next would be past 24 hours
    org.advance(DAY)
    assert settled(org.control)["requests"] == len(waited) + 1


def test_a_minute_of_silence_is_no_acknowledgement(org: SalesforceClient, inbox: Receiver) -> None:
    inbox.reply = lambda request: None
    listen(org, inbox, lead("LastName"))
    org.leads({})
    inbox.wait(1)
    org.advance(59)
    assert only(org.control)["in_flight"] == 1
    org.advance(1)
    assert settled(org.control, waiting=1)["refused"] == 1


def test_doubles_have_the_same_notification_id_and_losses_are_counted(org: SalesforceClient, inbox: Receiver) -> None:
    listen(org, inbox, lead("LastName"), duplicate_rate=0.3, drop_rate=0.3)
    org.leads(*({"LastName": f"P{n}"} for n in range(200)))
    done = settled(org.control)
    assert done["dropped"] > 20 < done["duplicated"]
    assert len(ids(inbox)) == 200 - done["dropped"] + done["duplicated"]
    assert len(set(ids(inbox))) == 200 - done["dropped"]


def test_a_flood_is_delivered_once_each(org: SalesforceClient, inbox: Receiver) -> None:
    listen(org, inbox, lead("LastName"))
    for n in range(20):
        org.leads(*({"LastName": f"P{n}-{k}"} for k in range(100)))
    done = settled(org.control)
    assert (done["made"], done["acknowledged"], done["failed"]) == (2000, 2000, 0)
    assert len({fields["LastName"] for fields in sent(inbox)}) == 2000 == len(ids(inbox))


def test_notification_ids_never_repeat_after_a_reset(org: SalesforceClient, inbox: Receiver) -> None:
    listen(org, inbox, lead("LastName"))
    (first,) = org.leads({})
    settled(org.control)
    org.control.post("reset")
    (second,) = org.leads({})
    settled(org.control)
    assert first == second
    assert len(set(ids(inbox))) == 2
