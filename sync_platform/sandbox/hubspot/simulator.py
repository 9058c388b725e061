"""The HubSpot simulator: routes, tokens, limits, and the control API's view of the records.

Built from the published API reference (https://developers.hubspot.com/docs/api-reference) and recorded traffic.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from starlette.responses import Response

from sync_platform.sandbox.hubspot import batch_api, oauth_api, objects_api, people, properties_api
from sync_platform.sandbox.hubspot.exchange import DATED, Answer, Exchange
from sync_platform.sandbox.hubspot.habits import HABITS
from sync_platform.sandbox.hubspot.limits import Limits
from sync_platform.sandbox.hubspot.objects import KINDS, object_kind
from sync_platform.sandbox.hubspot.records import Records
from sync_platform.sandbox.hubspot.refusals import PORTAL_ID, RefusedError, not_built
from sync_platform.sandbox.hubspot.tokens import (
    APP_ID,
    CLIENT_ID,
    CLIENT_SECRET,
    CODE,
    DEVELOPER_KEY,
    LIMITED_TOKEN,
    PRIVATE_TOKEN,
    REFRESH_TOKEN,
    Tokens,
)
from sync_platform.sandbox.hubspot.webhooks import HubSpotDialect
from sync_platform.sandbox.hubspot.webhooks_api import VERSIONS, AppWebhooks
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

#: Record ids start below 1000, so that sorting them as text goes wrong early.
FIRST_ID = 941


class HubSpotSimulator(Simulator):
    """HubSpot CRM: contacts, companies, deals, tickets and line items."""

    system = "hubspot"
    streams = tuple(KINDS)
    habits: ClassVar = HABITS

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._chance = random.Random(f"{world.seed}/hubspot/tokens")
        self._ids = dict.fromkeys(self.streams, FIRST_ID)
        self.tokens = Tokens(self._chance)
        self.limits = Limits(self.habit)
        self.app_webhooks = AppWebhooks(self)
        self.records: dict[str, Records] = {name: Records(kind, self) for name, kind in KINDS.items()}

    # ---- vendor requests

    async def handle(self, call: Call) -> Response:
        """Answers a vendor request."""
        headers = {"X-HubSpot-Correlation-Id": self._correlation()}
        try:
            answer = self._answer(call, headers)
        except RefusedError as refusal:
            if refusal.violation:
                call.violation(refusal.message)
            body = refusal.body(headers["X-HubSpot-Correlation-Id"])
            return JSONResponse(body, refusal.status, headers)
        if isinstance(answer, Response):
            return answer
        if answer.content is None:
            return Response(status_code=answer.status, headers=headers)
        return JSONResponse(answer.content, answer.status, headers)

    def _answer(self, call: Call, headers: dict[str, str]) -> Answer | Response:
        parts = tuple(part for part in call.path.split("/") if part)
        if parts[:1] == ("oauth",):
            return self._oauth(call, parts[1:])
        if len(parts) > 2 and parts[0] == "webhooks" and parts[1] in VERSIONS:
            return self.app_webhooks.answer(call, parts[2:])
        now = self.world.now_ms()
        token = self.tokens.check(call.bearer, now)
        search = parts[-1:] == ("search",)
        rates, refused = self.limits.admit(token, search=search, now=now)
        headers.update(rates)
        if refused is not None:
            raise refused
        match parts:
            case ("crm", "v3", "objects", name, *rest):
                return self._objects(Exchange(
                    call=call, simulator=self, token=token, version="v3", records=self._of(name), rest=tuple(rest)
                ))  # fmt: skip
            case ("crm", "objects", version, name, *rest) if version in DATED:
                return self._objects(Exchange(
                    call=call, simulator=self, token=token, version=version, records=self._of(name), rest=tuple(rest)
                ))  # fmt: skip
            case ("crm", "v3", "properties", name, *rest):
                return properties_api.answer(Exchange(
                    call=call, simulator=self, token=token, version="v3", records=self._of(name), rest=tuple(rest)
                ))  # fmt: skip
            case ("crm", "properties", version, name, *rest) if version in DATED:
                return properties_api.answer(Exchange(
                    call=call, simulator=self, token=token, version=version, records=self._of(name), rest=tuple(rest)
                ))  # fmt: skip
            case ("account-info", "v3" | "2026-03" | "2026-09", "details") if call.method == "GET":
                return oauth_api.account()
        raise not_built(f"{call.method} {call.path}")

    def _objects(self, exchange: Exchange) -> Answer:
        if exchange.rest[:1] == ("batch",):
            return batch_api.answer(exchange)
        return objects_api.answer(exchange)

    def _of(self, name: str) -> Records:
        return self.records[object_kind(name).name]

    def _oauth(self, call: Call, parts: tuple[str, ...]) -> Answer | Response:
        match call.method, parts:
            case "GET", ("authorize",):
                return oauth_api.authorize(call, self.tokens)
            case "POST", (version, "token") if version in oauth_api.GRANTS:
                return oauth_api.token(call, version, self.tokens, self)
            case _, ("v1", *rest):
                return oauth_api.about(call, tuple(rest), self.tokens, self.world.now_ms())
        raise not_built(f"{call.method} {call.path}")

    def _correlation(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def error(self, status: int) -> Response:
        """The vendor's own answer of a fault."""
        correlation = self._correlation()
        if status == 429:
            extra = {"errorType": "RATE_LIMIT", "policyName": "TEN_SECONDLY_ROLLING"}
            message = "You have reached your ten_secondly_rolling limit."
            refusal = RefusedError(429, message, category="RATE_LIMITS", extra=extra)
        elif status == 503:
            refusal = RefusedError(503, "Service unavailable. Please try again later.", category=None)
        else:
            refusal = RefusedError(status, "internal error", category=None)
        return JSONResponse(refusal.body(correlation), status, {"X-HubSpot-Correlation-Id": correlation})

    def expire_tokens(self) -> None:
        """Ends every OAuth access token; private-app tokens do not expire at the vendor either."""
        self.tokens.expire(self.world.now_ms())

    def env(self, root: str) -> dict[str, str]:
        """Base URL and credentials. `HUBSPOT_LIMITED_ACCESS_TOKEN` may only read contacts."""
        return {
            "HUBSPOT_BASE_URL": root,
            "HUBSPOT_ACCESS_TOKEN": PRIVATE_TOKEN,
            "HUBSPOT_LIMITED_ACCESS_TOKEN": LIMITED_TOKEN,
            "HUBSPOT_CLIENT_ID": CLIENT_ID,
            "HUBSPOT_CLIENT_SECRET": CLIENT_SECRET,
            "HUBSPOT_REFRESH_TOKEN": REFRESH_TOKEN,
            "HUBSPOT_AUTHORIZATION_CODE": CODE,
            "HUBSPOT_PORTAL_ID": str(PORTAL_ID),
            "HUBSPOT_APP_ID": str(APP_ID),
            "HUBSPOT_DEVELOPER_API_KEY": DEVELOPER_KEY,
        }

    def dialect(self) -> HubSpotDialect:
        """Signed JSON events."""
        return HubSpotDialect(self)

    def reset(self) -> None:
        """Forgets records, properties of the account, tokens and quotas."""
        super().reset()
        self._chance.seed(f"{self.world.seed}/hubspot/tokens")
        self._ids = dict.fromkeys(self.streams, FIRST_ID)
        self.tokens.reset()
        self.limits.reset()
        for records in self.records.values():
            records.clear()

    # ---- the control API

    def new_id(self, stream: str) -> str:
        """The next record id: ascending, with gaps."""
        self._ids[stream] += self.rng.randint(1, 3)
        return str(self._ids[stream])

    def create(self, stream: str, fields: Mapping[str, Any]) -> str:
        """Creates a record by hand."""
        records = self.records[self.store(stream).name]
        try:
            kept = {k: v for k, v in records.changes(fields, None, by_hand=True).items() if v is not None}
            return records.create(kept, source="CRM_UI").id
        except RefusedError as refusal:
            raise _by_hand(refusal) from None

    def update(self, stream: str, id: str, fields: Mapping[str, Any]) -> None:
        """Changes a record by hand; null clears, and a lifecycle stage may move back."""
        records = self.records[self.store(stream).name]
        record = self._live(records, id)
        try:
            records.update(record, records.changes(fields, record, by_hand=True))
        except RefusedError as refusal:
            raise _by_hand(refusal) from None

    def delete(self, stream: str, id: str) -> None:
        """Archives a record."""
        records = self.records[self.store(stream).name]
        records.archive(self._live(records, id))

    def restore(self, stream: str, id: str) -> None:
        """Takes a record back from the archive."""
        records = self.records[self.store(stream).name]
        try:
            records.restore(self._live(records, id, archived=True))
        except RefusedError as refusal:
            raise _by_hand(refusal) from None

    def merge(self, stream: str, survivor: str, merged: Sequence[str]) -> str:
        """Merges records into another, one after the other as the vendor's page does."""
        records = self.records[self.store(stream).name]
        kept, losers = self._live(records, survivor), [self._live(records, id) for id in merged]
        if len({kept.id, *(record.id for record in losers)}) <= len(losers):
            raise SandboxError("a record cannot be merged with itself", "merged")
        for loser in losers:
            kept = records.merge(kept, loser)
        return kept.id

    def _live(self, records: Records, id: str, *, archived: bool = False) -> Record:
        record = records.by_id(id, archived=archived)
        if record is None:
            raise SandboxError(f"hubspot/{records.kind.name} has no record {id!r}", "id", 404)
        return record

    def seed_fields(self, stream: str, person: Person, rng: random.Random) -> Fields:
        """A seeded record's fields."""
        return people.seed_fields(stream, person, rng)

    def seed_ties(self, stream: str) -> int:
        """Records written by one batch share their stamp."""
        return 4

    def store_seeded(self, stream: str, row: SeedRow, fields: Fields) -> str:
        """Stores a seeded record. A duplicate keeps its address as typed: data older than the vendor's rules."""
        if row.kind == "duplicate" and "email" in fields:
            fields["email"] = row.person.email
        return self.records[stream].adopt(fields, created_at=row.created_at, updated_at=row.stamped_at).id

    def invalid_value(self, stream: str, field: str) -> Any:
        """A value from before the vendor validated it."""
        kind = self.records[stream].properties.by_name[field].type
        return super().invalid_value(stream, field) if kind == "string" else "legacy"

    def field_names(self, stream: str) -> frozenset[str]:
        """Every property of the object."""
        return frozenset(self.records[stream].properties.by_name)

    def view(self, stream: str, record: Record) -> Mapping[str, Any]:
        """The record's properties: strings, and null for the usual ones that are empty."""
        records = self.records[stream]
        shown = records.show(record, dict.fromkeys([*records.kind.core, *record.fields]))
        values: dict[str, Any] = shown["properties"]
        return values


def _by_hand(refusal: RefusedError) -> SandboxError:
    name = next(
        (e["context"]["propertyName"][0] for e in refusal.errors if "propertyName" in e.get("context", {})), "fields"
    )
    return SandboxError(refusal.message, str(name), 409 if refusal.status == 409 else 400)
