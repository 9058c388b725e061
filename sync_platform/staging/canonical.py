"""Pages in the lake's own types: a page's Arrow table becomes one that fits its staged table.

The lake knows few types (see `canonical`), so that a vendor's change from int32 to int64 or from
`string` to `large_string` is no change. What does not fit without loss is a ContractError, never a
rounded or a cut value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from sync_platform.errors import ContractError
from sync_platform.model import CURSOR, DELETED, DIGEST, HASH, KEY, READ_AT, SEQ

CHUNK: Final = "_landing_chunk"
LANDED_HASH: Final = "_landed_hash"
TECHNICAL: Final = (KEY, HASH, SEQ, DELETED, CURSOR, READ_AT)
#: No vendor column may be called so: ours, and those of intermediate results.
RESERVED: Final = frozenset(
    {
        *TECHNICAL,
        CHUNK,
        LANDED_HASH,
        DIGEST,
        "_ord",
        "_merged_hash",
        "_is_new",
        "_is_newer",
        "_staged_hash",
        "_was_deleted",
        "_dlt_load_id",
    }
)

_INT: Final = pa.int64()
_MICROS: Final = pa.timestamp("us")
_MICROS_UTC: Final = pa.timestamp("us", tz="UTC")


def canonical(given: pa.DataType) -> pa.DataType | None:
    """The lake's type for an Arrow type, None when the lake has none.

    boolean · int64 (all signed and small unsigned) · double · decimal128 (uint64 too) · string
    (nested values as JSON text) · binary · date32 · time64[us] · timestamp[us] with UTC or naive.
    """
    if pt.is_dictionary(given):
        return canonical(given.value_type)
    if pt.is_decimal(given):
        return pa.decimal128(given.precision, given.scale) if given.precision <= 38 and given.scale >= 0 else None
    if pt.is_timestamp(given):
        return _MICROS if given.tz is None else _MICROS_UTC
    if pt.is_nested(given):
        return pa.string()
    plain: tuple[tuple[Callable[[pa.DataType], bool], pa.DataType], ...] = (
        (pt.is_boolean, pa.bool_()),
        (pt.is_uint64, pa.decimal128(20, 0)),
        (pt.is_integer, _INT),
        (pt.is_floating, pa.float64()),
        (pt.is_string, pa.string()),
        (pt.is_large_string, pa.string()),
        (pt.is_string_view, pa.string()),
        (pt.is_binary, pa.binary()),
        (pt.is_large_binary, pa.binary()),
        (pt.is_binary_view, pa.binary()),
        (pt.is_fixed_size_binary, pa.binary()),
        (pt.is_date, pa.date32()),
        (pt.is_time, pa.time64("us")),
    )
    return next((staged for is_it, staged in plain if is_it(given)), None)


def fits(given: pa.DataType, staged: pa.DataType) -> bool:
    """Whether values of one canonical type may be stored as another where no value loses anything."""
    if given == staged or pt.is_null(given):
        return True
    integer, number = bool(pt.is_integer(given)), bool(pt.is_floating(given))
    if pt.is_decimal(staged):
        return integer or bool(pt.is_decimal(given))
    if pt.is_integer(staged):
        return number or bool(pt.is_decimal(given))
    return integer and bool(pt.is_floating(staged) or pt.is_string(staged))


def check_names(names: Sequence[str], stream: str) -> None:
    """Refuses names the lake cannot keep apart or uses itself."""
    seen: dict[str, str] = {}
    for name in names:
        folded = name.casefold()
        if folded in RESERVED:
            raise ContractError(
                f"{stream}: the field {name!r} has the name of a column of ours",
                field=name,
                mend="let the connector rename it",
            )
        if folded in seen:
            raise ContractError(
                f"{stream}: the fields {seen[folded]!r} and {name!r} differ only in case",
                field=name,
                mend="let the connector rename one of them",
            )
        if not name or any(ord(char) < 32 for char in name):
            raise ContractError(
                f"{stream}: {name!r} cannot be the name of a field", field=name, mend="let the connector rename it"
            )
        seen[folded] = name


def fit(table: pa.Table, types: Mapping[str, pa.DataType], stream: str) -> pa.Table:
    """The table with every column in its staged type; `types` are canonical and cover all columns.

    Raises ContractError naming stream, field and the first value that does not fit.
    """
    columns = [_column(table.column(name), name, types[name], stream) for name in table.column_names]
    return pa.table(columns, names=table.column_names)


def check_key(table: pa.Table, key: Sequence[str], stream: str) -> None:
    """Refuses rows without their whole key: they could never be found again."""
    for name in key:
        if name not in table.column_names:
            raise ContractError(
                f"{stream}: a page has no key column {name!r}",
                field=name,
                mend="the connector must always ask for the key",
            )
        nulls = table.column(name).null_count
        if nulls:
            raise ContractError(
                f"{stream}: {nulls} of {table.num_rows} rows have no {name}, which is (part of) their key",
                field=name,
                mend="the connector must leave out rows without a key, or the stream needs another key",
            )


def _column(column: pa.ChunkedArray, name: str, staged: pa.DataType, stream: str) -> pa.ChunkedArray:
    given = column.type
    if given == staged:
        return column
    if pt.is_dictionary(given):
        return _column(column.cast(given.value_type), name, staged, stream)
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), staged)])
    own = canonical(given)
    if own is None:
        raise _misfit(stream, name, _first(column), f"Arrow type {given}", staged)
    if pt.is_nested(given):
        column = pa.chunked_array([_json_text(column)], type=pa.string())
    if not fits(own, staged):
        raise _misfit(stream, name, _first(column), str(given), staged)
    try:
        exact = own if own != staged and pt.is_string(staged) else staged
        column = column.cast(exact, safe=True)
        return column if exact == staged else column.cast(staged)
    except pa.ArrowInvalid:
        raise _misfit(stream, name, _offender(column, staged), str(given), staged) from None


def _json_text(column: pa.ChunkedArray) -> pa.Array:
    texts = [
        None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
        for value in column.to_pylist()
    ]
    return pa.array(texts, pa.string())


def _first(column: pa.ChunkedArray) -> object:
    return _value(column.drop_null()[0])


def _offender(column: pa.ChunkedArray, staged: pa.DataType) -> object:
    """The first value that cannot be cast, found by halving."""
    values = column.drop_null()
    while len(values) > 1:
        half = values.slice(0, len(values) // 2)
        try:
            half.cast(staged, safe=True)
            values = values.slice(len(half))
        except pa.ArrowInvalid:
            values = half
    return _value(values[0])


def _value(scalar: pa.Scalar) -> object:
    if pt.is_timestamp(scalar.type) and scalar.type.unit == "ns":  # Python's datetime has no nanoseconds
        return str(scalar.cast(pa.string()))
    return scalar.as_py()


def _misfit(stream: str, name: str, value: object, given: str, staged: pa.DataType) -> ContractError:
    shown = repr(value) if len(repr(value)) <= 200 else repr(value)[:200] + "…"
    return ContractError(
        f"{stream}: the value {shown} ({given}) of {name} does not fit its staged type {staged}",
        field=name,
        value=value if isinstance(value, str | int | float | bool | None) else str(value),
        mend="if the source changed the field's type, widen the staged column (staging.widen); nothing was stored",
    )


def flag(table: pa.Table) -> pa.Array | pa.ChunkedArray:
    """The tombstone flag of every row: its `_deleted` column, false where there is none or null."""
    if DELETED not in table.column_names:
        return pa.repeat(pa.scalar(False), table.num_rows)
    return pc.fill_null(table.column(DELETED).cast(pa.bool_()), False)
