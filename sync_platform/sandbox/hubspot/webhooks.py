"""Webhooks as HubSpot sends them.

https://developers.hubspot.com/docs/api-reference/legacy/webhooks/guide (events, batches, concurrency),
https://developers.hubspot.com/docs/api-reference/latest/error-handling (retries) and
https://developers.hubspot.com/docs/apps/legacy-apps/authentication/validating-requests (signatures). Fields and their
order follow recorded requests of 2022 to 2025; a merge names the surviving record in `newObjectId` alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from sync_platform.sandbox.http_post import Answer
from sync_platform.sandbox.hubspot.records import EDITABLE_BY_HAND
from sync_platform.sandbox.hubspot.refusals import PORTAL_ID, RefusedError
from sync_platform.sandbox.hubspot.subscriptions import UNTOLD, Everything, Subscription, Subscriptions
from sync_platform.sandbox.hubspot.tokens import APP_ID, CLIENT_SECRET, USER_ID
from sync_platform.sandbox.kit import Change, SandboxError
from sync_platform.sandbox.kit_notices import Dialect, Flow, Notice

if TYPE_CHECKING:
    from sync_platform.sandbox.hubspot.simulator import HubSpotSimulator
    from sync_platform.sandbox.kit_webhooks import Webhook

#: The name of the webhook that the app's own settings (the vendor's API) make.
APP_WEBHOOK: Final = "app"
_VERBS: Final = {"create": "creation", "delete": "deletion", "restore": "restore", "merge": "merge"}
_FLAGS: Final = {"create": "CREATED", "delete": "DELETED", "erase": "DELETED"}


@dataclass(slots=True)
class Selection:
    """Which events a webhook is sent, and how many requests at a time (None: the usual number)."""

    subscriptions: Subscriptions
    concurrent: int | None = None


class HubSpotDialect(Dialect):
    """Signed JSON arrays of up to 100 events."""

    def __init__(self, hub: HubSpotSimulator) -> None:
        self._hub = hub
        self.restart()

    def restart(self) -> None:
        """Randomness back to the start."""
        self._chance = random.Random(f"{self._hub.world.seed}/hubspot/events")
        self._last_id = 0

    # ---- who is told what

    def select(self, wanted: Mapping[str, Any]) -> Selection:
        """`subscriptions`: as the vendor's API takes them, active; absent: everything."""
        for key in wanted:
            if key != "subscriptions":
                raise SandboxError(f"HubSpot has subscriptions, no {key}", key)
        if "subscriptions" not in wanted:
            return Selection(Everything())
        given = wanted["subscriptions"]
        chosen = Subscriptions()
        if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
            raise SandboxError("subscriptions must be an array of objects", "subscriptions")
        for item in given:
            try:
                chosen.add(item, self._hub.world.now_ms(), active=True)
            except RefusedError as refusal:
                raise SandboxError(refusal.message, "subscriptions") from None
        return Selection(chosen)

    def shown(self, webhook: Webhook) -> dict[str, Any]:
        """The subscriptions; null: everything."""
        chosen: Subscriptions = webhook.selection.subscriptions
        shown = None if isinstance(chosen, Everything) else [each.to_json() for each in chosen]
        return {"subscriptions": shown}

    def secret(self) -> str:
        """The app's client secret."""
        return CLIENT_SECRET

    # ---- events

    def notices(self, webhook: Webhook, change: Change) -> list[Notice]:
        """One event for each subscription the change concerns; a new record's properties are changes too."""
        chosen: Subscriptions = webhook.selection.subscriptions
        found = []
        everything = isinstance(chosen, Everything)
        for verb, name, extra in self._events(change):
            if everything and name and not self._of_interest(change.stream, name):
                continue
            for subscription in chosen.find(change.stream, verb, name):
                if subscription.active:
                    event = self._event(change, subscription, extra)
                    found.append(Notice(event["eventId"], event, made_at=change.at))
        return found

    def _events(self, change: Change) -> Iterator[tuple[str, str, dict[str, Any]]]:
        flag = {"changeFlag": _FLAGS[change.op]} if change.op in _FLAGS else {}
        if change.op == "merge":
            yield (
                "merge",
                "",
                {
                    "primaryObjectId": int(change.primary or change.id),
                    "mergedObjectIds": [int(id) for id in change.merged],
                    "newObjectId": int(change.id),
                    "numberOfPropertiesMoved": len(change.values),
                },
            )
            return
        if change.op == "erase":
            yield "privacyDeletion", "", flag
            yield "deletion", "", flag
            return
        if change.op in _VERBS:
            yield _VERBS[change.op], "", flag
        for name, value in change.values.items():
            if name not in UNTOLD:
                text = "" if value is None else str(value)
                yield "propertyChange", name, {"propertyName": name, "propertyValue": text}

    def _of_interest(self, stream: str, name: str) -> bool:
        """Whether one who wants everything subscribes to this property: those that people and apps fill in."""
        definition = self._hub.records[stream].properties.get(name)
        if definition is None or definition.hidden:
            return False
        return not definition.read_only or name in EDITABLE_BY_HAND

    def _event(self, change: Change, subscription: Subscription, extra: dict[str, Any]) -> dict[str, Any]:
        event: dict[str, Any] = {
            "eventId": self._event_id(),
            "subscriptionId": subscription.id,
            "portalId": PORTAL_ID,
            "appId": APP_ID,
            "occurredAt": change.at,
            "subscriptionType": subscription.event_type,
            "attemptNumber": 0,
            "objectId": int(change.primary or change.id),
            **extra,
            "changeSource": "CRM_UI" if change.by_hand else "INTEGRATION",
            "sourceId": f"userId:{USER_ID}" if change.by_hand else str(APP_ID),
        }
        if subscription.object_type_id is not None:
            event["objectTypeId"] = subscription.object_type_id
        if "propertyName" in extra:
            event["isSensitive"] = False
        return event

    def _event_id(self) -> int:
        """Random, and now and then the one of the event before: the vendor does not promise that it is unique."""
        hub = self._hub
        again = hub.on("webhook_event_ids_repeat") and self._chance.random() < hub.value("webhook_event_ids_repeat")
        if not again or not self._last_id:
            self._last_id = self._chance.randrange(1, 1 << 32)
        return self._last_id

    # ---- requests

    def flow(self, webhook: Webhook) -> Flow:
        """100 events, 10 requests at a time, 5 seconds."""
        hub = self._hub
        return Flow(
            batch=int(hub.value("webhook_batch")) if hub.on("webhook_batch") else 1,
            concurrent=webhook.selection.concurrent or int(hub.value("webhook_concurrency")),
            timeout_ms=int(hub.value("webhook_timeout") * 1000),
        )

    def request(self, webhook: Webhook, notices: Sequence[Notice]) -> tuple[dict[str, str], bytes]:
        """The signed request. Its timestamp is the receiver's time, not moved by `POST clock`."""
        for notice in notices:
            notice.content["attemptNumber"] = notice.attempt
        body = orjson.dumps([notice.content for notice in notices])
        secret, stamp = webhook.secret.encode(), str(self._hub.world.wire_ms())
        signed = hmac.new(secret, b"POST" + webhook.url.encode() + body + stamp.encode(), hashlib.sha256)
        headers = {
            "Content-Type": "application/json",
            "Accept": "*/*",
            "User-Agent": "HubSpot Webhooks (sandbox)",
            "X-HubSpot-Signature": hashlib.sha256(secret + body).hexdigest(),
            "X-HubSpot-Signature-Version": "v1",
            "X-HubSpot-Signature-v3": base64.b64encode(signed.digest()).decode(),
            "X-HubSpot-Request-Timestamp": stamp,
        }
        return headers, body

    def accepted(self, answer: Answer) -> bool:
        """Any 2xx."""
        return answer.status is not None and 200 <= answer.status < 300

    def retry_at(self, notice: Notice, now: int, chance: random.Random) -> int | None:
        """Ten more times over the next 24 hours; each event by itself, with some randomness."""
        waits = self._hub.value("webhook_retry_minutes") if self._hub.on("webhook_retry_minutes") else []
        if notice.attempt >= len(waits):
            return None
        return now + int(waits[notice.attempt] * chance.uniform(0.8, 1.0) * 60_000)
