"""The organization: who may ask, which resource answers, and how people edit its records."""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from starlette.responses import Response

from sync_platform.sandbox.kit import (
    Call,
    Fields,
    JSONResponse,
    Person,
    Record,
    SandboxError,
    SeedRow,
    Simulator,
    World,
)
from sync_platform.sandbox.salesforce import bulk, composite, ids, merging, query, seeds, soap, sobjects
from sync_platform.sandbox.salesforce.ask import Answer, Ask, not_allowed
from sync_platform.sandbox.salesforce.auth import CLIENT_ID, CLIENT_SECRET, ORG_ID, REFRESH_TOKEN, USERNAME, Sessions
from sync_platform.sandbox.salesforce.habits import HABITS
from sync_platform.sandbox.salesforce.metadata import TEXT, FieldDef, ObjectDef
from sync_platform.sandbox.salesforce.objects import OBJECTS
from sync_platform.sandbox.salesforce.outbound import OutboundDialect
from sync_platform.sandbox.salesforce.records import Writer, check_types
from sync_platform.sandbox.salesforce.refusals import SalesforceError, UnbuiltError, not_found
from sync_platform.sandbox.salesforce.rows import Getter, Reader, rest_datetime
from sync_platform.sandbox.salesforce.soql_run import Context
from sync_platform.sandbox.salesforce.usage import Usage

OLDEST_VERSION: Final = 31  # 21 to 30 are gone since Summer '25 (REST API Developer Guide, "API End-of-Life")
NEWEST_VERSION: Final = 68
_VERSION: Final = re.compile(r"v(\d+)\.0")
_RESOURCES: Final = frozenset(
    {
        "tooling", "metadata", "eclair", "folders", "chatter", "payments", "tabs", "appMenu", "quickActions", "search",
        "parameterizedSearch", "theme", "wave", "iot", "analytics", "smartdatadiscovery", "recent", "process",
        "licensing", "compactLayouts", "knowledgeManagement", "actions", "support", "event", "ui-api", "connect",
        "graphql", "asyncQueries", "consent", "dedupe", "localizedvalue",
    }
)  # fmt: skip


class SalesforceSimulator(Simulator):
    """One Salesforce organization."""

    system = "salesforce"
    streams = ("Lead", "Contact", "Account", "Opportunity", "Campaign", "User")
    habits = HABITS

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._numbers: dict[str, int] = {}
        self._accounts: list[str] = []
        self.moment: int | None = None  # the stamp of the transaction under way
        self.user_id = ""
        self.sessions = Sessions(self)
        self.usage = Usage(self)
        self.reader = Reader(self.stores, lambda: self.user_id)
        self.writer = Writer(self)
        self.queries = query.Queries(self)
        self.jobs = bulk.Jobs(self)
        self._views: dict[str, tuple[Fields, list[tuple[str, Getter]]]] = {}
        self._found()

    def reset(self) -> None:
        """Back to an organization with nothing but its integration user."""
        super().reset()
        self._numbers.clear()
        self._accounts = []
        self.sessions.clear()
        self.usage.clear()
        self.queries.clear()
        self.jobs.clear()
        self._found()

    def _found(self) -> None:
        self.user_id = self.new_id("User")
        fields: Fields = {
            "Username": USERNAME, "FirstName": "Integration", "LastName": "User", "Email": USERNAME, "Alias": "integ",
            "IsActive": True, "TimeZoneSidKey": "America/Los_Angeles", "LastModifiedDate": 1_600_000_000_000,
        }  # fmt: skip
        self.store("User").insert(self.user_id, fields, created_at=1_600_000_000_000, stored_at=1_600_000_000_000)

    # ---- what the parts ask

    def new_id(self, stream: str) -> str:
        """The next id of an object."""
        return self.next_id(OBJECTS[stream].prefix)

    def next_id(self, prefix: str) -> str:
        """The next id with a key prefix (750 jobs, 01g query cursors)."""
        number = self._numbers[prefix] = self._numbers.get(prefix, 0) + 1
        return ids.make_id(prefix, number)

    def write_moment(self) -> int:
        """The stamp of what is written now."""
        moment = self.world.now_ms() if self.moment is None else self.moment
        return moment // 1000 * 1000 if self.on("whole_second_stamps") else moment

    def hidden(self) -> dict[str, frozenset[str]]:
        """Fields the integration user may not see, by object."""
        names = self.value("hidden_fields") if self.on("hidden_fields") else []
        return {
            target: frozenset(n.partition(".")[2] for n in names if n.partition(".")[0] == target) for target in OBJECTS
        }

    def is_hidden(self, target: ObjectDef, field: FieldDef) -> bool:
        """Whether field-level security hides a field."""
        return self.on("hidden_fields") and f"{target.name}.{field.name}" in self.value("hidden_fields")

    def context(self) -> Context:
        """What a statement is run against."""
        zone = self.value("user_time_zone") if self.on("user_time_zone") else "UTC"
        return Context(self.reader, self.world.now_ms(), ZoneInfo(zone), self.hidden())

    def account_ids(self) -> list[str]:
        """Ids of all accounts, for seeding children."""
        store = self.stores["Account"]
        if len(self._accounts) != len(store):
            self._accounts = list(store.records)
        return self._accounts

    def in_bin(self, record: Record) -> bool:
        """Whether a deleted record can still be read by queryAll."""
        if not self.on("recycle_bin_days") or record.deleted_at is None:
            return True
        return record.deleted_at > self.world.now_ms() - int(self.value("recycle_bin_days")) * 86_400_000

    # ---- requests

    async def handle(self, call: Call) -> Response:
        """Answers a vendor request."""
        self.moment = None
        try:
            return self._compressed(call, self._answer(call))
        except SalesforceError as error:
            if error.violation:
                call.violation(f"{error.code}: {error.message.strip().splitlines()[-1]}")
            return JSONResponse(error.to_rest(), error.status)
        except UnbuiltError as error:
            return self.unbuilt(call, str(error))

    def _answer(self, call: Call) -> Response:
        path = call.path
        if path.startswith("/services/oauth2/"):
            return self.sessions.answer(call)
        if path.startswith("/id/"):
            self.sessions.check(call)
            return JSONResponse(self.sessions.identity(call))
        if path.startswith("/services/Soap/"):
            self.usage.count()
            return soap.answer(self, call)
        parts = tuple(part for part in path.split("/") if part)
        if parts[:2] != ("services", "data"):
            return self.unbuilt(call)
        prefix = urlsplit(call.root).path
        if len(parts) == 2:
            return JSONResponse(_versions(prefix))
        version = _version(parts[2])
        self.sessions.check(call)
        self.usage.count()
        if self.on("uri_bytes") and len(call.query_string) + len(path) > self.value("uri_bytes"):
            raise SalesforceError(414, "URI_TOO_LONG", "The URI is longer than the limit", violation=True)
        method = call.query.get("_HttpMethod", call.method).upper()
        ask = Ask(
            call=call, method=method, version=version, parts=parts[3:], query=call.query,
            base=f"{prefix}/services/data/{parts[2]}", body=_unzipped(call),
        )  # fmt: skip
        answer = self.dispatch(ask)
        response = answer.raw
        if response is None and answer.body is None:
            response = Response(status_code=answer.status)
        elif response is None:
            response = JSONResponse(answer.body, answer.status)
        response.headers.update(answer.headers)
        response.headers["Sforce-Limit-Info"] = self.usage.gauge()
        return response

    def dispatch(self, ask: Ask) -> Answer:
        """The answer of a resource below the version. Raises SalesforceError and UnbuiltError."""
        head = ask.parts[0] if ask.parts else ""
        if head in ("query", "queryAll"):
            return self.queries.answer(ask)
        if head == "sobjects":
            return sobjects.answer(self, ask)
        if head == "composite":
            return composite.answer(self, ask)
        if head == "jobs":
            return self.jobs.answer(ask)
        if head in ("", "limits"):
            if ask.method != "GET":
                raise not_allowed(ask)
            if head:
                return Answer(200, self.usage.limits())
            names = ("sobjects", "query", "queryAll", "composite", "jobs", "limits")
            return Answer(200, {name: f"{ask.base}/{name}" for name in names})
        if head in _RESOURCES:
            raise UnbuiltError(f"the resource {head} is not built")
        raise not_found(violation=True)

    def _compressed(self, call: Call, response: Response) -> Response:
        body = response.body
        if (
            "gzip" not in call.headers.get("accept-encoding", "")
            or len(body) < 1024
            or "content-encoding" in response.headers
        ):
            return response
        response.body = gzip.compress(bytes(body), 1, mtime=0)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Length"] = str(len(response.body))
        return response

    # ---- faults

    def error(self, status: int) -> Response:
        """The vendor's own shape of a 429, 500 or 503."""
        known = {
            429: ("REQUEST_LIMIT_EXCEEDED", "Too many requests"),
            500: (
                "UNKNOWN_EXCEPTION",
                "An unexpected error occurred. Please include this ErrorId if you contact support",
            ),
            503: ("SERVER_UNAVAILABLE", "Server is too busy, please retry later"),
        }
        code, message = known[status]
        return JSONResponse(SalesforceError(status, code, message).to_rest(), status)

    def expire_tokens(self) -> None:
        """Ends every session."""
        self.sessions.expire()

    def env(self, root: str) -> dict[str, str]:
        """Base URL and credentials."""
        return {
            "SALESFORCE_BASE_URL": root,
            "SALESFORCE_CLIENT_ID": CLIENT_ID,
            "SALESFORCE_CLIENT_SECRET": CLIENT_SECRET,
            "SALESFORCE_REFRESH_TOKEN": REFRESH_TOKEN,
            "SALESFORCE_ORGANIZATION_ID": ORG_ID,
        }

    def dialect(self) -> OutboundDialect:
        """SOAP messages."""
        return OutboundDialect(self)

    # ---- people and seeds

    def create(self, stream: str, fields: Mapping[str, Any]) -> str:
        """A person saves a new record."""
        return self._person(stream, None, fields)

    def update(self, stream: str, id: str, fields: Mapping[str, Any]) -> None:
        """A person changes a record."""
        self._person(stream, id, fields)

    def delete(self, stream: str, id: str) -> None:
        """A person deletes a record."""
        try:
            self.writer.delete(OBJECTS[stream], id)
        except SalesforceError as error:
            raise SandboxError(f"{error.code}: {error.message}", "id", 404) from None

    def merge(self, stream: str, survivor: str, merged: Sequence[str]) -> str:
        """A person merges records; blank fields of the survivor are filled from the others."""
        try:
            fill = self.on("merge_page_fills_blanks")
            return merging.merge(self, OBJECTS[stream], survivor, merged, {}, fill=fill).id
        except SalesforceError as error:
            named, status = ("survivor", 404) if error.status == 404 else ("merged", 400)
            raise SandboxError(f"{error.code}: {error.message}", named, status) from None

    def _person(self, stream: str, id: str | None, fields: Mapping[str, Any]) -> str:
        target = OBJECTS[stream]
        now = self.world.now_ms()
        late = self.on("late_commits") and self.rng.random() < 0.2
        self.moment = now - self.rng.randrange(0, int(self.value("late_commits")) * 1000 + 1) if late else now
        try:
            prepared = self.writer.prepare(target, fields)
            check_types(prepared)
            if id is None:
                return self.writer.create(target, prepared, allow_duplicates=True).id
            return self.writer.update(target, id, prepared).id
        except SalesforceError as error:
            named = error.fields[0] if error.fields else "id" if error.status == 404 else "fields"
            raise SandboxError(f"{error.code}: {error.message}", named, 404 if error.status == 404 else 400) from None
        finally:
            self.moment = None

    def field_names(self, stream: str) -> frozenset[str]:
        """Fields a seed may spoil."""
        return frozenset(f.name for f in OBJECTS[stream].fields.values() if f.createable)

    def invalid_value(self, stream: str, field: str) -> Any:
        """An unusable value that an old import could have left in a field."""
        kind = OBJECTS[stream].fields[field].type
        if kind not in TEXT:
            raise SandboxError(f"a {kind} field holds no invalid values", f"options.invalid.{field}")
        return super().invalid_value(stream, field)

    def seed_ties(self, stream: str) -> int:
        """Bulk loads leave runs of equal stamps."""
        return int(self.value("bulk_load_ties")) if self.on("bulk_load_ties") else 0

    def seed_fields(self, stream: str, person: Person, rng: random.Random) -> Fields:
        """A seeded record's fields."""
        return seeds.fields_of(self, stream, person, rng)

    def store_seeded(self, stream: str, row: SeedRow, fields: Fields) -> str:
        """Stores a seeded record as a data load with audit fields leaves it."""
        id = self.new_id(stream)
        step = 1000 if self.on("whole_second_stamps") else 1
        stamp = row.stamped_at // step * step
        fields["LastModifiedDate"] = row.changed_at // step * step
        self.store(stream).insert(
            id, fields, created_at=row.created_at // step * step, updated_at=stamp, stored_at=row.stamped_at
        )
        return id

    def view(self, stream: str, record: Record) -> Mapping[str, Any]:
        """Every field of a record, flat, as REST shows it (compound fields left out)."""
        if stream not in self._views:
            target = OBJECTS[stream]
            plain = {f.name: None for f in target.fields.values() if f.type != "address"}
            special = {"OwnerId", "CreatedById", "LastModifiedById"}
            computed = [
                (f.name, self.reader.getter(target, f))
                for f in target.fields.values()
                if f.type in ("datetime", "boolean", "id") or f.calculated or f.name in special or f.name == "Name"
            ]
            self._views[stream] = plain, computed
        plain, computed = self._views[stream]
        shown = {**plain, **record.fields, **{name: getter(record) for name, getter in computed}}
        for name in OBJECTS[stream].datetimes:
            if shown[name] is not None:
                shown[name] = rest_datetime(shown[name])
        return shown


def _versions(prefix: str) -> list[dict[str, str]]:
    seasons = ("Winter", "Spring", "Summer")
    found = []
    for number in range(OLDEST_VERSION, NEWEST_VERSION + 1):
        year, season = divmod(number - 32, 3)  # v32 is Winter '15
        label = f"{seasons[season]} '{15 + year}"
        version = f"{number}.0"
        found.append({"label": label, "url": f"{prefix}/services/data/v{version}", "version": version})
    return found


def _version(part: str) -> int:
    match = _VERSION.fullmatch(part)
    number = int(match.group(1)) if match else 0
    if 1 <= number < OLDEST_VERSION:
        message = f"The requested resource is no longer available: API version {number}.0 is retired"
        raise SalesforceError(410, "UNSUPPORTED_API_VERSION", message, violation=True)
    if not OLDEST_VERSION <= number <= NEWEST_VERSION:
        raise not_found(violation=True)
    return number


def _unzipped(call: Call) -> bytes:
    if call.headers.get("content-encoding", "").lower() != "gzip":
        return call.body
    try:
        return gzip.decompress(call.body)
    except (OSError, EOFError):
        raise SalesforceError(400, "UNKNOWN_EXCEPTION", "the body is not gzip", violation=True) from None
