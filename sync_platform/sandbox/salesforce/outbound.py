"""Outbound Messages: what a workflow rule posts when a record is saved.

SOAP API Developer Guide, "Outbound Messaging" (https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/
sforce_api_om_outboundmessaging_notifications.htm and ..._wsdl.htm) and Help, "Outbound Message Considerations". The
order of elements follows recorded messages. Nothing is sent for a deletion, nothing is signed, and each sending
carries the values of its moment: those in between are never seen.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from sync_platform.sandbox.http_post import Answer
from sync_platform.sandbox.kit import Change, Record, SandboxError
from sync_platform.sandbox.kit_notices import Dialect, Flow, Notice
from sync_platform.sandbox.salesforce import ids
from sync_platform.sandbox.salesforce.auth import ORG_ID
from sync_platform.sandbox.salesforce.metadata import FieldDef, ObjectDef
from sync_platform.sandbox.salesforce.objects import OBJECTS
from sync_platform.sandbox.salesforce.rows import rest_datetime

if TYPE_CHECKING:
    from sync_platform.sandbox.kit_webhooks import Webhook
    from sync_platform.sandbox.salesforce.simulator import SalesforceSimulator

NAMESPACE: Final = "http://soap.sforce.com/2005/09/outbound"
VERSION: Final = "68.0"  # of the API the messages were defined with
_ENVELOPE: Final = "http://schemas.xmlsoap.org/soap/envelope/"
_ILLEGAL: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # no XML 1.0 character


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An outbound message as an administrator defines it: the object and the fields to send (without Id)."""

    action_id: str
    target: ObjectDef
    fields: tuple[FieldDef, ...]


class OutboundDialect(Dialect):
    """SOAP envelopes of up to 100 notifications of one message definition."""

    def __init__(self, org: SalesforceSimulator) -> None:
        self._org = org
        # Never the same again, across resets and restarts: receivers drop ids they know.
        self._number = org.world.now_ms() * 1000

    # ---- who is told what

    def select(self, wanted: Mapping[str, Any]) -> dict[str, Message]:
        """`messages`: [{"object", "fields"?}]; absent: every object with every field."""
        for key in wanted:
            if key != "messages":
                raise SandboxError(f"Salesforce has messages, no {key}", key)
        given = wanted.get("messages", [{"object": name} for name in OBJECTS])
        if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
            raise SandboxError("messages must be an array of objects", "messages")
        return {message.target.name: message for message in map(self._message, given)}

    def _message(self, given: Mapping[str, Any]) -> Message:
        target = OBJECTS.get(str(given.get("object")))
        if target is None or given.keys() - {"object", "fields"}:
            raise SandboxError(f"a message has an object of {', '.join(OBJECTS)} and fields, not {given}", "messages")
        names = given.get("fields", [f.name for f in target.fields.values() if f.type != "address"])
        if not isinstance(names, list):
            raise SandboxError("fields must be an array of names", "messages")
        fields = []
        for name in names:
            field = target.fields.get(name) if isinstance(name, str) else None
            if field is None or field.type == "address":
                raise SandboxError(f"{target.name} has no field {name!r} for a message", "messages")
            if field.name != "Id":
                fields.append(field)
        number = 1 + list(OBJECTS).index(target.name)
        return Message(
            action_id=ids.make_id("04k", number), target=target, fields=tuple(sorted(fields, key=lambda f: f.name))
        )

    def shown(self, webhook: Webhook) -> dict[str, Any]:
        """The message definitions."""
        messages: dict[str, Message] = webhook.selection
        return {
            "messages": [
                {"object": name, "action_id": each.action_id, "fields": ["Id", *(f.name for f in each.fields)]}
                for name, each in messages.items()
            ]
        }

    def secret(self) -> str:
        """Nothing is signed; whoever wants a secret puts it into the URL."""
        return ""

    def notices(self, webhook: Webhook, change: Change) -> list[Notice]:
        """One notification for each save."""
        org = self._org
        if change.op not in ("create", "update") or change.stream not in webhook.selection:
            return []
        if not change.by_hand and not org.on("outbound_for_integration_user"):
            return []
        self._number += 1
        id = ids.make_id("04l", self._number)
        return [Notice(id, change.id, made_at=change.at, lane=change.stream)]

    # ---- messages

    def flow(self, webhook: Webhook) -> Flow:
        """100 notifications, 60 seconds."""
        org = self._org
        return Flow(
            batch=int(org.value("outbound_batch")) if org.on("outbound_batch") else 1,
            concurrent=int(org.value("outbound_connections")),
            timeout_ms=int(org.value("outbound_timeout") * 1000),
        )

    def request(self, webhook: Webhook, notices: Sequence[Notice]) -> tuple[dict[str, str], bytes]:
        """The envelope, with the values the records have now."""
        message: Message = webhook.selection[notices[0].lane]
        base = f"{self._org.world.origin}/{self._org.system}/services/Soap"
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="{_ENVELOPE}" '
            'xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
            f'<soapenv:Body><notifications xmlns="{NAMESPACE}"><OrganizationId>{ORG_ID}</OrganizationId>'
            f"<ActionId>{message.action_id}</ActionId>"
            '<SessionId xsi:nil="true"/>'
            f"<EnterpriseUrl>{escape(base)}/c/{VERSION}/{ORG_ID[:15]}</EnterpriseUrl>"
            f"<PartnerUrl>{escape(base)}/u/{VERSION}/{ORG_ID[:15]}</PartnerUrl>"
            + "".join(self._notification(message, notice) for notice in notices)
            + "</notifications></soapenv:Body></soapenv:Envelope>"
        )
        headers = {
            "Content-Type": "text/xml; charset=utf-8",
            "SOAPAction": '""',
            "Accept": "text/xml",
            "User-Agent": "Salesforce Outbound Messages (sandbox)",
        }
        return headers, body.encode()

    def _notification(self, message: Message, notice: Notice) -> str:
        name = message.target.name
        record = self._org.store(name).get(notice.content)
        head = f'<sObject xsi:type="sf:{name}" xmlns:sf="urn:sobject.enterprise.soap.sforce.com"'
        if record is None or record.deleted:
            shown = f"{head}/>"  # a record deleted meanwhile: a notification without any data
        else:
            shown = f"{head}><sf:Id>{record.id}</sf:Id>{self._values(message, record)}</sObject>"
        return f"<Notification><Id>{notice.id}</Id>{shown}</Notification>"

    def _values(self, message: Message, record: Record) -> str:
        org, parts = self._org, []
        for field in message.fields:
            if org.is_hidden(message.target, field):
                continue
            value = org.reader.getter(message.target, field)(record)
            if value is not None:
                parts.append(f"<sf:{field.name}>{_text(field, value)}</sf:{field.name}>")
            elif not org.on("outbound_nulls_left_out"):
                parts.append(f'<sf:{field.name} xsi:nil="true"/>')
        return "".join(parts)

    def accepted(self, answer: Answer) -> bool:
        """A 2xx whose body is a notificationsResponse with Ack true; anything else is no acknowledgement."""
        if answer.status is None or not 200 <= answer.status < 300 or b"<!DOCTYPE" in answer.body:
            return False
        try:
            root = ElementTree.fromstring(answer.body)
        except ElementTree.ParseError:
            return False
        path = f"./{{{_ENVELOPE}}}Body/{{{NAMESPACE}}}notificationsResponse/{{{NAMESPACE}}}Ack"
        return root.tag == f"{{{_ENVELOPE}}}Envelope" and (root.findtext(path) or "").strip() in ("true", "1")

    def retry_at(self, notice: Notice, now: int, chance: random.Random) -> int | None:
        """Ever later, two hours at most, until the notification is 24 hours old."""
        if not self._org.on("outbound_retry_seconds"):
            return None
        first, most = self._org.value("outbound_retry_seconds")
        due = now + int(min(first * 2 ** min(notice.attempt, 30), most) * 1000)
        return due if due < notice.made_at + self._org.value("outbound_life") * 1000 else None


def _text(field: FieldDef, value: Any) -> str:
    """A stored value as XML text."""
    if field.type == "boolean":
        return "true" if value else "false"
    if field.type == "datetime":
        return rest_datetime(value).replace("+0000", "Z")
    if field.type in ("double", "currency", "percent"):
        return repr(float(value))
    return escape(_ILLEGAL.sub("", str(value)))
