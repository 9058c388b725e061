"""Upkeep and migrations change no record."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from sync_platform.errors import ConfigError
from sync_platform.staging.lake import Lake
from sync_platform.staging.load import stage
from sync_platform.staging.maintain import compact, expire, upkeep
from sync_platform.staging.outcomes import write_lake_outcomes
from sync_platform.staging.tables import high_seq
from sync_platform.staging.widen import widen
from sync_platform.state.locks import advisory_lock
from tests.laws.staging.scripted import Scripted, lead, page

Rows = Callable[..., list[dict[str, Any]]]
ALL = 'SELECT * FROM lake.crm."Lead" ORDER BY _key'


def load(lake: Lake, *records: dict[str, Any], **types: pa.DataType) -> Any:
    return stage(lake, Scripted.of(page(records, 1, **types)), "crm", "Lead")


def files(lake: Lake) -> int:
    return sum(1 for file in (lake.db.home.lake / "crm").rglob("*.parquet") if file.is_file())


def test_compacting_and_expiring_change_no_row_and_free_the_files(lake: Lake, rows: Rows) -> None:
    for number in range(8):
        load(lake, *[lead(str(n), number + n, Name=f"{number}") for n in range(number, number + 20)])
    load(lake, {"Id": "3", "Modified": lead("3", 99)["Modified"], "_deleted": True})
    before, many = rows(ALL), files(lake)
    with lake.connect() as con:
        seq = high_seq(con, "crm", "Lead")
        changed = con.execute('SELECT _key FROM lake.crm."Lead" WHERE _seq > ? ORDER BY 1', [seq - 2]).fetchall()
    compact(lake, "crm", "Lead")
    gone = expire(lake, keep=dt.timedelta(0))
    assert gone.snapshots > 0
    assert gone.files > 0
    assert files(lake) < many
    assert rows(ALL) == before
    with lake.connect() as con:
        assert high_seq(con, "crm", "Lead") == seq
        again = con.execute('SELECT _key FROM lake.crm."Lead" WHERE _seq > ? ORDER BY 1', [seq - 2]).fetchall()
        assert again == changed
    assert load(lake, *[lead(str(n), 7 + n, Name="7") for n in range(7, 27)]).rows_changed == 0
    assert load(lake, lead("7", 1000, Name="after")).rows_changed == 1
    assert len(rows(ALL)) == len(before)


def test_bulk_outcomes_are_compacted_too_and_stay_what_they_were(lake: Lake, rows: Rows) -> None:
    settled = pl.DataFrame({"source_key": ["a", "b"], "target_id": ["1", "2"], "op": "create", "status": "applied"})
    values = pl.DataFrame({"_key": ["a", "b"], "new:email": ["a@x", "b@x"]})
    for part in "pqrstuvw":
        frame = settled.with_columns(reason=pl.lit(None, pl.String))
        write_lake_outcomes(lake, "leads", frame, values, run_id="r", plan_id="p", part=part)
    wanted = 'SELECT * FROM lake."_outcomes"."leads" ORDER BY part, source_key'
    before = rows(wanted)
    outcomes = lake.db.home.lake / "_outcomes"
    many = len(list(outcomes.rglob("*.parquet")))
    with advisory_lock(lake.db, "sync:leads"):
        assert upkeep(lake, patience=dt.timedelta(0)).busy == ("_outcomes/leads",)
    assert upkeep(lake, keep=dt.timedelta(0)).compacted == ("_outcomes/leads",)
    assert (len(before), rows(wanted)) == (16, before)
    assert len(list(outcomes.rglob("*.parquet"))) < many


def test_landed_files_do_not_pile_up(lake: Lake) -> None:
    for number in range(4):
        load(lake, lead("a", number, Name=str(number)))
    landing = lake.db.home.lake / "landing__crm__Lead"
    assert len(list((landing / "rows").glob("*.parquet"))) == 4
    orphan = landing / "rows" / "never-registered.parquet"
    orphan.write_bytes(b"")
    compact(lake, "crm", "Lead")
    expire(lake, keep=dt.timedelta(0))
    assert list((landing / "rows").glob("*.parquet")) == []
    assert load(lake, lead("a", 50, Name="50")).rows_changed == 1


def test_expiry_leaves_files_alone_that_are_not_of_the_lake(lake: Lake) -> None:
    load(lake, lead("a", 1))
    other = lake.db.home.lake / "plans" / "part.parquet"
    other.parent.mkdir()
    other.write_bytes(b"not ours")
    expire(lake, keep=dt.timedelta(0))
    assert other.exists()


def test_a_widened_column_keeps_rows_and_seq_and_takes_the_new_values(lake: Lake, rows: Rows) -> None:
    load(lake, lead("a", 1, Size=1), lead("b", 1, Size=None))
    before = rows('SELECT _key, _seq, _deleted, _cursor FROM lake.crm."Lead" ORDER BY 1')
    widen(lake, "crm", "Lead", "size", pa.float64())
    assert rows('SELECT _key, _seq, _deleted, _cursor FROM lake.crm."Lead" ORDER BY 1') == before
    assert load(lake, lead("a", 1, Size=1.0), lead("b", 1, Size=None)).rows_changed == 0
    assert load(lake, lead("a", 2, Size=1.5)).rows_changed == 1
    assert rows('SELECT "Size" AS size FROM lake.crm."Lead" WHERE _key = \'a\'') == [{"size": 1.5}]
    widen(lake, "crm", "Lead", "Size", pa.string())
    assert load(lake, lead("a", 3, Size="huge")).rows_changed == 1


def test_a_decimal_grows(lake: Lake, rows: Rows) -> None:
    load(lake, lead("a", 1, Price=Decimal("1.50")), Price=pa.decimal128(5, 2))
    widen(lake, "crm", "Lead", "Price", pa.decimal128(38, 9))
    load(lake, lead("b", 1, Price=Decimal("123456789.123456789")), Price=pa.decimal128(38, 9))
    assert rows('SELECT "Price" AS p FROM lake.crm."Lead" ORDER BY _key') == [
        {"p": Decimal("1.500000000")},
        {"p": Decimal("123456789.123456789")},
    ]


@pytest.mark.parametrize(("value", "to"), [(2**53 + 1, pa.float64()), (1, pa.bool_()), (1, pa.decimal128(10, 2))])
def test_a_widening_that_would_lose_a_value_is_refused(lake: Lake, rows: Rows, value: int, to: pa.DataType) -> None:
    load(lake, lead("a", 1, Size=value))
    before = rows(ALL)
    with pytest.raises(ConfigError, match="Size"):
        widen(lake, "crm", "Lead", "Size", to)
    assert rows(ALL) == before
