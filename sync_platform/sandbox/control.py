"""The control API below /__control__: seeds, edits, faults, the log. Never logged, never faulted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

from starlette.responses import Response

from sync_platform.sandbox.control_fields import Body, count, counts, decode, number, only, text
from sync_platform.sandbox.control_webhooks import WebhookControl
from sync_platform.sandbox.faults import KINDS, Fault
from sync_platform.sandbox.kit import (
    JSONResponse,
    Record,
    SandboxError,
    SeedOptions,
    Simulator,
    World,
    iso,
    uncollected,
)
from sync_platform.sandbox.request_log import Entry

CONTROL: Final = "__control__"


class Waits(Protocol):
    """The held requests."""

    def held(self) -> list[Entry]:
        """Those that wait for a release."""

    def release(self) -> int:
        """Lets them go on; how many."""

    def interrupt(self, system: str | None) -> None:
        """Drops whatever of a system waits."""


class ControlApi:
    """Answers control requests; `INTERFACES` has the shapes."""

    def __init__(self, world: World, *, waits: Waits) -> None:
        self.world = world
        self.waits = waits
        self._query: dict[str, str] = {}
        self._routes: dict[tuple[str, str], Callable[[Any], Body]] = {
            ("GET", "health"): self._health,
            ("POST", "reset"): self._reset,
            ("POST", "seed"): self._seed,
            ("GET", "faults"): self._list_faults,
            ("POST", "faults"): self._put_fault,
            ("GET", "held"): self._held,
            ("POST", "release"): self._release,
            ("GET", "log"): self._log,
            ("GET", "violations"): self._violations,
            ("GET", "habits"): self._list_habits,
            ("POST", "habits"): self._set_habit,
            ("POST", "clock"): self._clock,
            ("POST", "restore"): self._restore,
            **WebhookControl(world, self._system).routes,
        }

    def answer(self, method: str, path: str, query: str, body: bytes) -> Response:
        """The response to one control request."""
        self.world.run_due()
        try:
            self._query = dict(parse_qsl(query, keep_blank_values=True))
            return JSONResponse(self._route(method, path.strip("/"), body))
        except SandboxError as error:
            return JSONResponse({"error": error.message, "field": error.field}, error.status)

    def _route(self, method: str, path: str, body: bytes) -> Body:
        head, *rest = path.split("/")
        if head == "records" and len(rest) == 2:
            return self._records(method, self._system(rest[0]), rest[1], body)
        if head == "merge" and len(rest) == 2:
            return self._merge(method, self._system(rest[0]), rest[1], body)
        if path not in {name for _, name in self._routes}:
            raise SandboxError(f"no control endpoint {path!r}", "path", 404)
        handler = self._routes.get((method, path))
        if handler is None:
            raise SandboxError(f"{method} is not a method of {path}", "method", 405)
        if method == "GET":
            allowed = {"log": {"system", "since"}, "deliveries": {"system", "since"}}.get(path, set())
            only(self._query, allowed)
            return handler(self._query)
        document = decode(body or b"{}")
        if not isinstance(document, dict):
            raise SandboxError("the body must be a JSON object", "body")
        return handler(document)

    def _system(self, name: object) -> Simulator:
        if not isinstance(name, str) or name not in self.world.systems:
            raise SandboxError(f"no system {name!r}; there are: {', '.join(self.world.systems)}", "system", 404)
        return self.world.systems[name]

    # ---- the world

    def _health(self, _: object) -> Body:
        world = self.world
        return {"status": "ok", "systems": list(world.systems), "seed": world.seed, "now": iso(world.now_ms())}

    def _reset(self, body: Body) -> Body:
        only(body, {"system"})
        system = self._system(body["system"]).system if body.get("system") is not None else None
        self.waits.interrupt(system)
        self.world.reset(system)
        return {"ok": True}

    def _clock(self, body: Body) -> Body:
        only(body, {"advance_seconds"})
        seconds = number(body, "advance_seconds")
        if not 0 <= seconds <= 10 * 366 * 86400:
            raise SandboxError(f"advance_seconds must be between 0 and ten years, not {seconds}", "advance_seconds")
        self.world.advance(seconds)
        return {"now": iso(self.world.now_ms())}

    # ---- records

    def _seed(self, body: Body) -> Body:
        only(body, {"system", "stream", "count", "options"})
        simulator = self._system(body.get("system"))
        stream = text(body, "stream")
        options = body.get("options", {})
        if not isinstance(options, dict):
            raise SandboxError("options must be an object", "options")
        only(options, {"missing", "invalid", "duplicates", "older"}, "options.")
        wanted = SeedOptions(
            missing=counts(options, "missing"),
            invalid=counts(options, "invalid"),
            duplicates=count(options, "duplicates", 0, "options."),
            older=count(options, "older", 0, "options."),
        )
        return {"ids": simulator.seed(stream, count(body, "count"), wanted)}

    def _records(self, method: str, simulator: Simulator, stream: str, body: bytes) -> Body:
        if method == "GET":
            only(self._query, {"deleted"})
            if self._query.get("deleted", "include") != "include":
                raise SandboxError("deleted must be 'include'", "deleted")
            everything = "deleted" in self._query
            records = (r for r in simulator.store(stream) if everything or not r.deleted)
            with uncollected():
                return {"records": [_shown(simulator, stream, record) for record in records]}
        document = decode(body)
        if not isinstance(document, list):
            raise SandboxError("the body must be a JSON array", "body")
        if method == "POST":
            return {"ids": simulator.edit(stream, [_edit(item) for item in document])}
        if method == "DELETE":
            if not all(isinstance(item, str) for item in document):
                raise SandboxError("the body must be an array of ids", "body")
            return {"deleted": simulator.discard(stream, document)}
        raise SandboxError(f"{method} is not a method of records", "method", 405)

    def _restore(self, body: Body) -> Body:
        only(body, {"system", "stream", "ids"})
        ids = body.get("ids")
        if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
            raise SandboxError("ids must be an array of ids", "ids")
        return {"restored": self._system(body.get("system")).bring_back(text(body, "stream"), ids)}

    def _merge(self, method: str, simulator: Simulator, stream: str, body: bytes) -> Body:
        if method != "POST":
            raise SandboxError(f"{method} is not a method of merge", "method", 405)
        wanted = decode(body)
        if not isinstance(wanted, dict):
            raise SandboxError("the body must be a JSON object", "body")
        only(wanted, {"survivor", "merged"})
        merged = wanted.get("merged")
        if not isinstance(merged, list) or not merged or not all(isinstance(id, str) for id in merged):
            raise SandboxError("merged must be an array of ids", "merged")
        return {"id": simulator.unite(stream, text(wanted, "survivor"), merged)}

    # ---- faults

    def _list_faults(self, _: object) -> Body:
        return {"faults": [fault.to_json() for fault in self.world.faults.list()]}

    def _put_fault(self, body: Body) -> Body:
        only(body, {"system", "kind", "times", "rate", "match", "seconds"})
        system = self._system(body.get("system")).system
        kind = str(body.get("kind"))
        if kind not in KINDS:
            raise SandboxError(f"no fault kind {kind!r}; there are: {', '.join(KINDS)}", "kind")
        if ("times" in body) == ("rate" in body):
            raise SandboxError("give either times or rate", "times")
        times = count(body, "times") if "times" in body else None
        rate = number(body, "rate") if "rate" in body else None
        if rate is not None and not 0 <= rate <= 1:
            raise SandboxError(f"rate must be between 0 and 1, not {rate}", "rate")
        seconds = number(body, "seconds") if "seconds" in body else KINDS[kind]
        if "seconds" in body and (not KINDS[kind] or seconds < 0):
            raise SandboxError(f"seconds must not be negative and means nothing to {kind!r}", "seconds")
        match = text(body, "match") if "match" in body else ""
        fault = Fault(system, kind, match, times, rate, seconds)
        self.world.faults.put(fault)
        return {"fault": fault.to_json()}

    def _held(self, _: object) -> Body:
        return {"held": [{"seq": e.seq, "system": e.system, "path": e.path} for e in self.waits.held()]}

    def _release(self, body: Body) -> Body:
        only(body, set())
        return {"released": self.waits.release()}

    # ---- the judge

    def _log(self, _: object) -> Body:
        system = self._system(self._query["system"]).system if self._query.get("system") else None
        since = self._query.get("since") or "0"
        if not since.isdigit():
            raise SandboxError(f"since must be a sequence number, not {since!r}", "since")
        return {"requests": [entry.to_json() for entry in self.world.log.since(int(since), system)]}

    def _violations(self, _: object) -> Body:
        found = self.world.log.violations
        return {"violations": [{"seq": v.seq, "system": v.system, "path": v.path, "reason": v.reason} for v in found]}

    # ---- habits

    def _list_habits(self, _: object) -> Body:
        return {
            "habits": [
                {"system": name, "name": h.name, "on": h.on, "value": h.value, "source": h.source}
                for name, simulator in self.world.systems.items()
                for h in simulator.habit.values()
            ]
        }

    def _set_habit(self, body: Body) -> Body:
        only(body, {"system", "name", "on", "value"})
        simulator = self._system(body.get("system"))
        name = text(body, "name")
        habit = simulator.habit.get(name)
        if habit is None:
            raise SandboxError(f"{simulator.system} has no habit {name!r}", "name", 404)
        on = body.get("on", habit.on)
        if not isinstance(on, bool):
            raise SandboxError("on must be true or false", "on")
        value = body.get("value", habit.value)
        if _kind(value) != _kind(habit.value):
            raise SandboxError(f"value must be a {_kind(habit.value)}, not {value!r}", "value")
        habit.on, habit.value = on, value
        shown = {"system": simulator.system, "name": name, "on": on, "value": value, "source": habit.source}
        return {"habit": shown}


def _edit(item: object) -> tuple[str | None, Mapping[str, Any]]:
    if not isinstance(item, dict):
        raise SandboxError("every item must be an object with fields", "body")
    only(item, {"id", "fields"})
    fields, id = item.get("fields"), item.get("id")
    if not isinstance(fields, dict):
        raise SandboxError("fields must be an object", "fields")
    if id is not None and not isinstance(id, str):
        raise SandboxError("id must be a text", "id")
    return id, fields


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "text" if isinstance(value, str) else type(value).__name__


def _shown(simulator: Simulator, stream: str, record: Record) -> Body:
    return {
        "id": record.id,
        "fields": simulator.view(stream, record),
        "deleted": record.deleted,
        "created_at": iso(record.created_at),
        "updated_at": iso(record.updated_at),
    }
