"""What a property takes and how it is stored: every value is a string, or absent.

Rules: https://developers.hubspot.com/docs/api-reference/latest/crm/properties/guide, and for numbers and options
https://developers.hubspot.com/changelog/upcoming-api-number-value-changes and
https://developers.hubspot.com/changelog/upcoming-increased-validation-for-contact-updates-made-through-apis.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final

from sync_platform.sandbox.hubspot.properties import Property
from sync_platform.sandbox.hubspot.refusals import Problem, bad_json
from sync_platform.sandbox.kit import iso

UTC: Final = dt.UTC
DAY_MS: Final = 86_400_000
#: Longest text of a property (the properties guide).
MAX_TEXT: Final = 65_536
NUMBER: Final = re.compile(r"-?(\d+(\.\d*)?|\.\d+)")
WHOLE: Final = re.compile(r"-?\d{1,16}")
ISO: Final = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?")
EMAIL: Final = re.compile(r"[^\s@,;:<>()\[\]\"\\]+@[^\s@,;:<>()\[\]\"\\.]+(\.[^\s@,;:<>()\[\]\"\\.]+)+")


class BadValueError(Exception):
    """A value the vendor does not take; holds the `Problem`."""

    def __init__(self, name: str, code: str, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(name=name, code=code, message=message)


def to_ms(text: str) -> int | None:
    """Epoch milliseconds of a time given as milliseconds or ISO 8601; None for anything else."""
    if WHOLE.fullmatch(text):
        return int(text)
    if not ISO.fullmatch(text):
        return None
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return round(at.timestamp() * 1000)


def text_of(name: str, given: Any) -> str:
    """A JSON value as the text the vendor stores; booleans and numbers are taken, null and containers are not."""
    if isinstance(given, str):
        return given
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, int | float):
        return str(int(given)) if isinstance(given, float) and given.is_integer() else str(given)
    raise bad_json(f"Cannot deserialize value of type `java.lang.String` from {type(given).__name__} (property {name})")


def store(definition: Property, given: str, before: str | None = None) -> str | None:
    """The text to store for `given`; None clears. Raises BadValueError."""
    if given == "":
        return None
    if len(given) > MAX_TEXT:
        raise BadValueError(
            definition.name, "INVALID_LENGTH", f"{definition.name} is longer than {MAX_TEXT} characters"
        )
    if definition.name == "email":
        return _email(definition, given)
    match definition.type:
        case "number":
            if not NUMBER.fullmatch(given):
                raise BadValueError(definition.name, "INVALID_INTEGER", f"{given} was not a valid number.")
            return given
        case "date":
            return _date(definition, given)
        case "datetime":
            ms = to_ms(given)
            if ms is None or abs(ms) > 8_640_000_000_000:
                raise BadValueError(definition.name, "INVALID_LONG", f"{given} was not a valid long.")
            return iso(ms)
        case "bool":
            return _option(definition, given)
        case "enumeration" if definition.multiple:
            kept = (before or "").split(";") if given.startswith(";") and before else []
            wanted = [_option(definition, part) for part in given.strip(";").split(";")]
            return ";".join(dict.fromkeys([*kept, *wanted]))
        case "enumeration":
            return _option(definition, given)
        case _:
            return given


def _email(definition: Property, given: str) -> str | None:
    address = given.strip().lower()
    if not address:
        return None
    if not EMAIL.fullmatch(address) or ".." in address:
        raise BadValueError(definition.name, "INVALID_EMAIL", f"Email address {given} is invalid")
    return address


def _date(definition: Property, given: str) -> str:
    ms = to_ms(given)
    if ms is None:
        raise BadValueError(definition.name, "INVALID_DATE", f"{given} was not a valid date.")
    if ms % DAY_MS:
        time = f"{dt.datetime.fromtimestamp(ms / 1000, UTC):%H:%M:%S}"
        raise BadValueError(definition.name, "INVALID_DATE", f"{given} is at {time} UTC, not midnight!")
    return iso(ms)[:10]


def _option(definition: Property, given: str) -> str:
    if definition.allowed and given not in definition.allowed:
        listed = ", ".join(definition.allowed)
        raise BadValueError(
            definition.name, "INVALID_OPTION", f"{given} was not one of the allowed options: [{listed}]"
        )
    return given
