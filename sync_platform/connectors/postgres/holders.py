"""Who holds the lock that a statement waited for in vain.

Nobody can look while a statement of ours waits, so this is the longest of the transactions that hold a lock on
the table right after: https://www.postgresql.org/docs/current/view-pg-locks.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sync_platform.connectors.postgres.session import literal

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


def longest(server: Server, table: Table) -> str | None:
    """The longest transaction that holds a lock on the table, as a sentence."""
    sql = _QUERY.format(schema=literal(table.schema), name=literal(table.name))
    with server.session() as session:
        found = session.rows(sql, f"asking who locks {table}").to_pylist()
    if not found:
        return None
    one = found[0]
    named = f" ({one['application']})" if one["application"] else ""
    return f"session {one['pid']} of {one['who']}{named} holds {one['mode']} on it since {one['since']} UTC"
