"""Bodies of HTTP calls: bytes out, JSON in, and a download that knows whether it is whole."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import orjson
import requests
import urllib3

from sync_platform.errors import ContractError, TransientError


class HalfAnswer(Exception):
    """The answer ended early or cannot be read; the text says how. Never leaves `http`."""


def encode(value: Any, form: Mapping[str, str] | None, content: bytes | None) -> tuple[bytes | None, str | None]:
    """The bytes of a request body and their content type; at most one of the three is given."""
    if content is not None:
        return content, None
    if form is not None:
        return urlencode(form).encode(), "application/x-www-form-urlencoded"
    if value is not None:
        return dump(value), "application/json"
    return None, None


def dump(value: Any) -> bytes:
    """JSON bytes; Decimals as exact numbers, times as RFC 3339. What JSON cannot hold is a ContractError."""
    try:
        return orjson.dumps(value, default=_number, option=orjson.OPT_UTC_Z)
    except TypeError as wrong:
        raise ContractError(f"a value cannot be written as JSON: {wrong}") from None


def _number(value: Any) -> Any:
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(format(value, "f").encode())
    raise TypeError(f"{type(value).__name__} {value!r}")


def parse(body: bytes, content_type: str, *, exact: bool, strict: bool) -> Any:
    """The JSON value of a body, None for an empty one.

    Not strict (error answers): what is not JSON is None. Strict: a body that looks like JSON and cannot be
    parsed raises HalfAnswer, anything else ContractError. `exact` gives numbers with a point as Decimal.
    """
    if not body.strip():
        return None
    try:
        return json.loads(body, parse_float=Decimal) if exact else orjson.loads(body)
    except ValueError:
        if not strict:
            return None
        if "json" in content_type.lower() or body.lstrip()[:1] in (b"{", b"["):
            raise HalfAnswer(f"JSON that breaks off after {len(body)} bytes") from None
        shown = body[:80].decode("utf-8", "replace")
        raise ContractError(
            f"answered {content_type or 'something'} instead of JSON: {shown!r}",
            mend="check base_url: this is usually a login page, a proxy or another service",
        ) from None


class Download(io.RawIOBase):
    """The decompressed body of a streamed answer as a file. A body that ends early raises TransientError."""

    def __init__(self, answer: requests.Response, where: str) -> None:
        self._raw: urllib3.response.BaseHTTPResponse = answer.raw
        self._where = where

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer; 0 at the proven end."""
        try:
            data = self._raw.read(len(buffer), decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as broken:
            raise TransientError(f"{self._where}: the download broke off ({type(broken).__name__})") from None
        buffer[: len(data)] = data
        return len(data)
