"""What the server printed as Arrow values of the types `discover` promised; nothing is rounded or cut.

| MySQL | Arrow | |
|---|---|---|
| tinyint … bigint, year | int16 … int64, unsigned bigint uint64 | `tinyint(1)` is boolean if not told otherwise |
| decimal | decimal128 of the same precision and scale | above 38 digits: text |
| float, double | float32, float64 | |
| bit(1), bit(n) | boolean, uint64 | |
| date | date32 | `0000-00-00` is null if not told otherwise |
| datetime | timestamp[us] without zone | with one where `timezone` is given |
| timestamp | timestamp[us, UTC] | read in a session whose zone is UTC |
| time | text | it is a span of up to 838 hours, of either sign |
| char, text, enum, set, json, uuid, inet | text | |
| binary, blob, geometry | binary | |
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from sync_platform.connectors.mysql.catalog import StoredColumn, StoredTable
from sync_platform.errors import ConfigError, ContractError


def conform(
    table: StoredTable, columns: Sequence[StoredColumn], batch: pa.RecordBatch, *, zero_dates: bool
) -> pa.Table:
    """A batch off the wire in the columns' types. `zero_dates`: read the date 0000-00-00 as null, else refuse it."""
    arrays = [decoded(table, c, v, zero_dates=zero_dates) for c, v in zip(columns, batch.columns, strict=True)]
    return pa.table(arrays, schema=pa.schema([c.field().to_arrow() for c in columns]))


def decoded(table: StoredTable, column: StoredColumn, values: pa.Array, *, zero_dates: bool) -> pa.Array:
    """One column's values; ContractError names what to set when one of them has no such value."""
    if pa.types.is_binary(column.arrow):
        return values
    mend = f"read it as text: tables={{{table.name!r}: {{'as_text': [{column.name!r}]}}}}"
    try:
        texts = values.cast(pa.string())
        if pa.types.is_string(column.arrow):
            return texts
        if column.type in ("date", "datetime", "timestamp"):
            return _instants(column, table.options.timezone, texts, zero_dates=zero_dates)
        if pa.types.is_boolean(column.arrow) and column.type == "tinyint":
            mend = "it is no boolean: set tinyint1_is_boolean=False on the connection"
        return texts.cast(column.arrow)
    except pa.ArrowInvalid as error:
        raise ContractError(
            f"{table}.{column.name}: a value is not a {column.arrow}: {str(error).splitlines()[0]}",
            field=column.name,
            mend=mend,
        ) from None


def _instants(column: StoredColumn, timezone: str | None, texts: pa.Array, *, zero_dates: bool) -> pa.Array:
    naive = pa.date32() if column.type == "date" else pa.timestamp("us")
    try:
        found = texts.cast(naive)
    except pa.ArrowInvalid:
        if not zero_dates:
            raise
        zero = pc.starts_with(texts, "0000-00-00")
        found = pc.if_else(zero, pa.scalar(None, pa.string()), texts).cast(naive)
    if column.type == "timestamp":
        return found.cast(pa.int64()).cast(column.arrow)
    return to_utc(found, timezone) if column.type == "datetime" and timezone else found


def to_utc(local: pa.Array, timezone: str) -> pa.Array:
    """Local times as instants: of two in the hour that clocks repeat the later one, in the hour they skip the next."""
    try:
        zoned = pc.assume_timezone(local, timezone, ambiguous="latest", nonexistent="latest")
    except pa.ArrowInvalid:
        raise ConfigError(
            f"there is no time zone {timezone!r}", field="timezone", value=timezone, mend="write e.g. Europe/Berlin"
        ) from None
    return zoned.cast(pa.timestamp("us", tz="UTC"))


def to_local(instants: pa.Array, timezone: str) -> pa.Array:
    """Instants as the local times of a zone."""
    return pc.local_timestamp(instants.cast(pa.timestamp("us", tz=timezone)))


def local_text(instant: dt.datetime, timezone: str | None) -> str:
    """An instant as a literal of a DATETIME column (of its zone, else UTC)."""
    value = pa.array([instant.astimezone(dt.UTC)], pa.timestamp("us", tz="UTC"))
    return str(to_local(value, timezone or "UTC").cast(pa.string())[0])
