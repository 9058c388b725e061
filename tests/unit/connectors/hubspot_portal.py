"""A small HubSpot account on localhost, shaped from the vendor's documents, for the connector's unit tests.

Its search index is a copy made by `index()`: filters and order come from the copy, values are live.
"""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "pat-na1-secret-token"


@dataclass
class Request:
    """One request as the account saw it."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


@dataclass
class Reply:
    """One answer; `drop` closes the connection instead, after the request was carried out or not."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False


def error(status: int, message: str, category: str = "VALIDATION_ERROR", **more: Any) -> Reply:
    """An error body of HubSpot's."""
    body = {"status": "error", "message": message, "correlationId": "c0ffee", "category": category, **more}
    return Reply(status=status, body=body)


PROPERTIES = {
    "email": {"type": "string"},
    "firstname": {"type": "string", "label": "First Name"},
    "age": {"type": "number"},
    "ext_id": {"type": "string", "hasUniqueValue": True},
    "lifecyclestage": {"type": "enumeration", "options": [{"value": "lead"}, {"value": "customer"}]},  # in order
    "hs_score": {"type": "number", "calculated": True},
    "createdate": {"type": "datetime", "modificationMetadata": {"readOnlyValue": True}},
    "lastmodifieddate": {"type": "datetime", "modificationMetadata": {"readOnlyValue": True}},
    "hs_lastmodifieddate": {"type": "datetime", "modificationMetadata": {"readOnlyValue": True}},
    "hs_object_id": {"type": "number", "modificationMetadata": {"readOnlyValue": True}},
    "hs_merged_object_ids": {"type": "enumeration", "modificationMetadata": {"readOnlyValue": True}},
    "when": {"type": "datetime"},
}


class Portal:
    """The account. `script` answers a request before the account does, when it returns a Reply."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.indexed: dict[str, dict[str, Any]] = {}
        self.requests: list[Request] = []
        self.script: Callable[[Request], Reply | None] = lambda request: None
        self.after_page: Callable[[Request], None] = lambda request: None
        self.properties = dict(PROPERTIES)
        self.traced_results = True
        self.multi_status = True
        self.stage_stuck = False
        self.now = 1_700_000_000_000
        self.next_id = 101
        self.lock = threading.RLock()
        self.url = ""

    # -- what a person does in the account

    def add(self, *, id: str | None = None, at: int | None = None, **properties: str | None) -> str:
        """A new record; its id."""
        key = id or str(self.next_id)
        self.next_id = max(self.next_id, int(key)) + 1
        self.records[key] = {"properties": {"hs_object_id": key, **properties}, "archivedAt": None}
        self.touch(key, at)
        return key

    def touch(self, key: str, at: int | None = None, **properties: str | None) -> None:
        """An edit of a record."""
        if at is None:
            self.now += 1
        moment = iso(self.now if at is None else at)
        stamps = {"lastmodifieddate": moment, "hs_lastmodifieddate": moment}
        self.records[key]["properties"].update(properties | stamps)

    def archive(self, key: str, at: int) -> None:
        """A record put into the recycling bin."""
        self.records[key]["archivedAt"] = iso(at)

    def index(self) -> None:
        """The search index catches up."""
        self.indexed = json.loads(json.dumps({k: r["properties"] for k, r in self.live().items()}))

    def live(self) -> dict[str, dict[str, Any]]:
        """The records that are not archived, by id in order."""
        return {k: self.records[k] for k in sorted(self.records, key=int) if not self.records[k]["archivedAt"]}

    def sent(self, part: str) -> list[Request]:
        """The requests whose `METHOD /path` holds a text."""
        return [each for each in self.requests if part in f"{each.method} {each.path}"]

    # -- what the API does

    def answer(self, request: Request) -> Reply:
        """The reply to a request."""
        with self.lock:
            self.requests.append(request)
            scripted = self.script(request)
            if scripted is not None:
                return scripted
            if request.headers.get("authorization") != f"Bearer {TOKEN}":
                return error(401, "Authentication credentials not found", "INVALID_AUTHENTICATION")
            reply = self._route(request)
            self.after_page(request)
            return reply

    def _route(self, request: Request) -> Reply:
        parts = request.path.strip("/").split("/")
        if parts[:3] == ["crm", "v3", "properties"]:
            return Reply(200, {"results": [{"name": n, **p} for n, p in self.properties.items()]})
        if request.method == "GET":
            return self._list(request)
        actions = {"search": self._search, "read": self._read, "create": self._create, "update": self._update}
        return (self._archive if parts[-1] == "archive" else actions[parts[-1]])(request)

    def _shown(self, key: str, names: list[str]) -> dict[str, Any]:
        record = self.records[key]
        properties = {n: record["properties"].get(n) for n in names if n in self.properties}
        shown = {"id": key, "properties": properties, "archived": bool(record["archivedAt"])}
        if record["archivedAt"]:
            shown["archivedAt"] = record["archivedAt"]
        return {**shown, "updatedAt": record["properties"]["lastmodifieddate"]}

    def _list(self, request: Request) -> Reply:
        archived = request.query.get("archived") == "true"
        keys = [k for k in sorted(self.records, key=int) if bool(self.records[k]["archivedAt"]) is archived]
        after = int(request.query.get("after") or 0)
        keys = [k for k in keys if int(k) >= after]
        limit = int(request.query["limit"])
        names = (request.query.get("properties") or "createdate").split(",")
        body: dict[str, Any] = {"results": [self._shown(k, names) for k in keys[:limit]]}
        if len(keys) > limit:
            body["paging"] = {"next": {"after": str(int(keys[limit - 1]) + 1)}}
        headers = {
            "X-HubSpot-RateLimit-Max": "190",
            "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
            "X-HubSpot-RateLimit-Remaining": "180",
        }
        return Reply(200, body, headers)

    def _search(self, request: Request) -> Reply:
        body = request.body
        matching = [
            key
            for key, entry in self.indexed.items()
            if any(all(_holds(f, entry) for f in g["filters"]) for g in body["filterGroups"])
        ]
        by = body["sorts"][0]["propertyName"]
        matching.sort(key=lambda k: int(k) if by == "hs_object_id" else str(self.indexed[k].get(by)))
        offset, limit = int(body.get("after") or 0), int(body["limit"])
        if offset + limit > 10_000:
            return error(400, "The maximum offset is 10000")
        window = matching[offset : offset + limit]
        alive = [k for k in window if k in self.records and not self.records[k]["archivedAt"]]
        answered: dict[str, Any] = {
            "total": len(matching),
            "results": [self._shown(k, body["properties"]) for k in alive],
        }
        if offset + limit < len(matching):
            answered["paging"] = {"next": {"after": str(offset + limit)}}
        return Reply(200, answered)

    def _read(self, request: Request) -> Reply:
        by = request.body.get("idProperty") or "hs_object_id"
        results, errors = [], []
        for each in request.body["inputs"]:
            wanted = each["id"].lower()
            key = next((k for k, r in self.live().items() if str(r["properties"].get(by)).lower() == wanted), None)
            if key is None:
                errors.append({"status": "error", "category": "OBJECT_NOT_FOUND", "context": {"ids": [each["id"]]}})
            else:
                results.append(self._shown(key, request.body["properties"]))
        body: dict[str, Any] = {"status": "COMPLETE", "results": results[::-1]}
        return Reply(207, {**body, "numErrors": len(errors), "errors": errors}) if errors else Reply(200, body)

    def _faulty(self, properties: dict[str, str], key: str | None) -> Reply | None:
        for name, value in properties.items():
            if name not in self.properties:
                why = {"message": f'Property "{name}" does not exist', "error": "PROPERTY_DOESNT_EXIST", "name": name}
                return error(400, "Property values were not valid: " + json.dumps([why]))
            if name == "age" and value and not value.lstrip("-").replace(".", "", 1).isdigit():
                why = {"message": f'"{value}" was not a valid number.', "error": "INVALID_INTEGER", "name": "age"}
                return error(400, "Property values were not valid: " + json.dumps([why]))
        email = (properties.get("email") or "").lower()
        other = next((k for k, r in self.live().items() if email and r["properties"].get("email") == email), None)
        if other is not None and other != key:
            return error(409, f"Contact already exists. Existing ID: {other}", "CONFLICT")
        return None

    def _create(self, request: Request) -> Reply:
        return self._batch(request, lambda each: None, lambda each: self.add(**each["properties"]))

    def _update(self, request: Request) -> Reply:
        def write(each: dict[str, Any]) -> str:
            sent = dict(each["properties"])
            order = ["", *(option["value"] for option in self.properties["lifecyclestage"]["options"])]
            now, stage = self.records[each["id"]]["properties"].get("lifecyclestage") or "", sent.get("lifecyclestage")
            if stage and (self.stage_stuck or order.index(stage) < order.index(now)):
                del sent["lifecyclestage"]  # taken and ignored: a stage moves back only from empty
            self.touch(each["id"], **sent)
            return str(each["id"])

        def gone(each: dict[str, Any]) -> Reply | None:
            known = each["id"] in self.live()
            return None if known else error(404, f"No object {each['id']}", "OBJECT_NOT_FOUND")

        return self._batch(request, gone, write)

    def _batch(self, request: Request, first: Callable[..., Reply | None], write: Callable[..., str]) -> Reply:
        bad: list[tuple[dict[str, Any], Reply]] = []
        good: list[dict[str, Any]] = []
        for each in request.body["inputs"]:
            fault = first(each) or self._faulty(each["properties"], each.get("id"))
            bad += [(each, fault)] if fault else []
            good += [] if fault else [each]
        if bad and not (self.multi_status and good):
            return bad[0][1]
        results = []
        for each in good:
            shown = self._shown(write(each), [*each["properties"], "lastmodifieddate"])
            results.append(
                {**shown, **({"objectWriteTraceId": each["objectWriteTraceId"]} if self.traced_results else {})}
            )
        errors = [{**f.body, "context": {"objectWriteTraceId": [each["objectWriteTraceId"]]}} for each, f in bad]
        body: dict[str, Any] = {"status": "COMPLETE", "results": results[::-1]}
        return Reply(207, {**body, "numErrors": len(errors), "errors": errors}) if errors else Reply(201, body)

    def _archive(self, request: Request) -> Reply:
        for each in request.body["inputs"]:
            if each["id"] in self.records:
                self.archive(each["id"], self.now)
        return Reply(204)


def iso(milliseconds: int) -> str:
    """The time as HubSpot writes it."""
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@lru_cache(maxsize=64)
def _milliseconds(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp() * 1000


def _holds(condition: dict[str, Any], entry: dict[str, Any]) -> bool:
    value = entry.get(condition["propertyName"])
    if value is None:
        return False
    if condition["operator"] == "IN":
        return str(value).lower() in condition["values"]
    number = float(value) if str(value).isdigit() else _milliseconds(value)
    bound = float(condition["value"])
    return number >= bound if condition["operator"] == "GTE" else number > bound


@contextmanager
def serving(portal: Portal) -> Iterator[Portal]:
    """The account, reachable at `portal.url` while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length)
            parts = urlsplit(self.path)
            is_json = raw and "json" in (self.headers.get("Content-Type") or "")
            request = Request(
                method=self.command,
                path=parts.path,
                query={name: values[-1] for name, values in parse_qs(parts.query).items()},
                body=json.loads(raw) if is_json else raw.decode(),
                headers={name.lower(): value for name, value in self.headers.items()},
            )
            reply = portal.answer(request)
            if reply.drop:
                self.close_connection = True
                return
            body = b"" if reply.body is None else json.dumps(reply.body).encode()
            self.send_response_only(reply.status)
            for name, value in ({"Date": self.date_time_string()} | reply.headers).items():
                self.send_header(name, value)
            if body:
                self.send_header("Content-Type", "application/json;charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _serve  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    portal.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield portal
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
