"""Values from one type to another, without losing or inventing anything.

A conversion that fails for a value gives null, and `Conversion.failed` says so: the record is set
aside with the value, never written half. A value that has no time zone is UTC.

Text, the form every text target gets: `true`/`false`; numbers without exponent and without trailing
zeros (`12.50` -> `12.5`, `1E3` -> `1000`); dates `2024-01-31`; times of the day `10:00:00`, with a
fraction where there is one (`10:00:00.500`); times in UTC with milliseconds, `2024-01-31T10:00:00.000Z`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import polars as pl
import pyarrow as pa

_TRUE: Final = ("true", "t", "yes", "y", "1")
_FALSE: Final = ("false", "f", "no", "n", "0")
_ISO: Final = (
    "%Y-%m-%dT%H:%M:%S%.f%:z",
    "%Y-%m-%dT%H:%M:%S%.f%z",
    "%Y-%m-%d %H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M:%S%.f%z",
)
_ISO_NAIVE: Final = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f")
_UTC: Final = pl.Datetime("us", "UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """How one column becomes the target's type.

    `value` is the converted column, `failed` is true where a value could not be converted (None: it
    always can), `wanted` says in words what the target takes.
    """

    value: pl.Expr
    failed: pl.Expr | None
    wanted: str


def polars_type(arrow: pa.DataType) -> pl.DataType:
    """The polars type that stores an Arrow type."""
    series = pl.from_arrow(pa.array([], type=arrow))
    assert isinstance(series, pl.Series)
    return series.dtype


def words(dtype: pl.DataType) -> str:
    """A type as a person names it."""
    if dtype == pl.String:
        return "text"
    if dtype.is_integer():
        return "a whole number"
    if dtype.is_float():
        return "a number"
    if isinstance(dtype, pl.Decimal):
        whole = (dtype.precision or 38) - dtype.scale
        return f"a number with at most {whole} digits before and {dtype.scale} after the point"
    if dtype == pl.Boolean:
        return "true or false"
    if dtype == pl.Date:
        return "a date"
    if isinstance(dtype, pl.Datetime):
        return "a date and time"
    if dtype == pl.Time:
        return "a time of day"
    return str(dtype)


def can_convert(source: pl.DataType, target: pl.DataType) -> bool:
    """Whether values of one type can, in principle, become the other."""
    if source == target or source == pl.Null:
        return True
    if not (_is_scalar(source) and _is_scalar(target)):
        return False
    if target == pl.String or source == pl.String:
        return True
    if target.is_numeric():
        return source.is_numeric() or source == pl.Boolean
    if target == pl.Boolean:
        return source.is_integer()
    return target.is_temporal() and source.is_temporal() and pl.Time not in (source, target)


def _is_scalar(dtype: pl.DataType) -> bool:
    return (
        dtype.is_numeric()
        or dtype in (pl.String, pl.Boolean, pl.Date, pl.Time)
        or isinstance(dtype, pl.Datetime | pl.Categorical | pl.Enum)
    )


def convert(value: pl.Expr, source: pl.DataType, target: pl.DataType, timezone: str = "UTC") -> Conversion:
    """The conversion of a column. `timezone` decides which day an instant falls on when a date is wanted."""
    wanted = words(target)
    if source == target:
        return Conversion(value=value, failed=None, wanted=wanted)
    if source == pl.Null:
        return Conversion(value=value.cast(target), failed=None, wanted=wanted)
    if isinstance(source, pl.Categorical | pl.Enum):
        value, source = value.cast(pl.String), pl.String()
    if target == pl.String:
        text = as_text(value, source)
        lost = _lost(value, text) if source.is_float() else None
        return Conversion(value=text, failed=lost, wanted="a finite number")
    if target.is_integer():
        done = _to_integer(value, source, target)
    elif target.is_float():
        done = value.cast(target, strict=False)
        if source == pl.String:
            done = pl.when(done.is_finite()).then(done)
        elif source.is_float():  # a number too large for the smaller type is not infinite
            done = pl.when(done.is_finite() | value.is_infinite() | value.is_nan()).then(done)
    elif isinstance(target, pl.Decimal):
        done = _to_decimal(value, source, target)
    elif target == pl.Boolean:
        done = _to_boolean(value, source)
    elif target == pl.Date:
        done = _to_date(value, source, timezone)
    elif isinstance(target, pl.Datetime):
        done = _to_datetime(value, source, target)
    elif target == pl.Time and source == pl.String:
        done = _to_time(value)
    else:
        done = value.cast(target, strict=False)
    return Conversion(value=done, failed=_lost(value, done), wanted=wanted)


def _lost(before: pl.Expr, after: pl.Expr) -> pl.Expr:
    return before.is_not_null() & after.is_null()


def as_text(value: pl.Expr, source: pl.DataType) -> pl.Expr:
    """The canonical text of a column (see the module's docstring); null where a float is not finite."""
    if source == pl.String:
        return value
    if isinstance(source, pl.Datetime):
        utc = value.dt.convert_time_zone("UTC") if source.time_zone else value
        return utc.dt.strftime("%Y-%m-%dT%H:%M:%S.%3fZ")
    if source == pl.Date:
        return value.dt.strftime("%Y-%m-%d")
    if source == pl.Time:
        return value.dt.strftime("%H:%M:%S%.f")
    if isinstance(source, pl.Decimal):
        return _without_zeros(value.cast(pl.String)) if source.scale else value.cast(pl.String)
    if source.is_float():
        text = pl.when(value.is_finite()).then(value).cast(pl.String)
        plain = pl.when(text == "-0.0").then(pl.lit("0")).otherwise(_without_zeros(text))
        return pl.when(text.str.contains("e", literal=True)).then(_plain(text)).otherwise(plain)
    return value.cast(pl.String)


def _without_zeros(text: pl.Expr) -> pl.Expr:
    stripped = text.str.strip_chars_end("0").str.strip_chars_end(".")
    return pl.when(text.str.contains(".", literal=True)).then(stripped).otherwise(text)


def _plain(text: pl.Expr) -> pl.Expr:
    """Floats written with an exponent, in full; only those few pass through Python."""
    return text.map_batches(_spell_out, return_dtype=pl.String)


def _spell_out(texts: pl.Series) -> pl.Series:
    rare = texts.filter(texts.str.contains("e", literal=True)).unique()
    full = {t: _without_exponent(t) for t in rare.to_list() if t is not None}
    return texts.replace(full) if full else texts


def _without_exponent(text: str) -> str:
    whole = format(Decimal(text), "f")
    return whole.rstrip("0").rstrip(".") if "." in whole else whole


def _to_integer(value: pl.Expr, source: pl.DataType, target: pl.DataType) -> pl.Expr:
    if source == pl.String:
        return pl.when(value.str.contains(r"^\s*[+-]?\d+\s*$")).then(
            value.str.strip_chars().str.strip_prefix("+").cast(target, strict=False)
        )
    whole = value.cast(target, strict=False)
    if source.is_integer() or source == pl.Boolean:
        return whole
    return pl.when(whole.cast(source, strict=False) == value).then(whole)


def _to_decimal(value: pl.Expr, source: pl.DataType, target: pl.Decimal) -> pl.Expr:
    if source.is_float():  # binary fractions have no exact decimals: rounded to the target's
        return value.round(target.scale).cast(target, strict=False)
    if source == pl.String:
        number = rf"^\s*[+-]?\d+(\.\d{{0,{target.scale}}}0*)?\s*$"
        clean = value.str.strip_chars().str.strip_prefix("+")
        return pl.when(value.str.contains(number)).then(clean.cast(target, strict=False))
    done = value.cast(target, strict=False)
    if isinstance(source, pl.Decimal) and source.scale > target.scale:
        return pl.when(done.cast(source, strict=False) == value).then(done)
    return done


def _to_boolean(value: pl.Expr, source: pl.DataType) -> pl.Expr:
    if source == pl.String:
        text = value.str.strip_chars().str.to_lowercase()
        return pl.when(text.is_in(_TRUE)).then(pl.lit(True)).when(text.is_in(_FALSE)).then(pl.lit(False))
    return pl.when(value == 1).then(pl.lit(True)).when(value == 0).then(pl.lit(False))


def _to_date(value: pl.Expr, source: pl.DataType, timezone: str) -> pl.Expr:
    if isinstance(source, pl.Datetime):
        aware = value if source.time_zone else value.dt.replace_time_zone("UTC")
        return aware.dt.convert_time_zone(timezone).dt.date()
    text = value.str.strip_chars()
    day = text.str.to_date("%Y-%m-%d", strict=False)
    return day.fill_null(_parse_times(text).dt.convert_time_zone(timezone).dt.date())


def _to_datetime(value: pl.Expr, source: pl.DataType, target: pl.Datetime) -> pl.Expr:
    if isinstance(source, pl.Datetime):
        utc = value.dt.convert_time_zone("UTC") if source.time_zone else value.dt.replace_time_zone("UTC")
    elif source == pl.Date:
        utc = value.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    else:
        text = value.str.strip_chars()
        day = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        utc = _parse_times(text).fill_null(day)
    utc = utc.dt.cast_time_unit(target.time_unit)
    return utc.dt.convert_time_zone(target.time_zone) if target.time_zone else utc.dt.replace_time_zone(None)


def _to_time(value: pl.Expr) -> pl.Expr:
    text = value.str.strip_chars()
    return pl.coalesce(*(text.str.to_time(form, strict=False) for form in ("%H:%M:%S%.f", "%H:%M")))


def _parse_times(text: pl.Expr) -> pl.Expr:
    """ISO-8601 text as UTC; what has no offset is UTC already."""
    zulu = text.str.replace(r"[zZ]$", "+00:00")
    aware = [zulu.str.to_datetime(f, time_unit="us", time_zone="UTC", strict=False) for f in _ISO]
    naive = [
        text.str.to_datetime(f, time_unit="us", strict=False).dt.replace_time_zone("UTC").cast(_UTC) for f in _ISO_NAIVE
    ]
    return pl.coalesce(*aware, *naive)
