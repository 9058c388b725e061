"""One request below /services/data/vNN.0, and its answer; sub-requests of a composite are such too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from starlette.responses import Response

from sync_platform.sandbox.kit import Call
from sync_platform.sandbox.salesforce.refusals import SalesforceError, bad_json

NOTHING: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """`parts` is the path below the version; `base` is /services/data/vNN.0 with the sandbox's prefix."""

    call: Call
    method: str
    version: int
    parts: tuple[str, ...]
    query: Mapping[str, str]
    base: str
    payload: Any = field(default=NOTHING)  # a composite's sub-request brings its body decoded
    body: bytes = b""

    def json(self) -> Any:
        """The decoded body. Raises JSON_PARSER_ERROR."""
        if self.payload is not NOTHING:
            return self.payload
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise bad_json(f"The HTTP entity body is required to be JSON: {error}") from None

    def document(self) -> dict[str, Any]:
        """The body as a JSON object."""
        found = self.json()
        if not isinstance(found, dict):
            raise bad_json("Can not deserialize instance of an object from START_ARRAY value")
        return found

    def flag(self, name: str) -> bool:
        """A query parameter that is true or false (default)."""
        return self.query.get(name, "false").lower() == "true"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status with a JSON body (None: no body) or a whole response (`raw`)."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: Response | None = None


def not_allowed(ask: Ask) -> SalesforceError:
    """405 METHOD_NOT_ALLOWED."""
    message = f"HTTP Method '{ask.method}' not allowed. Allowed are others"
    return SalesforceError(405, "METHOD_NOT_ALLOWED", message, violation=True)
