"""What Salesforce's error codes mean: for a whole call, and for one record of a batch.

A refused call answers `[{"message", "errorCode", "fields"?}]`; a refused record of a collection answers
`{"success": false, "errors": [{"statusCode", "message", "fields"}]}` within a 200.
https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_calls_concepts_core_data_objects.htm
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sync_platform.connectors.faults import Answer, Fault
from sync_platform.connectors.oauth import token_fault
from sync_platform.errors import AuthError, ConfigError, ContractError, RateLimitError, SyncError, TransientError

#: Seconds after which a used-up quota of 24 hours is asked again: it rolls, so room may open at any time.
DAILY_WAIT: Final = 900.0

_PERMISSION = "grant the integration user the missing permission (profile or permission set)"
_FIELD = "check the field's name and that field-level security lets the integration user see it"

#: errorCode of a whole call -> (error class, what to do, whether anything may have been stored)
_CALLS: Final[Mapping[str, tuple[type[SyncError], str | None]]] = {
    "INVALID_SESSION_ID": (AuthError, "check the connection's credentials"),
    "INVALID_LOGIN": (AuthError, "check the connection's credentials"),
    "API_DISABLED_FOR_ORG": (AuthError, "this Salesforce edition has no API access; ask its administrator"),
    "API_CURRENTLY_DISABLED": (AuthError, "the API is switched off for this org; ask its administrator"),
    "INSUFFICIENT_ACCESS": (AuthError, _PERMISSION),
    "INSUFFICIENT_ACCESS_OR_READONLY": (AuthError, _PERMISSION),
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": (AuthError, _PERMISSION),
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": (AuthError, _PERMISSION),
    "INVALID_FIELD": (ConfigError, _FIELD),
    "INVALID_TYPE": (ConfigError, "check the object's name, and that the integration user may read it"),
    "MALFORMED_QUERY": (ConfigError, "simplify the source's filter"),
    "INVALID_QUERY_FILTER_OPERATOR": (ConfigError, "filter by another field or operator"),
    "NOT_FOUND": (ConfigError, "check base_url, api_version and the object's name"),
    "UNSUPPORTED_API_VERSION": (ConfigError, "set api_version to one the org still serves"),
    "REQUEST_LIMIT_EXCEEDED": (RateLimitError, None),
    "UNABLE_TO_LOCK_ROW": (TransientError, None),
    "QUERY_TIMEOUT": (TransientError, "narrow the source's filter, or let an administrator index the filtered field"),
    "SERVER_UNAVAILABLE": (TransientError, None),
    "UNKNOWN_EXCEPTION": (TransientError, None),
    "JSON_PARSER_ERROR": (ContractError, None),
}

#: statusCodes of one record that pass by themselves: the next run tries again.
PASSING: Final = frozenset(
    {"UNABLE_TO_LOCK_ROW", "REQUEST_LIMIT_EXCEEDED", "SERVER_UNAVAILABLE", "UNKNOWN_EXCEPTION", "QUERY_TIMEOUT"}
)

#: statusCode of one record -> what a person can do about it.
_RECORDS: Final[Mapping[str, str]] = {
    "REQUIRED_FIELD_MISSING": "map a value to {field}, or give it a default in Salesforce",
    "INVALID_EMAIL_ADDRESS": "correct the e-mail address at the source",
    "STRING_TOO_LONG": "shorten the value of {field} in the mapping",
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": "satisfy the validation rule of the object, or change the rule",
    "DUPLICATES_DETECTED": "merge the records in Salesforce, or let the duplicate rule allow API saves",
    "DUPLICATE_VALUE": "another record already holds this unique value: match on {field}, or merge the two",
    "DUPLICATE_EXTERNAL_ID": "several records hold this external id: merge them in Salesforce",
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST": "map the value to one of the picklist's values",
    "BAD_CUSTOM_ENTITY_PARENT_DOMAIN": "correct the lookup at the source",
    "INVALID_CROSS_REFERENCE_KEY": "the record {field} points to does not exist or is not visible",
    "INSUFFICIENT_ACCESS_OR_READONLY": _PERMISSION,
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": _PERMISSION,
    "INVALID_FIELD": _FIELD,
    "INVALID_FIELD_FOR_INSERT_UPDATE": "{field} cannot be written: take it out of the mapping",
    "ENTITY_IS_DELETED": "the record was deleted in Salesforce: restore it, or let the next run create it again",
    "NOT_FOUND": "the record is gone: the next run creates it again",
    "INVALID_ID_FIELD": "the record's id is not one of this object",
    "MALFORMED_ID": "the record's id is not one of this object",
    "NUMBER_OUTSIDE_VALID_RANGE": "bring the value of {field} into the field's range",
    "JSON_PARSER_ERROR": "map a value of the field's type to {field}",
    "CANNOT_UPDATE_CONVERTED_LEAD": "a converted lead is read-only: filter converted leads out",
    "STORAGE_LIMIT_EXCEEDED": "the org's storage is full: free space or buy more",
}


def salesforce_fault(answer: Answer) -> Fault | None:
    """The fault of a refused call, read from Salesforce's own body; None when it has none."""
    if isinstance(answer.data, dict) and "error" in answer.data:
        return token_fault(answer)
    entry = first_error(answer.data)
    if entry is None:
        return None
    code, said = str(entry.get("errorCode", "")), str(entry.get("message", ""))
    if code not in _CALLS:
        return _unlisted(answer.status, code, said)
    error, mend = _CALLS[code]
    wait, executed = None, None
    if code == "REQUEST_LIMIT_EXCEEDED":
        executed = False
        if "totalrequests" in said.lower():
            wait, mend = DAILY_WAIT, "the org's calls of 24 hours are used up: wait, or raise the limit at Salesforce"
        else:
            mend = "let fewer requests run at once"
    elif code == "UNABLE_TO_LOCK_ROW":
        executed = False
    fields = entry.get("fields") or []
    return Fault(
        error=error,
        message=f"{code}: {said}",
        mend=mend,
        field=str(fields[0]) if fields else None,
        retry_after=wait,
        executed=executed,
    )


def _unlisted(status: int, code: str, said: str) -> Fault | None:
    """A code without an entry: its status decides, its text is kept."""
    message = f"{code}: {said}"
    if status in (420, 406):
        return Fault(error=RateLimitError, message=message, executed=False)
    if status == 403:
        return Fault(error=AuthError, message=message, mend=_PERMISSION)
    return None


def first_error(data: Any) -> Mapping[str, Any] | None:
    """The first entry of an error answer, or None when the body is not one."""
    if isinstance(data, list) and data and isinstance(data[0], dict) and "errorCode" in data[0]:
        return data[0]
    return None


def record_error(errors: Sequence[Mapping[str, Any]]) -> tuple[bool, str, str | None, str, str | None]:
    """(passing, code, field, reason, resolution) of a refused record's `errors`."""
    first = errors[0] if errors else {}
    code = str(first.get("statusCode") or first.get("errorCode") or "UNKNOWN")
    fields = [str(name) for name in first.get("fields") or []]
    reasons = [f"{e.get('statusCode', '')}: {e.get('message', '')}" for e in errors]
    reason = "; ".join(reasons) or "refused without a reason"
    resolution = _RECORDS.get(code)
    if resolution is not None:
        resolution = resolution.replace("{field}", fields[0] if fields else "the field")
    return code in PASSING, code, fields[0] if fields else None, reason, resolution
