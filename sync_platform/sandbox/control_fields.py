"""Fields of a control request, read with care: what does not fit raises SandboxError naming the field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

from sync_platform.sandbox.kit import SandboxError

Body = dict[str, Any]


def decode(body: bytes) -> Any:
    """The body as JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SandboxError(f"the body is not JSON: {error}", "body") from None


def only(body: Mapping[str, Any], known: set[str], prefix: str = "") -> None:
    """Refuses other keys than `known`."""
    for key in body:
        if key not in known:
            raise SandboxError(f"unknown key {key!r}; known: {', '.join(sorted(known)) or 'none'}", prefix + key)


def text(body: Body, key: str) -> str:
    """A text that is not empty."""
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise SandboxError(f"{key} must be a text, not {value!r}", key)
    return value


def number(body: Body, key: str, prefix: str = "") -> float:
    """A finite number."""
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SandboxError(f"{key} must be a number, not {value!r}", prefix + key)
    return value


def count(body: Body, key: str, default: int | None = None, prefix: str = "") -> int:
    """A whole number, not negative."""
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SandboxError(f"{key} must be a whole number of at least 0, not {value!r}", prefix + key)
    return value


def counts(options: Body, key: str) -> dict[str, int]:
    """An object of counts; absent: empty."""
    value = options.get(key, {})
    if not isinstance(value, dict):
        raise SandboxError(f"{key} must be an object of field: count", f"options.{key}")
    return {name: count(value, name, None, f"options.{key}.") for name in value}
