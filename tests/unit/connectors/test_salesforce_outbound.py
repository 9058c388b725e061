"""Salesforce's outbound messages: what is read from them, and what is not let in."""

from __future__ import annotations

import datetime as dt
from xml.etree import ElementTree

import pytest

from sync_platform.connectors.salesforce import Salesforce
from sync_platform.connectors.salesforce.outbound import accepted_events
from sync_platform.errors import AuthError, ConfigError, ContractError
from sync_platform.model import Event
from tests.unit.realtime.gateways import ORGANIZATION, notification, outbound

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
SECRET = "a-path-secret-of-today"
EVENT, LEAD = "04l5g00000AAAAAAA1", "00Q5g00000BBBBBBB1"
FIELDS = (
    "<sf:Email>a&amp;b@x.example</sf:Email><sf:Phone/><sf:Company xsi:nil='true'/>"
    "<sf:Address><sf:city>Bern</sf:city></sf:Address>"
)


def accepted(body: bytes, organization: str | None = ORGANIZATION) -> list[Event]:
    return accepted_events(body, given=SECRET, secrets=[SECRET], organization=organization, now=NOW)


def account(**options: object) -> Salesforce:
    return Salesforce(base_url="https://x.example", client_id="c", client_secret="s", **options)  # type: ignore[arg-type]


def test_a_notification_becomes_an_event_with_what_the_message_carries() -> None:
    stamps = "<sf:LastModifiedDate>2026-11-23T10:00:00.000Z</sf:LastModifiedDate>"
    stamps += "<sf:SystemModstamp>2026-11-23T12:30:00.500+01:00</sf:SystemModstamp>"
    (event,) = accepted(outbound(notification(EVENT, LEAD, fields=FIELDS + stamps)))
    assert (event.id, event.stream, event.key, event.kind) == (EVENT, "Lead", LEAD, "updated")
    assert event.occurred_at == dt.datetime(2026, 11, 23, 11, 30, 0, 500_000, dt.UTC)
    assert event.fields["Email"] == "a&b@x.example"
    assert (event.fields["Phone"], event.fields["Company"]) == ("", None)
    assert "Address" not in event.fields  # a compound field is no value
    assert "LastName" not in event.fields


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ("<sf:LastModifiedDate>2026-11-23T10:00:00.000Z</sf:LastModifiedDate>", NOW.replace(hour=10)),
        ("<sf:SystemModstamp>2026-11-23T10:00:00</sf:SystemModstamp>", NOW),
        ("<sf:SystemModstamp>yesterday</sf:SystemModstamp>", NOW),
        ("", NOW),
    ],
)
def test_without_a_usable_stamp_an_event_happened_when_it_came(fields: str, wanted: dt.datetime) -> None:
    (event,) = accepted(outbound(notification(EVENT, LEAD, fields=fields)))
    assert event.occurred_at == wanted


def test_a_message_holds_many_notifications_of_any_object_in_any_prefix() -> None:
    many = [notification(f"04l5g00000AAAAA{n:03}", f"a015g00000BBBBB{n:03}", object="Thing__c") for n in range(100)]
    events = accepted(outbound(*many).replace(b"sf:", b"ens:").replace(b":sf=", b":ens="))
    assert len(events) == 100
    assert {(event.stream, event.key[:15]) for event in events} == {("Thing__c", "a015g00000BBBBB")}


def test_a_record_that_was_deleted_before_its_message_went_out_says_nothing_and_spoils_nothing() -> None:
    empty = f"<Notification><Id>{EVENT[:-1]}2</Id><sObject xsi:type='sf:Lead' xmlns:sf='urn:x'/></Notification>"
    assert accepted(outbound(empty)) == []
    assert [event.key for event in accepted(outbound(empty, notification(EVENT, LEAD), empty))] == [LEAD]


def test_the_organization_is_compared_when_it_is_set_and_its_checking_letters_do_not_matter() -> None:
    body = outbound(notification(EVENT, LEAD))
    assert len(accepted(body, ORGANIZATION[:15])) == len(accepted(body, None)) == 1
    for other in ("00D5g000004XyZb", "00d5g000004xyza", "00D"):
        with pytest.raises(AuthError, match="organization"):
            accepted(body, other)
    with pytest.raises(AuthError, match="organization"):
        accepted(body.replace(ORGANIZATION.encode(), b""))


def test_without_the_secret_the_body_is_not_even_read() -> None:
    for given in (None, "", SECRET[:-1], SECRET.upper(), "\xe9"):
        with pytest.raises(AuthError, match="secret"):
            accepted_events(b"no XML at all", given=given, secrets=[SECRET], organization=None, now=NOW)


def bomb(levels: int) -> bytes:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, levels))
    return f'<!DOCTYPE x [<!ENTITY e0 "ha">{entities}]><x>&e{levels - 1};</x>'.encode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (bomb(10), "has a document type"),
        (b'<!DOCTYPE x [<!ENTITY file SYSTEM "file:///etc/passwd">]><x>&file;</x>', "has a document type"),
        (b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><x/>', "has a document type"),
        (b"<!DOCTYPE x><x/>", "has a document type"),
        (b"<a>" * 100_000, "is nested too deeply"),
        (b"<a>" * 50 + b"</a>" * 50, "is nested too deeply"),
    ],
)
def test_a_document_type_and_deep_nesting_are_refused_where_they_begin(body: bytes, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        accepted(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"<notifications/>",
        b"<a>&undefined;</a>",
        b"\xff\xfe<",
        b'<?xml version="1.0" encoding="klingon"?><a/>',
        outbound(notification(EVENT, LEAD))[:-20],
        outbound(notification("", LEAD)),
        outbound(notification(EVENT, "no id")),
        outbound(notification(EVENT, LEAD, object="")),
        outbound(notification(EVENT, LEAD, object="Lead; DROP")),
        outbound("<Notification><Id>04l5g00000AAAAAAA1</Id></Notification>"),
    ],
)
def test_what_is_no_outbound_message_is_named(body: bytes) -> None:
    with pytest.raises(ContractError, match="outbound message"):
        accepted(body)


def test_the_acknowledgement_says_true_in_the_vendors_namespace() -> None:
    answer = account().acknowledge()
    envelope = ElementTree.fromstring(answer.body)
    assert (envelope.tag, answer.status) == ("{http://schemas.xmlsoap.org/soap/envelope/}Envelope", 200)
    assert [(each.tag, each.text) for each in envelope.iter() if each.text] == [
        ("{http://soap.sforce.com/2005/09/outbound}Ack", "true")
    ]
    assert answer.content_type.startswith("text/xml")


def test_a_sample_is_accepted_at_the_address_it_is_meant_for() -> None:
    org = account(webhook_secret=SECRET, organization_id=ORGANIZATION)
    sample = org.sample("https://hooks.example.com/webhooks/crm")
    assert sample.url == f"https://hooks.example.com/webhooks/crm/{SECRET}"
    assert org.verify(sample.headers, sample.body, sample.url, path_secret=SECRET) == []


@pytest.mark.parametrize("secret", [None, "", "too-short", "with a blank in the middle", "sixteen/characters"])
def test_a_secret_that_is_missing_weak_or_no_part_of_an_address_believes_nothing(secret: str | None) -> None:
    with pytest.raises(ConfigError) as refused:
        account(webhook_secret=secret).verify({}, b"", "", path_secret=secret)
    assert refused.value.field == "webhook_secret"


def test_no_secret_of_a_webhook_shows_in_a_repr() -> None:
    shown = repr(account(webhook_secret=SECRET, previous_webhook_secret=f"{SECRET}-older"))
    assert SECRET not in shown


def test_salesforce_says_why_its_webhooks_are_not_managed_here() -> None:
    with pytest.raises(ConfigError, match="unavailable: ") as refused:
        account().subscriber()
    assert "Setup" in str(refused.value.mend)
