"""One connection to a PostgreSQL server: statements in, Arrow out, errors translated."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Final

import adbc_driver_postgresql.dbapi as adbc
import psycopg
import pyarrow as pa
from adbc_driver_manager import Error as DriverError
from adbc_driver_manager.dbapi import Connection, Cursor
from adbc_driver_postgresql import StatementOptions
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sync_platform.connectors.connector import Traffic
from sync_platform.connectors.hiding import secrets_in
from sync_platform.connectors.postgres.faults import connection_lost, refused_login, translated
from sync_platform.errors import ConfigError, UnknownOutcome

#: Rows of a COPY that are packed at a time.
_BATCH: Final = 10_000

#: A pooled connection unused for longer is asked for a sign of life first.
_FRESH: Final = 1.0


def identifier(*names: str) -> str:
    """A quoted, dotted name."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(value: str | None) -> str:
    """A quoted text, to be cast where another type is wanted (standard_conforming_strings is on)."""
    return "NULL" if value is None else "'" + value.replace("\0", "").replace("'", "''") + "'"


def array_literal(values: Sequence[str]) -> str:
    """A quoted array of texts, to be cast to the wanted array type."""
    quoted = ('"' + v.replace("\0", "").replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values)
    return literal("{" + ",".join(quoted) + "}")


def session_settings(statement_seconds: float, lock_seconds: float) -> dict[str, str]:
    """What every session is set to, so that values are printed alike whatever the server's defaults. 0: no limit."""
    return {
        "standard_conforming_strings": "on",
        "TimeZone": "UTC",
        "DateStyle": "ISO, YMD",
        "IntervalStyle": "iso_8601",
        "bytea_output": "hex",
        "extra_float_digits": "1",
        "statement_timeout": str(int(statement_seconds * 1000)),
        "lock_timeout": str(int(lock_seconds * 1000)),
    }


class Session:
    """A connection inside a transaction. Not for use by two threads at once."""

    def __init__(self, connection: Connection, place: str, secrets: list[str], traffic: Traffic) -> None:
        self._connection = connection
        self._place = place
        self._secrets = secrets
        self._traffic = traffic
        self.cursor: Cursor = connection.cursor()
        self.used = time.monotonic()
        self.broken = False
        self._open = False

    @property
    def place(self) -> str:
        """Host, port and database, for messages."""
        return self._place

    @contextlib.contextmanager
    def translating(self, doing: str) -> Iterator[None]:
        """Turns the driver's errors into the platform's."""
        try:
            yield
        except DriverError as error:
            self.broken = self.broken or connection_lost(error)
            raise translated(error, f"{self._place}: {doing}", self._secrets) from None

    def run(self, sql: str, doing: str) -> None:
        """Executes a statement whose rows do not matter."""
        with self.translating(doing):
            self.raw(sql)

    def raw(self, sql: str) -> None:
        """Executes a statement and leaves the driver's errors as they are."""
        self._traffic.api_calls += 1
        self.cursor.execute(sql)

    def rows(self, sql: str, doing: str) -> pa.Table:
        """The rows of a query."""
        with self.translating(doing):
            return self.raw_rows(sql)

    def raw_rows(self, sql: str) -> pa.Table:
        """The rows of a query; the driver's errors are left as they are."""
        self.raw(sql)
        return self.cursor.fetch_arrow_table()

    def batches(self, sql: str, doing: str, size_bytes: int) -> Iterator[pa.RecordBatch]:
        """The rows of a query as they stream in, in batches of about that size."""
        with self.translating(doing):
            self.cursor.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(size_bytes)})
            self.raw(sql)
            # not fetch_record_batch(): pyarrow's own reader makes an OSError of what goes wrong, without its SQLSTATE
            yield from self.cursor._results.reader  # type: ignore[union-attr]

    def copy_in(self, schema: str | None, name: str, rows: pa.Table) -> None:
        """COPYs rows into a table of exactly these types, or (no schema) into a new temporary one.

        The driver's errors are left as they are.
        """
        self._traffic.api_calls += 1
        self._traffic.bytes_sent += rows.nbytes
        # the driver packs a batch, then sends it: of a whole part the server would see nothing for half of the time
        batches = pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches(_BATCH))
        if schema is None:
            self.cursor.adbc_ingest(name, batches, mode="create", temporary=True)
        else:
            self.cursor.adbc_ingest(name, batches, mode="append", db_schema_name=schema)

    def begin(self, *, read_only: bool) -> None:
        """Starts a new transaction: a read-only one sees one snapshot throughout.

        The driver's own transactions are not used: it opens the next one right after a commit, and an
        idle connection would look like a transaction that is open for hours.
        """
        self.rollback()
        self._open = True
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if read_only else "BEGIN", "starting a transaction")

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
            self.raw_rows("SELECT 1")
        except DriverError:
            return False
        return True

    def close(self) -> None:
        """Closes the connection."""
        with contextlib.suppress(DriverError):
            self.cursor.close()
        with contextlib.suppress(DriverError, RuntimeError):
            self._connection.close()


class Server:
    """A server and its idle connections; `session()` lends one to one caller at a time."""

    def __init__(self, url: str, settings: dict[str, str], traffic: Traffic) -> None:
        try:
            told = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            raise ConfigError(
                "postgres: the url cannot be read",
                field="url",
                mend="write postgresql://user:password@host:port/database, with special characters of the "
                "password percent-encoded (@ is %40)",
            ) from None
        #: What no message may show.
        self.secrets = secrets_in(url, told)
        self.place = f"postgres {told.get('host') or 'localhost'}:{told.get('port') or 5432}/{told.get('dbname') or ''}"
        if any(secret in self.place for secret in self.secrets):
            self.place = "postgres"
        self.conninfo = make_conninfo(url, **_DEFAULTS | {k: v for k, v in told.items() if k in _DEFAULTS})
        self._settings = settings
        self._traffic = traffic
        self._idle: list[Session] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._idle)

    def conninfo_with(self, *, options: str) -> str:
        """How to connect, with more options for the server."""
        given = conninfo_to_dict(self.conninfo).get("options")
        return make_conninfo(self.conninfo, options=f"{given or ''} {options}".strip())

    def _connect(self) -> Session:
        try:
            connection = adbc.connect(self.conninfo, autocommit=True)
        except DriverError as error:
            raise refused_login(error, self.place, self.secrets) from None
        session = Session(connection, self.place, self.secrets, self._traffic)
        calls = ", ".join(f"set_config({literal(k)}, {literal(v)}, false)" for k, v in self._settings.items())
        session.rows(f"SELECT {calls}", "setting up the session")
        return session

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A connection with no transaction open; it goes back to the idle ones unless it broke."""
        with self._lock:
            session = self._idle.pop() if self._idle else None
        if session is not None and not session.alive():
            session.close()
            session = None
        session = session or self._connect()
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


_DEFAULTS: Final[dict[str, str]] = {
    "connect_timeout": "10",
    "application_name": "sync-platform",
    "client_encoding": "utf8",
}  # fmt: skip
