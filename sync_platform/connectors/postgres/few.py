"""Updates of a few rows, in one transaction and two trips, without a temporary table.

This is the short way for what goes well: a statement that fails for whatever reason has changed nothing, and
`writing` does all of it again, row by row where it must, and says what is wrong with which row. Repeating an update
by key is harmless, also when the connection was lost while it was being committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from sync_platform.connectors.postgres.connections import Connections
from sync_platform.connectors.postgres.statements import update
from sync_platform.connectors.postgres.table import PgTable
from sync_platform.crash import crash_point
from sync_platform.model import Status

#: More rows than these are worth a temporary table.
MOST: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of one row."""

    status: Status
    reason: str | None = None


def updated(
    connections: Connections, table: PgTable, names: Sequence[str], rows: Sequence[tuple[str, Sequence[str | None]]]
) -> list[Done] | None:
    """Sets the named columns of rows (key, values as text), all or none; None: it did not work out."""
    columns = ["_n", "_target_id", *names]
    sources = ", ".join(["%s::bigint[]", *["%s::text[]"] * (len(columns) - 1)])
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in columns).replace("%", "%%")
    sql = update(table, names, 0, MOST, part="{part}").replace("%", "%%")
    sql = sql.replace("{part}", f"(SELECT * FROM unnest({sources}) AS u({quoted}))")
    given: list[list[Any]] = [list(range(len(rows))), [key for key, _ in rows]]
    given += [[values[at] for _, values in rows] for at in range(len(names))]
    try:
        with connections.one() as connection:
            with connection.pipeline():
                connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
                answer = connection.execute(sql.encode(), given)
            told = {row[0]: (row[1], row[2]) for row in answer.fetchall()}
            crash_point("request_sent")
            connection.commit()
            crash_point("answer_received")
    except psycopg.Error:
        return None
    return [_done(table, key, *told[at]) for at, (key, _) in enumerate(rows)]


def _done(table: PgTable, key: str, done: bool, there: bool) -> Done:
    if done:
        return Done(status=Status.APPLIED)
    if there:
        return Done(status=Status.NOOP)
    return Done(status=Status.REFUSED, reason=f"{table} no longer has a row {key}")
