"""Who works: every worker holds a lock that dies with it, so that the others see it dead at once."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sync_platform.state.locks import advisory_lock, held_by

if TYPE_CHECKING:
    from sync_platform.state.database import Connection, Database


@contextlib.contextmanager
def registered(database: Database, worker: str) -> Iterator[Connection]:
    """Makes this process known as a worker for the block; yields the connection that holds its lock."""
    with advisory_lock(database, _lock(worker)) as lock:
        lock.execute(
            "INSERT INTO sync.workers (worker_id, host, pid) VALUES (%s, %s, %s)",
            (worker, socket.gethostname(), os.getpid()),
        )
        yield lock
        lock.execute("DELETE FROM sync.workers WHERE worker_id = %s", (worker,))


def workers(database: Database) -> tuple[list[str], list[str]]:
    """The registered workers that live, and those that died."""
    with database.connection() as connection:
        known = [str(row[0]) for row in connection.execute("SELECT worker_id FROM sync.workers").fetchall()]
    alive = [one for one in known if held_by(database, _lock(one)) is not None]
    return alive, [one for one in known if one not in alive]


def forget(connection: Connection, dead: list[str]) -> None:
    """Removes dead workers from the register."""
    connection.execute("DELETE FROM sync.workers WHERE worker_id = ANY(%s::uuid[])", (dead,))


def _lock(worker: str) -> str:
    return f"worker:{worker}"
