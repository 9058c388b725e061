"""Updates of a few rows, in one transaction and two trips, without a temporary table.

This is the short way for what goes well: a statement that fails for whatever reason has changed nothing, and
`writing` does all of it again, row by row where it must, and says what is wrong with which row. Repeating an update
by key is harmless, also when the connection was lost while it was being committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psycopg
import pyarrow as pa

from sync_platform.connectors.postgres.connections import Connections
from sync_platform.connectors.postgres.statements import update
from sync_platform.connectors.postgres.storing import as_texts
from sync_platform.connectors.postgres.table import PgTable
from sync_platform.connectors.postgres.writing import refuse_whole_part
from sync_platform.connectors.sql import refusals_before_sending
from sync_platform.crash import crash_point
from sync_platform.model import Change, Op, Outcome, Status

#: More rows than these are worth a temporary table.
MOST: Final = 500


def updated(connections: Connections, table: PgTable, changes: Sequence[Change]) -> list[Outcome] | None:
    """The outcomes of a few updates of the same fields that go well, all or none; None: none of them was made.

    Columns that might store something else than they are given are left to the longer way, which refuses that.
    """
    names = sorted(changes[0].fields)
    if len(changes) > MOST or not names or any(table.column(name).rounds for name in names):
        return None
    if any(not c.target_id or c.fields.keys() != changes[0].fields.keys() for c in changes):
        return None
    refuse_whole_part(table, Op.UPDATE, names)
    texts = as_texts(table, names, changes)
    if refusals_before_sending(table, Op.UPDATE, texts):
        return None
    told = _told(connections, table, names, texts)
    return None if told is None else [_outcome(table, change, *told[at]) for at, change in enumerate(changes)]


def _told(
    connections: Connections, table: PgTable, names: Sequence[str], rows: pa.Table
) -> dict[int, tuple[bool, bool]] | None:
    """Of each row whether it was updated and whether it is there; None: it did not work out."""
    columns = ["_n", "_target_id", *names]
    sources = ", ".join(["%s::bigint[]", *["%s::text[]"] * (len(columns) - 1)])
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in columns).replace("%", "%%")
    sql = update(table, names, 0, MOST, part="{part}").replace("%", "%%")
    sql = sql.replace("{part}", f"(SELECT * FROM unnest({sources}) AS u({quoted}))")
    given = [list(range(rows.num_rows)), *(rows[name].to_pylist() for name in columns[1:])]
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
    return told


def _outcome(table: PgTable, change: Change, done: bool, there: bool) -> Outcome:
    status = Status.APPLIED if done else Status.NOOP if there else Status.REFUSED
    reason = f"{table} no longer has a row {change.target_id}" if status is Status.REFUSED else None
    return Outcome(key=change.key, op=change.op, status=status, target_id=change.target_id, reason=reason)
