"""Which run works on a sync; the next one settles what a dead one left."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from sync_platform.state.database import Database


def begin_run(database: Database, sync: str, run_id: str) -> list[str]:
    """Registers a run under the sync's lock; returns the ids of orphaned runs, now marked failed.

    Whoever holds the lock knows that every other unfinished run of the sync is dead.
    """
    with database.connection() as connection:
        orphans = connection.execute(
            """UPDATE sync.runs SET state = 'failed', finished_at = now()
               WHERE sync = %s AND state = 'running' AND run_id <> %s RETURNING run_id""",
            (sync, run_id),
        ).fetchall()
        connection.execute(
            """INSERT INTO sync.runs (run_id, sync, pid, host, started_at, state)
               VALUES (%s, %s, %s, %s, now(), 'running')
               ON CONFLICT (run_id) DO UPDATE SET state = 'running', pid = excluded.pid""",
            (run_id, sync, os.getpid(), socket.gethostname()),
        )
        return [str(row[0]) for row in orphans]


def finish_run(database: Database, run_id: str, state: str) -> None:
    """Marks a run finished: `done` or `failed`."""
    with database.connection() as connection:
        connection.execute("UPDATE sync.runs SET state = %s, finished_at = now() WHERE run_id = %s", (state, run_id))


def last_report(connection: psycopg.Connection[Any], sync: str, run_id: str | None = None) -> dict[str, Any] | None:
    """The newest report of a sync, or that of one run."""
    row = connection.execute(
        """SELECT report FROM sync.reports WHERE sync = %s AND (%s::text IS NULL OR run_id = %s)
           ORDER BY finished_at DESC LIMIT 1""",
        (sync, run_id, run_id),
    ).fetchone()
    return row[0] if row else None
