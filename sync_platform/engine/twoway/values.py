"""Values of either side as JSON, the form in which bases are kept and compared.

Null, empty text and absent are three things: null is `None`, empty text is `''` (null where the vendor keeps no
difference between them), and an absent field is not in the record at all.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


def told(value: Any, *, empty_is_null: bool) -> Any:
    """A value as JSON, the same for equal values: times in UTC, decimals without trailing zeros."""
    if isinstance(value, str):
        return None if value == "" and empty_is_null else value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return str(value) if math.isnan(value) or math.isinf(value) else value
    if isinstance(value, Decimal):
        return format(value.normalize(), "f") if value.is_finite() else str(value)
    if isinstance(value, dt.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        return aware.astimezone(dt.UTC).isoformat(timespec="microseconds")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(k): told(v, empty_is_null=empty_is_null) for k, v in value.items()}
    if isinstance(value, Iterable):
        return [told(one, empty_is_null=empty_is_null) for one in value]
    return str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparing:
    """How one side compares its values: `folded` fields without regard to case."""

    empty_is_null: bool = True
    folded: Collection[str] = ()

    def told(self, record: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
        """The fields that are not absent, as JSON."""
        return {name: told(record[name], empty_is_null=self.empty_is_null) for name in fields if name in record}

    def equal(self, name: str, one: Any, other: Any) -> bool:
        """Whether two values are the same to this side."""
        one, other = (told(v, empty_is_null=self.empty_is_null) for v in (one, other))
        if name in self.folded and isinstance(one, str) and isinstance(other, str):
            return one.casefold() == other.casefold()
        return bool(one == other and type(one is None) is type(other is None) and _kind(one) == _kind(other))


def _kind(value: Any) -> str:
    """Numbers are one kind; true is not 1."""
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__
