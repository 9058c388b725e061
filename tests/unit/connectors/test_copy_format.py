"""Values in the format of COPY, read back from a real server."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_platform.connectors import copy_format

UTC = dt.UTC
DAYS = st.dates()
MOMENTS = st.datetimes()
KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "bool": (pa.bool_(), st.booleans()),
    "int2": (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "int4": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "int8": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "float4": (pa.float32(), st.floats(width=32)),
    "float8": (pa.float64(), st.floats()),
    "date": (pa.date32(), DAYS),
    "time": (pa.time64("us"), st.times()),
    "timestamp": (pa.timestamp("us"), MOMENTS),
    "timestamptz": (pa.timestamp("us", tz="UTC"), MOMENTS.map(lambda at: at.replace(tzinfo=UTC))),
    "text": (pa.string(), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)),
    "bytea": (pa.binary(), st.binary(max_size=9)),
    "numeric(12,2)": (pa.decimal128(12, 2), st.decimals(-9_999_999_999, 9_999_999_999, places=2)),
    "numeric(18,7)": (pa.decimal128(18, 7), st.decimals(-99_999_999_999, 99_999_999_999, places=7)),
    "numeric(18,0)": (pa.decimal128(18, 0), st.integers(-(10**18) + 1, 10**18 - 1).map(Decimal)),
    "numeric(38,16)": (pa.decimal128(38, 16), st.decimals(-900, 900, places=16)),
}


def field(kind: str, values: pa.Array) -> copy_format.Pieces:
    if kind.startswith("numeric"):
        return copy_format.decimals(values)
    return copy_format.numbers(kind, values) if copy_format.is_number(kind) else copy_format.texts(values)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])  # the table is made anew
@given(data=st.data())
def test_every_value_arrives_as_it_was(sql: psycopg.Connection, kind: str, data: st.DataObject) -> None:
    arrow, strategy = KINDS[kind]
    wanted = data.draw(st.lists(st.none() | strategy, min_size=1, max_size=8))
    left = data.draw(st.integers(0, len(wanted) - 1))
    values = pa.array(wanted, arrow).slice(left)  # a slice begins within its buffers
    places = pa.array(range(len(values)), pa.int32())
    sql.execute(f"DROP TABLE IF EXISTS copied; CREATE TEMP TABLE copied (place int, value {kind})")
    with sql.cursor() as cursor, cursor.copy("COPY copied FROM STDIN (FORMAT binary)") as stream:
        stream.write(copy_format.BEGIN)
        stream.write(copy_format.tuples([copy_format.numbers("int4", places), field(kind, values)], len(values)))
        stream.write(copy_format.END)
    whole = "value::float8" if kind == "float4" else "value"  # as text it has the digits that tell floats apart
    found = [row[0] for row in sql.execute(f"SELECT {whole} FROM copied ORDER BY place").fetchall()]
    assert len(found) == len(values)
    assert all(map(same, values.to_pylist(), found)), (values.to_pylist(), found)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([Decimal(2**63)], pa.decimal128(38, 0)),
        pa.array([Decimal(-(2**63) - 1), None], pa.decimal128(38, 0)),
        pa.array([Decimal("0.1")], pa.decimal128(38, 17)),
    ],
    ids=["above", "below", "too fine"],
)
def test_numbers_beyond_64_bits_are_left_to_others(values: pa.Array) -> None:
    with pytest.raises(OverflowError):
        copy_format.decimals(values)


def test_a_time_that_cannot_be_counted_from_2000_is_left_to_others() -> None:
    with pytest.raises(OverflowError):
        copy_format.numbers("timestamp", pa.array([1 - 2**63], pa.int64()).cast(pa.timestamp("us")))


def test_what_lies_under_a_null_does_not_count() -> None:
    under = pa.array([Decimal(10**30), Decimal(5)], pa.decimal128(38, 0))
    values = pa.Array.from_buffers(under.type, 2, [pa.py_buffer(b"\x02"), under.buffers()[1]])
    assert values.to_pylist() == [None, Decimal(5)]
    copy_format.decimals(values)
