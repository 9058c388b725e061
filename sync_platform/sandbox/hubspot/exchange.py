"""One request on its way through the simulator, and the answer to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sync_platform.sandbox.hubspot.records import Records
from sync_platform.sandbox.hubspot.refusals import RefusedError, bad_json, bad_request, not_built
from sync_platform.sandbox.hubspot.tokens import Token
from sync_platform.sandbox.kit import Call, Simulator

#: API versions of /crm/objects/{date}; the undated paths are "v3".
DATED = ("2026-03", "2026-09")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status and JSON content; content None: an empty body."""

    content: Any
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """An authenticated request to one object type. `rest`: the path below the object type."""

    call: Call
    simulator: Simulator
    token: Token
    version: str
    records: Records
    rest: tuple[str, ...]

    @property
    def path(self) -> str:
        """The path up to the object type, as paging links repeat it."""
        return self.call.path.removesuffix("/" + "/".join(self.rest)) if self.rest else self.call.path

    def effect(self, id: str | None, op: str, *, applied: bool = True) -> None:
        """Reports to the log what happened to one record."""
        self.call.effect(self.records.kind.name, id, op, applied)

    def may_read(self) -> None:
        """Raises RefusedError (403) without the scope to read this object."""
        self.token.require(self.records.kind.read_scope, self.records.kind.write_scope)

    def may_write(self) -> None:
        """Raises RefusedError (403) without the scope to write this object."""
        self.token.require(self.records.kind.write_scope)

    def only(self, *names: str) -> None:
        """Raises RefusedError (501) for other query parameters than these: their effect is not known here."""
        for name in self.call.query:
            if name not in names:
                raise not_built(f"query parameter {name} of {self.call.method} {self.call.path}")

    def names(self) -> tuple[str, ...] | None:
        """The `properties` parameter: repeated or comma-separated; None when absent."""
        if self.call.query.get("propertiesWithHistory"):
            raise not_built("propertiesWithHistory")
        given = [name.strip() for text in self.call.query_list("properties") for name in text.split(",")]
        return tuple(filter(None, given)) or None

    def flag(self, name: str) -> bool:
        """A boolean query parameter, false when absent."""
        text = self.call.query.get(name, "false").lower()
        if text not in ("true", "false"):
            raise bad_request(f"{name} must be true or false, got {text}")
        return text == "true"

    def body(self, *known: str, required: tuple[str, ...] = ()) -> dict[str, Any]:
        """The JSON object sent, with no other keys than `known`. Raises RefusedError (400, 415)."""
        kind = self.call.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RefusedError(
                415, f"Content type {kind or '(none)'} is not supported; send application/json", category=None
            )
        try:
            body = self.call.json()
        except ValueError as error:
            raise bad_json(str(error)) from None
        return fields_of(body, known, required)


def fields_of(body: object, known: tuple[str, ...], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """A JSON object with no other keys than `known` and all `required`. Raises RefusedError (400)."""
    if not isinstance(body, dict):
        raise bad_json(f"expected an object, got {type(body).__name__}")
    for name in body:
        if known and name not in known:
            raise bad_json(f'Unrecognized field "{name}", not marked as ignorable; known: {", ".join(known)}')
    for name in required:
        if body.get(name) is None:
            raise bad_request(f"Some required fields were not set: [{name}]")
    return body


def properties_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The `properties` of an input. Raises RefusedError (400)."""
    properties = body.get("properties")
    if not isinstance(properties, dict):
        raise bad_request("Some required fields were not set: [properties]")
    return properties
