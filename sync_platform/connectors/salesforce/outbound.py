"""Salesforce's Outbound Messages: SOAP notifications, and the acknowledgement that ends their repetition.

Page: https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_om_outboundmessaging.htm
Nothing in a message proves its sender, so its address ends in a secret, and what it says of a record is a
hint: the record is read back by its id. Messages repeat and overtake each other; a notification's id stays.
Who can write a message is not trusted with our memory either: no document type, no entities, little depth.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree
from xml.parsers import expat
from xml.sax.saxutils import escape

from sync_platform.connectors.webhook import Acknowledgement, SampleRequest, proved
from sync_platform.errors import AuthError, ContractError
from sync_platform.model import Event

_OUTBOUND: Final = "{http://soap.sforce.com/2005/09/outbound}"
_SOAP: Final = "{http://schemas.xmlsoap.org/soap/envelope/}"
_XSI: Final = "{http://www.w3.org/2001/XMLSchema-instance}"
_ID: Final = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?")
_OBJECT: Final = re.compile(r"[A-Za-z]\w{0,79}", re.ASCII)
#: Envelope, Body, notifications, Notification, sObject, a field, a part of a compound field; and some room.
_DEPTH: Final = 12
_CLOCKS: Final = ("SystemModstamp", "LastModifiedDate")

ACKNOWLEDGEMENT: Final = Acknowledgement(
    body=(
        b'<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
        b'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body><notificationsResponse '
        b'xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack></notificationsResponse>'
        b"</soapenv:Body></soapenv:Envelope>"
    ),
    content_type="text/xml; charset=utf-8",
)


def accepted_events(
    body: bytes, *, given: str | None, secrets: Sequence[str], organization: str | None, now: dt.datetime
) -> list[Event]:
    """The events of a message that came to the secret address; AuthError otherwise.

    `given` is the address's last segment. `organization` is compared when it is set.
    """
    if not proved((given or "").encode(), [secret.encode() for secret in secrets]):
        raise _refused("its address does not end in the secret", "webhook_secret")
    notifications = _notifications(_parsed(body))
    if organization is not None:
        sender = notifications.findtext(f"{_OUTBOUND}OrganizationId") or ""
        # the first 15 characters are the id; the last three only check its case
        if not proved(sender.strip()[:15].encode(), [organization[:15].encode()]):
            raise _refused("it comes from another organization", "organization_id")
    told = (_event(one, now) for one in notifications.iterfind(f"{_OUTBOUND}Notification"))
    return [event for event in told if event is not None]


def sample(url: str, *, secret: str, organization: str | None) -> SampleRequest:
    """A message without notifications, to the secret address."""
    sender = f"<OrganizationId>{escape(organization)}</OrganizationId>" if organization else ""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
        'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body><notifications '
        f'xmlns="http://soap.sforce.com/2005/09/outbound">{sender}</notifications></soapenv:Body></soapenv:Envelope>'
    )
    headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '""'}
    return SampleRequest(url=f"{url}/{secret}", body=body.encode(), headers=headers)


class _TooMuchError(Exception):
    """The document uses what no Outbound Message has."""


def _parsed(body: bytes) -> ElementTree.Element:
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEPTH:
            raise _TooMuchError("is nested too deeply")
        builder.start(_qualified(tag), {_qualified(name): value for name, value in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_qualified(tag))

    def refuse(*_: object) -> None:
        raise _TooMuchError("has a document type")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse  # without one there are no entities to expand
    try:
        parser.Parse(body, True)
    except _TooMuchError as error:
        raise ContractError(f"salesforce's outbound message {error}") from None
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise ContractError(f"salesforce's outbound message is not XML: {error}") from None
    return builder.close()


def _qualified(name: str) -> str:
    return "{" + name if "}" in name else name


def _notifications(envelope: ElementTree.Element) -> ElementTree.Element:
    found = envelope.find(f"{_SOAP}Body/{_OUTBOUND}notifications") if envelope.tag == f"{_SOAP}Envelope" else None
    if found is None:
        raise ContractError("salesforce's outbound message holds no notifications")
    return found


def _event(notification: ElementTree.Element, now: dt.datetime) -> Event | None:
    """The event; None for a record that is there without any data.

    It was deleted before the message went out: which one it was is not told, and the next run finds it deleted. It is
    taken all the same, or the vendor would send it and what it came with again for 24 hours.
    """
    identity = (notification.findtext(f"{_OUTBOUND}Id") or "").strip()
    record = notification.find(f"{_OUTBOUND}sObject")
    if record is None or not _ID.fullmatch(identity):
        raise ContractError("salesforce's outbound message holds a notification without Id or sObject")
    name = record.get(f"{_XSI}type", "").rpartition(":")[2]
    if _OBJECT.fullmatch(name) and not len(record):
        return None
    fields = {each.tag.rpartition("}")[2]: _value(each) for each in record if not len(each)}
    key = fields.get("Id") or ""
    if not _OBJECT.fullmatch(name) or not _ID.fullmatch(key):
        raise ContractError("salesforce's outbound message holds a record without its type or Id")
    moments = (_moment(fields.get(clock)) for clock in _CLOCKS)
    occurred = next((moment for moment in moments if moment is not None), now)
    return Event(id=identity, stream=name, key=key, kind="updated", occurred_at=occurred, fields=fields)


def _value(element: ElementTree.Element) -> str | None:
    return None if element.get(f"{_XSI}nil") in ("true", "1") else element.text or ""


def _moment(text: str | None) -> dt.datetime | None:
    """The instant of an xsd:dateTime; None when it is missing, unreadable or without a zone."""
    try:
        moment = dt.datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return moment.astimezone(dt.UTC) if moment is not None and moment.tzinfo is not None else None


def _refused(why: str, field: str) -> AuthError:
    return AuthError(
        f"a webhook that says it is Salesforce's was refused: {why}",
        field=field,
        mend="check the endpoint URL of the outbound message in Salesforce's Setup",
    )
