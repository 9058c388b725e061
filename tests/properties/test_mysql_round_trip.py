"""Rows of every type go MariaDB -> Arrow -> MariaDB -> Arrow unchanged, by file and by statement."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_platform.connectors.mysql import MySQL
from sync_platform.model import DIGEST
from tests.private_mariadb import shared

MOST = dt.datetime(9999, 12, 31, 23, 59, 59, 999_999)


def decimals(digits: int, places: int) -> st.SearchStrategy[Decimal]:
    """Every value of DECIMAL(digits, places)."""
    most = 10**digits - 1

    def exactly(number: int) -> Decimal:
        figures = tuple(int(figure) for figure in str(abs(number)))
        return Decimal((int(number < 0), figures, -places))

    return st.integers(-most, most).map(exactly)


def spans(text: st.SearchStrategy[int]) -> st.SearchStrategy[str]:
    """Every TIME(6) as the server prints it."""

    def printed(micros: int) -> str:
        seconds, rest = divmod(abs(micros), 10**6)
        sign = "-" if micros < 0 else ""
        return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:06}"

    return text.map(printed)


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
LATIN = st.text(st.characters(codec="iso8859-1", exclude_categories=("Cc",)), max_size=30)
JSON = st.recursive(st.integers() | TEXT, lambda inner: st.lists(inner, max_size=2), max_leaves=3)
LONGEST = (838 * 3600 + 59 * 60 + 59) * 10**6 + 999_999
#: The column's type, and the values it can hold.
COLUMNS: dict[str, tuple[str, st.SearchStrategy[Any], pa.DataType]] = {
    "ti": ("TINYINT", st.integers(-128, 127), pa.int16()),
    "tu": ("TINYINT UNSIGNED", st.integers(0, 255), pa.int16()),
    "ok": ("TINYINT(1)", st.booleans(), pa.bool_()),
    "si": ("SMALLINT", st.integers(-(2**15), 2**15 - 1), pa.int16()),
    "mu": ("MEDIUMINT UNSIGNED", st.integers(0, 2**24 - 1), pa.int32()),
    "i": ("INT", st.integers(-(2**31), 2**31 - 1), pa.int32()),
    "iu": ("INT UNSIGNED", st.integers(0, 2**32 - 1), pa.int64()),
    "bi": ("BIGINT", st.integers(-(2**63), 2**63 - 1), pa.int64()),
    "bu": ("BIGINT UNSIGNED", st.integers(0, 2**64 - 1), pa.uint64()),
    "n": ("DECIMAL(38,9)", decimals(38, 9), pa.decimal128(38, 9)),
    "m": ("DECIMAL(12,2)", decimals(12, 2), pa.decimal128(12, 2)),
    "wide": ("DECIMAL(65,30)", decimals(65, 30).map(lambda d: f"{d:f}"), pa.string()),
    "f": ("FLOAT", st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False), pa.float32()),
    "d": ("DOUBLE", st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False), pa.float64()),
    "b1": ("BIT(1)", st.booleans(), pa.bool_()),
    "b64": ("BIT(64)", st.integers(0, 2**64 - 1), pa.uint64()),
    "day": ("DATE", st.dates(), pa.date32()),
    "at": ("DATETIME(6)", st.datetimes(max_value=MOST), pa.timestamp("us")),
    "s": ("DATETIME", st.datetimes().map(lambda t: t.replace(microsecond=0)), pa.timestamp("us")),
    "ts": (
        "TIMESTAMP(6) NULL",
        st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2038, 1, 18), timezones=st.just(dt.UTC)),
        pa.timestamp("us", "UTC"),
    ),
    "span": ("TIME(6)", spans(st.integers(-LONGEST, LONGEST)), pa.string()),
    "y": ("YEAR", st.one_of(st.just(0), st.integers(1901, 2155)), pa.int16()),
    "c": ("CHAR(30)", TEXT.map(lambda t: t.rstrip(" ")), pa.string()),
    "v": ("VARCHAR(30)", TEXT, pa.string()),
    "latin": ("VARCHAR(30) CHARACTER SET latin1", LATIN, pa.string()),
    "t": ("TEXT", TEXT, pa.string()),
    "j": ("JSON", JSON.map(lambda value: json.dumps(value, ensure_ascii=False)), pa.string()),
    "e": ("ENUM('a','it''s','')", st.sampled_from(["a", "it's"]), pa.string()),
    "st": ("SET('x','y','z')", st.sampled_from(["", "x", "x,z", "x,y,z"]), pa.string()),
    "raw": ("BLOB", st.binary(max_size=40), pa.binary()),
    "fixed": ("BINARY(4)", st.binary(min_size=4, max_size=4), pa.binary()),
    "u": ("UUID", st.uuids(version=4).map(str), pa.string()),
}  # fmt: skip


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[MySQL, MySQL]]:
    """Two databases with a table of every type."""
    made = []
    for name in ("source", "target"):
        url = shared().create(name)
        with shared().person(name) as db, db.cursor() as cursor:
            columns = ", ".join(f"`{column}` {kind}" for column, (kind, _, _) in COLUMNS.items())
            cursor.execute(f"CREATE TABLE rows_of_all (id INT PRIMARY KEY, {columns}) ROW_FORMAT=DYNAMIC")
        made.append(MySQL(url=url))
    yield made[0], made[1]
    for connector in made:
        connector.close()


def emptied() -> None:
    for name in ("source", "target"):
        with shared().person(name) as db, db.cursor() as cursor:
            cursor.execute("DELETE FROM rows_of_all")


def written(connector: MySQL, rows: pa.Table) -> None:
    ids = rows["id"].cast(pa.string())
    part = rows.append_column("_key", ids).append_column("_target_id", pa.nulls(rows.num_rows, pa.string()))
    told = connector.write_bulk("rows_of_all", "create", part, uuid.uuid4().hex)
    bad = [row for row in told.to_pylist() if row["_status"] != "applied"]
    assert bad == []
    assert told["_target_id"].to_pylist() == ids.to_pylist()


def everything(connector: Any) -> pa.Table:
    return pa.concat_tables([page.table for page in connector.read("rows_of_all")]).replace_schema_metadata()


ROW = st.fixed_dictionaries({name: st.none() | values for name, (_, values, _) in COLUMNS.items()})
UNHURRIED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@settings(max_examples=12, deadline=None, suppress_health_check=UNHURRIED)
@given(rows=st.lists(ROW, min_size=1, max_size=4), many=st.booleans())
def test_rows_of_every_type_come_back_unchanged(
    ends: tuple[MySQL, MySQL], rows: list[dict[str, Any]], many: bool
) -> None:
    source, target = ends
    emptied()
    rows = rows * 50 if many else rows  # from a hundred rows on they are written by a file
    arrays = {name: pa.array([row[name] for row in rows], kind) for name, (_, _, kind) in COLUMNS.items()}
    given_rows = pa.table({"id": pa.array(range(len(rows)), pa.int32()), **arrays})
    written(source, given_rows)
    first = everything(source)
    for name in given_rows.column_names:
        assert same(first[name], given_rows[name]), name
    written(target, first)
    assert everything(target).equals(first)
    part = first.append_column("_key", first["id"].cast(pa.string()))
    part = part.append_column("_target_id", first["id"].cast(pa.string())).drop_columns(["id"])
    told = target.write_bulk("rows_of_all", "update", part, uuid.uuid4().hex)
    assert set(told["_status"].to_pylist()) == {"noop"}  # to the byte what is there already


@settings(max_examples=12, deadline=None, suppress_health_check=UNHURRIED)
@given(rows=st.lists(ROW, min_size=1, max_size=12))
def test_the_servers_digests_are_those_of_what_it_sends(ends: tuple[MySQL, MySQL], rows: list[dict[str, Any]]) -> None:
    source, _ = ends
    emptied()
    arrays = {name: pa.array([row[name] for row in rows], kind) for name, (_, _, kind) in COLUMNS.items()}
    written(source, pa.table({"id": pa.array(range(len(rows)), pa.int32()), **arrays}))
    *_, end = source.read("rows_of_all")
    assert end.position is not None
    found = source.compare("rows_of_all", 4)
    assert found is not None
    with contextlib.closing(found):
        by_server = list(found.pages(end.position, range(16)))[:-1]
    by_us = list(source.read_digested("rows_of_all"))
    assert {page.digests for page in [*by_server, *by_us]} == {found.digests}
    of_rows = pa.concat_tables([page.table for page in by_us])
    assert pa.concat_tables([page.table for page in by_server]).equals(of_rows)
    assert len(set(of_rows[DIGEST].to_pylist())) == len(
        {repr(row) for row in of_rows.drop_columns([DIGEST]).to_pylist()}
    )
    summed = sum(int(total) for total in found.sums["total"].to_pylist())
    assert summed == sum(of_rows[DIGEST].to_pylist())


def same(found: pa.ChunkedArray, expected: pa.ChunkedArray) -> bool:
    """Equal to the bit, but for the sign of a zero, which MySQL does not keep."""
    if pa.types.is_floating(expected.type):
        return bool(found.to_pylist() == expected.to_pylist())
    return bool(found.equals(expected))
