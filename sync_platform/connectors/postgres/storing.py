"""Values of a part in the form in which PostgreSQL takes them: binary for a COPY, or text it reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

import pyarrow as pa

from sync_platform.connectors.postgres.session import array_literal
from sync_platform.connectors.sql import Column, Table
from sync_platform.model import Change

INTEGERS: Final = {"int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64()}
_KEYS: Final = ("int2", "int4", "int8", "text", "varchar")  # their text is the same here and there
#: Types whose binary form is the bytes of the text.
_TEXTS: Final = ("text", "varchar", "bpchar", "citext", "json")
_EXACT: Final = {
    "bool": pa.bool_(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "bytea": pa.binary(),
}


def exact(table: Table, column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The values in the one Arrow type whose binary form is the column's, or None."""
    kind = values.type
    if column.type in _TEXTS or column.values:
        same = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        return values.cast(pa.string()) if same else None
    if column.type == "numeric":
        if pa.types.is_decimal128(kind):
            return values
        return values.cast(pa.decimal128(20, 0)) if pa.types.is_integer(kind) else None
    if column.type in ("timestamp", "timestamptz"):
        zoned = pa.types.is_timestamp(kind) and kind.tz is not None
        if not pa.types.is_timestamp(kind) or zoned != (column.type == "timestamptz") or table.options.timezone:
            return None
    wanted = INTEGERS.get(column.type) or _EXACT.get(column.type)
    alike = wanted is not None and (
        kind == wanted
        or (pa.types.is_integer(kind) and pa.types.is_integer(wanted))
        or (pa.types.is_timestamp(kind) and pa.types.is_timestamp(wanted))
        or (pa.types.is_floating(kind) and pa.types.is_float64(wanted))
        or (pa.types.is_integer(kind) and kind.bit_width <= 32 and pa.types.is_float64(wanted))
    )
    if not alike:
        return None
    try:
        return values.cast(wanted)
    except pa.ArrowInvalid:
        return None


def exact_columns(table: Table, given: Sequence[str], rows: pa.Table) -> dict[str, pa.ChunkedArray] | None:
    """New rows for a COPY into the table itself; None when types do not allow it, or keys that a COPY does not tell."""
    if any(table.columns[name].type not in (_KEYS if name in given else INTEGERS) for name in table.key):
        return None
    columns: dict[str, pa.ChunkedArray] = {}
    for name in given:
        typed = exact(table, table.columns[name], rows[name])
        if typed is None:
            return None
        columns[name] = typed
    return columns


def drawing(column: Column, count: int) -> str:
    """The query that draws so many values of a column as its default does."""
    return f"SELECT {column.default}::{column.cast} AS k FROM generate_series(1, {count})"


def storable(column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Values in a type the driver can stage; the statement casts them to the column's."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.cast(kind.value_type), kind.value_type
    if pa.types.is_nested(kind):
        return pa.array([None if v is None else text_of(v, column) for v in values.to_pylist()], pa.string())
    if pa.types.is_timestamp(kind):
        return values.cast(pa.timestamp("us", tz=kind.tz), safe=False)
    wanted: list[tuple[Callable[[pa.DataType], bool], pa.DataType]] = [
        (pa.types.is_null, pa.string()),
        (pa.types.is_large_string, pa.string()),
        (pa.types.is_string_view, pa.string()),
        (pa.types.is_large_binary, pa.binary()),
        (pa.types.is_uint64, pa.decimal128(20, 0)),
        (pa.types.is_unsigned_integer, pa.int64()),
        (pa.types.is_int8, pa.int16()),
        (pa.types.is_time, pa.time64("us")),
        (pa.types.is_date64, pa.date32()),
        (pa.types.is_decimal256, pa.string()),
    ]
    return next((values.cast(to) for holds, to in wanted if holds(kind)), values)


def as_texts(table: Table, names: Sequence[str], changes: Sequence[Change]) -> pa.Table:
    """Single changes as a part: every value as text, which the database reads in the column's type."""
    columns: dict[str, list[str | None]] = {
        "_key": [change.key for change in changes],
        "_target_id": [change.target_id for change in changes],
    }
    for name in names:
        column = table.column(name)
        values = [change.fields[name] for change in changes]
        columns[name] = [None if value is None else text_of(value, column) for value in values]
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def text_of(value: object, column: Column) -> str:
    """A single value as text PostgreSQL reads: for changes written one by one, and for nested values."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, list | tuple) and column.type.startswith("_"):
        inner = array_literal([text_of(v, column) for v in value])
        return inner[1:-1].replace("''", "'")
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
