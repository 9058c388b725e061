"""A full read of MariaDB by digests: every edit of a value of any type is found, and little else is read."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from sync_platform.connectors.mysql import MySQL
from sync_platform.errors import ContractError, TransientError
from sync_platform.staging.comparing import Comparing, Part
from sync_platform.staging.lake import Lake
from tests.laws.staging.compared import ComparedTable
from tests.private_mariadb import shared

Rows = Callable[..., list[dict[str, Any]]]
#: A column of each kind, a first value and one that a digest must tell from it.
EDITS = {
    "varchar": ("VARCHAR(40)", "'a'", "'A'"),
    "a space at the end": ("VARCHAR(40)", "'a'", "'a '"),
    "an accent": ("VARCHAR(40) COLLATE utf8mb4_general_ci", "'e'", "'é'"),
    "empty": ("VARCHAR(40)", "NULL", "''"),
    "latin1": ("VARCHAR(40) CHARACTER SET latin1", "'ÿ'", "'y'"),
    "utf16": ("VARCHAR(40) CHARACTER SET utf16", "'a'", "'b'"),
    "text": ("LONGTEXT", "repeat('a', 70000)", "concat(repeat('a', 69999), 'b')"),
    "blob": ("BLOB", "x'ff00'", "x'ff01'"),
    "binary": ("BINARY(4)", "x'ff'", "x'ffff'"),
    "enum": ("ENUM('new', 'old')", "'new'", "'old'"),
    "set": ("SET('a', 'b')", "'a'", "'a,b'"),
    "json": ("JSON", "'[1]'", "'[1, 2]'"),
    "uuid": ("UUID", "'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'"),
    "bool": ("TINYINT(1)", "0", "1"),
    "bigint": ("BIGINT UNSIGNED", "18446744073709551615", "18446744073709551614"),
    "sign": ("DECIMAL(12, 2)", "7.5", "-7.5"),
    "float": ("FLOAT", "16777216", "16777217e1"),
    "seventh digit": ("FLOAT", "1.0000001", "1.0000002"),
    "double": ("DOUBLE", "0.1e0", "0.30000000000000004e0 - 0.2e0"),
    "bit": ("BIT(9)", "b'100000000'", "b'100000001'"),
    "microsecond": ("DATETIME(6)", "'2025-01-01 00:00:00.000001'", "'2025-01-01 00:00:00.000002'"),
    "timestamp": ("TIMESTAMP(6) NULL", "'2025-01-01 00:00:00.000001'", "'2025-01-01 01:00:00.000001'"),
    "time": ("TIME", "'-00:00:01'", "'00:00:01'"),
    "year": ("YEAR", "2024", "2025"),
}
COUNT = 2000


class Shop(ComparedTable):
    """One table of a database of its own, and what is staged of it."""

    def __init__(self, url: str, database: str, lake: Lake, rows: Rows, columns: str, cursor: str = "") -> None:
        self.lake, self.rows, self.db = lake, rows, shared().person(database)
        self.stream = f"t_{uuid.uuid4().hex[:8]}"
        self.connector = MySQL(url=url, tables={self.stream: {"cursor": cursor}})  # type: ignore[dict-item]
        self.run(f"CREATE TABLE {{t}} (id INT PRIMARY KEY, n INT NOT NULL, {columns})")

    def run(self, statement: str) -> None:
        """A statement, committed at once."""
        with self.db.cursor() as cursor:
            cursor.execute(statement.format(t=self.stream))

    def check(self) -> None:
        """Asserts that the live staged rows are what the connector reads now."""
        read = pa.concat_tables([page.table for page in self.connector.read(self.stream)]).sort_by("n")
        columns = ", ".join(f'"{name}"' for name in read.column_names)
        staged = self.rows(f'SELECT {columns} FROM lake.shop."{self.stream}" WHERE NOT _deleted ORDER BY n')
        assert staged == read.to_pylist()


@pytest.fixture
def shop(lake: Lake, rows: Rows) -> Iterator[Callable[..., Shop]]:
    """Makes a table of two thousand rows that were loaded once."""
    database = f"shop_{uuid.uuid4().hex[:8]}"
    url = shared().create(database)

    def make(columns: str, values: str, cursor: str = "") -> Shop:
        made = Shop(url, database, lake, rows, columns, cursor)
        made.run(f"INSERT INTO {{t}} SELECT seq, seq, {values} FROM seq_1_to_{COUNT}")
        made.load(full=False)
        made.check()
        return made

    yield make
    shared().drop(database)


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_any_type_is_found_and_little_else_is_read(shop: Callable[..., Shop], edit: str) -> None:
    declared, first, second = EDITS[edit]
    table = shop(f"v {declared}", first)
    done = table.load()
    assert (done.rows_read, done.rows_changed, done.complete, table.compared) == (0, 0, True, COUNT)
    table.run(f"UPDATE {{t}} SET v = {second} WHERE n = 7")
    done = table.load()
    assert done.rows_changed == 1
    assert done.rows_read < 400
    table.check()
    table.run("UPDATE {t} SET v = NULL WHERE n = 8")
    table.load()
    table.check()


def test_what_cancels_out_or_runs_together_is_found(shop: Callable[..., Shop]) -> None:
    """Rows and columns that swap values, nulls that change places, bytes that look like what separates values."""
    table = shop("a VARCHAR(20), b VARCHAR(20), c BLOB, d BLOB", "concat('a', seq), concat('b', seq), 'c', 'd'")
    for one, other in (
        ("a = CASE n WHEN 3 THEN 'a900' ELSE 'a3' END WHERE n IN (3, 900)", 2),
        ("a = b, b = CONCAT('a', n) WHERE n = 5", 1),
        ("a = NULL, b = 'x' WHERE n = 5", 1),
        ("a = 'x', b = NULL WHERE n = 5", 1),
        ("c = x'ff', d = x'' WHERE n = 6", 1),
        ("c = x'', d = x'ff' WHERE n = 6", 1),
        ("c = concat('c', x'ff', 'd'), d = NULL WHERE n = 7", 1),
        ("c = 'c', d = 'd' WHERE n = 7", 1),
    ):
        table.run(f"UPDATE {{t}} SET {one}")
        done = table.load()
        assert done.rows_changed == other, one
        table.check()
    table.run("UPDATE {t} SET id = -id WHERE n IN (3, 900)")
    table.run("DELETE FROM {t} WHERE n BETWEEN 10 AND 19")
    table.load()
    table.check()


def test_rows_read_by_the_cursor_in_between_are_not_read_again(shop: Callable[..., Shop]) -> None:
    table = shop("v INT, updated_at TIMESTAMP(6) NOT NULL", "1, '2025-01-01'", "updated_at")
    for number in range(3):
        table.run(f"UPDATE {{t}} SET v = v + 1, updated_at = now(6) WHERE n % 100 = {number}")
        assert table.load(full=False).rows_changed == COUNT / 100
    assert table.load().rows_read == 0
    table.run("UPDATE {t} SET v = 9 WHERE n = 50")
    assert table.load().rows_changed == 1
    table.check()


def test_a_filter_is_compared_and_another_one_is_read_whole(shop: Callable[..., Shop]) -> None:
    table = shop("v INT", "1")
    assert table.load(where="n <= 500").rows_deleted == COUNT - 500
    table.run("UPDATE {t} SET v = 2 WHERE n IN (300, 1500)")
    done = table.load(where="n <= 500")
    assert (done.rows_changed, table.compared) == (1, 500)
    assert done.rows_read < 400


@pytest.mark.parametrize(
    ("change", "then"),
    [
        ("ADD COLUMN more VARCHAR(9) DEFAULT 'x'", 0),
        ("ENGINE = MyISAM", COUNT),
        ("ADD COLUMN place POINT DEFAULT POINT(1, 2)", COUNT),
        ("DROP PRIMARY KEY, ADD UNIQUE (n)", COUNT),
    ],
)
def test_what_cannot_be_compared_is_read_whole(shop: Callable[..., Shop], change: str, then: int) -> None:
    table = shop("v INT", "1")
    table.run(f"ALTER TABLE {{t}} {change}")
    if "UNIQUE" in change:
        table.connector = MySQL(url=table.connector.url, tables={table.stream: {"key": ["id"], "cursor": ""}})  # type: ignore[dict-item]
    assert table.load().rows_read == COUNT
    assert table.load().rows_read == then
    table.check()


def test_what_the_connection_says_of_values_counts(shop: Callable[..., Shop]) -> None:
    """Rows that were read as null are not taken for the same where they are to be refused."""
    table = shop("v DATE", "'0000-00-00'")
    settings = {"url": table.connector.url, "tables": table.connector.tables}
    table.connector = MySQL(**settings, zero_dates_are_null=False)
    with pytest.raises(ContractError):
        table.load()
    table.connector = MySQL(**settings)
    assert table.load().rows_read == 0


def test_a_table_with_rows_larger_than_a_function_may_answer_is_compared(shop: Callable[..., Shop]) -> None:
    """Two long texts are together longer than `max_allowed_packet`, so they cannot be put into one."""
    table = shop("a LONGTEXT, b LONGTEXT", "'a', 'b'")
    table.run("UPDATE {t} SET a = repeat('a', 9 << 20), b = repeat('b', 9 << 20) WHERE n = 7")
    assert table.load().rows_changed == 1
    table.run("UPDATE {t} SET b = concat(left(b, (9 << 20) - 1), 'c') WHERE n = 7")
    assert table.load().rows_changed == 1
    table.check()


@pytest.mark.parametrize("nth", [1, 2])
def test_a_full_read_that_is_killed_after_a_chunk_leaves_the_next_one_all_that_is_missing(
    shop: Callable[..., Shop], nth: int
) -> None:
    table = shop("v VARCHAR(20)", "concat('v', seq)")
    table.run("UPDATE {t} SET v = concat('x', n) WHERE n % 300 = 0")
    table.run("DELETE FROM {t} WHERE n = 1")
    table.load_killed(f"staging_loaded:{nth}")
    table.run("UPDATE {t} SET v = concat('v', n) WHERE n = 300")
    table.run("UPDATE {t} SET v = 'after' WHERE n = 301")
    table.load()
    table.check()


def test_a_connection_lost_between_the_sums_and_the_rows_fails_the_load_and_the_next_one_is_whole(
    shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = shop("v INT", "1")
    table.run("UPDATE {t} SET v = 2 WHERE n IN (7, 1900)")
    whole = Comparing.part

    def lost(self: Comparing, *given: Any) -> Part | None:
        found = whole(self, *given)
        with table.db.cursor() as cursor:
            cursor.execute(
                "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND ID <> connection_id()"
            )
            for (connection,) in cursor.fetchall():
                cursor.execute(f"KILL {connection}")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Comparing, "part", lost)
        with pytest.raises(TransientError):
            table.load()
    done = table.load()
    assert (done.rows_changed, done.complete, table.compared) == (2, True, COUNT)
    table.check()


def test_a_compare_that_is_closed_in_the_middle_leaves_no_connection_with_half_an_answer(
    shop: Callable[..., Shop],
) -> None:
    table = shop("v INT", "1")
    table.connector = MySQL(url=table.connector.url, tables=table.connector.tables, page_bytes=1)
    *_, end = table.connector.read(table.stream)
    assert end.position is not None
    found = table.connector.compare(table.stream, 4)
    assert found is not None
    pages = found.pages(end.position, range(16))
    assert next(pages).table.num_rows < COUNT
    pages.close()  # type: ignore[attr-defined]
    found.close()
    assert sum(page.table.num_rows for page in table.connector.read(table.stream)) == COUNT
