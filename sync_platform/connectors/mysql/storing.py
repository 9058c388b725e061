"""Values as a column will store them, or the reason why it would store something else.

MySQL rounds and cuts more than it refuses, even in strict mode: fractions of a second, decimals with too many
digits, spaces at the end, years of two digits. So every value is first brought into the very type that a read
of the column answers; what does not survive that unchanged is refused, row by row, before anything is sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from sync_platform.connectors.mysql.catalog import StoredColumn, StoredTable
from sync_platform.connectors.mysql.decoding import to_local
from sync_platform.connectors.sql import Refusal

_TEXT_MOMENT: Final = r"(Z|[+-]\d\d:?\d\d)$"


def stored(table: StoredTable, column: StoredColumn, values: pa.ChunkedArray) -> tuple[pa.Array, dict[int, Refusal]]:
    """The values in the column's Arrow type (null where refused), and the refusals by row."""
    given = _plain(values)
    refused: dict[int, Refusal] = {}
    try:
        typed = _cast(table, column, given)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        typed = _one_by_one(table, column, given, refused)
    for mask, reason in _losses(column, typed):
        for row in pc.indices_nonzero(pc.fill_null(mask, False)).to_pylist():
            refused.setdefault(row, Refusal(column.name, f"{column.name} {reason}"))
    return typed, refused


def sendable(table: StoredTable, column: StoredColumn, typed: pa.Array) -> pa.Array:
    """Typed values as the texts MySQL reads; bytes as hexadecimal digits."""
    kind = typed.type
    if pa.types.is_binary(kind):
        return pa.array([None if value is None else value.hex() for value in typed.to_pylist()], pa.string())
    if pa.types.is_boolean(kind):
        return typed.cast(pa.int8()).cast(pa.string())
    if pa.types.is_float32(kind):
        return typed.cast(pa.float64()).cast(pa.string())  # the shortest text of the greatest one is beyond it
    if column.type == "year":
        return pc.utf8_lpad(typed.cast(pa.string()), 4, "0")  # '0' would be the year 2000
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        zone = table.options.timezone if column.type == "datetime" else None
        typed = to_local(typed, zone) if zone else pc.local_timestamp(typed)
    return typed if pa.types.is_string(kind) else typed.cast(pa.string())


def _plain(values: pa.ChunkedArray) -> pa.Array:
    """One array without dictionaries, views, nesting or nanoseconds of no meaning."""
    given = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    kind = given.type
    if pa.types.is_dictionary(kind):
        given, kind = given.cast(kind.value_type), kind.value_type
    if pa.types.is_nested(kind):
        texts = [None if value is None else text_of(value) for value in given.to_pylist()]
        return pa.array(texts, pa.string())
    wanted: list[tuple[Callable[[pa.DataType], bool], pa.DataType]] = [
        (pa.types.is_large_string, pa.string()),
        (pa.types.is_string_view, pa.string()),
        (pa.types.is_large_binary, pa.binary()),
        (pa.types.is_binary_view, pa.binary()),
        (pa.types.is_fixed_size_binary, pa.binary()),
    ]
    return next((given.cast(to) for holds, to in wanted if holds(kind)), given)


def _cast(table: StoredTable, column: StoredColumn, given: pa.Array) -> pa.Array:
    """The whole array in the column's type; ArrowInvalid when one value has no equal there."""
    kind, wanted = given.type, column.arrow
    if kind == wanted:
        return given
    if pa.types.is_boolean(wanted):
        whole = given.cast(pa.int64()) if not pa.types.is_string(kind) else None
        if whole is None:
            return given.cast(wanted)
        if not pc.all(pc.is_in(whole, pa.array([0, 1, None], pa.int64()))).as_py():
            raise pa.ArrowInvalid("no boolean")
        return whole.cast(wanted)
    if pa.types.is_binary(wanted):
        return given.cast(pa.string()).cast(wanted)
    if pa.types.is_string(wanted):
        return _printed(given)
    if pa.types.is_boolean(kind):
        given, kind = given.cast(pa.int8()), pa.int8()
    if pa.types.is_string(kind) and pa.types.is_integer(wanted):
        given = pc.utf8_trim_whitespace(given)
    if pa.types.is_floating(kind) and pa.types.is_decimal(wanted):
        given = given.cast(pa.string())
    if pa.types.is_timestamp(wanted):
        return _moments(given, wanted)
    if pa.types.is_date32(wanted) and pa.types.is_timestamp(kind):
        day = given.cast(wanted)
        if not pc.all(pc.equal(day.cast(kind), given)).as_py():
            raise pa.ArrowInvalid("a time of the day would be lost")
        return day
    return given.cast(wanted)


def _printed(given: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(given.type):
        return given.cast(pa.timestamp("us", tz=given.type.tz)).cast(pa.string())
    if pa.types.is_duration(given.type):
        return pa.array([None if value is None else _span(value) for value in given.to_pylist()], pa.string())
    return given.cast(pa.string())


def _span(value: Any) -> str:
    """A duration as TIME prints it: hours beyond a day, microseconds."""
    micros = value.days * 86_400_000_000 + value.seconds * 1_000_000 + value.microseconds
    seconds, fraction = divmod(abs(micros), 1_000_000)
    sign = "-" if micros < 0 else ""
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:06}"


def _moments(given: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Times of any kind; one without a zone is UTC where the column holds instants, and the other way round."""
    if pa.types.is_string(given.type):
        zoned = pc.fill_null(pc.match_substring_regex(given, _TEXT_MOMENT), True)
        if not pc.all(zoned).as_py() and not pc.any(zoned).as_py():
            given = given.cast(pa.timestamp("us"))
        else:
            given = pc.if_else(zoned, given, pc.binary_join_element_wise(given, "Z", "")).cast(
                pa.timestamp("us", "UTC")
            )
    if pa.types.is_date(given.type):
        given = given.cast(pa.timestamp("us"))
    fine = given.cast(pa.timestamp("us", tz=given.type.tz))
    if fine.type.tz is None and wanted.tz is not None:
        return fine.cast(pa.int64()).cast(wanted)
    return fine.cast(pa.timestamp("us", tz="UTC")).cast(wanted) if fine.type.tz is not None else fine


def _one_by_one(table: StoredTable, column: StoredColumn, given: pa.Array, refused: dict[int, Refusal]) -> pa.Array:
    found: list[pa.Array] = []
    nothing = pa.nulls(1, column.arrow)
    for row in range(len(given)):
        value = given.slice(row, 1)
        try:
            found.append(_cast(table, column, value))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            said = value[0].as_py()
            refused[row] = Refusal(
                column.name, f"{column.name} is {str(said)[:100]!r}, which {column.declared} cannot hold unchanged"
            )
            found.append(nothing)
    return pa.concat_arrays(found) if found else pa.array([], column.arrow)


def _losses(column: StoredColumn, typed: pa.Array) -> list[tuple[Any, str]]:
    """Masks of values that MySQL would take and change, with the reason."""
    kind, found = typed.type, list[tuple[Any, str]]()
    if pa.types.is_timestamp(kind):
        step = 10 ** (6 - column.fraction)
        if step > 1:
            found.append(
                (pc.not_equal(_modulo(typed.cast(pa.int64()), step), 0), f"is finer than {column.declared} keeps")
            )
        year = pc.year(typed)
        found.append((pc.or_(pc.less(year, 1), pc.greater(year, 9999)), "is outside the years 1 to 9999"))
    elif pa.types.is_floating(kind):
        found.append((pc.invert(pc.is_finite(typed)), "is not a finite number"))
    elif column.type == "year":
        beyond = pc.or_(pc.less(typed, 1901), pc.greater(typed, 2155))
        found.append((pc.and_(pc.not_equal(typed, 0), beyond), "is outside the years 1901 to 2155"))
    elif pa.types.is_binary(kind) and column.length is not None:
        short = pc.not_equal(pc.binary_length(typed), column.length)
        found.append((short, f"does not have the {column.length} bytes of {column.declared}, which pads"))
    elif pa.types.is_string(kind):
        found += _lost_text(column, typed)
    return found


def _modulo(values: pa.Array, step: int) -> pa.Array:
    return pc.subtract(values, pc.multiply(pc.divide(values, step), step))


def _lost_text(column: StoredColumn, typed: pa.Array) -> list[tuple[Any, str]]:
    found: list[tuple[Any, str]] = []
    if column.max_length is not None:
        found.append(
            (
                pc.greater(pc.utf8_length(typed), column.max_length),
                f"is longer than the {column.max_length} characters of {column.declared}",
            )
        )
    if column.type == "char":
        found.append((pc.ends_with(typed, " "), "ends with a space, which CHAR does not keep"))
    if column.type == "set":
        members = set(column.members)
        unknown = [v is not None and v != "" and not members.issuperset(v.split(",")) for v in typed.to_pylist()]
        found.append((pa.array(unknown), f"has a member that is not among {', '.join(sorted(members))}"))
    if column.type == "time":
        digits = rf"\.\d{{0,{column.fraction}}}0*$|^[^.]*$"
        found.append((pc.invert(pc.match_substring_regex(typed, digits)), f"is finer than {column.declared} keeps"))
    return found


def text_of(value: object) -> str:
    """A single value as text MySQL reads."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
