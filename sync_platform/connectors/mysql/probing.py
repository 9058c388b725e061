"""A cheap answer to: may this table have changed since I last asked?

InnoDB remembers in memory when a table was last written (UPDATE_TIME, in whole seconds, forgotten by a
restart); the newest cursor value, where an index has it, is exact. Views and queries are asked for the newest cursor
and the number of rows. https://dev.mysql.com/doc/refman/8.4/en/information-schema-tables-table.html
"""

from __future__ import annotations

from typing import Final

from sync_platform.connectors.mysql.catalog import StoredTable
from sync_platform.connectors.mysql.queries import source_of
from sync_platform.connectors.mysql.session import Session, identifier, literal

#: While the second in which it was written is not over, the answer is a new one each time.
_WRITTEN: Final = """
SELECT TABLE_TYPE <> 'VIEW' AS counted, concat_ws(' ', UPDATE_TIME, AUTO_INCREMENT,
       CASE WHEN UPDATE_TIME >= now() - INTERVAL 1 SECOND THEN now(6) END) AS seen
FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {name}
"""


def probe(session: Session, table: StoredTable) -> str:
    """A text that differs once rows were written."""
    told: dict[str, str | None] = {"counted": "0", "seen": None}
    if table.query is None:
        told = _written(session, table)
    counted = told["counted"] == "1"
    cursor = table.columns[table.cursor] if table.cursor else None
    wanted = []
    if cursor is not None and (cursor.indexed or not counted):
        wanted.append(f"max({identifier(cursor.name)})")
    if not counted:
        wanted.append("count(*)")
    parts = [str(told["seen"])] if counted else []
    if wanted:
        sql = f"SELECT concat_ws(' ', {', '.join(wanted)}) AS seen FROM {source_of(table)}"
        parts.append(str(session.rows(sql, f"asking {table}")[0]["seen"]))
    return " ".join(parts)


def _written(session: Session, table: StoredTable) -> dict[str, str | None]:
    """When the table was last written, as far as the server knows it."""
    if not session.about.is_mariadb:  # MySQL answers what it knew a day ago otherwise
        session.run("SET SESSION information_schema_stats_expiry = 0", f"asking {table} for changes")
    asked = _WRITTEN.format(schema=literal(table.schema), name=literal(table.name))
    return session.rows(asked, f"asking {table} for changes")[0]
