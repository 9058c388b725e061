"""An app's own webhook settings and subscriptions.

https://developers.hubspot.com/docs/api-reference/legacy/webhooks/guide: settings belong to a public app, not to an
account. The published schema and the vendor's SDK want the developer account's API key (`hapikey` in the query) and no
token; the pages of single endpoints show a bearer token as well, which is UNVERIFIED and not taken here. A private
app's webhooks are set in its pages only. Other than the vendor, this one takes an http URL: receivers are local.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from sync_platform.sandbox.hubspot.exchange import Answer, fields_of
from sync_platform.sandbox.hubspot.refusals import RefusedError, bad_json, bad_request, not_built
from sync_platform.sandbox.hubspot.subscriptions import Subscription, Subscriptions
from sync_platform.sandbox.hubspot.tokens import APP_ID, CLIENT_SECRET, DEVELOPER_KEY
from sync_platform.sandbox.hubspot.webhooks import APP_WEBHOOK, Selection
from sync_platform.sandbox.kit import Call, Simulator, iso
from sync_platform.sandbox.kit_notices import Options
from sync_platform.sandbox.kit_webhooks import Webhook

VERSIONS: Final = ("v3", "2026-03")
#: The guide: more than five.
LEAST_CONCURRENT: Final = 6


@dataclass(slots=True)
class Settings:
    """Where the app wants its events."""

    target_url: str
    concurrent: int
    created_at: int
    updated_at: int

    def to_json(self) -> dict[str, Any]:
        """The settings as the vendor shows them."""
        return {
            "createdAt": iso(self.created_at), "targetUrl": self.target_url,
            "throttling": {"maxConcurrentRequests": self.concurrent}, "updatedAt": iso(self.updated_at),
        }  # fmt: skip


class AppWebhooks:
    """Answers below /webhooks/{version}/{appId}. What was set up stays across resets, like every webhook."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self.settings: Settings | None = None
        self.subscriptions = Subscriptions()

    def answer(self, call: Call, rest: tuple[str, ...]) -> Answer:
        """The answer to a request; `rest` is the path from the app id on. Raises RefusedError."""
        if call.query.get("hapikey") != DEVELOPER_KEY:
            message = "The API key provided is invalid. View or manage your API key here: developer account, API key"
            raise RefusedError(401, message, category="INVALID_AUTHENTICATION", violation=False)
        if rest[:1] != (str(APP_ID),):
            raise RefusedError(404, f"App {'/'.join(rest[:1])} not found", category="OBJECT_NOT_FOUND", violation=False)
        match call.method, rest[1:]:
            case "GET", ("settings",):
                return Answer(content=self._existing().to_json())
            case "PUT", ("settings",):
                return self._put_settings(call)
            case "DELETE", ("settings",):
                self._existing()
                self.settings = None
                self._apply()
                return Answer(content=None, status=204)
            case "GET", ("subscriptions",):
                return Answer(content={"results": [each.to_json() for each in self.subscriptions]})
            case "POST", ("subscriptions",):
                known = ("eventType", "propertyName", "objectTypeId", "active")
                given = fields_of(_json(call), known, ("eventType",))
                return Answer(content=self.subscriptions.add(given, self._now()).to_json(), status=201)
            case "POST", ("subscriptions", "batch", "update"):
                return self._update_all(call)
            case method, ("subscriptions", id):
                return self._one(call, method, self._find(id))
        raise not_built(f"{call.method} {call.path}")

    def _now(self) -> int:
        return self._simulator.world.now_ms()

    # ---- settings

    def _existing(self) -> Settings:
        if self.settings is None or APP_WEBHOOK not in self._simulator.outbox.webhooks:
            raise RefusedError(404, "The app has no webhook settings", category="OBJECT_NOT_FOUND", violation=False)
        return self.settings

    def _put_settings(self, call: Call) -> Answer:
        body = fields_of(_json(call), ("targetUrl", "throttling"), ("targetUrl", "throttling"))
        throttling = fields_of(body["throttling"], ("maxConcurrentRequests", "period"), ("maxConcurrentRequests",))
        concurrent, url = throttling["maxConcurrentRequests"], body["targetUrl"]
        if isinstance(concurrent, bool) or not isinstance(concurrent, int) or concurrent < LEAST_CONCURRENT:
            raise bad_request("maxConcurrentRequests must be a number greater than five")
        if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise bad_request("targetUrl must be a valid URL")
        now = self._now()
        created = now if self.settings is None else self.settings.created_at
        self.settings = Settings(url, concurrent, created, now)
        self._apply()
        return Answer(content=self.settings.to_json())

    def _apply(self) -> None:
        """Puts the settings into force; at the vendor this may take up to five minutes."""
        outbox, settings = self._simulator.outbox, self.settings
        if settings is None:
            outbox.remove(APP_WEBHOOK)
            return
        selection = Selection(self.subscriptions, settings.concurrent)
        outbox.add(Webhook(settings.target_url, CLIENT_SECRET, Options(), selection, name=APP_WEBHOOK))

    # ---- subscriptions

    def _find(self, id: str) -> Subscription:
        found = self.subscriptions.by_id.get(int(id)) if id.isdecimal() else None
        if found is None:
            raise RefusedError(404, f"Subscription {id} not found", category="OBJECT_NOT_FOUND", violation=False)
        return found

    def _one(self, call: Call, method: str, subscription: Subscription) -> Answer:
        if method == "GET":
            return Answer(content=subscription.to_json())
        if method == "PATCH":
            self._set(subscription, fields_of(_json(call), ("active",)))
            return Answer(content=subscription.to_json())
        if method == "DELETE":
            self.subscriptions.drop(subscription)
            return Answer(content=None, status=204)
        raise not_built(f"{method} {call.path}")

    def _update_all(self, call: Call) -> Answer:
        started = self._now()
        items = fields_of(_json(call), ("inputs",), ("inputs",))["inputs"]
        if not isinstance(items, list):
            raise bad_json("inputs must be an array")
        given = [fields_of(item, ("id", "active"), ("id", "active")) for item in items]
        found = [self._find(str(item["id"])) for item in given]
        for subscription, item in zip(found, given, strict=True):
            self._set(subscription, item)
        results = [subscription.to_json() for subscription in found]
        times = {"startedAt": iso(started), "completedAt": iso(self._now())}
        return Answer(content={"status": "COMPLETE", "results": results, **times})

    def _set(self, subscription: Subscription, given: dict[str, Any]) -> None:
        active = given.get("active", subscription.active)
        if not isinstance(active, bool):
            raise bad_request("active must be true or false")
        subscription.active, subscription.updated_at = active, self._now()


def _json(call: Call) -> object:
    try:
        return call.json()
    except ValueError as error:
        raise bad_json(str(error)) from None
