"""What HubSpot's refusals and limit headers mean.

Pages: https://developers.hubspot.com/docs/api-reference/error-handling,
https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sync_platform.connectors.connector import Quota
from sync_platform.connectors.faults import Answer, Fault
from sync_platform.errors import AuthError, ConfigError, ContractError, RateLimitError, SyncError, TransientError

SEARCH: Final = "search"
GENERAL: Final = "general"

#: Seconds a 429 asks for by the limit it names; searches name none, and a second or two clears them.
_POLICY_WAIT: Final[Mapping[str, float]] = {"SECONDLY": 1.0, "TEN_SECONDLY_ROLLING": 10.0}
_LOCKED_WAIT: Final = 2.0
_MIGRATING: Final = 477
_EXISTING: Final = re.compile(r"Existing ID:\s*(\d+)", re.IGNORECASE)
_INVALID_VALUES: Final = re.compile(r"^Property values were not valid:\s*(\[.*\])\s*$", re.DOTALL)
_QUOTED_PROPERTY: Final = re.compile(r'[Pp]roperty\s+"([A-Za-z0-9_]+)"')

#: Faults of a property itself: whatever value it is sent, it is refused.
_OF_THE_PROPERTY: Final = frozenset({"PROPERTY_DOESNT_EXIST", "READ_ONLY_VALUE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What an error body says; every part of it is optional at HubSpot.

    `properties` names the refused properties and why, `broken` those that no value would satisfy.
    """

    message: str
    category: str = ""
    request_id: str | None = None
    existing_id: str | None = None
    trace_ids: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    policy: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)


def refusal_of(data: Any, *, request_id: str | None = None) -> Refusal:
    """The refusal in an error body, or in one entry of a batch's `errors`."""
    if not isinstance(data, dict):
        return Refusal(message="no reason given", request_id=request_id)
    context = _context(data)
    details = [each for each in data.get("errors") or () if isinstance(each, dict)]
    message = str(data.get("message") or "no reason given")
    existing = _EXISTING.search(message)
    properties, broken = _properties(message, [*details, {"message": message, "context": context}])
    return Refusal(
        message=_readable(message, properties),
        category=str(data.get("category") or ""),
        request_id=data.get("correlationId") or request_id,
        existing_id=existing.group(1) if existing else next(iter(_listed(context, "existingId")), None),
        trace_ids=_listed(context, "objectWriteTraceId"),
        ids=_listed(context, "ids") + _listed(context, "id"),
        scopes=_scopes([context, *map(_context, details)]),
        policy=str(data.get("policyName") or ""),
        properties=properties,
        broken=broken,
    )


def read_fault(answer: Answer) -> Fault | None:
    """The fault of a HubSpot answer; None leaves it to the general table."""
    told = refusal_of(answer.data)
    said = f"{told.message} [{told.category}]" if told.category else told.message
    if answer.status == 429:
        return _rate_limit(answer, told)
    if answer.status == 403:
        missing = ", ".join(told.scopes)
        mend = f"grant the app these scopes and renew its token: {missing}" if missing else "grant the missing scope"
        return Fault(error=AuthError, message=f"{said}; missing scopes: {missing}" if missing else said, mend=mend)
    if answer.status == 401:
        return Fault(error=AuthError, message=said, mend="renew the access token, or authorise the app again")
    if answer.status == 423:
        return Fault(error=TransientError, message=said, retry_after=_wait(answer, _LOCKED_WAIT), executed=False)
    if answer.status == _MIGRATING:
        said = f"the account is being moved to another data centre: {said}"
        return Fault(error=TransientError, message=said, retry_after=_wait(answer, 60.0), executed=False)
    if 400 <= answer.status < 500 and isinstance(answer.data, dict):
        error: type[SyncError] = ConfigError if answer.status == 404 else ContractError
        return Fault(error=error, message=said, field=next(iter(told.properties), None), executed=False)
    return None


def learn_limits(answer: Answer, quota: Quota | None) -> None:
    """Takes over the limit of ten seconds that an answer tells; searches have a bucket of their own."""
    if quota is None or answer.path.endswith("/search"):
        return
    limit, span = _float(answer, "X-HubSpot-RateLimit-Max"), _float(answer, "X-HubSpot-RateLimit-Interval-Milliseconds")
    if limit is None or span is None:
        return
    remaining = _float(answer, "X-HubSpot-RateLimit-Remaining")
    quota.learn(GENERAL, limit=limit, per_seconds=span / 1000.0, remaining=remaining)


def _rate_limit(answer: Answer, told: Refusal) -> Fault:
    if told.policy == "DAILY":
        mend = "wait until midnight in the account's time zone, or raise its daily limit"
        return Fault(error=RateLimitError, message=told.message, mend=mend, retry_after=3600.0, executed=False)
    own = _POLICY_WAIT.get(told.policy, 1.5)
    return Fault(error=RateLimitError, message=told.message, retry_after=_wait(answer, own), executed=False)


def _wait(answer: Answer, own: float) -> float | None:
    """None when the answer has a Retry-After of its own, which then counts."""
    return None if answer.headers.get("Retry-After") else own


def _float(answer: Answer, header: str) -> float | None:
    try:
        return float(answer.headers[header])
    except (KeyError, ValueError):
        return None


def _context(data: Mapping[str, Any]) -> Mapping[str, Any]:
    found = data.get("context")
    return found if isinstance(found, dict) else {}


def _listed(context: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = context.get(name)
    if value is None:
        return ()
    return tuple(str(each) for each in value) if isinstance(value, list | tuple) else (str(value),)


def _scopes(contexts: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for context in contexts:
        for name in ("missingScopes", "requiredGranularScopes", "requiredScopes"):
            found.update(dict.fromkeys(_listed(context, name)))
    return tuple(found)


def _properties(message: str, details: list[dict[str, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    """The refused properties and why: from the list inside the message and from `errors`."""
    said: dict[str, str] = {}
    broken: dict[str, str] = {}
    for each in [*_in_message(message), *details]:
        why = str(each.get("message") or "refused")
        quoted = _QUOTED_PROPERTY.search(why)
        context = _context(each)
        names = _listed(context, "propertyName") + _listed(context, "properties") or tuple(
            str(n) for n in (each.get("name"), each.get("in")) if n
        )
        for name in names or ((quoted.group(1),) if quoted else ()):
            said.setdefault(name, why)
            if str(each.get("error") or each.get("code") or each.get("subCategory") or "") in _OF_THE_PROPERTY:
                broken.setdefault(name, why)
    return said, broken


def _in_message(message: str) -> list[dict[str, Any]]:
    listed = _INVALID_VALUES.match(message)
    if listed is None:
        return []
    try:
        parsed = json.loads(listed.group(1))
    except ValueError:
        return []
    return [each for each in parsed if isinstance(each, dict)]


def _readable(message: str, properties: Mapping[str, str]) -> str:
    """The message, with HubSpot's embedded JSON replaced by its sentences."""
    if properties and _INVALID_VALUES.match(message):
        return "; ".join(dict.fromkeys(f"{name}: {why}" for name, why in properties.items()))
    return message
