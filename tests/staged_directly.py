"""Staging without dlt, for tests that run a sync hundreds of times: a whole read compared with what is staged.

A dlt load takes a second or two however small it is; what a sync sees of it is only the staged table.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from sync_platform.connectors.connector import Connector
from sync_platform.engine.lookups import with_target_id
from sync_platform.engine.spec import Endpoint
from sync_platform.model import CURSOR, DELETED, HASH, KEY, READ_AT, SEQ
from sync_platform.staging.canonical import canonical, fit
from sync_platform.staging.lake import Lake
from sync_platform.staging.tables import create, high_seq, table_name
from sync_platform.state.database import Database

_TECHNICAL = (KEY, HASH, SEQ, DELETED, CURSOR, READ_AT)


def types_of(connector: Connector, place: Endpoint, fields: Sequence[str] | None = None) -> dict[str, pa.DataType]:
    """The staged types of a stream, of all its fields or of these."""
    described = [(one.name, canonical(one.type)) for one in connector.discover(place.object)]
    return {name: kind for name, kind in described if kind is not None and (fields is None or name in fields)}


def stage_directly(
    lake: Lake, database: Database, connector: Connector, place: Endpoint, types: dict[str, pa.DataType] | None = None
) -> None:
    """Brings the staged table (of these columns) up to date with one whole read of the stream."""
    stream = connector.stream(place.object)
    types = types_of(connector, place) if types is None else types
    now = int(dt.datetime.now(dt.UTC).timestamp() * 1_000_000)
    fresh = _read(connector, place, types)
    with lake.connect() as con:
        create(con, place.connection, place.object, types)
        table = table_name(place.connection, place.object)
        staged = {row[KEY]: row for row in con.execute(f"SELECT * FROM {table}").pl().iter_rows(named=True)}
        numbers = itertools.count(max(high_seq(con, place.connection, place.object), _last(database)) + 1)
        rows: list[dict[str, Any]] = []
        for key, (values, deleted) in fresh.items():
            rows += _changed(staged.get(key), key, values, deleted, numbers, now, stream.cursor)
        for key, old in staged.items():
            if key not in fresh and not old[DELETED]:
                rows.append({**old, DELETED: True, SEQ: next(numbers), READ_AT: now})
        if rows:
            frame = pl.DataFrame(rows, schema=_schema(types), orient="row")
            con.register("_rows", frame.to_arrow())
            con.execute(f"DELETE FROM {table} WHERE {KEY} IN (SELECT {KEY} FROM _rows)")
            con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM _rows")
            con.unregister("_rows")
    _LAST[str(database.url)] = next(numbers)


_LAST: dict[str, int] = {}


def _last(database: Database) -> int:
    return _LAST.get(str(database.url), 0)


def _read(
    connector: Connector, place: Endpoint, types: dict[str, pa.DataType]
) -> dict[str, tuple[dict[str, Any], bool]]:
    found: dict[str, tuple[dict[str, Any], bool]] = {}
    for page in connector.read(place.object, fields=list(types)):
        if not page.table.num_rows:
            continue
        named = page.table.select([n for n in page.table.column_names if n in types])
        keys = with_target_id(page.table, connector.stream(place.object))["_target_id"].to_list()
        values = pl.from_arrow(fit(named, types, str(place)))
        assert isinstance(values, pl.DataFrame)
        dead = page.table["_deleted"].to_pylist() if "_deleted" in page.table.column_names else [False] * len(keys)
        for key, row, deleted in zip(keys, values.iter_rows(named=True), dead, strict=True):
            found[key] = (row, bool(deleted))
    return found


def _changed(
    old: dict[str, Any] | None, key: str, values: dict[str, Any], deleted: bool, numbers: Any, now: int, cursor: Any
) -> list[dict[str, Any]]:
    if deleted:
        if old is None:  # as the MERGE does it: a tombstone of a record that was never seen alive
            blank = dict.fromkeys(values)
            return [{**blank, KEY: key, HASH: 0, SEQ: next(numbers), DELETED: True, CURSOR: None, READ_AT: now}]
        return [] if old[DELETED] else [{**old, DELETED: True, SEQ: next(numbers), READ_AT: now}]
    if old is not None and not old[DELETED] and all(old[name] == value for name, value in values.items()):
        return []
    moment = values.get(cursor.field) if cursor else None
    stamp = int(moment.timestamp() * 1_000_000) if isinstance(moment, dt.datetime) else None
    told = {KEY: key, HASH: 0, SEQ: next(numbers), DELETED: False, CURSOR: stamp, READ_AT: now}
    return [{**(old or {}), **values, **told}]


def _schema(types: dict[str, pa.DataType]) -> dict[str, pl.DataType]:
    from sync_platform.engine.conversion import polars_type

    technical: dict[str, pl.DataType] = {
        KEY: pl.String(), HASH: pl.UInt64(), SEQ: pl.Int64(), DELETED: pl.Boolean(), CURSOR: pl.Int64(),
        READ_AT: pl.Int64(),
    }  # fmt: skip
    assert set(technical) == set(_TECHNICAL)
    return {name: polars_type(kind) for name, kind in types.items()} | technical
