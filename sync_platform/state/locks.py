"""Locks between processes: PostgreSQL session locks, which end with the connection that holds them."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from sync_platform.errors import AccessError, TransientError
from sync_platform.state.database import Connection, Database, translated


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The process that holds a lock."""

    pid: int
    host: str
    since: dt.datetime  # when it connected for the lock


@contextlib.contextmanager
def advisory_lock(
    db: Database,
    name: str,
    *,
    on_wait: Callable[[], object] | None = None,
    timeout: float | None = None,
) -> Iterator[Connection]:
    """Holds the lock `name` for the block, on an autocommitting connection of its own, which it yields.

    The lock ends with the holder, however it dies. `on_wait` is called once if somebody else has it;
    after `timeout` seconds of waiting a TransientError names the holder. AccessError at the end of
    the block if the connection, and so perhaps the lock, was lost meanwhile.
    """
    key = _key(name)
    with contextlib.ExitStack() as open_:
        with translated(db.shown):
            own = open_.enter_context(db.dedicated(application_name=_holder_name()))
            own.execute(_SETTINGS)
            taken = _try(own, key)
        if not taken:
            if on_wait is not None:
                on_wait()
            with translated(db.shown):
                _wait(db, own, name, key, timeout)
        yield own  # when the block raises, closing the connection is what releases the lock
        _release(own, name, key)


def held_by(db: Database, name: str) -> Holder | None:
    """Who holds the lock `name` now, or None."""
    with db.connection() as own:
        row = own.execute(
            """SELECT a.application_name, a.backend_start
               FROM pg_locks l JOIN pg_stat_activity a USING (pid)
               WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND (l.classid::bigint << 32 | l.objid::bigint) = %s::bigint""",
            (_key(name),),
        ).fetchone()
    if row is None:
        return None
    pid, _, host = str(row[0]).removeprefix(_PREFIX).partition("@")
    return Holder(pid=int(pid) if pid.isdigit() else 0, host=host, since=row[1])


_PREFIX: Final = "sync-platform lock "
#: A dead machine's connection is noticed in a minute, a killed waiter leaves the queue, a long holder stays.
_SETTINGS: Final = """
    SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3;
    SET client_connection_check_interval = '2s'; SET idle_session_timeout = 0"""


def _holder_name() -> str:
    return f"{_PREFIX}{os.getpid()}@{socket.gethostname()}"[:63]  # PostgreSQL cuts it there


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def _try(own: psycopg.Connection[Any], key: int) -> bool:
    row = own.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
    return row is not None and bool(row[0])


def _wait(db: Database, own: Connection, name: str, key: int, timeout: float | None) -> None:
    if timeout is not None and timeout <= 0:
        raise _busy(db, name, timeout)
    milliseconds = 0 if timeout is None else max(1, int(timeout * 1000))
    own.execute(f"SET lock_timeout = {milliseconds}")
    try:
        own.execute("SELECT pg_advisory_lock(%s)", (key,))
    except psycopg.errors.LockNotAvailable:
        raise _busy(db, name, timeout or 0.0) from None
    own.execute("SET lock_timeout = 0")


def _busy(db: Database, name: str, waited: float) -> TransientError:
    holder = held_by(db, name)
    who = f" by process {holder.pid} on {holder.host} since {holder.since:%Y-%m-%d %H:%M:%S} UTC" if holder else ""
    return TransientError(f"{name} is locked{who}; waited {waited:g} s", mend="wait until that process ends, or end it")


def _release(own: Connection, name: str, key: int) -> None:
    """Unlocks, and says so when there was nothing left to unlock."""
    try:
        with translated("lock"):
            row = own.execute("SELECT pg_advisory_unlock(%s)", (key,)).fetchone()
        lost = row is None or not row[0]
    except AccessError:
        lost = True
    if lost:
        raise AccessError(
            f"the lock {name} was lost while it was held: the connection to PostgreSQL broke",
            mend="run again: the next holder settles what was left",
        )
