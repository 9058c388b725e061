"""What events brought since staging was last loaded: plans read staging with these rows laid over it.

`sync.observed` holds the newest state of records that events were about. A row that staging has caught
up with is forgotten here; a newer one stands in for the staged one, so that a plan neither sends an
older state than the warm lane did nor decides about duplicates by it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.types as pt

from sync_platform.model import CURSOR, DELETED, HASH, KEY, READ_AT, SEQ
from sync_platform.staging.canonical import TECHNICAL
from sync_platform.staging.tables import columns, table_name

if TYPE_CHECKING:
    import duckdb

    from sync_platform.state.database import Database

_ALL: Final = """
    SELECT key, row, deleted, version_cursor, version_read_at FROM sync.observed
    WHERE connection = %s AND stream = %s"""
#: Only the version that was compared: an event may have brought a newer one meanwhile.
_FORGET: Final = """
    DELETE FROM sync.observed o USING unnest(%s::text[], %s::bigint[], %s::bigint[]) AS d(key, cursor, read_at)
    WHERE o.connection = %s AND o.stream = %s AND o.key = d.key AND o.version_read_at = d.read_at
      AND o.version_cursor IS NOT DISTINCT FROM d.cursor"""


def newer_than_staging(
    con: duckdb.DuckDBPyConnection,
    db: Database,
    connection: str,
    stream: str,
    needs: Callable[[], Collection[str]] | None = None,
) -> pa.Table | None:
    """The observed rows of a stream that staging does not have yet, in its columns; None when there are none.

    Workers read the fields that syncs use, so a row may lack others: those keep their staged values. A record that
    staging has never seen stands when all of `needs` was read of it (None: every staged field).
    """
    with db.connection() as own:
        found = own.execute(_ALL, (connection, stream)).fetchall()
    schema = columns(con, connection, stream) if found else None
    if schema is None:
        return None
    versions = pa.table(
        {
            KEY: pa.array([row[0] for row in found], pa.string()),
            CURSOR: pa.array([row[3] for row in found], pa.int64()),
            READ_AT: pa.array([row[4] for row in found], pa.int64()),
        }
    )
    con.register("_versions", versions)
    caught_up = con.execute(
        f"SELECT v.{KEY}, v.{CURSOR}, v.{READ_AT} FROM _versions v "
        f"JOIN {table_name(connection, stream)} s USING ({KEY}) "
        f"WHERE (coalesce(s.{CURSOR}, 0), s.{READ_AT}) >= (coalesce(v.{CURSOR}, 0), v.{READ_AT})"
    ).fetchall()
    con.unregister("_versions")
    if caught_up:
        keys, cursors, read_ats = (list(part) for part in zip(*caught_up, strict=True))
        with db.connection() as own:
            own.execute(_FORGET, (keys, cursors, read_ats, connection, stream))
    old = {row[0] for row in caught_up}
    newer = _completed(con, table_name(connection, stream), schema, [row for row in found if row[0] not in old], needs)
    return rows_of(newer, schema) if newer else None


def _completed(
    con: duckdb.DuckDBPyConnection,
    table: str,
    schema: pa.Schema,
    rows: Sequence[Sequence[Any]],
    needs: Callable[[], Collection[str]] | None,
) -> list[Sequence[Any]]:
    """Rows with the staged values of the fields they were not told: absent is not null."""
    every = set(schema.names)
    partial = [row[0] for row in rows if not row[1].keys() >= every]
    if not partial:
        return list(rows)
    staged = _staged_values(con, table, schema, partial)
    wanted = every if needs is None else every.intersection(needs())
    told = [(row[0], {**staged.get(row[0], {}), **row[1]}, *row[2:]) for row in rows]
    return [row for row in told if row[2] or row[1].keys() >= wanted]


def _staged_values(
    con: duckdb.DuckDBPyConnection, table: str, schema: pa.Schema, keys: Sequence[str]
) -> Mapping[str, Mapping[str, Any]]:
    """The staged values of these records, as JSON holds them."""
    con.register("_partial", pa.table({KEY: pa.array(keys, pa.string())}))
    found = con.execute(f"SELECT * FROM {table} SEMI JOIN _partial USING ({KEY})").to_arrow_table()
    con.unregister("_partial")
    columns_ = [encoded(found.column(name)) for name in schema.names]
    values = [dict(zip(schema.names, row, strict=True)) for row in zip(*columns_, strict=True)]
    return dict(zip(found.column(KEY).to_pylist(), values, strict=True))


def rows_of(found: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    """Rows (key, values as JSON, deleted, cursor, read_at) as rows of a staged table with this schema.

    Their `_seq` is 0: that events brought them is no news to a plan that goes by `_seq`.
    """
    size = len(found)
    arrays = {one.name: decoded([row[1].get(one.name) for row in found], one.type) for one in schema}
    technical = {
        KEY: pa.array([row[0] for row in found], pa.string()),
        HASH: pa.nulls(size, pa.uint64()),
        SEQ: pa.array([0] * size, pa.int64()),
        DELETED: pa.array([row[2] for row in found], pa.bool_()),
        CURSOR: pa.array([row[3] for row in found], pa.int64()),
        READ_AT: pa.array([row[4] for row in found], pa.int64()),
    }
    return pa.table(arrays | {name: technical[name] for name in TECHNICAL})


def encoded(column: pa.ChunkedArray) -> list[Any]:
    """A staged column as JSON values: times as numbers, decimals as text, bytes as base64."""
    kind = column.type
    if pt.is_timestamp(kind) or pt.is_time(kind):
        return list(column.cast(pa.int64()).to_pylist())
    if pt.is_date(kind):
        return list(column.cast(pa.int32()).to_pylist())
    if pt.is_decimal(kind):
        return [None if value is None else str(value) for value in column.to_pylist()]
    if pt.is_binary(kind):
        return [None if value is None else base64.b64encode(value).decode() for value in column.to_pylist()]
    return list(column.to_pylist())


def decoded(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """The reverse of `encoded`."""
    if pt.is_timestamp(kind) or pt.is_time(kind):
        return pa.array(values, pa.int64()).cast(kind)
    if pt.is_date(kind):
        return pa.array(values, pa.int32()).cast(kind)
    if pt.is_decimal(kind):
        return pa.array(values, pa.string()).cast(kind)
    if pt.is_binary(kind):
        return pa.array([None if value is None else base64.b64decode(value) for value in values], kind)
    return pa.array(values, kind)
