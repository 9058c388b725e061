"""Columns added to a table: which type holds the values of a field.

https://www.postgresql.org/docs/current/sql-altertable.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.types as pt

from sync_platform.connectors.postgres.session import Session, identifier
from sync_platform.connectors.sql import Table
from sync_platform.errors import AuthError

_TYPES: Final[tuple[tuple[Callable[[pa.DataType], bool], str], ...]] = (
    (pt.is_boolean, "boolean"),
    (pt.is_uint64, "numeric(20,0)"),
    (lambda kind: pt.is_int64(kind) or pt.is_uint32(kind), "bigint"),
    (lambda kind: pt.is_int32(kind) or pt.is_uint16(kind), "integer"),
    (pt.is_integer, "smallint"),
    (pt.is_float32, "real"),
    (pt.is_floating, "double precision"),
    (pt.is_date, "date"),
    (pt.is_time, "time"),
    (lambda kind: pt.is_timestamp(kind) and kind.tz is not None, "timestamp with time zone"),
    (pt.is_timestamp, "timestamp"),
    (lambda kind: pt.is_binary(kind) or pt.is_large_binary(kind), "bytea"),
    (pt.is_nested, "jsonb"),
)


def type_for(kind: pa.DataType) -> str:
    """The column type that holds every value of an Arrow type; text where none is as exact."""
    if pt.is_decimal(kind):
        return f"numeric({kind.precision},{kind.scale})"
    return next((name for holds, name in _TYPES if holds(kind)), "text")


def statements(table: Table, fields: Mapping[str, pa.DataType]) -> list[str]:
    """`ALTER TABLE` for each field; harmless when the column is there by now."""
    place = identifier(table.schema, table.name)
    return [
        f"ALTER TABLE {place} ADD COLUMN IF NOT EXISTS {identifier(name)} {type_for(kind)}"
        for name, kind in fields.items()
    ]


def add(session: Session, table: Table, fields: Mapping[str, pa.DataType]) -> None:
    """Adds the columns in one transaction."""
    run = statements(table, fields)
    session.begin(read_only=False)
    try:
        for statement in run:
            session.run(statement, f"adding columns to {table}")
    except AuthError as error:
        raise AuthError(error.message, mend=f"let the owner of {table} run: {'; '.join(run)}") from None
    session.commit(f"adding columns to {table}")
