"""Values as clients send them, turned into values as stored; what the vendor refuses raises SalesforceError.

Text is trimmed and '' is null (Help, "How Salesforce handles blanks"); instants become ms since the epoch.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final

from sync_platform.sandbox.salesforce import ids
from sync_platform.sandbox.salesforce.metadata import NUMBERS, TEXT, FieldDef
from sync_platform.sandbox.salesforce.refusals import SalesforceError, bad_json
from sync_platform.sandbox.salesforce.soql_dates import parse_datetime

_EMAIL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_DATETIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?")


def from_json(field: FieldDef, value: Any) -> Any:
    """A JSON value as stored; None is null. Raises JSON_PARSER_ERROR for the wrong JSON type."""
    if value is None:
        return None
    if field.type == "boolean":
        if not isinstance(value, bool):
            raise _wrong(field, value)
        return value
    if field.type in NUMBERS:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise _wrong(field, value)
        return _number(field, value)
    if not isinstance(value, str):
        raise _wrong(field, value)
    return from_text(field, value)


def from_text(field: FieldDef, text: str) -> Any:
    """A value given as text (CSV, or a JSON string) as stored; '' is null."""
    text = text.strip()
    if not text:
        return None
    if field.type == "boolean":
        low = text.lower()
        if low not in ("true", "false", "1", "0", "yes", "no"):
            raise SalesforceError(
                400, "INVALID_TYPE_ON_FIELD_IN_RECORD", f"{text} is not valid for the type xsd:boolean"
            )
        return low in ("true", "1", "yes")
    if field.type in NUMBERS:
        return _number(field, text)
    if field.type == "datetime":
        return _instant(field, text)
    if field.type == "date":
        try:
            return dt.date.fromisoformat(text[:10]).isoformat()
        except ValueError:
            raise _wrong(field, text) from None
    if field.type in ("reference", "id"):
        return _reference(field, text)
    return _text(field, text)


def _wrong(field: FieldDef, value: Any) -> SalesforceError:
    kinds = {
        bool: f"VALUE_{str(value).upper()}",
        int: "VALUE_NUMBER_INT",
        float: "VALUE_NUMBER_FLOAT",
        str: "VALUE_STRING",
        list: "START_ARRAY",
        dict: "START_OBJECT",
    }
    kind = "string" if field.type in TEXT else "double" if field.type in NUMBERS else field.type
    return bad_json(
        f"Cannot deserialize instance of {kind} from {kinds.get(type(value), 'VALUE')} value {value} or request may be "
        "missing a required field"
    )


def _number(field: FieldDef, value: float | str) -> float | int:
    try:
        number = float(value)
    except ValueError:
        raise _wrong(field, value) from None
    if number != number or number in (float("inf"), float("-inf")):
        raise _wrong(field, value)
    whole = 10 ** ((field.precision or 18) - field.scale)
    if abs(number) >= whole:
        raise SalesforceError(
            400,
            "NUMBER_OUTSIDE_VALID_RANGE",
            f"{field.label}: value outside of valid range on numeric field: {value}",
            fields=[field.name],
        )
    if field.type == "int":
        return int(number)
    return round(number, field.scale) if field.precision else number


def _instant(field: FieldDef, text: str) -> int:
    if not _DATETIME.fullmatch(text):
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            text += "T00:00:00Z"
        else:
            raise _wrong(field, text)
    zoned = text if re.search(r"(Z|[+-]\d\d:?\d\d)$", text) else text + "Z"
    if re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d(Z|[+-])", zoned):
        zoned = f"{zoned[:16]}:00{zoned[16:]}"
    try:
        return parse_datetime(zoned)
    except ValueError:
        raise _wrong(field, text) from None


def _reference(field: FieldDef, text: str) -> str:
    known = ids.to18(text)
    if known is None:
        raise SalesforceError(
            400, "MALFORMED_ID", f"{field.label}: id value of incorrect type: {text}", fields=[field.name]
        )
    return known


def _text(field: FieldDef, text: str) -> str:
    if field.length and len(text) > field.length:
        raise SalesforceError(
            400,
            "STRING_TOO_LONG",
            f"{field.label}: data value too large: {text} (max length={field.length})",
            fields=[field.name],
        )
    if field.type == "email" and not _EMAIL.fullmatch(text):
        raise SalesforceError(
            400, "INVALID_EMAIL_ADDRESS", f"{field.label}: invalid email address: {text}", fields=[field.name]
        )
    if field.restricted:
        by_low = {value.lower(): value for value in field.values}
        if text.lower() not in by_low:
            raise SalesforceError(
                400,
                "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
                f"{field.label}: bad value for restricted picklist field: {text}",
                fields=[field.name],
            )
        return by_low[text.lower()]
    return text
