"""Who holds the lock that a statement waited for in vain.

Nobody can look while a statement of ours waits, so this is the longest of the transactions that hold a lock on
the table right after: https://www.postgresql.org/docs/current/view-pg-locks.html
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sync_platform.connectors.postgres.session import literal
from sync_platform.errors import SyncError, TransientError

if TYPE_CHECKING:
    from sync_platform.connectors.postgres.session import Server
    from sync_platform.connectors.sql import Table

_QUERY: Final = """
SELECT a.pid::text AS pid, coalesce(a.usename, '')::text AS who, coalesce(a.application_name, '')::text AS application,
       to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since, l.mode::text AS mode
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_stat_activity a USING (pid)
WHERE n.nspname = {schema} AND c.relname = {name} AND l.granted AND l.mode <> 'AccessShareLock'
      AND a.pid <> pg_backend_pid() AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY a.xact_start NULLS LAST LIMIT 1
"""


@contextlib.contextmanager
def named(server: Server, table: Table) -> Iterator[None]:
    """A lock on the table that was not granted within the block is told with who holds one."""
    try:
        yield
    except TransientError as error:
        if "a lock was not granted" not in error.message:
            raise
        holder = None
        with contextlib.suppress(SyncError):
            holder = _holder(server, table)
        if holder is None:
            raise
        raise TransientError(
            f"{error.message}; {holder}", mend="the next run tries again; or end that session, if it is forgotten"
        ) from None


def _holder(server: Server, table: Table) -> str | None:
    sql = _QUERY.format(schema=literal(table.schema), name=literal(table.name))
    with server.session() as session:
        found = session.rows(sql, f"asking who locks {table}").to_pylist()
    if not found:
        return None
    one = found[0]
    named = f" ({one['application']})" if one["application"] else ""
    return f"session {one['pid']} of {one['who']}{named} holds {one['mode']} on it since {one['since']} UTC"
