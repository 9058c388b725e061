"""Columns in the format of PostgreSQL's `COPY … (FORMAT binary)`: a vector operation a column, no Python per row.

A row is the number of its fields, then the length and the bytes of each; a null has the length -1 and no bytes. A
number has the width of its type, high byte first; dates and times count from 2000-01-01 (days, microseconds); a text
is its UTF-8. See "Binary Format" at https://www.postgresql.org/docs/current/sql-copy.html.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: What stands before the rows (no flags, no extension) and behind them.
BEGIN: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END: Final = b"\xff\xff"

#: Arrow arrays or scalars of bytes; joined, row by row, they are a field.
Pieces: TypeAlias = "list[Any]"

_BYTES: Final = pa.large_binary()
_NOTHING: Final = pa.scalar(b"", _BYTES)
_NULL: Final = -1
_NULL_FIELD: Final = pa.scalar(struct.pack(">i", _NULL), _BYTES)
_JSONB: Final = pa.scalar(b"\x01", _BYTES)  # the version of the format, before each document

_DAYS: Final = (dt.date(2000, 1, 1) - dt.date(1970, 1, 1)).days
_MICROS: Final = _DAYS * 86_400_000_000
#: How a type's number is written, what Arrow type has it, and what 1970 is in it.
_NUMBERS: Final[dict[str, tuple[str, pa.DataType, int]]] = {
    "bool": ("u1", pa.uint8(), 0),
    "int2": (">i2", pa.int16(), 0),
    "int4": (">i4", pa.int32(), 0),
    "int8": (">i8", pa.int64(), 0),
    "float4": (">f4", pa.float32(), 0),
    "float8": (">f8", pa.float64(), 0),
    "date": (">i4", pa.int32(), _DAYS),
    "time": (">i8", pa.int64(), 0),
    "timestamp": (">i8", pa.int64(), _MICROS),
    "timestamptz": (">i8", pa.int64(), _MICROS),
}
_BASE: Final = 10_000  # of a numeric's digits
_NEGATIVE: Final = 0x4000
_FINEST: Final = 16  # decimals that leave room to fill up the last of the digits


def tuples(fields: Sequence[Pieces], rows: int) -> memoryview:
    """The bytes of rows with these fields, of which there is at least one."""
    count = pa.repeat(pa.scalar(struct.pack(">h", len(fields)), _BYTES), rows)
    pieces = [piece for field in fields for piece in field]
    return memoryview(pc.binary_join_element_wise(count, *pieces, _NOTHING).buffers()[2])


def numbers(kind: str, values: pa.Array) -> Pieces:
    """A field of the type `kind` (`bool`, `int8`, `timestamptz`, …) of values in its Arrow type.

    Raises OverflowError for a time so long ago that it cannot be counted from 2000.
    """
    form, plain, begin = _NUMBERS[kind]
    raw = values.cast(plain).fill_null(0).to_numpy(zero_copy_only=False)
    if begin and raw.min(initial=0) < np.iinfo(raw.dtype).min + begin:
        raise OverflowError(f"a {kind} lies too far back")
    return _with_length(raw - begin if begin else raw, np.dtype(form), values)


def is_number(kind: str) -> bool:
    """Whether values of a type are written by `numbers`."""
    return kind in _NUMBERS


def texts(values: pa.Array, *, document: bool = False) -> Pieces:
    """A field of texts or bytes; `document` is for a column of jsonb."""
    values = values.cast(_BYTES)
    prefix = [_JSONB] if document else []
    lengths = pc.add(pc.binary_length(values), len(prefix)).fill_null(_NULL).to_numpy(zero_copy_only=False)
    if values.null_count and document:
        return [_bytes_of(lengths.astype(">i4")), pc.binary_join_element_wise(_JSONB, values, _NOTHING).fill_null(b"")]
    return [_bytes_of(lengths.astype(">i4")), *prefix, values.fill_null(b"") if values.null_count else values]


def decimals(values: pa.Array) -> Pieces:
    """A field of `numeric` of values of `decimal128`.

    Raises OverflowError where a value has more digits than fit into 64 bits, or more than 16 decimals.
    """
    scale = values.type.scale
    if not 0 <= scale <= _FINEST:
        raise OverflowError(f"{scale} decimals")
    words = np.frombuffer(values.buffers()[1], "<i8")[2 * values.offset : 2 * (values.offset + len(values))]
    low, high = words[::2], words[1::2]
    if values.null_count:  # what lies under a null may be anything
        there = values.is_valid().to_numpy(zero_copy_only=False)
        low, high = np.where(there, low, 0), np.where(there, high, 0)
    if (high != low >> 63).any():
        raise OverflowError("a number has more than 64 bits")
    whole, rest = np.divmod(np.abs(low).view(np.uint64), np.uint64(10**scale))
    behind = -(-scale // 4)
    before = -(-len(str(int(whole.max(initial=0)))) // 4)
    field = np.empty(len(low), dtype=[("head", ">i2", (4,)), ("digits", ">i2", (before + behind,))])
    head, digits = field["head"], field["digits"]
    head[:, 0], head[:, 1], head[:, 3] = before + behind, before - 1, scale
    head[:, 2] = np.where(low < 0, _NEGATIVE, 0)
    _write_digits(digits[:, :before], whole)
    _write_digits(digits[:, before:], rest * np.uint64(10 ** (4 * behind - scale)))
    return _with_length(field, field.dtype, values)


def _write_digits(digits: np.ndarray[Any, Any], numbers: np.ndarray[Any, Any]) -> None:
    """Numbers to the base of 10,000, the last digit last."""
    for place in range(digits.shape[1] - 1, -1, -1):
        numbers, digits[:, place] = np.divmod(numbers, np.uint64(_BASE))


def _with_length(raw: np.ndarray[Any, Any], form: np.dtype[Any], values: pa.Array) -> Pieces:
    field = np.empty(len(raw), dtype=[("length", ">i4"), ("value", form)])
    field["length"], field["value"] = form.itemsize, raw
    whole = _bytes_of(field)
    return [pc.if_else(values.is_valid(), whole, _NULL_FIELD) if values.null_count else whole]


def _bytes_of(values: np.ndarray[Any, Any]) -> pa.Array:
    """The bytes of each value."""
    kind = pa.binary(values.dtype.itemsize)
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(values), [None, pa.py_buffer(values)]).cast(_BYTES)
