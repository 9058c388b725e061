"""Updates of a few rows, in one transaction and two trips, without a temporary table.

This is the short way for what goes well: a statement that fails for whatever reason has changed nothing, and
`writing` does all of it again, row by row where it must, and says what is wrong with which row. Repeating an update
by key is harmless, also when the connection was lost while it was being committed.
"""

from __future__ import annotations

import contextlib
import select
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import psycopg

from sync_platform.connectors.connector import Traffic
from sync_platform.connectors.postgres.statements import update
from sync_platform.connectors.postgres.table import PgTable
from sync_platform.crash import crash_point
from sync_platform.model import Status

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

#: More rows than these are worth a temporary table.
MOST: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of one row."""

    status: Status
    reason: str | None = None


class FewRows:
    """Connections for short statements, beside those for Arrow. Safe to share between threads."""

    def __init__(self, conninfo: str, settings: Mapping[str, str], traffic: Traffic) -> None:
        self._conninfo, self._settings, self._traffic = conninfo, dict(settings), traffic
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._idle)

    def update(
        self, table: PgTable, names: Sequence[str], rows: Sequence[tuple[str, Sequence[str | None]]]
    ) -> list[Done] | None:
        """Sets the named columns of rows (key, values as text), all or none; None: it did not work out."""
        columns = ["_n", "_target_id", *names]
        sources = ", ".join(["%s::bigint[]", *["%s::text[]"] * (len(columns) - 1)])
        quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in columns).replace("%", "%%")
        sql = update(table, names, 0, MOST, part="{part}").replace("%", "%%")
        sql = sql.replace("{part}", f"(SELECT * FROM unnest({sources}) AS u({quoted}))")
        given: list[list[Any]] = [list(range(len(rows))), [key for key, _ in rows]]
        given += [[values[at] for _, values in rows] for at in range(len(names))]
        self._traffic.api_calls += 1
        try:
            with self._connection() as connection:
                with connection.pipeline():
                    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
                    answer = connection.execute(sql.encode(), given)
                told = {row[0]: (row[1], row[2]) for row in answer.fetchall()}
                crash_point("request_sent")
                connection.commit()
                crash_point("answer_received")
        except psycopg.Error:
            return None
        return [_done(table, key, *told[at]) for at, (key, _) in enumerate(rows)]

    def close(self) -> None:
        """Closes the idle connections."""
        with self._lock:
            _close_all(self._idle)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection]:
        with self._lock:
            own = self._idle.pop() if self._idle else None
        if own is not None and not _usable(own):
            own.close()
            own = None
        own = own or self._connect()
        try:
            yield own
        except BaseException:
            own.close()
            raise
        with self._lock:
            self._idle.append(own)

    def _connect(self) -> Connection:
        made = psycopg.connect(self._conninfo)
        for name, value in self._settings.items():
            made.execute("SELECT set_config(%s, %s, false)", (name, value))
        made.commit()
        return made


def _done(table: PgTable, key: str, done: bool, there: bool) -> Done:
    if done:
        return Done(status=Status.APPLIED)
    if there:
        return Done(status=Status.NOOP)
    return Done(status=Status.REFUSED, reason=f"{table} no longer has a row {key}")


def _usable(own: Connection) -> bool:
    """Whether an idle connection is still good: a server that went away has left something to read."""
    return not own.closed and not own.broken and not select.select([own.pgconn.socket], [], [], 0)[0]


def _close_all(connections: list[Connection]) -> None:
    while connections:
        connections.pop().close()
