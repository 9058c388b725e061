"""Frames in and out of PostgreSQL, so that a bulk path never loops over rows."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
_NULL: Final = -1
_JSONB: Final = b"\x01"  # the version that begins each value


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


def copy_in(
    connection: psycopg.Connection[Any], table: str, frame: pl.DataFrame, documents: Collection[str] = ()
) -> None:
    """Appends `frame` to `table`, columns matched by name; `documents` are texts for columns of jsonb.

    Columns are texts, whole numbers for `bigint` and floats for `double precision`. Binary, since the server takes
    twice as long over the same rows as CSV (see `COPY`, "Binary Format", in PostgreSQL's manual).
    """
    if frame.is_empty():
        return
    copy = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT binary)").format(
        sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    )
    with connection.cursor() as cursor, cursor.copy(copy) as stream:
        stream.write(_SIGNATURE)
        for part in frame.iter_slices(20_000):
            stream.write(_tuples(part, documents))
        stream.write(_END)


def _tuples(frame: pl.DataFrame, documents: Collection[str]) -> memoryview:
    """Every row as COPY wants it: how many fields, then the length and the bytes of each."""
    pieces = [pa.scalar(struct.pack(">h", frame.width), pa.large_binary())]
    for column in frame:
        pieces += _texts(column, column.name in documents) if column.dtype in (pl.String, pl.Null) else _numbers(column)
    rows = pc.binary_join_element_wise(*pieces, pa.scalar(b"", pa.large_binary()))
    return memoryview(rows.buffers()[2])


def _texts(column: pl.Series, document: bool) -> list[Any]:
    values = column.to_arrow().cast(pa.large_binary())
    prefix = [pa.scalar(_JSONB, pa.large_binary())] if document else []
    if not column.null_count():
        return [_words(pc.binary_length(values).to_numpy() + len(prefix)), *prefix, values]
    if document:
        values = pc.binary_join_element_wise(*prefix, values, pa.scalar(b"", pa.large_binary()))
    lengths = pc.fill_null(pc.binary_length(values), _NULL).to_numpy()
    return [_words(lengths), pc.fill_null(values, b"")]


def _numbers(column: pl.Series) -> list[Any]:
    """64 bits each; a null is a length of -1 and no bytes."""
    kind = ">f8" if column.dtype.is_float() else ">i8"
    there = column.is_not_null().to_numpy()
    values = column.fill_null(0).to_numpy().astype(kind)
    if there.all():
        both = np.empty(len(values), dtype=[("length", ">i4"), ("value", kind)])
        both["length"], both["value"] = 8, values
        return [_fixed(both)]
    none = pa.scalar(b"", pa.large_binary())
    return [_words(np.where(there, 8, _NULL)), pc.if_else(pa.array(there), _fixed(values), none)]


def _words(numbers: np.ndarray[Any, Any]) -> Any:
    return _fixed(numbers.astype(">i4"))


def _fixed(values: np.ndarray[Any, Any]) -> Any:
    """The bytes of each value."""
    kind = pa.binary(values.dtype.itemsize)
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(values), [None, pa.py_buffer(values)]).cast(pa.large_binary())
