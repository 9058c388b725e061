"""New rows straight into a table by binary COPY, the fastest way there is, with their marker in one transaction.

This is the short way for what goes well. Whatever does not (a type whose binary form is not known, a row that is
refused, a delivery that is marked already, an answer that was lost) changes nothing or is marked, and `writing` does
all of it again: row by row where it must, with a reason for each that is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import psycopg
import pyarrow as pa
from psycopg import errors

from sync_platform.connectors import copy_format
from sync_platform.connectors.postgres.connections import Connection, Connections
from sync_platform.connectors.postgres.faults import passing
from sync_platform.connectors.postgres.marker import Markers
from sync_platform.connectors.postgres.session import identifier
from sync_platform.connectors.postgres.storing import INTEGERS, drawing, exact_columns
from sync_platform.connectors.postgres.table import PgTable
from sync_platform.connectors.postgres.writing import TECHNICAL, refuse_whole_part
from sync_platform.connectors.sql import Column, all_applied, key_texts, refusals_before_sending
from sync_platform.crash import crash_point
from sync_platform.model import Op

_ROWS: Final = 10_000  # packed at a time, while the server takes those before


def written(
    connections: Connections, markers: Markers, table: PgTable, rows: pa.Table, delivery: str, stream: str
) -> pa.Table | None:
    """The outcomes of rows that were all created; None: they were not, or it is not known.

    Raises TransientError where the server waited for a lock, or worked, longer than it may, and ConfigError for what is
    wrong with every row.
    """
    given = [name for name in rows.column_names if name not in TECHNICAL]
    refuse_whole_part(table, Op.CREATE, given)
    # a number of no declared scale keeps the decimals it is written with, and a decimal128 has the same for all rows
    unscaled = any(table.column(name).type == "numeric" and "," not in table.column(name).declared for name in given)
    columns = None if unscaled else exact_columns(table, given, rows)
    if columns is None or refusals_before_sending(table, Op.CREATE, rows):
        return None
    try:
        with connections.one() as connection:
            if not markers.claimed(connection, delivery, stream):
                connection.rollback()
                return None
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            columns |= _drawn(connection, table, given, rows.num_rows)
            _copy(connection, table, columns)
            outcomes = all_applied(rows, key_texts([columns[name] for name in table.key]))
            markers.note(connection, delivery, outcomes)
            crash_point("request_sent")
            connection.commit()
            crash_point("answer_received")
    except (errors.LockNotAvailable, errors.QueryCanceled) as error:
        raise passing(error, f"{connections.place}: writing {table}") from None
    except (psycopg.Error, OverflowError):
        return None
    return outcomes


def _drawn(connection: Connection, table: PgTable, given: Sequence[str], count: int) -> dict[str, pa.ChunkedArray]:
    """Keys that the mapping does not give, drawn as the table's defaults do."""
    columns = {}
    for name in table.key:
        if name not in given:
            column = table.columns[name]
            drawn = [row[0] for row in connection.execute(drawing(column, count).encode()).fetchall()]
            columns[name] = pa.chunked_array([pa.array(drawn, INTEGERS[column.type])])
    return columns


def _copy(connection: Connection, table: PgTable, columns: dict[str, pa.ChunkedArray]) -> None:
    whole = pa.table(columns)
    names = ", ".join(identifier(name) for name in columns)
    sql = f"COPY {identifier(table.schema, table.name)} ({names}) FROM STDIN (FORMAT binary)"
    with connection.cursor() as cursor, cursor.copy(sql.encode()) as stream:
        stream.write(copy_format.BEGIN)
        for part in _parts(whole):
            fields = [_field(table.columns[name], part[name].combine_chunks()) for name in columns]
            stream.write(copy_format.tuples(fields, part.num_rows))
        stream.write(copy_format.END)


def _parts(rows: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, rows.num_rows, _ROWS):
        yield rows.slice(start, _ROWS)


def _field(column: Column, values: pa.Array) -> copy_format.Pieces:
    if column.type == "numeric":
        return copy_format.decimals(values)
    if copy_format.is_number(column.type):
        return copy_format.numbers(column.type, values)
    return copy_format.texts(values)
