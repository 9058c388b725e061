"""A vendor request as a simulator sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response

from sync_platform.sandbox.faults import Fault
from sync_platform.sandbox.request_log import Effect, Entry

if TYPE_CHECKING:
    from sync_platform.sandbox.kit import World


class JSONResponse(Response):
    """A JSON answer, encoded by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body."""
        return orjson.dumps(content)


class Call:
    """One vendor request. `path` is below /<system>; `root` is the URL of /<system> as the client sees it."""

    def __init__(
        self,
        *,
        world: World,
        system: str,
        entry: Entry,
        method: str,
        path: str,
        query_string: str,
        headers: Headers,
        body: bytes,
        root: str,
    ) -> None:
        self.world = world
        self.system = system
        self.entry = entry
        self.method = method
        self.path = path
        self.query_string = query_string
        self.headers = headers
        self.body = body
        self.root = root  # e.g. http://127.0.0.1:8900/hubspot
        self.query: dict[str, str] = dict(parse_qsl(query_string, keep_blank_values=True))
        self.stale_ms = 0  # set by fault("stale_index")

    def query_list(self, name: str) -> list[str]:
        """Every value of a repeated query parameter."""
        return [v for k, v in parse_qsl(self.query_string, keep_blank_values=True) if k == name]

    def json(self) -> Any:
        """The body as JSON. Raises ValueError when it is not."""
        return orjson.loads(self.body)

    def form(self) -> dict[str, str]:
        """The body as a form (application/x-www-form-urlencoded)."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    @property
    def bearer(self) -> str | None:
        """The token of `Authorization: Bearer …`."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None

    def effect(self, stream: str, id: str | None, op: str, applied: bool = True) -> None:
        """Reports to the log what this request did to one record.

        op: create | update | delete | noop (accepted, but no value differs). applied: the vendor took
        it. A refused item of a batch is reported too, with applied=False (id None if it has none).
        """
        self.entry.records.append(Effect(stream, id, op, applied))

    def violation(self, reason: str) -> None:
        """Lists this request under `violations`: the vendor would refuse it, or it is not built.

        For what is wrong with the *request* (unknown field, bad grammar, too many items). Not for what
        any correct client may meet: expired tokens, rate limits, missing records, refused values.
        """
        self.world.log.violate(self.entry, reason)

    def fault(self, kind: str) -> Fault | None:
        """Takes a fault that only the handler can act out, if one is due for this request.

        "partial": refuse half of this batch. "stale_index": answer this search as of
        `fault.seconds` ago. Call it once, at the moment it matters: a hit is counted.
        """
        fault = self.world.faults.take(self.system, self.method, self.path, {kind}, self.world.chance)
        if fault is not None:
            self.entry.fault = fault.kind
        return fault
