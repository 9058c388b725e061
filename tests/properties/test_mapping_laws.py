"""Laws of mappings: no value is lost silently, whatever it is and whatever it should become."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_platform.engine.conversion import polars_type
from sync_platform.engine.mapping import compile_mapping
from sync_platform.engine.spec import Endpoint, Expression, FieldRule, SyncSpec, ValueMap

MESSY = st.one_of(
    st.none(),
    st.text(max_size=12),
    st.integers(-(10**20), 10**20).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    st.datetimes().map(lambda d: d.isoformat() + "Z"),
    st.sampled_from(["true", "No", "2024-02-30", "1e5", " 7 ", "+3", "-0", "12,5", "\N{GRINNING FACE}", "0x1f"]),
)
TARGETS = st.sampled_from(
    [pa.int64(), pa.int32(), pa.float64(), pa.decimal128(12, 2), pa.bool_(), pa.date32(), pa.timestamp("ms", "UTC")]
)


def run(rule: FieldRule, values: list[Any], source: pa.DataType, target: pa.DataType) -> pl.DataFrame:
    spec = SyncSpec(
        name="s",
        source=Endpoint(connection="a", object="A"),
        target=Endpoint(connection="b", object="B"),
        mapping={"out": rule},
    )
    mapping = compile_mapping(spec, pa.schema([("In", source)]), pa.schema([("out", target)]))
    frame = pl.DataFrame(
        {"_key": [str(n) for n in range(len(values))], "In": pl.Series(values, dtype=polars_type(source))}
    )
    return mapping.apply(frame)


@settings(max_examples=80, deadline=None)
@given(st.lists(MESSY, min_size=1, max_size=8), TARGETS)
def test_a_value_is_converted_or_set_aside_never_lost(values: list[str | None], target: pa.DataType) -> None:
    out = run(Expression(sql="in"), values, pa.string(), target)
    assert out.schema["out"] == polars_type(target)
    for value, row in zip(values, out.to_dicts(), strict=True):
        aside = row["_unmapped"] or []
        assert (row["out"] is None) == (value is None or bool(aside))
        assert [one["value"] for one in aside] == ([value] if aside else [])
        if row["out"] is not None and pa.types.is_integer(target):
            assert row["out"] == int(str(value))
        if row["out"] is not None and pa.types.is_decimal(target):
            assert row["out"] == Decimal(str(value).strip())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=8))
def test_the_text_of_a_number_has_no_exponent_and_reads_back_the_same(values: list[float | None]) -> None:
    for value, row in zip(values, run(Expression(sql="In"), values, pa.float64(), pa.string()).to_dicts(), strict=True):
        text = row["out"]
        assert (text is None) == (value is None)
        if text is not None:
            assert "e" not in text.lower()
            assert float(text) == value
            assert not ("." in text and text.endswith("0"))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(st.none(), st.datetimes(timezones=st.timezones())), min_size=1, max_size=6))
def test_the_text_of_a_time_is_utc_with_milliseconds(values: list[dt.datetime | None]) -> None:
    utc = [None if v is None or not 1900 < v.year < 2200 else v.astimezone(dt.UTC) for v in values]
    for value, row in zip(
        utc, run(Expression(sql="In"), utc, pa.timestamp("us", "UTC"), pa.string()).to_dicts(), strict=True
    ):
        if value is None:
            assert row["out"] is None
        else:
            assert row["out"] == value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from([None, "", "a", "A", "b", " a"]), min_size=1, max_size=6), st.booleans())
def test_a_value_map_translates_defaults_or_sets_aside(values: list[str | None], has_default: bool) -> None:
    table = {"a": "x", "b": None}
    rule = ValueMap(source="In", values=table, default="d" if has_default else None, has_default=has_default)
    for value, row in zip(values, run(rule, values, pa.string(), pa.string()).to_dicts(), strict=True):
        if value in table:
            assert (row["out"], row["_unmapped"]) == (table[value], None)
        elif has_default:
            assert (row["out"], row["_unmapped"]) == ("d", None)
        else:
            assert row["out"] is None
            assert bool(row["_unmapped"]) == (value is not None)
