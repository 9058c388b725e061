"""What MySQL's and MariaDB's errors mean: one number, one next action.

https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html,
https://mariadb.com/docs/server/reference/error-codes/mariadb-error-code-reference
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Final

import pymysql

from sync_platform.connectors.hiding import hide
from sync_platform.connectors.sql import Refusal
from sync_platform.errors import AccessError, AuthError, ConfigError, ContractError, SyncError, TransientError

DriverError = pymysql.err.MySQLError

#: The row is wrong, not the statement or the server.
_ROW: Final = frozenset({
    1022, 1048, 1062, 1118, 1138, 1169, 1171, 1216, 1217, 1230, 1263, 1264, 1265, 1292, 1364, 1365, 1366, 1367, 1406,
    1411, 1441, 1451, 1452, 1525, 1557, 1586, 1644, 1690, 1713, 1761, 1762, 1906, 3140, 3141, 3143, 3146, 3157, 3819,
    3904, 4025, 4078, 4161,
})  # fmt: skip

#: Warnings that say a value was not stored as given.
LOSSES: Final = frozenset({1261, 1262, 1263, 1264, 1265, 1292, 1366, 1406, 1411, 1048, 1364, 1062, 1452, 4025, 3819})

#: The transaction lost against another one, or ran out of time: the same call may succeed later.
_PASSING: Final[Mapping[int, str]] = {
    1020: "the row changed since it was read",
    1040: "the server has no connection left",
    1053: "the server is shutting down",
    1077: "the server is shutting down",
    1080: "the session was ended",
    1152: "the connection was aborted",
    1184: "the connection was aborted",
    1203: "the user has no connection left",
    1205: "a lock was not granted in time",
    1213: "the transaction was part of a deadlock",
    1226: "the user has used up a limit of the account",
    1317: "the statement was interrupted",
    1412: "the table was altered meanwhile",
    1613: "the transaction was rolled back, it took too long",
    1614: "the transaction was part of a deadlock",
    1637: "the server has too many transactions",
    1927: "the session was killed",
    1969: "the statement took longer than its timeout",
    3024: "the statement took longer than its timeout",
    3058: "the transaction was part of a deadlock",
    3572: "a lock was not granted at once",
}
_DENIED: Final = frozenset({1044, 1142, 1143, 1227, 1370, 1410, 3530, 3118})
_LOGIN: Final = frozenset({1045, 1698, 1251, 1524, 1820, 1862, 4151, 3955, 2059, 2061})
_NOT_THERE: Final = frozenset({1046, 1049, 1051, 1054, 1072, 1109, 1146, 1176, 1305})
_STATEMENT: Final = frozenset({1052, 1055, 1060, 1064, 1066, 1111, 1149, 1210, 1235, 1253, 1267, 1271, 1582})
_FULL: Final = frozenset({3, 14, 20, 28, 1021, 1026, 1030, 1037, 1038, 1041, 1114, 1135, 1206, 3675})
_READ_ONLY: Final = frozenset({1036, 1290, 1792, 1836, 1874, 3100})
_LOST: Final = frozenset({0, 1158, 1159, 1160, 1161, 2000, 2002, 2003, 2006, 2013, 2014, 2055, 4031})

#: LOAD DATA LOCAL is switched off at the server or for the account.
NO_LOCAL_FILES: Final = frozenset({1148, 3948, 4166})

_KEY: Final = re.compile(r"for key '(?:[^']*\.)?([^'.]+)'")
_COLUMN: Final = re.compile(r"[Cc]olumn '(?:[^']*\.)?([^'.]+)'|column `[^`]*`\.`[^`]*`\.`([^`]+)`|[Ff]ield '([^']+)'")
_CHECKED: Final = re.compile(r"CONSTRAINT `[^`.]+\.([^`]+)` failed")  # a column's own condition
_FOREIGN: Final = re.compile(r"FOREIGN KEY \(`([^`]+)`")


def code_of(error: BaseException) -> int:
    """The server's or the driver's number of an error; 0 when it has none."""
    first = error.args[0] if error.args else 0
    return first if isinstance(first, int) else 0


def words_of(error: BaseException) -> str:
    """What the server said."""
    return str(error.args[1]) if len(error.args) > 1 else str(error)


def connection_lost(error: BaseException) -> bool:
    """Whether the server went away (or ended the session) rather than answered."""
    return code_of(error) in _LOST or code_of(error) in (1053, 1077, 1080, 1927, 1152, 1184)


def is_denied(error: BaseException) -> bool:
    """Whether a permission is missing."""
    return code_of(error) in _DENIED


def refusal_of(error: BaseException, uniques: Mapping[str, tuple[str, ...]]) -> Refusal | None:
    """Why the row was refused, or None when the error is about something else. `uniques`: columns by index name."""
    if code_of(error) not in _ROW:
        return None
    return refusal(words_of(error), uniques)


def refusal(said: str, uniques: Mapping[str, tuple[str, ...]]) -> Refusal:
    """The server's sentence with the column it speaks of; the number of the row in the statement says nothing here."""
    reason = re.sub(r" at row \d+$", "", said)
    key = _KEY.search(said)
    if key is not None:
        columns = uniques.get(key[1]) or uniques.get(key[1].lower())
        return Refusal(columns[0] if columns else None, reason)
    column = _COLUMN.search(said) or _CHECKED.search(said) or _FOREIGN.search(said)
    return Refusal(next((word for word in column.groups() if word), None) if column else None, reason)


def translated(error: BaseException, doing: str, secrets: list[str]) -> SyncError:
    """The platform's error for one of the driver's, with no secret in it."""
    code, said = code_of(error), hide(words_of(error), secrets)
    if code in _PASSING:
        return TransientError(f"{doing}: {_PASSING[code]} ({said})", mend="the next run tries again")
    if code in _READ_ONLY:
        return AccessError(f"{doing}: {said}", mend="write to the primary server, not to a read-only one")
    if code in _DENIED:
        return AuthError(f"{doing}: {said}", mend="GRANT the permission to the connection's user")
    if code in _LOGIN:
        return AuthError(f"{doing}: {said}", mend="correct the user and the password in the connection's url")
    if code in _FULL:
        return AccessError(f"{doing}: the server is out of space or memory ({said})", mend="free some and run again")
    if code in _NOT_THERE:
        return ConfigError(f"{doing}: {said}", mend="check the object and field names against `sync-platform check`")
    if code == 1153:
        return ConfigError(
            f"{doing}: {said}", mend="SET GLOBAL max_allowed_packet to more than the largest row, and reconnect"
        )
    if code in _ROW:
        return ContractError(f"{doing}: {said}", mend="see which value the server means; `as_text` reads it as text")
    if code in _STATEMENT:
        return ConfigError(f"{doing}: {said}", mend="check the filter and the table's options")
    if connection_lost(error):
        return TransientError(f"{doing}: the connection was lost ({said})", mend="the next run tries again")
    return AccessError(f"{doing}: {said} (error {code})", mend="see the server's log")


def refused_login(error: BaseException, place: str, secrets: list[str]) -> SyncError:
    """The platform's error for a connection that was not made."""
    code, said = code_of(error), hide(words_of(error), secrets)
    cause = getattr(error, "original_exception", error)
    if code == 1049:
        return ConfigError(f"{place}: {said}", field="url", mend="correct the database name in the url")
    if code in _LOGIN or code == 1044:
        return AuthError(
            f"{place}: the login was refused ({said})", mend="correct the user and the password in the url"
        )
    if isinstance(cause, ssl.SSLError) or code in (2026, 3159, 1828) or "SSL" in said:
        mend = "check ssl-mode in the url, and that ssl-ca names the authority that signed the server's certificate"
        if "doesn't match" in said or "not valid for" in said:
            mend = "let the url name the host as the server's certificate does, or check ssl-mode in it"
        return AccessError(f"{place}: no secure connection ({said})", mend=mend)
    if code in _PASSING:
        return TransientError(f"{place}: {_PASSING[code]} ({said})", mend="the next run tries again")
    if code in (1129, 1130):
        return AuthError(f"{place}: {said}", mend="let the user log in from this host, or FLUSH HOSTS")
    return AccessError(f"{place}: the server cannot be reached ({said})", mend="check host and port, and that it runs")
