"""A receiver subscribed to the simulated HubSpot, and contacts that make one event each."""

from __future__ import annotations

from typing import Any

from hubspot_client import HubSpotClient
from webhook_receiver import Receiver

SECRET = "a-client-secret"
DAY = 86_400


def subscribe(hubspot: HubSpotClient, inbox: Receiver, *types: str, **options: Any) -> dict[str, Any]:
    """Sets up the receiver; `types` like contact.creation or contact.propertyChange:email, none: everything."""
    body: dict[str, Any] = {"system": "hubspot", "target_url": inbox.url, "secret": SECRET, "options": options}
    if types:
        pairs = (given.partition(":") for given in types)
        body["subscriptions"] = [
            {"eventType": kind, **({"propertyName": name} if name else {})} for kind, _, name in pairs
        ]
    webhook: dict[str, Any] = hubspot.control.post("webhooks", body)["webhook"]
    return webhook


def told(events: list[dict[str, Any]], *fields: str) -> list[tuple[Any, ...]]:
    return [tuple(event.get(field) for field in fields) for event in events]


def renamed(hubspot: HubSpotClient, count: int, stream: str = "contacts") -> list[str]:
    """Contacts that each make one event later, when their city changes."""
    return hubspot.by_hand(stream, *({"fields": {"email": f"p{n}@example.com"}} for n in range(count)))


def move(hubspot: HubSpotClient, ids: list[str], city: str = "Bern") -> None:
    hubspot.by_hand("contacts", *({"id": id, "fields": {"city": city}} for id in ids))
