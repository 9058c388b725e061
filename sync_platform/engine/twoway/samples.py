"""Values to try a mapping with: what people and vendors put into fields, and nothing a field cannot hold."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import polars as pl
import pyarrow as pa

from sync_platform.engine.conversion import polars_type
from sync_platform.engine.twoway.values import told
from sync_platform.model import Field
from sync_platform.staging.canonical import canonical

_ROWS: Final = 400
_SHOWN: Final = 120
_SEED: Final = 20_260_101
_TEXTS: Final = (
    "a", "Ab", "ABC", "Mary Ann", "van der Berg", " lead", "trail ", "O'Neil", "xyz", "a,b", "a;b", "a|b",
    "a/b", "a-b", "n/a", "none", "0", "7", "007", "1.50", "-3", "1e3", "2024-02-29", "true", "Yes", "030 123456",
    "+49 (30) 123-45", "00493012345", "Ann@X.org", "ann@x.org", "Straße", "ÉCOLE", "école", "İstanbul", "日本語",
    "tab\there",
    "line\nbreak", "  ", "%", "_", "x" * 12, "long text " * 6, "l" * 260,
)  # fmt: skip
_WHOLE: Final = (0, 1, -1, 2, 7, 10, 42, 99, 100, 101, 999, 1000, 12_345, 1_000_001)
_PARTS: Final = (
    "0",
    "0.5",
    "1",
    "-1.25",
    "0.01",
    "0.1",
    "2.675",
    "9.99",
    "10.005",
    "19.99",
    "33.33",
    "1234.56",
    "99999.5",
)
_MOMENTS: Final = (
    dt.datetime(2024, 2, 29, 23, 30, 15, 250_000), dt.datetime(2024, 3, 31, 1, 30),
    dt.datetime(2023, 12, 31, 23, 59, 59),
    dt.datetime(2024, 7, 1, 0, 0), dt.datetime(1999, 1, 1, 12, 0), dt.datetime(2024, 10, 27, 0, 30, 1),
)  # fmt: skip


def frame_of_values(schema: pa.Schema, names: Sequence[str], more: pl.DataFrame | None = None) -> pl.DataFrame:
    """Rows of made-up values for these fields, and `more` rows of real ones where they are known.

    Every value of a field's pool occurs with the others filled plainly and with nulls beside it; the rest is mixed
    at random, the same in every run.
    """
    fields = {f.name: f for f in map(Field.from_arrow, schema) if f.name in names}
    pools = {name: pool(fields[name]) for name in names}
    rng = random.Random(_SEED)
    rows: list[dict[str, Any]] = []
    for name, values in pools.items():
        for value in values:
            plain = {other: _plain(pools[other]) for other in names}
            rows.append(plain | {name: value})
            if len(names) > 1:
                rows.append({other: None for other in names} | {name: value})
    if len(names) > 1:
        rows += [{name: rng.choice(values) for name, values in pools.items()} for _ in range(_ROWS)]
    kinds = {name: kind_of(fields[name]) for name in names}
    made = pl.DataFrame([{n: row[n] for n in names} for row in rows], schema=kinds, orient="row")
    if more is None or not set(names) <= set(more.columns):
        return made
    known = more.select([pl.col(name).cast(kinds[name], strict=False) for name in names])
    return pl.concat([made, known])


def kind_of(field: Field) -> pl.DataType:
    """The type a field has once it is staged."""
    kind = canonical(field.type)
    return polars_type(field.type if kind is None else kind)


def pool(field: Field) -> list[Any]:
    """Values a field may hold, null among them."""
    kind = kind_of(field)
    if field.values:
        return [None, *field.values]
    if kind == pl.String:
        longest = field.max_length or 10_000
        return [None, "", *[text for text in _TEXTS if len(text) <= longest]]
    if kind == pl.Boolean:
        return [None, True, False]
    if kind.is_integer():
        return [None, *_WHOLE]
    if kind.is_float():
        return [None, *[float(text) for text in _PARTS]]
    if isinstance(kind, pl.Decimal):
        return [None, *[Decimal(text) for text in _PARTS]]
    if kind == pl.Date:
        return [None, *[moment.date() for moment in _MOMENTS]]
    if isinstance(kind, pl.Datetime):
        zone = dt.UTC if kind.time_zone else None
        return [None, *[moment.replace(tzinfo=zone) for moment in _MOMENTS]]
    return [None]


def _plain(values: Sequence[Any]) -> Any:
    """An ordinary value of a pool."""
    filled = [value for value in values if value not in (None, "")]
    return filled[0] if filled else None


def shown(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """Values as a person reads them."""
    return ", ".join(f"{name} {value_shown(row.get(name))}" for name in names)


def value_shown(value: Any) -> str:
    """One value, shortened; null is null."""
    plain = told(value, empty_is_null=False)
    text = "null" if plain is None else repr(plain)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
