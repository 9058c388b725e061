"""Frames in and out of PostgreSQL by COPY, so that a bulk path never loops over rows."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import psycopg
from psycopg import sql

FEW = 1_000  # rows from which COPY pays


def copy_out(
    connection: psycopg.Connection[Any],
    query: str,
    parameters: Mapping[str, Any],
    schema: Mapping[str, pl.DataType | type[pl.DataType]],
) -> pl.DataFrame:
    """The rows of `query` (named parameters `%(x)s`) as a frame of `schema`; null and '' stay apart.

    A query about few things (the longest list among its parameters is short) is answered without COPY.
    """
    if max((len(value) for value in parameters.values() if isinstance(value, list)), default=FEW) < FEW:
        return pl.DataFrame(connection.execute(query, parameters).fetchall(), schema=dict(schema), orient="row")
    cursor = psycopg.ClientCursor(connection)
    text = cursor.mogrify(query, parameters)
    copy = sql.SQL("COPY ({}) TO STDOUT WITH (FORMAT csv, FORCE_QUOTE *)").format(sql.SQL(text))
    buffer = io.BytesIO()
    with connection.cursor() as plain, plain.copy(copy) as rows:
        for block in rows:
            buffer.write(block)
    if not buffer.tell():
        return pl.DataFrame(schema=schema)
    buffer.seek(0)
    return pl.read_csv(buffer, has_header=False, schema=dict(schema))


def copy_in(connection: psycopg.Connection[Any], table: str, frame: pl.DataFrame) -> None:
    """Appends `frame` to `table`, columns matched by name."""
    if frame.is_empty():
        return
    columns: Sequence[str] = frame.columns
    copy = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT csv, NULL '\\N')").format(
        sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor() as cursor, cursor.copy(copy) as rows:
        for part in frame.iter_slices(20_000):
            rows.write(part.write_csv(include_header=False, quote_style="non_numeric", null_value="\\N").encode())
