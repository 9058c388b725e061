"""Connections of psycopg to a server, beside those of the driver for Arrow: for short statements, and for COPY."""

from __future__ import annotations

import contextlib
import select
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import psycopg

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]


class Connections:
    """Idle connections, lent to one caller at a time. Safe to share between threads."""

    def __init__(self, conninfo: str, place: str, settings: Mapping[str, str]) -> None:
        self._conninfo, self._settings = conninfo, dict(settings)
        #: Host, port and database, for messages.
        self.place = place
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._idle)

    @contextlib.contextmanager
    def one(self) -> Iterator[Connection]:
        """A connection in no transaction; it is closed when the block fails, else kept for the next."""
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

    def close(self) -> None:
        """Closes the idle connections."""
        with self._lock:
            _close_all(self._idle)

    def _connect(self) -> Connection:
        made = psycopg.connect(self._conninfo)
        for name, value in self._settings.items():
            made.execute("SELECT set_config(%s, %s, false)", (name, value))
        made.commit()
        return made


def _usable(own: Connection) -> bool:
    """Whether an idle connection is still good: a server that went away has left something to read."""
    return not own.closed and not own.broken and not select.select([own.pgconn.socket], [], [], 0)[0]


def _close_all(connections: list[Connection]) -> None:
    while connections:
        connections.pop().close()
