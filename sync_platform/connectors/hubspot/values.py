"""Values between HubSpot's wire (strings and nulls) and ours (Arrow columns, Python values).

Decision: every property is staged as the string HubSpot answers. A property's type may be changed by
anyone in the account at any time, and a record keeps a value its property's new type could not hold;
typed columns would turn that into a failed load. Only the cursor is a timestamp, because positions
are computed with it. HubSpot does not tell a cleared value ("") from one that was never set (null):
both are staged as null.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import pyarrow as pa

from sync_platform.connectors.hubspot.properties import MOMENT
from sync_platform.connectors.hubspot.streams import KEY
from sync_platform.errors import ContractError, RecordError
from sync_platform.model import Record

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TRUE_FALSE: Final = frozenset({"true", "false"})


def wire_value(name: str, value: Any, kind: str = "") -> str:
    """The text HubSpot is sent for a value: "" clears, numbers without padding, ISO times in UTC.

    `kind` is HubSpot's type of the property, when known: text is then brought into the form HubSpot
    answers ("1500.0" -> "1500"). Raises RecordError for a value without a form there.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return _number(name, value)
    if isinstance(value, dt.datetime):
        return _moment(name, value, kind)
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return ";".join(wire_value(name, each) for each in value)
    if isinstance(value, str):
        return _text(name, value, kind)
    raise RecordError(
        f"{name} holds a {type(value).__name__}, which HubSpot has no form for",
        field=name,
        mend="map it to text, a number, a boolean, a date or a time",
    )


def _text(name: str, value: str, kind: str) -> str:
    if kind == "number":
        try:
            return _number(name, Decimal(value.strip()))
        except InvalidOperation:
            return value  # HubSpot says what is wrong with it
    if kind in ("bool", "boolean") and value.strip().lower() in _TRUE_FALSE:
        return value.strip().lower()
    if kind == "datetime" and not value.isdigit():
        try:
            parsed = dt.datetime.fromisoformat(value.strip())
        except ValueError:
            return value
        return _moment(name, parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.UTC), kind)
    return value


def _number(name: str, value: float | Decimal) -> str:
    exact = value if isinstance(value, Decimal) else Decimal(repr(value))
    if not exact.is_finite():
        raise RecordError(
            f"{name} is {value}, which is no number HubSpot can hold", field=name, mend="map it to null instead"
        )
    text = format(exact, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def _moment(name: str, value: dt.datetime, kind: str) -> str:
    if value.tzinfo is None:
        raise RecordError(f"{name} is a time without a zone", field=name, mend="give it one: x AT TIME ZONE 'UTC'")
    utc = value.astimezone(dt.UTC)
    if kind == "date" and utc.time() == dt.time(0):
        return utc.date().isoformat()
    precision = "milliseconds" if utc.microsecond else "seconds"
    return utc.isoformat(timespec=precision).replace("+00:00", "Z")


def milliseconds(moment: dt.datetime) -> int:
    """Whole milliseconds since the epoch, rounded down."""
    return (moment - _EPOCH) // dt.timedelta(milliseconds=1)


def moment_of(text: Any) -> dt.datetime | None:
    """The time a property or an object's `updatedAt` holds: ISO 8601 or milliseconds; None when empty."""
    if text is None or text == "":
        return None
    try:
        if isinstance(text, int) or str(text).isdigit():
            return _EPOCH + dt.timedelta(milliseconds=int(text))
        parsed = dt.datetime.fromisoformat(str(text))
    except (ValueError, OverflowError) as error:
        raise ContractError(f"hubspot answered {text!r} where a time was expected", value=text) from error
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.UTC)


def record_of(answer: Record, cursor: str | None) -> dict[str, Any]:
    """A record as one row: `id`, the answered properties (null for ""), the cursor as a time."""
    properties = answer.get("properties") or {}
    row: dict[str, Any] = {KEY: str(answer[KEY])}
    for name, value in properties.items():
        if name != KEY:
            row[name] = None if value is None or value == "" else str(value)
    if cursor is not None:
        row[cursor] = moment_of(properties.get(cursor) or answer.get("updatedAt"))
    return row


def tables(rows: Iterable[dict[str, Any]], wanted: Sequence[str], cursor: str | None) -> list[pa.Table]:
    """The rows as tables of `id`, the wanted properties and the cursor, one per set of answered properties.

    A property that was not answered (no permission to see it) is absent from its row's table: null
    would say that it is empty.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        names = tuple(name for name in (KEY, *wanted) if name in row)
        groups.setdefault(names, []).append(row)
    return [_table(names, members, cursor) for names, members in groups.items()]


def one_table(rows: Sequence[dict[str, Any]], wanted: Sequence[str], cursor: str | None) -> pa.Table:
    """The rows as one table; a wanted property that no row answered is absent."""
    answered = {name for row in rows for name in row} if rows else {KEY, *wanted}
    return _table(tuple(name for name in (KEY, *wanted) if name in answered), rows, cursor)


def _table(names: Sequence[str], rows: Sequence[dict[str, Any]], cursor: str | None) -> pa.Table:
    unique = dict.fromkeys(names)
    arrays = {
        name: pa.array([row.get(name) for row in rows], type=MOMENT if name == cursor else pa.string())
        for name in unique
    }
    return pa.table(arrays)
