"""A cheap answer to: may this table have changed since I last asked?

A real table on a primary is asked for the server's own counters of written rows: they cost the same for a
thousand rows and a billion, and move for every insert, update and delete, also for one that commits late. A
server shows them some seconds after the commit at most. The newest cursor value, where an index has it, is
there at once. Views, queries, replicas and servers that do not count are
asked for the newest cursor and the number of rows.

https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ALL-TABLES-VIEW
"""

from __future__ import annotations

from typing import Final

from sync_platform.connectors.postgres.queries import source_of
from sync_platform.connectors.postgres.session import Session, identifier, literal
from sync_platform.connectors.sql import Table

_COUNTED: Final = """
SELECT c.relkind IN ('r', 'p', 'm') AND current_setting('track_counts')::boolean AND NOT pg_is_in_recovery() AS counted,
       (SELECT concat_ws('/', sum(s.n_tup_ins), sum(s.n_tup_upd), sum(s.n_tup_del), max(pg_relation_filenode(s.relid)))
        FROM pg_stat_all_tables s
        WHERE s.relid = c.oid OR s.relid IN (SELECT relid FROM pg_partition_tree(c.oid))) AS counters
FROM pg_class c WHERE c.oid = {name}::regclass
"""


def probe(session: Session, table: Table) -> str:
    """A text that differs once rows were written."""
    told = {"counted": False, "counters": None}
    if table.query is None:
        name = literal(identifier(table.schema, table.name))
        told = session.rows(_COUNTED.format(name=name), f"asking {table} for changes").to_pylist()[0]
    cursor = table.columns[table.cursor] if table.cursor else None
    wanted = []
    if cursor is not None and (cursor.indexed or not told["counted"]):
        wanted.append(f"max({identifier(cursor.name)})::text")
    if not told["counted"]:
        wanted.append("count(*)::text")
    parts = [str(told["counters"])] if told["counted"] else []
    if wanted:
        rows = session.rows(
            f"SELECT concat_ws(' ', {', '.join(wanted)}) AS seen FROM {source_of(table)}", f"asking {table}"
        )
        parts.append(str(rows.column("seen")[0].as_py()))
    return " ".join(parts)
