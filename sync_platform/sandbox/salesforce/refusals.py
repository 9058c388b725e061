"""The errors Salesforce answers with.

Shapes and codes: REST API Developer Guide, "Status Codes and Error Responses"; SOAP API Developer Guide,
"StatusCode". `violation` marks what a correct client never sends; those are listed by the control API.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class SalesforceError(Exception):
    """One error of the vendor: for a whole request, or for one record of a batch."""

    def __init__(
        self, status: int, code: str, message: str, *, fields: Sequence[str] | None = None, violation: bool = False
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.fields = fields
        self.violation = violation

    def to_rest(self) -> list[dict[str, Any]]:
        """The body of a refused request."""
        body: dict[str, Any] = {"message": self.message, "errorCode": self.code}
        if self.fields is not None:
            body["fields"] = list(self.fields)
        return [body]

    def to_item(self) -> dict[str, Any]:
        """The error of one record in a collection's answer."""
        return {"statusCode": self.code, "message": self.message, "fields": list(self.fields or ())}

    def to_bulk(self) -> str:
        """The text of `sf__Error`."""
        return f"{self.code}:{self.message}:{' '.join(self.fields or ())} --"


class UnbuiltError(Exception):
    """Something the vendor offers and this simulator does not: 501, listed as a violation."""


def malformed(message: str) -> SalesforceError:
    """400 MALFORMED_QUERY."""
    return SalesforceError(400, "MALFORMED_QUERY", message, violation=True)


def not_found(message: str = "The requested resource does not exist", *, violation: bool = False) -> SalesforceError:
    """404 NOT_FOUND."""
    return SalesforceError(404, "NOT_FOUND", message, violation=violation)


def invalid_session() -> SalesforceError:
    """401: the access token is unknown or expired."""
    return SalesforceError(401, "INVALID_SESSION_ID", "Session expired or invalid")


def bad_json(message: str) -> SalesforceError:
    """400 JSON_PARSER_ERROR."""
    return SalesforceError(400, "JSON_PARSER_ERROR", message, violation=True)


def bad_input(message: str) -> SalesforceError:
    """400 INVALID_INPUT: the body's structure is wrong."""
    return SalesforceError(400, "INVALID_INPUT", message, violation=True)


def unknown_type(name: str) -> SalesforceError:
    """The sObject type does not exist."""
    return SalesforceError(
        400,
        "INVALID_TYPE",
        f"sObject type '{name}' is not supported. If you are attempting to use a custom object, be sure to append the "
        "'__c' after the entity name. Please reference your WSDL or the describe call for the appropriate names.",
        violation=True,
    )
