"""What a value may lose on its way from a field of one type into a field of another, said before anything runs.

A value that does not fit is refused with its record and never cut; what is said here is which values those are, and
what is changed by the way a type is written (times without a zone, fractions of a second in text, trailing zeros).
Where nothing is said, a value goes there and back unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.types as pt

from sync_platform.engine.compiling import CompiledRule, bind
from sync_platform.engine.conversion import polars_type
from sync_platform.engine.expressions import resolve
from sync_platform.engine.spec import Expression
from sync_platform.errors import SyncError
from sync_platform.model import Field

_BITS: Final[Mapping[pa.DataType, int]] = {pa.float32(): 24, pa.float64(): 53}
_MICROS: Final = 6
_ENDLESS: Final = 1 << 62
_LONGEST_NUMBER: Final = 400  # characters: what is not text is written in fewer
#: Texts of one form that another form takes and gives back as they are.
_ALIKE: Final = {("jsonb", "json")}


def losses(source: Field, target: Field) -> list[str]:
    """Sentences about what `target` does not keep of `source`'s values; empty when it keeps everything."""
    found = [*_by_type(source, target), *(f"{kind} are refused" for kind in target.refuses if kind in source.odd)]
    if source.reads:
        found.append(source.reads)
    if target.keeps:
        found.append(target.keeps)
    return found


def mapping_losses(rules: Mapping[str, CompiledRule], source: pa.Schema, target: pa.Schema) -> Iterator[str]:
    """The losses of every field that a mapping writes, each beginning with the field's name."""
    shape = {f.name: polars_type(f.type) for f in source}
    for name, rule in rules.items():
        if name not in target.names or rule.error or not isinstance(rule.rule, Expression):
            continue
        given = _given(rule, source, shape)
        if given is not None:
            yield from (f"{name}: {loss}" for loss in losses(given, Field.from_arrow(target.field(name))))


def _given(rule: CompiledRule, source: pa.Schema, shape: Mapping[str, pl.DataType]) -> Field | None:
    """The field that a rule hands on as it is; for an expression only its type is known."""
    assert isinstance(rule.rule, Expression)
    plain = resolve(rule.rule.sql.strip().strip('"'), source.names)
    if plain is not None:
        return Field.from_arrow(source.field(plain))
    try:
        bound = bind(rule, shape)
    except SyncError:
        return None
    kind = pl.Series("v", [], dtype=bound.type).to_arrow().type
    return Field(name=rule.name, type=pa.string() if pt.is_large_string(kind) or pt.is_string_view(kind) else kind)


def _by_type(source: Field, target: Field) -> Iterator[str]:
    given, wanted = source.type, target.type
    if _is_text(wanted):
        yield from _into_text(source, target)
    elif _is_text(given):
        yield f"texts that are not written like a {_words(wanted)} are refused"
    elif pt.is_integer(wanted):
        yield from _into_integer(given, wanted)
    elif pt.is_decimal(wanted):
        yield from _into_decimal(given, wanted)
    elif pt.is_floating(wanted):
        yield from _into_float(given, wanted)
    elif pt.is_boolean(wanted):
        if not pt.is_boolean(given):
            yield "numbers other than 0 and 1 are refused"
    elif pt.is_timestamp(wanted) or pt.is_date(wanted):
        yield from _into_time(source, target)
    elif pt.is_time(wanted):
        yield from _finer(source, target)
    elif _is_binary(wanted) and target.max_bytes is not None and (source.max_bytes or _ENDLESS) > target.max_bytes:
        yield f"values of more than {target.max_bytes} bytes are refused"


def _into_text(source: Field, target: Field) -> Iterator[str]:
    given = source.type
    if pt.is_timestamp(given):
        yield "times are written as text in UTC with milliseconds: microseconds are cut"
    elif pt.is_decimal(given) and given.scale > 0:
        yield "numbers are written as text without zeros at the end"
    elif pt.is_floating(given):
        yield "numbers are written as text, those that are not finite are refused"
    if target.values:
        other = [value for value in source.values if value not in target.values]
        if not source.values or other:
            yield "only these values are taken: " + ", ".join(target.values)
    if target.form and target.form != source.form and (source.form, target.form) not in _ALIKE:
        yield f"texts that are not written like {target.form} are refused, others kept the way it writes them"
    if target.max_bytes is not None and _most_bytes(source) > target.max_bytes:
        yield f"texts of more than {target.max_bytes} bytes are refused"
    if target.max_length is not None and (not _is_text(given) or (source.max_length or _ENDLESS) > target.max_length):
        yield f"texts longer than {target.max_length} characters are refused"


def _most_bytes(source: Field) -> int:
    """The bytes of the longest text that a field may hold, in UTF-8."""
    if not _is_text(source.type):
        return _LONGEST_NUMBER
    if source.max_bytes is not None:
        return source.max_bytes
    return _ENDLESS if source.max_length is None else source.max_length * 4


def _into_integer(given: pa.DataType, wanted: pa.DataType) -> Iterator[str]:
    low, high = _range(wanted)
    if pt.is_floating(given) or (pt.is_decimal(given) and given.scale > 0):
        yield "numbers with decimals are refused"
    least, most = _range(given)
    if least < low or most > high:
        yield f"numbers below {low} or above {high} are refused"


def _into_decimal(given: pa.DataType, wanted: pa.DataType) -> Iterator[str]:
    if pt.is_floating(given):
        yield f"numbers are rounded to {wanted.scale} decimals"
    elif pt.is_decimal(given) and given.scale > wanted.scale:
        yield f"numbers with more than {wanted.scale} decimals are refused"
    least, most = _range(given)
    room = 10 ** (wanted.precision - wanted.scale)
    if most >= room or least <= -room:
        yield f"numbers of {room} and more are refused"


def _into_float(given: pa.DataType, wanted: pa.DataType) -> Iterator[str]:
    bits = _BITS.get(wanted, 53)
    if pt.is_decimal(given):
        if given.scale > 0 or 10**given.precision > 2**bits:
            yield "numbers are rounded to binary fractions"
    elif pt.is_floating(given):
        if _BITS.get(given, 53) > bits:
            yield "numbers are rounded to seven digits"
    elif not pt.is_boolean(given) and max(-_range(given)[0], _range(given)[1]) > 2**bits:
        yield f"whole numbers beyond {2**bits} are rounded"


def _into_time(source: Field, target: Field) -> Iterator[str]:
    given, wanted = source.type, target.type
    if pt.is_date(wanted):
        if not pt.is_date(given):
            yield "the time of the day is left out"
        return
    if pt.is_date(given):
        return
    if given.tz is None and wanted.tz is not None:
        yield "times have no zone and are taken for UTC: name their `timezone` in the connection"
    if given.tz is not None and wanted.tz is None:
        yield "times are written in UTC, without a zone"
    yield from _finer(source, target)


def _finer(source: Field, target: Field) -> Iterator[str]:
    digits, kept = _digits(source), _digits(target)
    if digits > kept:
        yield f"times finer than {kept} digits of a second are refused"


def _digits(field: Field) -> int:
    return _MICROS if field.fraction is None else field.fraction


def _range(kind: pa.DataType) -> tuple[int, int]:
    """The least and the greatest whole number of a type (beyond every other for floats)."""
    if pt.is_boolean(kind):
        return 0, 1
    if pt.is_integer(kind):
        bits = kind.bit_width
        return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if pt.is_signed_integer(kind) else (0, 2**bits - 1)
    if pt.is_decimal(kind):
        most = 10 ** (kind.precision - kind.scale) - 1
        return -most, most
    return -(10**400), 10**400


def _is_text(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pt.is_binary(kind) or pt.is_large_binary(kind))


def _words(kind: pa.DataType) -> str:
    if pt.is_boolean(kind):
        return "truth value"
    if pt.is_date(kind):
        return "date"
    return "time" if pt.is_temporal(kind) else "number"
