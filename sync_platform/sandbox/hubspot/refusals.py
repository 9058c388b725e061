"""The vendor's error answers.

Shape: https://developers.hubspot.com/docs/api-reference/latest/error-handling (every field optional).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PORTAL_ID = 48_151_623
SCOPES_PAGE = "https://developers.hubspot.com/scopes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One property value the vendor does not take."""

    name: str
    code: str
    message: str


class RefusedError(Exception):
    """A request answered with an error. `violation` False: ordinary traffic (404, 409, 429), no misuse."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        category: str | None = "VALIDATION_ERROR",
        sub_category: str | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        context: Mapping[str, Sequence[str]] | None = None,
        extra: Mapping[str, Any] | None = None,
        violation: bool = True,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.category = category
        self.sub_category = sub_category
        self.errors = errors
        self.context = context
        self.extra = extra
        self.violation = violation

    def body(self, correlation_id: str) -> dict[str, Any]:
        """The JSON answer; parts without content are left out, as the vendor does."""
        answer: dict[str, Any] = {"status": "error", "message": self.message, "correlationId": correlation_id}
        if self.errors:
            answer["errors"] = list(self.errors)
        if self.context:
            answer["context"] = {name: list(values) for name, values in self.context.items()}
        if self.category:
            answer["category"] = self.category
        if self.sub_category:
            answer["subCategory"] = self.sub_category
        return {**answer, **(self.extra or {})}

    def item(self, **context: Sequence[str]) -> dict[str, Any]:
        """The same refusal as one entry of a multi-status answer: details are in the message only.

        `errors` and `links` are there because the published schema (and the vendor's SDK) requires them.
        """
        return {
            "status": "error",
            "category": self.category or "VALIDATION_ERROR",
            "message": self.message,
            "context": {
                **{k: list(v) for k, v in (self.context or {}).items()},
                **{k: list(v) for k, v in context.items()},
            },
            "errors": [],
            "links": {},
        }


def bad_request(message: str, **parts: Any) -> RefusedError:
    """A 400."""
    return RefusedError(400, message, **parts)


def bad_json(message: str) -> RefusedError:
    """The answer to a body that is not the JSON the endpoint wants."""
    return RefusedError(400, f"Invalid input JSON on line 1, column 1: {message}")


def bad_values(problems: Iterable[Problem], *, violation: bool = False) -> RefusedError:
    """The answer to property values the vendor does not take; all of them, as a JSON list inside the message."""
    found = list(problems)
    listed = [
        {
            "isValid": False,
            "message": p.message,
            "error": p.code,
            "name": p.name,
            "localizedErrorMessage": p.message,
            "portalId": PORTAL_ID,
        }
        for p in found
    ]
    details = [{"message": p.message, "code": p.code, "context": {"propertyName": [p.name]}} for p in found]
    message = f"Property values were not valid: {json.dumps(listed, ensure_ascii=False)}"
    return RefusedError(400, message, errors=details, violation=violation)


def missing_properties(type_id: str, names: Sequence[str]) -> RefusedError:
    """A create without a property the object needs."""
    return RefusedError(
        400, f"Error creating {type_id}. Some required properties were not set.", context={"properties": names}
    )


def not_found(id: str) -> RefusedError:
    """A record that does not exist or is archived."""
    return RefusedError(
        404,
        "resource not found",
        category="OBJECT_NOT_FOUND",
        context={"id": [id]},
        violation=False,
    )


def conflict(label: str, existing: str) -> RefusedError:
    """A create that meets a record with the same unique value."""
    message = f"{label} already exists. Existing ID: {existing}"
    return RefusedError(409, message, category="CONFLICT", context={"existingId": [existing]}, violation=False)


def missing_scopes(scopes: Sequence[str]) -> RefusedError:
    """A token without the scope of the endpoint."""
    detail = {
        "message": "One or more of the following scopes are required.",
        "context": {"requiredGranularScopes": list(scopes)},
    }
    return RefusedError(
        403,
        "This app hasn't been granted all required scopes to make this call. See the scopes page for what it needs.",
        category="MISSING_SCOPES",
        errors=[detail],
        extra={"links": {"scopes": SCOPES_PAGE}},
    )


def not_built(what: str) -> RefusedError:
    """The answer to whatever this simulator does not know."""
    return RefusedError(501, f"Not built in this simulator: {what}", category="NOT_IMPLEMENTED")
