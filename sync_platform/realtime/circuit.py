"""A system that keeps failing is left alone for a while: its events wait in order, and nobody else's do.

Closed: work. Open: nobody calls until `retry_at`. Then one small batch tries; success closes the
circuit, failure opens it for twice as long. The state is shared by all workers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sync_platform.errors import AccessError, AuthError, SyncError, TransientError
from sync_platform.ledger.claims import BusyError

if TYPE_CHECKING:
    from sync_platform.state.database import Database

FIRST_SECONDS: Final = 0.5
LONGEST_SECONDS: Final = 60.0
REFUSED_SECONDS: Final = 30.0  # wrong credentials do not mend themselves


class SystemAwayError(SyncError):
    """A source or a target cannot be reached or refuses everything: nothing is wrong with the record."""

    code = "system_away"

    def __init__(self, connection: str, cause: AccessError | TransientError) -> None:
        super().__init__(cause.message, mend=cause.mend)
        self.connection = connection
        self.wait = cause.retry_after if isinstance(cause, TransientError) else None
        if isinstance(cause, AuthError):
            self.wait = REFUSED_SECONDS


@contextlib.contextmanager
def calling(connection: str) -> Iterator[None]:
    """Names the system whose failure ends the block."""
    try:
        yield
    except BusyError:
        raise
    except (AccessError, TransientError) as error:
        raise SystemAwayError(connection, error) from error


def failed(database: Database, connection_name: str, reason: str, *, wait: float | None = None) -> float:
    """Notes a failure; returns the seconds until the next try (`wait`: what the system asked for)."""
    with database.connection() as connection:
        row = connection.execute(
            """INSERT INTO sync.circuits AS c (connection, failures, opened_at, retry_at, reason)
               VALUES (%(name)s, 1, now(), now() + make_interval(secs => coalesce(%(wait)s, %(first)s)), %(reason)s)
               ON CONFLICT (connection) DO UPDATE
                  SET failures = c.failures + CASE WHEN c.retry_at <= now() THEN 1 ELSE 0 END,
                      opened_at = coalesce(c.opened_at, now()), reason = excluded.reason,
                      retry_at = CASE WHEN c.retry_at > now() THEN greatest(c.retry_at, excluded.retry_at)
                          ELSE now() + make_interval(secs => coalesce(%(wait)s,
                               least(%(longest)s, %(first)s * power(2, least(c.failures, 10))))) END
               RETURNING extract(epoch FROM retry_at - now())::float8""",
            {
                "name": connection_name,
                "reason": reason,
                "wait": wait,
                "first": FIRST_SECONDS,
                "longest": LONGEST_SECONDS,
            },
        ).fetchone()
    return float(row[0]) if row else FIRST_SECONDS


def worked(database: Database, connection_name: str) -> bool:
    """Notes a success; True when that closed an open circuit."""
    with database.connection() as connection:
        return connection.execute("DELETE FROM sync.circuits WHERE connection = %s", (connection_name,)).rowcount > 0


def standing(database: Database) -> dict[str, bool]:
    """Every connection with an open circuit: whether it may be tried now."""
    with database.reading() as connection:
        rows = connection.execute("SELECT connection, retry_at <= now() FROM sync.circuits").fetchall()
    return {str(name): bool(due) for name, due in rows}
