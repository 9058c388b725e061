"""HubSpot's webhooks: proof of origin, and the events in a body.

Page: https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation
The vendor does not promise that `eventId` is unique: an event's id here also holds its subscription,
record, time and property.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from sync_platform.connectors.hubspot.values import moment_of
from sync_platform.connectors.webhook import SampleRequest, StaleWebhookError, proved
from sync_platform.errors import AuthError, ContractError
from sync_platform.model import Event

SIGNATURE: Final = "x-hubspot-signature-v3"
TIMESTAMP: Final = "x-hubspot-request-timestamp"
#: A request signed further away from now than this, in either direction, is refused.
WINDOW: Final = dt.timedelta(minutes=5)

#: What a subscription or an event calls an object, and the stream it is.
STREAMS: Final = {
    "contact": "contacts",
    "company": "companies",
    "deal": "deals",
    "ticket": "tickets",
    "0-1": "contacts",
    "0-2": "companies",
    "0-3": "deals",
    "0-5": "tickets",
}
_KINDS: Final = {
    "creation": "created",
    "propertyChange": "updated",
    "associationChange": "updated",
    "restore": "created",
    "deletion": "deleted",
    "privacyDeletion": "deleted",
    "merge": "merged",
}
#: The escapes HubSpot decodes in the address before it signs it.
_DECODED: Final = {
    "%3A": ":",
    "%2F": "/",
    "%3F": "?",
    "%40": "@",
    "%21": "!",
    "%24": "$",
    "%27": "'",
    "%28": "(",
    "%29": ")",
    "%2A": "*",
    "%2C": ",",
    "%3B": ";",
}


def signature(secret: str, method: str, url: str, body: bytes, timestamp: str) -> str:
    """The signature (version 3) of a request: base64 of HMAC-SHA256 over method, address, body, timestamp."""
    signed = method.upper().encode() + url.encode() + body + timestamp.encode()
    return base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()


def verified_events(
    headers: Mapping[str, str],
    body: bytes,
    url: str,
    *,
    secrets: Sequence[str],
    now: dt.datetime,
    method: str = "POST",
) -> list[Event]:
    """The events of a request signed with one of `secrets` and whose timestamp is near `now`; AuthError otherwise.

    `url` is the address HubSpot called, with its query string, as the subscription names it.
    """
    given = {name.lower(): value for name, value in headers.items()}
    timestamp, proof = given.get(TIMESTAMP, ""), given.get(SIGNATURE, "")
    if not proof:
        raise _refused("it carries no signature of version 3")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 15):
        raise _refused("it carries no timestamp")
    sent = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(milliseconds=int(timestamp))
    if abs(now - sent) > WINDOW:
        raise _refused("it was signed more than five minutes from now", StaleWebhookError)
    urls = dict.fromkeys((url, _decoded(url)))
    known = [signature(secret, method, each, body, timestamp).encode() for secret in secrets for each in urls]
    if not proved(proof.encode(), known):
        raise _refused("its signature does not fit")
    return events_of(body)


def sample(url: str, *, secret: str, now: dt.datetime) -> SampleRequest:
    """A signed request without events."""
    body, timestamp = b"[]", str(int(now.timestamp() * 1000))
    proof = signature(secret, "POST", url, body, timestamp)
    headers = {"Content-Type": "application/json", SIGNATURE: proof, TIMESTAMP: timestamp}
    return SampleRequest(url=url, body=body, headers=headers)


def events_of(body: bytes) -> list[Event]:
    """The events in a webhook's body, without those of objects nobody can name."""
    try:
        entries = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ContractError("hubspot's webhook body is not JSON") from error
    if not isinstance(entries, list):
        raise ContractError("hubspot's webhook body is not a list of events")
    return [event for each in entries if isinstance(each, dict) for event in _events(each)]


def _events(raw: Mapping[str, Any]) -> list[Event]:
    subject, _, verb = str(raw.get("subscriptionType") or "").partition(".")
    type_id = str(raw.get("objectTypeId") or subject)
    stream = STREAMS.get(type_id) or (type_id if "-" in type_id else None)
    kind, moment = _KINDS.get(verb), moment_of(raw.get("occurredAt"))
    if stream is None or kind is None or moment is None or raw.get("objectId") is None:
        return []
    parts = (raw.get(name) for name in ("eventId", "subscriptionId", "objectId", "occurredAt", "propertyName"))
    identity = ":".join("" if part is None else str(part) for part in parts)
    if kind == "merged":
        return _merge(raw, stream, identity, moment)
    fields = {str(raw["propertyName"]): raw.get("propertyValue")} if raw.get("propertyName") else {}
    return [Event(id=identity, stream=stream, key=str(raw["objectId"]), kind=kind, occurred_at=moment, fields=fields)]


def _merge(raw: Mapping[str, Any], stream: str, identity: str, moment: dt.datetime) -> list[Event]:
    """One event for the record that remains, and one for each that went into it."""
    remains = str(raw.get("newObjectId") or raw.get("primaryObjectId") or raw.get("objectId"))
    gone = {str(each) for each in (raw.get("primaryObjectId"), *(raw.get("mergedObjectIds") or ())) if each}
    made = [Event(id=identity, stream=stream, key=remains, kind="merged", occurred_at=moment)]
    made += [
        Event(id=f"{identity}:{loser}", stream=stream, key=loser, kind="deleted", occurred_at=moment)
        for loser in sorted(gone - {remains})
    ]
    return made


def _decoded(url: str) -> str:
    """The address with the escapes decoded that HubSpot's page lists; the query string stays as sent."""
    head, mark, query = url.partition("?")
    if not urlsplit(url).path:
        return url
    for escape, plain in _DECODED.items():
        head = head.replace(escape, plain).replace(escape.lower(), plain)
    return f"{head}{mark}{query}"


def _refused(why: str, kind: type[AuthError] = AuthError) -> AuthError:
    return kind(
        f"a webhook that says it is HubSpot's was refused: {why}",
        field="client_secret",
        mend="check client_secret, the subscription's address and this machine's clock",
    )
