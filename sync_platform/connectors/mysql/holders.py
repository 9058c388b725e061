"""Who holds the lock that a statement waited for in vain.

The server tells of no lock once the waiting is over, so this is the longest of the transactions that hold row locks at
all: https://dev.mysql.com/doc/refman/8.4/en/information-schema-innodb-trx-table.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sync_platform.connectors.mysql.session import Server

_QUERY: Final = """
SELECT p.ID AS id, p.USER AS who, p.HOST AS host, t.trx_rows_locked AS locked,
       timestampdiff(SECOND, t.trx_started, sysdate()) AS seconds
FROM information_schema.INNODB_TRX t JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id
WHERE t.trx_rows_locked > 0 AND p.ID <> connection_id() ORDER BY t.trx_started LIMIT 1
"""


def longest(server: Server) -> str | None:
    """The longest transaction that holds row locks, as a sentence; seeing it takes the right PROCESS."""
    with server.session() as session:
        found = session.rows(_QUERY, "asking who holds locks")
    if not found:
        return None
    one = found[0]
    return (
        f"the longest transaction with locks is session {one['id']} of {one['who']} from {one['host']}: "
        f"{one['locked']} rows for {one['seconds']} seconds"
    )
