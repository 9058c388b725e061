"""Whatever a key is made of, the binlog tells it as a read stages it, and as `get` finds it again."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sync_platform.connectors.mysql import MySQL
from sync_platform.staging.canonical import canonical, fit
from sync_platform.staging.fingerprint import key_sql
from tests.private_mariadb import shared

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
LATIN = st.text(st.characters(codec="cp1252", exclude_characters="\x00"), max_size=12)
#: The least and the greatest value of a type: drawn ones may all lie between.
ENDS: dict[str, tuple[int, ...]] = {
    "tinyint": (-128, 127),
    "tinyint_unsigned": (0, 255),
    "smallint": (-(2**15), 2**15 - 1),
    "mediumint": (-(2**23), 2**23 - 1),
    "mediumint_unsigned": (0, 2**24 - 1),
    "int": (-(2**31), 2**31 - 1),
    "int_unsigned": (0, 2**32 - 1),
    "bigint": (-(2**63), 2**63 - 1),
    "bigint_unsigned": (0, 2**64 - 1),
    "bit": (0, 2**13 - 1),
}
#: The type of a key's column, and its values as the driver takes them.
KEYS: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "tinyint": ("TINYINT", st.integers(*ENDS["tinyint"])),
    "tinyint_unsigned": ("TINYINT UNSIGNED", st.integers(*ENDS["tinyint_unsigned"])),
    "boolean": ("TINYINT(1)", st.integers(0, 1)),
    "smallint": ("SMALLINT", st.integers(*ENDS["smallint"])),
    "mediumint": ("MEDIUMINT", st.integers(*ENDS["mediumint"])),
    "mediumint_unsigned": ("MEDIUMINT UNSIGNED", st.integers(*ENDS["mediumint_unsigned"])),
    "int": ("INT", st.integers(*ENDS["int"])),
    "int_unsigned": ("INT UNSIGNED", st.integers(*ENDS["int_unsigned"])),
    "bigint": ("BIGINT", st.integers(*ENDS["bigint"])),
    "bigint_unsigned": ("BIGINT UNSIGNED", st.integers(*ENDS["bigint_unsigned"])),
    "bit": ("BIT(13)", st.integers(*ENDS["bit"])),
    "decimal": ("DECIMAL(12,2)", st.decimals(-(10**9), 10**9, places=2)),
    "decimal_wide": ("DECIMAL(38,9)", st.decimals(-(10**20), 10**20, places=9)),
    "decimal_fraction": ("DECIMAL(5,5)", st.decimals("-0.99999", "0.99999", places=5)),
    "year": ("YEAR", st.one_of(st.just(0), st.integers(1901, 2155))),
    "date": ("DATE", st.dates()),
    "datetime": ("DATETIME", st.datetimes().map(lambda t: t.replace(microsecond=0))),
    "datetime3": ("DATETIME(3)", st.datetimes().map(lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000))),
    "datetime6": ("DATETIME(6)", st.datetimes()),
    "timestamp": ("TIMESTAMP(5)", st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2038, 1, 18)).map(
        lambda t: t.replace(microsecond=t.microsecond // 10 * 10))),
    "time": ("TIME(2)", st.integers(-(83_000_000), 83_000_000).map(
        lambda n: f"{'-' if n < 0 else ''}{abs(n) // 100 // 3600:02}:{abs(n) // 6000 % 60:02}:"
        f"{abs(n) // 100 % 60:02}.{abs(n) % 100:02}")),
    "char": ("CHAR(12) COLLATE utf8mb4_bin", TEXT.map(lambda t: t.rstrip(" "))),
    "varchar": ("VARCHAR(12) COLLATE utf8mb4_nopad_bin", TEXT),
    "varchar_long": ("VARCHAR(300) COLLATE utf8mb4_nopad_bin", TEXT),
    "latin1": ("VARCHAR(12) CHARACTER SET latin1 COLLATE latin1_nopad_bin", LATIN),
    "utf16": ("VARCHAR(12) CHARACTER SET utf16 COLLATE utf16_nopad_bin", TEXT),
    "cp1251": ("VARCHAR(12) CHARACTER SET cp1251 COLLATE cp1251_nopad_bin", st.text("абвгдЁЖ abc\"'\\", max_size=12)),
    "enum": ("ENUM('a','it''s','ü')", st.sampled_from(["a", "it's", "ü"])),
    "set": ("SET('x','y','z')", st.sampled_from(["", "x", "x,z", "x,y,z"])),
    "uuid": ("UUID", st.uuids(version=4).map(str)),
    "uuid1": ("UUID", st.uuids(version=1).map(str)),
    "binary": ("BINARY(6)", st.binary(min_size=6, max_size=6)),
    "varbinary": ("VARBINARY(12)", st.binary(max_size=12)),
}  # fmt: skip


@pytest.fixture(scope="module")
def connector() -> Iterator[MySQL]:
    """A connection whose DATETIME columns are of Berlin when their table is called so."""
    made = MySQL(url=shared().create("keys"), tables={"berlin": {"timezone": "Europe/Berlin"}})
    yield made
    made.close()


def staged(connector: MySQL, stream: str) -> set[str]:
    """The keys of all rows as staging writes them."""
    key = connector.stream(stream).key
    pages = [page.table for page in connector.read(stream, fields=list(key))]
    table = pa.concat_tables(pages).replace_schema_metadata()
    types = {field.name: canonical(field.type) for field in table.schema}
    rows = fit(table, types, stream)  # noqa: F841
    sql = f"SELECT {key_sql(key, types, lambda name: chr(34) + name + chr(34))} FROM rows"
    return {text for (text,) in duckdb.sql(sql).fetchall()}


def followed(connector: MySQL, stream: str, make: Any, count: int) -> list[str]:
    """The keys that were told after something was done."""
    feed = connector.follow([stream], None)
    try:
        make()
        found: list[str] = []
        deadline = time.monotonic() + 10
        while len(found) < count and time.monotonic() < deadline:
            one = feed.next(0.5)
            found += [event.key for event in one.events] if one else []
        return found
    finally:
        feed.close()


def agree(connector: MySQL, stream: str, columns: dict[str, str], rows: list[tuple[Any, ...]]) -> None:
    """Rows are written; what is told, what is staged and what is found again are the same keys."""
    names = list(columns)
    with shared().person("keys") as db, db.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO'")
        kinds = ", ".join(f"`{name}` {kind} NOT NULL" for name, kind in columns.items())
        cursor.execute(f"CREATE OR REPLACE TABLE `{stream}` ({kinds}, rest TEXT, PRIMARY KEY ({', '.join(names)}))")

        def make() -> None:
            marks = ", ".join(["%s"] * len(names))
            cursor.executemany(f"INSERT INTO `{stream}` ({', '.join(names)}) VALUES ({marks})", rows)

        told = followed(connector, stream, make, len(rows))
    assert len(told) == len(rows)
    assert set(told) == staged(connector, stream)
    answer = connector.get(stream, told, ["rest"])
    assert answer.num_rows == len(rows)


UNHURRIED = [HealthCheck.too_slow, HealthCheck.data_too_large]
UNSHRUNK = [Phase.explicit, Phase.reuse, Phase.generate]  # each example costs a table


@pytest.mark.parametrize("kind", sorted(KEYS))
@settings(max_examples=4, deadline=None, phases=UNSHRUNK, suppress_health_check=UNHURRIED)
@given(data=st.data())
def test_a_key_of_every_type_is_told_as_it_is_staged(connector: MySQL, kind: str, data: st.DataObject) -> None:
    declared, values = KEYS[kind]
    wanted = data.draw(st.lists(values, min_size=1, max_size=20, unique_by=str))
    wanted += [value for value in ENDS.get(kind, ()) if value not in wanted]
    agree(connector, "one", {"k": declared}, [(value,) for value in wanted])


@settings(max_examples=6, deadline=None, phases=UNSHRUNK, suppress_health_check=UNHURRIED)
@given(data=st.data())
def test_a_key_of_several_columns_is_told_as_it_is_staged(connector: MySQL, data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=2, max_size=4, unique=True))
    columns = {f"k{i}": KEYS[kind][0] for i, kind in enumerate(kinds)}
    row = st.tuples(*(KEYS[kind][1] for kind in kinds))
    rows = data.draw(st.lists(row, min_size=1, max_size=10, unique_by=str))
    agree(connector, "several", columns, rows)


def test_local_times_in_a_key_are_instants_where_the_table_has_a_zone(connector: MySQL) -> None:
    moments = [dt.datetime(2024, 7, 1, 12, 0, 0, 5), dt.datetime(2024, 1, 1, 12), dt.datetime(1900, 1, 1)]
    agree(connector, "berlin", {"at": "DATETIME(6)", "day": "DATE"}, [(at, at.date()) for at in moments])
