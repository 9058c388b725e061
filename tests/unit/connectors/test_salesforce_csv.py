"""Bulk result files and JSON rows as Arrow tables: exact types, nothing cut, nothing guessed."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from sync_platform.connectors.rest import table_of
from sync_platform.connectors.salesforce.bulk import table_of_csv
from sync_platform.errors import ContractError, TransientError

SCHEMA = pa.schema(
    [
        ("Id", pa.string()),
        ("Text", pa.string()),
        ("Money", pa.decimal128(38, 2)),
        ("At", pa.timestamp("us", "UTC")),
        ("Day", pa.date32()),
        ("Count", pa.int64()),
        ("Share", pa.float64()),
        ("Yes", pa.bool_()),
    ]
)


def test_a_file_of_many_blocks_keeps_rows_whose_text_spans_lines() -> None:
    text = "line\n" * 40 + 'and a "quote", too'
    quoted = text.replace('"', '""')
    data = ("Id,Text\n" + "".join(f'"{n}","{quoted}"\n' for n in range(60_000))).encode()
    assert len(data) > 3 * (1 << 22)
    table = table_of_csv(data, SCHEMA, where="salesforce/Lead")
    assert table.num_rows == 60_000
    assert set(table["Text"].unique().to_pylist()) == {text}


def test_a_row_longer_than_a_block_is_read() -> None:
    data = ('Id,Text\n"1","short"\n"2","' + "x" * (5 << 20) + '"\n"3",""\n').encode()
    table = table_of_csv(data, SCHEMA, where="salesforce/Lead")
    assert [len(value or "") for value in table["Text"].to_pylist()] == [5, 5 << 20, 0]


def test_columns_the_file_does_not_have_are_absent_and_strangers_are_left_out() -> None:
    table = table_of_csv(b'Id,Stranger\n"1","x"\n', SCHEMA, where="salesforce/Lead")
    assert table.column_names == ["Id"]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'Id,Count\n"1","five"\n', ContractError),
        (b'Id,At\n"1","2026-01-01T00:00:00"\n', ContractError),
        (b'Id,Money\n"1","1.005"\n', ContractError),
        (b'Id,Text\n"1"\n', TransientError),
        (b'Id,Day\n"1","2026-0', TransientError),
    ],
    ids=["word-as-number", "time-without-zone", "finer-than-its-scale", "row-too-short", "cut-off"],
)
def test_a_file_that_does_not_fit_is_refused(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error, match="salesforce/Lead"):
        table_of_csv(data, SCHEMA, where="salesforce/Lead")


def test_json_rows_take_the_types_of_the_schema() -> None:
    row = {
        "Id": "1",
        "Money": Decimal("19.9"),
        "At": "2026-01-01T02:00:00.5+0200",
        "Day": "2026-01-31",
        "Count": 3.0,
        "Share": 1,
        "Yes": True,
    }
    table = table_of([row, dict.fromkeys(row)], SCHEMA, where="x")
    assert table.column_names == ["Id", "Money", "At", "Day", "Count", "Share", "Yes"]
    assert table.to_pylist()[0] == {
        "Id": "1",
        "Money": Decimal("19.90"),
        "At": dt.datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=dt.UTC),
        "Day": dt.date(2026, 1, 31),
        "Count": 3,
        "Share": 1.0,
        "Yes": True,
    }
    assert set(table.to_pylist()[1].values()) == {None}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Count", 3.5),
        ("Count", True),
        ("Count", "3.5"),
        ("Money", 1.005),
        ("At", "2026-01-01"),
        ("Day", "soon"),
        ("Yes", "true"),
        ("Text", 7),
    ],
)
def test_a_json_value_that_does_not_fit_is_named(name: str, value: Any) -> None:
    with pytest.raises(ContractError) as caught:
        table_of([{"Id": "1", name: None}, {"Id": "2", name: value}], SCHEMA, where="acme/things")
    assert caught.value.field == name
    assert repr(value) in caught.value.message
    assert caught.value.mend


def test_empty_text_is_null_only_where_asked_and_never_in_text_columns() -> None:
    table = table_of([{"Text": "", "Count": ""}], SCHEMA, where="x", empty_is_null=True)
    assert table.to_pylist() == [{"Text": "", "Count": None}]
    with pytest.raises(ContractError):
        table_of([{"Count": ""}], SCHEMA, where="x")
