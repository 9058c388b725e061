"""A column spelled as a whole reads as its values do one by one."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_platform.engine.conversion import as_text
from sync_platform.engine.spelling import spelled

TIMES = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999))
LATELY = st.datetimes(dt.datetime(1899, 12, 31), dt.datetime(2036, 1, 1))
COLUMNS: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "times of any year": (pl.Datetime("us"), TIMES),
    "times of a century": (pl.Datetime("us"), LATELY),
    "times in milliseconds": (pl.Datetime("ms"), LATELY),
    "times in nanoseconds": (pl.Datetime("ns"), LATELY),
    "times with a zone": (pl.Datetime("us", "Europe/Berlin"), LATELY.map(lambda time: time.replace(tzinfo=dt.UTC))),
    "amounts": (pl.Decimal(12, 2), st.decimals(-(10**9), 10**9, places=2)),
    "amounts with four decimals": (pl.Decimal(18, 4), st.decimals(-(10**13), 10**13, places=4)),
    "amounts with six decimals": (pl.Decimal(30, 6), st.decimals(-10, 10, places=6)),
    "amounts beyond 64 bits": (pl.Decimal(38, 2), st.just(Decimal(10**30 + 5).scaleb(-2))),
    "amounts without decimals": (pl.Decimal(20, 0), st.integers(-(10**19), 10**19).map(Decimal)),
    "texts": (pl.String(), st.text()),
    "numbers": (pl.Int64(), st.integers(-(2**63), 2**63 - 1)),
    "days": (pl.Date(), st.dates()),
}


@pytest.mark.parametrize("kind", COLUMNS)
@settings(deadline=None)
@given(data=st.data())
def test_a_column_reads_as_its_values_do_one_by_one(kind: str, data: st.DataObject) -> None:
    dtype, strategy = COLUMNS[kind]
    values = pl.Series("v", data.draw(st.lists(strategy, max_size=8)), dtype=dtype)
    parts = pl.DataFrame([part.alias(str(at)) for at, part in enumerate(spelled(values))])
    told = parts.select(pl.concat_str(pl.all())).to_series().to_list()
    canonical = as_text(pl.col("v"), dtype)
    assert told == values.to_frame().select(canonical).to_series().to_list()
    assert told == [values[at : at + 1].to_frame().select(canonical).item() for at in range(len(values))]


def test_a_column_with_a_null_has_none_where_it_is() -> None:
    values = pl.Series("v", [dt.datetime(2026, 1, 1), None])
    assert spelled(values)[0].to_list() == ["2026-01-01T00:00:00.000Z", None]
