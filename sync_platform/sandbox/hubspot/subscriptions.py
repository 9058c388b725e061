"""What an app subscribes to.

https://developers.hubspot.com/docs/api-reference/legacy/webhooks/guide; the event types are those of the published
schema (conversations and associations are not built here, nor are products).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sync_platform.sandbox.hubspot.objects import KINDS
from sync_platform.sandbox.hubspot.refusals import RefusedError, bad_request, not_built
from sync_platform.sandbox.kit import iso

#: stream -> how event types name its records
SINGULAR: Final = {
    "contacts": "contact", "companies": "company", "deals": "deal", "tickets": "ticket", "line_items": "line_item",
}  # fmt: skip
VERBS: Final = ("creation", "deletion", "propertyChange", "merge", "restore")
#: Changes of these are told to nobody (the guide's list of properties without events, for contacts and others).
UNTOLD: Final = frozenset({"num_unique_conversion_events", "hs_lastmodifieddate", "lastmodifieddate"})
MOST: Final = 1000
FIRST_ID: Final = 2_400_001
_STREAMS: Final = {singular: stream for stream, singular in SINGULAR.items()}
_TYPE_IDS: Final = {kind.type_id: name for name, kind in KINDS.items()}


@dataclass(slots=True, kw_only=True)
class Subscription:
    """One subscription. `key`: (stream, verb, property or "")."""

    id: int
    event_type: str
    key: tuple[str, str, str]
    object_type_id: str | None
    active: bool
    created_at: int
    updated_at: int

    def to_json(self) -> dict[str, Any]:
        """The subscription as the vendor's API shows it."""
        shown: dict[str, Any] = {"active": self.active, "createdAt": iso(self.created_at), "eventType": self.event_type}
        shown |= {"id": str(self.id), "updatedAt": iso(self.updated_at)}
        if self.key[2]:
            shown["propertyName"] = self.key[2]
        if self.object_type_id is not None:
            shown["objectTypeId"] = self.object_type_id
        return shown


class Subscriptions:
    """The subscriptions of an app."""

    def __init__(self) -> None:
        self.by_id: dict[int, Subscription] = {}
        self._by_key: dict[tuple[str, str, str], list[Subscription]] = {}
        self._next = FIRST_ID

    def find(self, stream: str, verb: str, name: str = "") -> Sequence[Subscription]:
        """Those that an event of this kind goes to; paused ones too."""
        return self._by_key.get((stream, verb, name), ())

    def add(self, given: Mapping[str, Any], now: int, *, active: bool = False) -> Subscription:
        """Takes up what `given` asks for (paused unless it says otherwise). Raises RefusedError."""
        event_type, key, type_id = read(given)
        if any(other.event_type == event_type for other in self._by_key.get(key, ())):
            raise bad_request(f"There is a subscription for {' '.join(filter(None, (event_type, key[2])))} already")
        if len(self.by_id) >= MOST:
            raise bad_request(f"An app has at most {MOST} subscriptions")
        wanted = given.get("active", active)
        if not isinstance(wanted, bool):
            raise bad_request("active must be true or false")
        made = Subscription(
            id=self._next, event_type=event_type, key=key, object_type_id=type_id, active=wanted,
            created_at=now, updated_at=now,
        )  # fmt: skip
        self._next += 1
        self.by_id[made.id] = made
        self._by_key.setdefault(key, []).append(made)
        return made

    def drop(self, subscription: Subscription) -> None:
        """Forgets a subscription."""
        del self.by_id[subscription.id]
        self._by_key[subscription.key].remove(subscription)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self.by_id.values())


class Everything(Subscriptions):
    """A subscription to whatever is asked for, made when it first is."""

    def find(self, stream: str, verb: str, name: str = "") -> Sequence[Subscription]:
        """The one for this kind of event."""
        found = self._by_key.get((stream, verb, name))
        if found is None:
            event_type = f"{SINGULAR[stream]}.{verb}"
            made = Subscription(
                id=self._next, event_type=event_type, key=(stream, verb, name), object_type_id=None, active=True,
                created_at=0, updated_at=0,
            )  # fmt: skip
            self._next += 1
            found = self._by_key[made.key] = [made]
        return found


def read(given: Mapping[str, Any]) -> tuple[str, tuple[str, str, str], str | None]:
    """Event type, key and object type id of what is asked for. Raises RefusedError."""
    event_type, type_id, name = (given.get(key) for key in ("eventType", "objectTypeId", "propertyName"))
    if not isinstance(event_type, str):
        raise bad_request("Some required fields were not set: [eventType]")
    singular, _, verb = event_type.partition(".")
    if singular == "object":
        stream = _TYPE_IDS.get(type_id) if isinstance(type_id, str) else None
        if stream is None:
            raise bad_request(f"{event_type} needs the objectTypeId of a known object, got {type_id!r}")
    else:
        stream, type_id = _STREAMS.get(singular), None
    if singular in ("conversation", "product") or verb == "associationChange":
        raise not_built(f"subscriptions of {event_type}")
    if stream is None or not (verb in VERBS or event_type == "contact.privacyDeletion"):
        raise bad_request(f"Unknown eventType {event_type}")
    if verb != "propertyChange":
        return event_type, (stream, verb, ""), type_id
    if not isinstance(name, str) or not name:
        raise bad_request(f"{event_type} needs a propertyName")
    if name in UNTOLD:
        raise RefusedError(400, f"{name} does not support property change events")
    return event_type, (stream, verb, name), type_id
