"""What PostgreSQL's errors mean: one SQLSTATE, one next action.

The codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

from typing import Final

import psycopg
from adbc_driver_manager import Error as DriverError

from sync_platform.connectors.hiding import hide
from sync_platform.connectors.sql import Refusal
from sync_platform.errors import AccessError, AuthError, ConfigError, ContractError, SyncError, TransientError

#: Classes and codes that say the row is wrong, not the statement or the server (54000: it is too big for a page or an
#: index).
_ROW: Final = ("22", "23", "44", "54000", "P0001")

#: The transaction lost against another one, or ran out of time: the same call may succeed later.
_PASSING: Final = {
    "40001": "the transaction lost against a concurrent one",
    "40P01": "the transaction was part of a deadlock",
    "40003": "the statement's completion is unknown",
    "55P03": "a lock was not granted in time",
    "57014": "the statement was cancelled or took longer than its timeout",
    "57P01": "the server is shutting down",
    "57P02": "the server crashed",
    "57P03": "the server is starting up",
    "57P05": "the session was idle for too long",
    "53300": "the server has no connection left",
    "53400": "a configured limit was reached",
    "55006": "the object is in use",
    "25P02": "the transaction had failed before",
    "25P03": "the transaction was idle for too long",
}  # fmt: skip

_NOT_THERE: Final = ("42P01", "42703", "3F000", "3D000", "42883", "42704")

_LOGIN_REFUSED: Final = ("password authentication failed", "authentication failed", "no pg_hba.conf entry",
                         "no password supplied", "fe_sendauth", "permission denied for database",
                         "is not permitted to log in")  # fmt: skip


def details(error: DriverError) -> dict[str, str]:
    """The server's own words about an error: `message`, `detail`, `column`, `constraint`, `table`."""
    told: dict[str, str] = {}
    for name, value in error.details or ():
        label, text = _text(name), _text(value)
        told[label.removeprefix("PG_DIAG_").removesuffix("_NAME").removeprefix("MESSAGE_").lower()] = text
    told["message"] = told.get("primary") or str(error).strip()
    return told


def _text(told: object) -> str:
    return told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)


def connection_lost(error: DriverError) -> bool:
    """Whether the server went away (or was shut down) rather than answered."""
    state = error.sqlstate or ""
    return state in ("", "\0\0\0\0\0") or state.startswith("08") or state.startswith("57P")


def refusal_of(error: DriverError) -> Refusal | None:
    """Why the row was refused, or None when the error is about something else."""
    state = error.sqlstate or ""
    if not state.startswith(_ROW):
        return None
    told = details(error)
    reason = told["message"]
    detail = told.get("detail", "")
    if detail and not detail.startswith("Failing row"):  # that one repeats the whole record
        reason = f"{reason}: {detail}"
    return Refusal(told.get("column") or _column_of_key(detail), reason)


def _column_of_key(detail: str) -> str | None:
    """The column that `Key (email)=(a@b.c) already exists.` speaks of."""
    if not detail.startswith("Key ("):
        return None
    columns = detail[5:].partition(")=")[0]
    return columns.strip('"') or None


def translated(error: DriverError, doing: str, secrets: list[str]) -> SyncError:
    """The platform's error for one of the driver's, with no secret in it."""
    state, told = error.sqlstate or "", details(error)
    said = hide(told["message"], secrets)
    if state in _PASSING:
        return TransientError(f"{doing}: {_PASSING[state]} ({said})", mend="the next run tries again")
    if state == "42501":
        return AuthError(f"{doing}: {said}", mend="grant the permission to the connection's role")
    if state in ("28000", "28P01"):
        return AuthError(f"{doing}: {said}", mend="correct the user and the password in the connection's url")
    if state == "25006":
        return AccessError(f"{doing}: {said}", mend="write to the primary server, not to a read replica")
    if state in ("53100", "53200", "58030"):
        return AccessError(f"{doing}: the server is out of space or memory ({said})", mend="free some and run again")
    if state in _NOT_THERE:
        return ConfigError(f"{doing}: {said}", mend="check the object and field names against `sync-platform check`")
    if connection_lost(error):
        return TransientError(
            f"{doing}: the connection was lost ({_first_line(said)})", mend="the next run tries again"
        )
    if state.startswith(_ROW):
        return ContractError(f"{doing}: {said}", mend="see which value the server means; `as_text` reads it as text")
    if state.startswith("42") or state.startswith("0A"):
        return ConfigError(f"{doing}: {said}", mend="check the filter and the table's options")
    return AccessError(f"{doing}: {said} (SQLSTATE {state})", mend="see the server's log")


def passing(error: psycopg.Error, doing: str) -> TransientError:
    """The platform's error for one of psycopg's that is no fault of the statement."""
    said = error.diag.message_primary or _first_line(str(error))
    return TransientError(f"{doing}: {_PASSING[error.sqlstate or '']} ({said})", mend="the next run tries again")


def refused_login(error: Exception, place: str, secrets: list[str]) -> SyncError:
    """The platform's error for a connection that was not made; libpq gives no SQLSTATE here."""
    said = hide(_first_line(str(error).rpartition("failed: ")[2] or str(error)), secrets)
    low = str(error).lower()
    if any(word in low for word in _LOGIN_REFUSED) or ("role " in low and "does not exist" in low):
        return AuthError(
            f"{place}: the login was refused ({said})", mend="correct the user and the password in the url"
        )
    if "database " in low and "does not exist" in low:
        return ConfigError(f"{place}: {said}", field="url", mend="correct the database name in the url")
    if "certificate" in low or "ssl" in low:
        return AccessError(f"{place}: no secure connection ({said})", mend=_secure(low))
    if any(word in low for word in ("starting up", "shutting down", "too many clients", "in recovery mode")):
        return TransientError(f"{place}: {said}", mend="the next run tries again")
    return AccessError(f"{place}: the server cannot be reached ({said})", mend="check host and port, and that it runs")


def _secure(said: str) -> str:
    """What to do about a connection that is not as secure as the url asks."""
    if "host name" in said:
        return "let the url name the host as the server's certificate does, or check sslmode and sslrootcert in it"
    if "does not support ssl" in said:
        return "switch ssl on at the server; sslmode and sslrootcert in the url ask for it"
    return "let sslrootcert in the url name the file of the authority that signed the server's certificate"


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0].removeprefix("FATAL:").strip() if text.strip() else "no reason was given"
