"""Where `check` reports no loss between two types, every value goes there and back unchanged."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_platform.engine.conversion import can_convert, convert, polars_type
from sync_platform.engine.losses import losses, mapping_losses
from sync_platform.engine.mapping import compile_mapping
from sync_platform.engine.spec import Endpoint, Expression, FieldRule, SyncSpec
from sync_platform.model import Field, schema_of


def _decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    most = 10**precision - 1
    return st.integers(-most, most).map(lambda n: Decimal((int(n < 0), tuple(map(int, str(abs(n)))), -scale)))


def _whole(kind: pa.DataType) -> st.SearchStrategy[int]:
    bits = kind.bit_width
    signed = pa.types.is_signed_integer(kind)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(low, high) | st.sampled_from([low, high])


_TIMES = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))
#: Every type that a field of MySQL, PostgreSQL, HubSpot or Salesforce has, and its values.
VALUES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    **{
        str(kind): (kind, _whole(kind)) for kind in (pa.int16(), pa.int32(), pa.int64(), pa.uint64())
    },
    "boolean": (pa.bool_(), st.booleans()),
    "numeric(12,2)": (pa.decimal128(12, 2), _decimals(12, 2)),
    "numeric(12,4)": (pa.decimal128(12, 4), _decimals(12, 4)),
    "numeric(20,0)": (pa.decimal128(20, 0), _decimals(20, 0)),
    "numeric(30,4)": (pa.decimal128(30, 4), _decimals(30, 4)),
    "float32": (pa.float32(), st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "float64": (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "text": (pa.string(), st.text(max_size=9)),
    "time": (pa.time64("us"), st.times()),
    "date": (pa.date32(), st.dates(dt.date(1700, 1, 1), dt.date(2200, 1, 1))),
    "datetime": (pa.timestamp("us"), _TIMES),
    "timestamptz": (pa.timestamp("us", tz="UTC"), _TIMES.map(lambda t: t.replace(tzinfo=dt.UTC))),
}  # fmt: skip
PAIRS = [
    (one, other)
    for one, (given_type, _) in VALUES.items()
    for other, (wanted, _) in VALUES.items()
    if can_convert(polars_type(given_type), polars_type(wanted))
    and can_convert(polars_type(wanted), polars_type(given_type))
    and not losses(Field(name="a", type=given_type), Field(name="b", type=wanted))
]


def _there_and_back(values: list[Any], given_type: pa.DataType, wanted: pa.DataType) -> pl.DataFrame:
    first, second = polars_type(given_type), polars_type(wanted)
    frame = pl.DataFrame({"v": pl.Series(values, dtype=first)})
    there = convert(pl.col("v"), first, second)
    frame = frame.with_columns(there.value.alias("there"))
    if there.failed is not None:
        assert not frame.select(there.failed.any()).item(), "a value was refused and not reported"
    back = convert(pl.col("there"), second, first)
    return frame.with_columns(back.value.alias("back"))


def test_losses_are_told_of_some_pairs_and_not_of_others() -> None:
    every = [(one, other) for one in VALUES for other in VALUES]
    assert len(VALUES) <= len(PAIRS) < len(every) / 2
    assert ("uint64", "int64") not in PAIRS
    assert ("datetime", "timestamptz") not in PAIRS
    assert ("numeric(12,4)", "numeric(12,2)") not in PAIRS
    assert ("int64", "float64") not in PAIRS
    assert ("int32", "int64") in PAIRS
    assert ("time", "text") in PAIRS
    assert ("numeric(12,2)", "numeric(30,4)") in PAIRS


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=lambda name: str(name).replace(" ", "_"))
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_value_of_a_pair_without_a_reported_loss_comes_back_unchanged(
    one: str, other: str, data: st.DataObject
) -> None:
    given_type, values = VALUES[one]
    drawn = data.draw(st.lists(values, min_size=1, max_size=8))
    frame = _there_and_back(drawn, given_type, VALUES[other][0])
    assert frame["back"].to_list() == frame["v"].to_list()


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (Field(name="a", type=pa.uint64()), Field(name="b", type=pa.int64()), "above 9223372036854775807"),
        (Field(name="a", type=pa.int64()), Field(name="b", type=pa.uint64()), "below 0"),
        (Field(name="a", type=pa.string()), Field(name="b", type=pa.string(), max_length=5), "longer than 5"),
        (
            Field(name="a", type=pa.string()),
            Field(name="b", type=pa.string(), values=("x", "y")),
            "only these values are taken: x, y",
        ),
        (
            Field(name="a", type=pa.timestamp("us", tz="UTC")),
            Field(name="b", type=pa.timestamp("us", tz="UTC"), fraction=0),
            "finer than 0 digits",
        ),
        (Field(name="a", type=pa.timestamp("us")), Field(name="b", type=pa.timestamp("us", tz="UTC")), "timezone"),
        (Field(name="a", type=pa.string()), Field(name="b", type=pa.int32()), "not written like a number"),
        (
            Field(name="a", type=pa.date32(), reads="the date 0000-00-00 is read as nothing"),
            Field(name="b", type=pa.date32()),
            "0000-00-00",
        ),
        (Field(name="a", type=pa.string()), Field(name="b", type=pa.string(), keeps="no emoji"), "no emoji"),
    ],
)
def test_a_loss_is_told_in_words(source: Field, target: Field, words: str) -> None:
    assert any(words in loss for loss in losses(source, target)), losses(source, target)


def test_what_fits_is_not_told() -> None:
    short, long = Field(name="a", type=pa.string(), max_length=5), Field(name="b", type=pa.string(), max_length=9)
    assert losses(short, long) == []
    few = Field(name="a", type=pa.string(), values=("x",))
    assert losses(few, Field(name="b", type=pa.string(), values=("x", "y"))) == []


def test_check_tells_the_losses_of_fields_and_of_expressions_by_the_fields_name() -> None:
    source = schema_of((Field(name="whole", type=pa.int64()), Field(name="At", type=pa.timestamp("us"))))
    target = schema_of((Field(name="small", type=pa.int16()), Field(name="at", type=pa.date32())))
    rules = {"small": Expression(sql="whole"), "at": Expression(sql='"at"')}
    there, back = Endpoint(connection="a", object="o"), Endpoint(connection="b", object="o")

    def told(mapping: dict[str, FieldRule]) -> list[str]:
        spec = SyncSpec(name="s", source=there, target=back, mapping=mapping, match=("small",))
        return list(mapping_losses(compile_mapping(spec, source, target).rules, source, target))

    assert told(dict(rules)) == [
        "small: numbers below -32768 or above 32767 are refused",
        "at: the time of the day is left out",
    ]
    assert told({"small": Expression(sql="whole + 1")}) == ["small: numbers below -32768 or above 32767 are refused"]
