"""One connection to a MySQL or MariaDB server: statements in, Arrow out, errors translated.

Sessions are made alike whatever the server's defaults: strict SQL mode, UTC, utf8mb4, backslashes as escapes,
and timeouts of ours. A stream of rows may stand still while pages are staged, so the
server is told to wait for us (net_write_timeout).
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pymysql
from pymysql.constants import CLIENT, CR
from pymysql.protocol import OKPacketWrapper

from sync_platform.connectors.connector import Traffic
from sync_platform.connectors.mysql import address, rows
from sync_platform.connectors.mysql.faults import DriverError, connection_lost, refused_login, translated
from sync_platform.errors import ContractError, UnknownOutcome

#: A pooled connection unused for longer is asked for a sign of life first.
_FRESH: Final = 1.0
_MODE: Final = (
    "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
)
_SENT_AT_ONCE: Final = 1 << 20
_ABOUT: Final = """
SELECT version() AS version, @@max_allowed_packet AS packet, @@lower_case_table_names AS folding,
       @@innodb_autoinc_lock_mode AS autoinc, @@auto_increment_increment AS step, @@local_infile AS local,
       @@log_bin AS logged, @@binlog_format AS format
"""


def identifier(*names: str) -> str:
    """A quoted, dotted name."""
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def literal(value: str | bytes | None) -> str:
    """A quoted text or byte string (NO_BACKSLASH_ESCAPES is off)."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What kind of server this is."""

    version: str
    packet: int  # bytes of the largest statement or row
    folding: bool  # are table names compared without regard to case?
    numbers_in_order: bool  # does a LOAD DATA draw consecutive numbers?
    step: int  # from one drawn number to the next
    loads: bool  # is LOAD DATA LOCAL allowed?
    statements_logged: bool  # a binlog of statements demands REPEATABLE READ

    @property
    def is_mariadb(self) -> bool:
        """Whether it is MariaDB."""
        return "mariadb" in self.version.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a statement without rows answered: rows affected, the first number it drew, warnings."""

    affected: int
    first_id: int
    warnings: int


class Session:
    """A connection. Not for use by two threads at once."""

    def __init__(self, connection: Any, place: str, secrets: list[str], traffic: Traffic) -> None:
        self._connection = connection
        self._place = place
        self._secrets = secrets
        self._traffic = traffic
        self.used = time.monotonic()
        self.broken = False
        self._open = False
        self.about: About

    @property
    def place(self) -> str:
        """Host, port and database, for messages."""
        return self._place

    def prepare(self, settings: dict[str, str]) -> None:
        """Sets the session's variables and asks what server this is."""
        told = self.rows(_ABOUT, "asking the server what it is")[0]
        self.about = About(
            version=told["version"] or "",
            packet=int(told["packet"] or 0),
            folding=told["folding"] != "0",
            numbers_in_order=told["autoinc"] in ("0", "1"),
            step=int(told["step"] or 1),
            loads=told["local"] == "1",
            statements_logged=told["logged"] == "1" and told["format"] == "STATEMENT",
        )
        seconds = float(settings.pop("statement_timeout"))
        limit = (
            f"max_statement_time = {seconds}" if self.about.is_mariadb else f"max_execution_time = {seconds * 1000:.0f}"
        )
        given = ", ".join(f"{name} = {value}" for name, value in settings.items())
        self.run(
            f"SET SESSION sql_mode = '{_MODE}', time_zone = '+00:00', autocommit = 1, sql_auto_is_null = 0, "
            f"sql_safe_updates = 0, foreign_key_checks = 1, unique_checks = 1, sql_notes = 1, "
            f"max_error_count = 1024, {limit}, {given}",
            "setting up the session",
        )

    @contextlib.contextmanager
    def translating(self, doing: str) -> Iterator[None]:
        """Turns the driver's errors into the platform's."""
        try:
            yield
        except DriverError as error:
            self.broken = self.broken or connection_lost(error)
            raise translated(error, f"{self._place}: {doing}", self._secrets) from None
        except (RuntimeError, ValueError, IndexError) as error:  # what the driver says to answers it cannot read
            self.broken = True
            raise ContractError(f"{self._place}: {doing}: the answer was not understood ({error})") from None

    def run(self, sql: str, doing: str) -> Done:
        """Executes a statement that answers no rows."""
        with self.translating(doing):
            return self.raw(sql)

    def raw(self, sql: str | bytes) -> Done:
        """Executes a statement that answers no rows; the driver's errors are left as they are."""
        statement = sql.encode() if isinstance(sql, str) else sql
        self._traffic.api_calls += 1
        self._traffic.bytes_sent += len(statement)
        self._connection.query(statement)
        told = self._connection._result
        return Done(affected=told.affected_rows, first_id=told.insert_id or 0, warnings=told.warning_count)

    def rows(self, sql: str, doing: str) -> list[dict[str, str | None]]:
        """The rows of a small query, every value the text the server printed."""
        with self.translating(doing):
            return [
                {name: None if value is None else value.decode("utf-8", "replace") for name, value in row.items()}
                for batch in self._batches(sql, _SENT_AT_ONCE)
                for row in batch.to_pylist()
            ]

    def fields(self, sql: str, doing: str) -> list[Any]:
        """The columns of a query's answer, as the driver describes them (`name`, `type_code`, `flags`, `length` …)."""
        with self.translating(doing):
            self._traffic.api_calls += 1
            self._connection.query(sql.encode())
            return list(self._connection._result.fields)

    def batches(self, sql: str, doing: str, size_bytes: int) -> Iterator[pa.RecordBatch]:
        """The rows of a query as they stream in, every value the bytes the server printed; at least one batch."""
        with self.translating(doing):
            yield from self._batches(sql, size_bytes)

    def _batches(self, sql: str, size_bytes: int) -> Iterator[pa.RecordBatch]:
        self._traffic.api_calls += 1
        return rows.batches(self._connection, sql.encode(), size_bytes)

    def load(self, sql: str, data: memoryview) -> Done:
        """Executes a LOAD DATA LOCAL whose file is `data`; the driver's errors are left as they are.

        Only here is a server's wish for a local file granted, and only these bytes are sent, whatever name it asks for.
        """
        wire = self._connection
        self._traffic.api_calls += 1
        self._traffic.bytes_sent += len(data)
        wire._execute_command(3, sql.encode())  # COM_QUERY
        packet = wire._read_packet()
        if packet.is_load_local_packet():
            for start in range(0, len(data), _SENT_AT_ONCE):
                wire.write_packet(bytes(data[start : start + _SENT_AT_ONCE]))
            wire.write_packet(b"")
            packet = wire._read_packet()
        told = OKPacketWrapper(packet)
        return Done(affected=told.affected_rows, first_id=told.insert_id or 0, warnings=told.warning_count)

    def begin(self, *, read_only: bool) -> None:
        """Starts a transaction: a read-only one sees one snapshot throughout, taken now."""
        self.rollback()
        level = "REPEATABLE READ" if read_only or self.about.statements_logged else "READ COMMITTED"
        self.run(f"SET TRANSACTION ISOLATION LEVEL {level}", "starting a transaction")
        self._open = True
        snapshot = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
        self.run(snapshot if read_only else "START TRANSACTION", "starting a transaction")

    def rollback(self) -> None:
        """Gives up the open transaction, if there is one."""
        if self._open:
            self._open = False
            self.run("ROLLBACK", "rolling back")

    def commit(self, doing: str) -> None:
        """Commits; UnknownOutcome when the server's answer was lost."""
        self._open = False
        try:
            self.raw("COMMIT")
        except DriverError as error:
            if connection_lost(error):
                self.broken = True
                raise UnknownOutcome(
                    f"{self._place}: {doing}: the connection was lost while committing",
                    mend="the delivery marker in the target tells whether it happened",
                ) from None
            raise translated(error, f"{self._place}: {doing}", self._secrets) from None

    def alive(self) -> bool:
        """Whether the server still answers on this connection."""
        if self.broken:
            return False
        if time.monotonic() - self.used < _FRESH:
            return True
        try:
            self._connection.ping(reconnect=False)
        except DriverError:
            return False
        return True

    def close(self) -> None:
        """Closes the connection without a word: rows that are still on their way are not waited for."""
        with contextlib.suppress(DriverError, OSError):
            self._connection._force_close()


class Server:
    """A server and its idle connections; `session()` lends one to one caller at a time."""

    def __init__(self, url: str, settings: dict[str, str], traffic: Traffic) -> None:
        self._address = address.parse(url)
        self.place, self.database = self._address.place, self._address.database
        self._settings = settings
        self._traffic = traffic
        self._idle: list[Session] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._idle)

    @property
    def secrets(self) -> list[str]:
        """What no message may show."""
        return self._address.secrets

    def connect(self) -> Any:
        """A connection of the driver's that is nobody else's, set up in no way."""
        try:
            return pymysql.connect(
                **self._address.login, charset="utf8mb4", autocommit=None, client_flag=CLIENT.LOCAL_FILES,
                program_name="sync-platform",
            )  # fmt: skip
        except (DriverError, OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError):  # an authentication method the driver lacks a package for
                error = pymysql.err.OperationalError(CR.CR_AUTH_PLUGIN_CANNOT_LOAD, str(error))
            raise refused_login(error, self.place, self.secrets) from None

    def _session(self) -> Session:
        session = Session(self.connect(), self.place, self.secrets, self._traffic)
        session.prepare(dict(self._settings))
        return session

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A connection with no transaction open; it goes back to the idle ones unless it broke."""
        with self._lock:
            session = self._idle.pop() if self._idle else None
        if session is not None and not session.alive():
            session.close()
            session = None
        session = session or self._session()
        try:
            yield session
        except BaseException:
            session.close()
            raise
        session.rollback()
        session.used = time.monotonic()
        with self._lock:
            self._idle.append(session)

    def close(self) -> None:
        """Closes the idle connections."""
        with self._lock:
            _close_all(self._idle)


def _close_all(sessions: list[Session]) -> None:
    while sessions:
        sessions.pop().close()
