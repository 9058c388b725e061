"""The part of the control API about webhooks: who is told, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from sync_platform.sandbox.control_fields import Body, count, number, only, text
from sync_platform.sandbox.kit import SandboxError, Simulator, World
from sync_platform.sandbox.kit_notices import Options
from sync_platform.sandbox.kit_webhooks import Webhook

_KEYS: Final = {"system", "target_url", "secret", "options"}
_SELECTIONS: Final = {"subscriptions", "messages"}


class WebhookControl:
    """Answers `webhooks` and `deliveries`. `system` finds a simulator or raises SandboxError."""

    def __init__(self, world: World, system: Callable[[object], Simulator]) -> None:
        self._world = world
        self._system = system
        self.routes: dict[tuple[str, str], Callable[[Any], Body]] = {
            ("GET", "webhooks"): self._list,
            ("POST", "webhooks"): self._put,
            ("DELETE", "webhooks"): self._remove,
            ("GET", "deliveries"): self._deliveries,
        }

    def _list(self, _: object) -> Body:
        boxes = [simulator.outbox for simulator in self._world.systems.values()]
        return {"webhooks": [box.to_json(webhook) for box in boxes for webhook in box.webhooks.values()]}

    def _put(self, body: Body) -> Body:
        only(body, _KEYS | _SELECTIONS)
        simulator = self._system(body.get("system"))
        if body.get("target_url") == "":
            return {"webhook": {}, "removed": simulator.outbox.remove()}
        url = _target(text(body, "target_url"))
        options = _options(body.get("options", {}))
        dialect = simulator.outbox.dialect
        if dialect is None:
            raise SandboxError(f"the {simulator.system} simulator sends no webhooks", "system", 501)
        secret = body.get("secret", dialect.secret())
        if not isinstance(secret, str):
            raise SandboxError(f"secret must be a text, not {secret!r}", "secret")
        selection = dialect.select({key: body[key] for key in _SELECTIONS if key in body})
        webhook = Webhook(url, secret, options, selection)
        simulator.outbox.add(webhook)
        return {"webhook": simulator.outbox.to_json(webhook)}

    def _remove(self, body: Body) -> Body:
        only(body, {"system", "target_url"})
        name = text(body, "target_url") if "target_url" in body else None
        return {"removed": self._system(body.get("system")).outbox.remove(name)}

    def _deliveries(self, query: Mapping[str, str]) -> Body:
        system = self._system(query["system"]).system if query.get("system") else None
        since = query.get("since") or "0"
        if not since.isdigit():
            raise SandboxError(f"since must be a sequence number, not {since!r}", "since")
        found = [
            delivery
            for name, simulator in self._world.systems.items()
            if system in (None, name)
            for delivery in simulator.outbox.deliveries
            if delivery.seq > int(since)
        ]
        return {"deliveries": [each.to_json() for each in sorted(found, key=lambda each: each.seq)]}


def _target(url: str) -> str:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fits = False
    if not fits or not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        raise SandboxError(f"target_url must be an http or https URL, not {url!r}", "target_url")
    return url


def _options(given: object) -> Options:
    if not isinstance(given, dict):
        raise SandboxError("options must be an object", "options")
    only(given, {"duplicate_rate", "reorder", "drop_rate", "delay_ms"}, "options.")
    rates = {}
    for name in ("duplicate_rate", "drop_rate"):
        rates[name] = number(given, name, "options.") if name in given else 0.0
        if not 0 <= rates[name] <= 1:
            raise SandboxError(f"{name} must be between 0 and 1, not {rates[name]}", f"options.{name}")
    reorder = given.get("reorder", False)
    if not isinstance(reorder, bool):
        raise SandboxError("reorder must be true or false", "options.reorder")
    return Options(**rates, reorder=reorder, delay_ms=count(given, "delay_ms", 0, "options."))
