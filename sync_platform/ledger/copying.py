"""Frames in and out of PostgreSQL, so that a bulk path never loops over rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import psycopg
from psycopg import sql


def fetched(
    connection: psycopg.Connection[Any],
    query: str,
    parameters: Mapping[str, Any],
    schema: Mapping[str, pl.DataType | type[pl.DataType]],
) -> pl.DataFrame:
    """The rows of `query` (named parameters `%(x)s`) as a frame of `schema`, a column at a time.

    Of some hundred thousand rows at most: each column is one array, which psycopg reads without Python.
    """
    names = [f"c{place}" for place, _ in enumerate(schema)]
    arrays = ", ".join(f"array_agg({name})" for name in names)
    with connection.cursor(binary=True) as cursor:
        told = cursor.execute(f"SELECT {arrays} FROM ({query}) AS q({', '.join(names)})", parameters).fetchone()
    columns = zip(schema.items(), told or [], strict=True)
    return pl.DataFrame([pl.Series(name, values or [], dtype=kind) for (name, kind), values in columns])


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
