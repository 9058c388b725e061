"""The migration of one staged column to a type that holds all of its values without loss.

A staged table keeps its rows, its `_seq` and so everything that was planned from it; only the column
and `_hash` (which reads the values' texts) are rewritten.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.types as pt

from sync_platform.errors import ConfigError
from sync_platform.model import HASH
from sync_platform.staging.canonical import canonical
from sync_platform.staging.fingerprint import hash_sql
from sync_platform.staging.lake import Lake, quoted
from sync_platform.staging.load import lock_name
from sync_platform.staging.merge import transact
from sync_platform.staging.tables import columns, duckdb_type, table_name

_EXACT: Final = 2**53  # up to here a double holds every integer


def widen(lake: Lake, connection: str, stream: str, field: str, to: pa.DataType) -> None:
    """Gives a staged column a wider type: int64 to decimal or double, a larger decimal, date to timestamp, any to text.

    Does nothing when it has that type. Raises ConfigError, changing nothing, when some value would
    not survive.
    """
    from sync_platform.state.locks import advisory_lock

    where = f"{connection}/{stream}"
    wanted = canonical(to)
    with advisory_lock(lake.db, lock_name(connection, stream)), lake.errors(), lake.connect() as con:
        schema = columns(con, connection, stream)
        name = next((known for known in schema.names if known.casefold() == field.casefold()), None) if schema else None
        if schema is None or name is None:
            raise ConfigError(f"{where} has no staged column {field!r}", field=field, mend="check the spelling")
        types = dict(zip(schema.names, schema.types, strict=True))
        if wanted == types[name]:
            return
        if wanted is None or not lossless(types[name], wanted):
            raise ConfigError(
                f"{where}: {name} is {types[name]} and cannot become {to} without loss",
                field=name,
                value=str(to),
                mend="widen it to text, which holds every value",
            )
        table, old = table_name(connection, stream), quoted(name)
        if pt.is_integer(types[name]) and pt.is_floating(wanted):
            row = con.execute(f"SELECT {old} FROM {table} WHERE abs({old}::HUGEINT) > {_EXACT} LIMIT 1").fetchone()
            if row is not None:
                raise ConfigError(
                    f"{where}: {name} holds {row[0]}, which no double can hold",
                    field=name,
                    value=row[0],
                    mend="widen it to decimal128(38, 9) or to text",
                )
        types[name] = wanted
        new = quoted(f"{name} (wider)")
        with lake.changing:
            transact(
                con,
                f"ALTER TABLE {table} ADD COLUMN {new} {duckdb_type(wanted)}",
                f"UPDATE {table} SET {new} = {_converted(old, schema.field(name).type, wanted)}",
                f"ALTER TABLE {table} DROP COLUMN {old}",
                f"ALTER TABLE {table} RENAME COLUMN {new} TO {old}",
                f"UPDATE {table} SET {HASH} = {hash_sql(types, quoted)}",
            )


def _converted(sql: str, given: pa.DataType, wanted: pa.DataType) -> str:
    if pt.is_string(wanted) and pt.is_timestamp(given):
        return f"strftime({sql}, '%Y-%m-%dT%H:%M:%S.%f{'' if given.tz is None else 'Z'}')"
    return f"{sql}::{duckdb_type(wanted)}"


def lossless(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether every value of a staged type has an equal one of another (int64 to double: see `widen`)."""
    if pt.is_string(wanted):
        return not pt.is_binary(given)
    if pt.is_integer(given):
        whole = pt.is_decimal(wanted) and wanted.precision - wanted.scale >= 19
        return bool(whole or pt.is_floating(wanted))
    if pt.is_decimal(given) and pt.is_decimal(wanted):
        return bool(wanted.scale >= given.scale and wanted.precision - wanted.scale >= given.precision - given.scale)
    return bool(pt.is_date(given) and pt.is_timestamp(wanted) and wanted.tz is None)
