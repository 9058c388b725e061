"""The hash of a row's content."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from sync_platform.staging.fingerprint import cursor_sql, hash_sql, key_sql
from sync_platform.staging.lake import quoted


def hashed(values: Mapping[str, Any], **types: pa.DataType) -> int:
    table = pa.table({name: pa.array([value], types.get(name)) for name, value in values.items()})
    con = duckdb.connect()
    con.execute("SET TimeZone = 'America/New_York'")
    con.register("t", table)
    kinds = {field.name: field.type for field in table.schema}
    row = con.execute(f"SELECT {hash_sql(kinds, quoted)} FROM t").fetchone()
    assert row is not None
    return int(row[0])


def test_the_hash_is_the_same_number_for_ever() -> None:
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)
    values = {
        "Name": "Zoë", "Size": 7, "Part": 0.1, "Yes": True, "At": moment, "Day": dt.date(2024, 2, 29),
        "Money": Decimal("1.50"), "Raw": b"\x00\xff", "Clock": dt.time(1, 2, 3),
    }  # fmt: skip
    texts = {
        "Name": "Zoë", "Size": "7", "Part": "0.1", "Yes": "true", "At": "1767323045678901", "Day": "2024-02-29",
        "Money": "1.50", "Raw": "AP8=", "Clock": "01:02:03",
    }  # fmt: skip
    assert hashed(values, Clock=pa.time64("us")) == by_hand(texts)
    assert hashed({"A": "x"}) == by_hand({"A": "x"})


def by_hand(texts: Mapping[str, str]) -> int:
    """The definition, without DuckDB."""
    text = "".join(f"\x1f{name}\x1e{texts[name]}" for name in sorted(texts))
    return int.from_bytes(hashlib.md5(text.encode()).digest()[8:], "little")


def test_null_and_absent_hash_alike_and_empty_does_not() -> None:
    whole = hashed({"A": "x", "B": None}, B=pa.string())
    assert whole == hashed({"A": "x"})
    assert whole != hashed({"A": "x", "B": ""})


def test_the_order_of_columns_does_not_matter() -> None:
    assert hashed({"A": 1, "B": 2}) == hashed({"B": 2, "A": 1})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"A": "1", "B": "2"}, {"A": "1\x1fB\x1e2"}),
        ({"A": "x\x1f", "B": "y"}, {"A": "x", "B": "\x1fy"}),
        ({"A": "1", "B": None}, {"A": None, "B": "1"}),
        ({"A": "ab", "B": "c"}, {"A": "a", "B": "bc"}),
    ],
)
def test_values_cannot_pose_as_other_values(one: dict[str, Any], other: dict[str, Any]) -> None:
    types = {"A": pa.string(), "B": pa.string()}
    assert hashed(one, **types) != hashed(other, **types)


def test_keys_are_texts_and_composite_keys_json_arrays_of_texts() -> None:
    con = duckdb.connect()
    odd = ["a", 'q"', "b\\s", "tab\t", "ü🎉", "\x01"]
    con.register("t", pa.table({"A": pa.array(odd), "B": pa.array(range(len(odd)))}))
    types = {"A": pa.string(), "B": pa.int64()}
    both, one = key_sql(["A", "B"], types, quoted), key_sql(["B"], types, quoted)
    pairs = con.execute(f"SELECT {both}, {one} FROM t").fetchall()
    wanted = [json.dumps([text, str(n)], ensure_ascii=False, separators=(",", ":")) for n, text in enumerate(odd)]
    assert [pair[0] for pair in pairs] == wanted
    assert [pair[1] for pair in pairs] == [str(n) for n in range(len(odd))]


@pytest.mark.parametrize(
    ("value", "kind", "micros"),
    [
        (dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC), pa.timestamp("us", tz="UTC"), 1_000_000),
        (dt.date(1970, 1, 2), pa.date32(), 86_400_000_000),
        (42, pa.int64(), 42),
        ("1970-01-01T00:00:01.500+0000", pa.string(), 1_500_000),
        ("1970-01-01T01:00:00+01:00", pa.string(), 0),
        ("soon", pa.string(), None),
    ],
)
def test_cursors_are_microseconds_or_the_number_itself(value: object, kind: pa.DataType, micros: int | None) -> None:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.register("t", pa.table({"c": pa.array([value], kind)}))
    assert con.execute(f"SELECT {cursor_sql('c', kind)} FROM t").fetchone() == (micros,)
