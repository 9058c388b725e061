"""What a failed check means, in words a business person reads."""

from __future__ import annotations

from typing import Any, Final

#: Stands for the value in a sentence.
VALUE: Final = "\0"

_NUMBERS: Final = {
    "greater_than": "is not more than {min_value}",
    "greater_than_or_equal_to": "is less than {min_value}",
    "less_than": "is not less than {max_value}",
    "less_than_or_equal_to": "is more than {max_value}",
    "in_range": "is not between {min_value} and {max_value}",
    "equal_to": "is not {value}",
    "not_equal_to": "must not be {value}",
    "str_startswith": "does not start with '{string}'",
    "str_endswith": "does not end with '{string}'",
}


def sentence(check: Any, field: str) -> str:
    """The reason a failed pandera check gives; `VALUE` stands where the value goes.

    A check with an error text of its own says that text. `field` is empty for checks over whole records.
    """
    name = str(getattr(check, "name", None) or "check")
    own = _own_text(check, name)
    if own:
        return own
    start = f"{field} '{VALUE}' " if field else "the record "
    facts = dict(getattr(check, "statistics", None) or {})
    if name in {"str_matches", "str_contains"}:
        pattern = str(facts.get("pattern", ""))
        if "email" in field.lower() or "@" in pattern:
            return start + "is not a valid e-mail address"
        if "phone" in field.lower():
            return start + "is not a valid phone number"
        return start + "does not have the form it must have"
    if name in {"isin", "notin"}:
        allowed = list(facts.get("allowed_values") or facts.get("forbidden_values") or ())
        shown = ", ".join(str(v) for v in allowed[:12]) + (", ..." if len(allowed) > 12 else "")
        return start + (f"is not one of: {shown}" if name == "isin" else f"must not be one of: {shown}")
    if name == "str_length":
        return start + _length(facts)
    if name in _NUMBERS and facts:
        try:
            return start + _NUMBERS[name].format(**facts)
        except KeyError:
            return start + f"fails the check {name}"
    return start + f"fails the check {name.replace('_', ' ')}"


def _own_text(check: Any, name: str) -> str | None:
    """The check's error text, unless it is only pandera's spelling of the check itself."""
    error = getattr(check, "error", None)
    if not error or not isinstance(error, str) or error == name or error.startswith(f"{name}("):
        return None
    return error


def _length(facts: dict[str, Any]) -> str:
    low, high, exact = facts.get("min_value"), facts.get("max_value"), facts.get("exact_value")
    if exact is not None:
        return f"does not have {exact} characters"
    if low is None:
        return f"is longer than {high} characters"
    if high is None:
        return f"is shorter than {low} characters"
    return f"does not have {low} to {high} characters"
