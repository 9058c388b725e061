"""What an HTTP answer means when it is not a success: one table from status to error.

A system with error bodies of its own gives `Http` a function that reads them (`FaultReader`); what it
does not recognise falls back to the table here. A 4xx that neither knows is never retried.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeAlias

from sync_platform.errors import (
    AuthError,
    ConfigError,
    ContractError,
    RateLimitError,
    SyncError,
    TransientError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer, wholly read.

    `data` is the parsed JSON body (None when the body is empty or was not meant to be JSON), `body`
    its bytes, `headers` without regard to case, `started` when the request began (UTC).
    """

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    data: Any
    started: dt.datetime

    def text(self, length: int = 300) -> str:
        """The beginning of the body, for a message."""
        shown = self.body[: length * 4].decode("utf-8", "replace").strip()
        return shown if len(shown) <= length else shown[:length] + "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What a refused call means.

    `error` decides who acts. `executed=False` says that the vendor stored nothing, so that even a
    create may be sent again; the default takes a 5xx as "may have been stored". `retry_after`: seconds.
    """

    error: type[SyncError]
    message: str
    mend: str | None = None
    field: str | None = None
    retry_after: float | None = None
    executed: bool | None = None


FaultReader: TypeAlias = Callable[[Answer], Fault | None]

_CREDENTIALS: Final = "check the connection's credentials, and renew or re-authorise them"

#: What to do about a trouble that passes.
LATER: Final = "run again later: nothing is lost, and the next run goes on where this one stopped"

#: status -> (error class, what happened, what to do)
TABLE: Final[Mapping[int, tuple[type[SyncError], str, str | None]]] = {
    301: (ConfigError, "the address has moved", "set base_url to the new address"),
    302: (ConfigError, "the address has moved", "set base_url to the address that answers"),
    307: (ConfigError, "the address has moved", "set base_url to the address that answers"),
    308: (ConfigError, "the address has moved", "set base_url to the new address"),
    400: (ContractError, "the request was not understood", None),
    401: (AuthError, "the credentials were refused", _CREDENTIALS),
    402: (AuthError, "the account's plan does not include this call", "check the account's plan"),
    403: (AuthError, "this account may not do that", "grant the missing permission or scope"),
    404: (ConfigError, "no such object or address", "check base_url, the API version and the object's name"),
    405: (ContractError, "the method is not allowed here", None),
    408: (TransientError, "the request timed out at the other side", LATER),
    410: (ConfigError, "this API version or object is gone", "set api_version to one the vendor still serves"),
    413: (ContractError, "the request was too large", None),
    414: (ContractError, "the address was too long", None),
    415: (ContractError, "the body's type was refused", None),
    422: (ContractError, "the request was refused as invalid", None),
    423: (TransientError, "the object is locked by someone else", LATER),
    425: (TransientError, "the system was not ready for this request", LATER),
    429: (RateLimitError, "too many calls", "wait, or raise the account's limit at the vendor"),
    431: (ContractError, "the request's headers were too large", None),
    501: (ContractError, "the system does not offer this call", None),
    505: (ContractError, "the HTTP version was refused", None),
}

#: Statuses that say the call was turned away before anything was done.
TURNED_AWAY: Final = frozenset({401, 403, 404, 405, 410, 413, 414, 415, 423, 425, 429, 501})


def fault_of(answer: Answer, read: FaultReader | None, *, now: float) -> Fault:
    """The fault of an answer with a status of 300 or more."""
    fault = read(answer) if read is not None else None
    wait = retry_after(answer.headers.get("Retry-After"), now=now)
    if fault is not None:
        if fault.retry_after is None and wait is not None:
            return _with_wait(fault, wait)
        return fault
    error, sentence, mend = TABLE.get(answer.status) or _unmapped(answer.status)
    said = f": {answer.text()}" if answer.body else ""
    return Fault(error=error, message=sentence + said, mend=mend, retry_after=wait)


def nothing_was_done(fault: Fault, status: int) -> bool:
    """Whether the call certainly changed nothing at the other side."""
    if fault.executed is not None:
        return not fault.executed
    return status in TURNED_AWAY or (300 <= status < 500 and status != 408)


def retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds of a Retry-After header in either form (seconds, or an HTTP date against `now`, epoch seconds)."""
    if not value:
        return None
    text = value.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        if at.tzinfo is None:
            at = at.replace(tzinfo=dt.UTC)
        return max(0.0, at.timestamp() - now)
    return max(0.0, seconds) if seconds < float("inf") else None


def _unmapped(status: int) -> tuple[type[SyncError], str, str | None]:
    if status >= 500:
        return TransientError, "the system failed", LATER
    return ContractError, "an answer this connector does not know", None


def _with_wait(fault: Fault, wait: float) -> Fault:
    return Fault(
        error=fault.error,
        message=fault.message,
        mend=fault.mend,
        field=fault.field,
        retry_after=wait,
        executed=fault.executed,
    )
