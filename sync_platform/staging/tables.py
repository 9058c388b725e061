"""Staged tables: their names, their columns and how far they were filled.

A staged table is `lake."<connection>"."<Stream>"`: the vendor's columns under the vendor's names and

    _key      VARCHAR   the record's key as text; several key columns: the JSON array of their texts
    _hash     UBIGINT   of the vendor's columns (see `fingerprint`)
    _seq      BIGINT    when this version of the row was merged: higher is later (see `merge`)
    _deleted  BOOLEAN   the source no longer has the record; its last values stay
    _cursor   BIGINT    the cursor field in microseconds since the epoch (or the number itself), or null
    _read_at  BIGINT    when the request that brought this version started, in microseconds
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.types as pt

from sync_platform.model import CURSOR, DELETED, HASH, KEY, READ_AT, SEQ
from sync_platform.staging.canonical import TECHNICAL
from sync_platform.staging.lake import CATALOG, quoted

if TYPE_CHECKING:
    import duckdb

_TECHNICAL_SQL: Final = (
    f"{KEY} VARCHAR, {HASH} UBIGINT, {SEQ} BIGINT, {DELETED} BOOLEAN, {CURSOR} BIGINT, {READ_AT} BIGINT"
)


def table_name(connection: str, stream: str) -> str:
    """The quoted three-part name of a staged table."""
    return f"{CATALOG}.{quoted(connection)}.{quoted(stream)}"


def exists(con: duckdb.DuckDBPyConnection, connection: str, stream: str) -> bool:
    """Whether the stream was ever staged."""
    return columns(con, connection, stream) is not None


def columns(con: duckdb.DuckDBPyConnection, connection: str, stream: str) -> pa.Schema | None:
    """The vendor's columns of a staged table in their order, without ours; None when there is no table."""
    import duckdb

    try:
        empty = con.execute(f"SELECT * FROM {table_name(connection, stream)} LIMIT 0").to_arrow_table()
    except duckdb.CatalogException:
        return None
    return pa.schema([field for field in empty.schema if field.name not in TECHNICAL])


def high_seq(con: duckdb.DuckDBPyConnection, connection: str, stream: str, *, at_least: int = 0) -> int:
    """The highest `_seq` in a staged table, 0 if there is none: everything later is new.

    `at_least`: what it was before. Files that hold nothing later are then not read.
    """
    import duckdb

    query = f"SELECT max({SEQ}) FROM {table_name(connection, stream)}"
    try:
        row = con.execute(f"{query} WHERE {SEQ} >= {at_least}").fetchone() if at_least else None
        if row is None or row[0] is None:  # what had that number may have been erased
            row = con.execute(query).fetchone()
    except duckdb.CatalogException:
        return 0
    return int(row[0]) if row and row[0] is not None else 0


def duckdb_type(kind: pa.DataType) -> str:
    """DuckDB's name of a canonical Arrow type."""
    if pt.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if pt.is_timestamp(kind):
        return "TIMESTAMP" if kind.tz is None else "TIMESTAMP WITH TIME ZONE"
    names = {
        pa.bool_(): "BOOLEAN",
        pa.int64(): "BIGINT",
        pa.float64(): "DOUBLE",
        pa.string(): "VARCHAR",
        pa.binary(): "BLOB",
        pa.date32(): "DATE",
        pa.time64("us"): "TIME",
    }
    return names[kind]


def create(con: duckdb.DuckDBPyConnection, connection: str, stream: str, types: Mapping[str, pa.DataType]) -> None:
    """Creates the staged table with these vendor columns unless it exists."""
    vendor = "".join(f"{quoted(name)} {duckdb_type(kind)}, " for name, kind in types.items())
    con.execute(f"CREATE SCHEMA IF NOT EXISTS {CATALOG}.{quoted(connection)}")
    con.execute(f"CREATE TABLE IF NOT EXISTS {table_name(connection, stream)} ({vendor}{_TECHNICAL_SQL})")


def add_columns(con: duckdb.DuckDBPyConnection, connection: str, stream: str, types: Mapping[str, pa.DataType]) -> None:
    """Adds vendor columns a staged table lacks; rows staged before hold null there."""
    for name, kind in types.items():
        con.execute(
            f"ALTER TABLE {table_name(connection, stream)} ADD COLUMN IF NOT EXISTS {quoted(name)} {duckdb_type(kind)}"
        )
