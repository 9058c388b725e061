"""A full read by digests: the staged table is as the source is, whatever was done to it, and little is read."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_platform.connectors.postgres import Postgres
from sync_platform.errors import BlockedError
from sync_platform.staging.facts import Facts
from sync_platform.staging.lake import Lake
from sync_platform.staging.load import stage
from tests.laws.staging.compared import ComparedTable

Rows = Callable[..., list[dict[str, Any]]]
#: Tables whose rows are numbered by `n`: what their key is made of, and how row n's key is written.
KEYS = {
    "int": ("id int PRIMARY KEY", "id", "{n}"),
    "bigint": ("id bigint PRIMARY KEY", "id", "{n} * 4294967297"),
    "text": ("id text COLLATE pg_unicode_fast PRIMARY KEY", "id", "'Key ' || {n}"),
    "folded": ("id citext PRIMARY KEY", "id", "'Key ' || {n}"),
    "uuid": ("id uuid PRIMARY KEY", "id", "md5('k' || {n})::uuid"),
    "composite": ("a int, b text, PRIMARY KEY (a, b)", "a, b", "{n} % 7, 'b' || {n}"),
}
VALUES = "name citext, amount numeric, price numeric(12,2), ratio float8, big bigint, moment timestamptz, n int"


class Shop(ComparedTable):
    """One table of a database of its own, and what is staged of it."""

    def __init__(self, url: str, lake: Lake, rows: Rows, kind: str, count: int, cursor: str = "") -> None:
        self.lake, self.rows, self.sql = lake, rows, psycopg.connect(url, autocommit=True)
        self.stream = f"t_{uuid.uuid4().hex[:8]}"
        self.connector = Postgres(url=url, tables={self.stream: {"cursor": cursor}})  # type: ignore[dict-item]
        self.key, self.keys, self.of = KEYS[kind]
        self.run("CREATE EXTENSION IF NOT EXISTS citext")
        self.run(f"CREATE TABLE {self.stream} ({self.key}, {VALUES}, updated_at timestamptz NOT NULL DEFAULT now())")
        self.add(1, count)

    def run(self, statement: str) -> None:
        """A statement, committed at once."""
        self.sql.execute(statement.format(t=self.stream).encode())

    def add(self, first: int, last: int) -> None:
        """Rows of these numbers."""
        key = self.of.format(n="g")
        self.run(
            f"INSERT INTO {self.stream} SELECT {key}, 'Name ' || g, g + 0.5, g, g / 3.0, g, "
            f"timestamptz '2025-01-01Z' + g * interval '1 s', g FROM generate_series({first}, {last}) g"
        )

    def check(self) -> None:
        """Asserts that the live staged rows are the source's."""
        columns = "n, name, amount, price, ratio, big, moment, updated_at"
        there = self.sql.execute(f"SELECT {columns} FROM {self.stream}".encode()).fetchall()
        here = self.rows(f'SELECT {columns} FROM lake.shop."{self.stream}" WHERE NOT _deleted')
        # a numeric without a scale is staged as its text
        assert sorted(
            [(row[0], row[1], row[2] if row[2] is None else str(row[2]), *row[3:]) for row in there], key=repr
        ) == (sorted([tuple(row.values()) for row in here], key=repr))


@pytest.fixture
def url(lake: Lake) -> Iterator[str]:
    """A database beside the state."""
    name = f"shop_{uuid.uuid4().hex[:8]}"
    with lake.db.session() as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    yield lake.db.url.rsplit("/", 1)[0] + f"/{name}"
    with lake.db.session() as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def shop(url: str, lake: Lake, rows: Rows) -> Callable[..., Shop]:
    """Makes a table with rows that were loaded once."""

    def make(kind: str = "int", count: int = 500, cursor: str = "") -> Shop:
        made = Shop(url, lake, rows, kind, count, cursor)
        made.load(full=False)
        made.check()
        return made

    return make


def test_nothing_is_read_of_a_table_that_did_not_change(shop: Callable[..., Shop]) -> None:
    for kind in KEYS:
        table = shop(kind)
        done = table.load()
        assert (done.rows_read, done.rows_changed, done.rows_deleted, done.complete) == (0, 0, 0, True), kind
        assert table.compared == 500
        table.check()


#: One edit each that a digest must tell from what was there.
EDITS = {
    "a text": "UPDATE {t} SET name = 'other' WHERE n = 7",
    "only its case": "UPDATE {t} SET name = 'nAME 7' WHERE n = 7",
    "nothing instead of a text": "UPDATE {t} SET name = NULL WHERE n = 7",
    "an empty text": "UPDATE {t} SET name = '' WHERE n = 7",
    "a digit more": "UPDATE {t} SET amount = 7.50 WHERE n = 7",
    "only the sign": "UPDATE {t} SET price = -price WHERE n = 7",
    "ten thousand times as much": "UPDATE {t} SET price = price * 10000, amount = amount * 10000 WHERE n = 7",
    "the halves of a big number": "UPDATE {t} SET big = 7::bigint << 32 WHERE n = 7",
    "a microsecond": "UPDATE {t} SET moment = moment + interval '1 microsecond' WHERE n = 7",
    "a time whose halves fold alike": "UPDATE {t} SET moment = moment + 4294967295 * interval '1 us' WHERE n = 7",
    "another number": "UPDATE {t} SET n = 70000 WHERE n = 7",
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_change_that_moves_no_cursor_is_found(shop: Callable[..., Shop], edit: str) -> None:
    table = shop(count=2000)
    table.run("UPDATE {t} SET name = NULL WHERE n = 7" if edit == "an empty text" else "SELECT 1")
    table.load()
    table.run(EDITS[edit])
    done = table.load()
    assert done.rows_changed == 1
    assert done.rows_read < 400
    table.check()


def test_what_cancels_out_in_sums_is_found(shop: Callable[..., Shop]) -> None:
    """Values, rows and columns that swap places; rows that come and go in equal numbers."""
    table = shop(count=2000)
    table.run("UPDATE {t} SET name = CASE n WHEN 3 THEN 'Name 900' ELSE 'Name 3' END WHERE n IN (3, 900)")
    assert table.load().rows_changed == 2
    table.run("UPDATE {t} SET id = -id WHERE n IN (3, 900)")
    table.run("UPDATE {t} SET id = CASE n WHEN 3 THEN 900 ELSE 3 END WHERE n IN (3, 900)")
    assert table.load().rows_changed == 2
    table.run("UPDATE {t} SET big = n, n = big WHERE n > 1990")
    table.run("UPDATE {t} SET amount = NULL, price = amount WHERE n = 5")
    table.load()
    table.check()
    table.run("DELETE FROM {t} WHERE n <= 10")
    table.add(3001, 3010)
    done = table.load()
    assert (done.rows_changed, done.rows_deleted) == (10, 10)
    table.check()


def test_rows_read_by_the_cursor_in_between_are_not_read_again(shop: Callable[..., Shop]) -> None:
    table = shop(count=3000, cursor="updated_at")
    for number in range(4):
        table.run(f"UPDATE {{t}} SET name = 'new {number}', updated_at = clock_timestamp() WHERE n % 100 = {number}")
        assert table.load(full=False).rows_changed == 30
    assert table.load().rows_read == 0
    table.run("UPDATE {t} SET name = 'new 1', updated_at = clock_timestamp() WHERE n = 5")
    table.load(full=False)
    table.run("UPDATE {t} SET name = 'Name 5' WHERE n = 5")
    table.load()
    table.check()


def test_a_row_changed_and_changed_back_is_staged_as_it_is(shop: Callable[..., Shop]) -> None:
    table = shop(count=1000, cursor="updated_at")
    for _ in range(3):
        table.run("UPDATE {t} SET name = 'there', updated_at = clock_timestamp() WHERE n = 8")
        table.load(full=False)
        table.run("UPDATE {t} SET name = 'Name 8', updated_at = clock_timestamp() WHERE n = 8")
        assert table.load().rows_changed == 1
        table.check()


def test_a_table_that_was_emptied_is_not_taken_for_one_without_changes(shop: Callable[..., Shop]) -> None:
    table = shop()
    table.run("DELETE FROM {t}")
    with pytest.raises(BlockedError):
        table.load()
    assert table.load(allow_empty=True).rows_deleted == 500
    table.check()


def test_other_columns_and_another_filter_are_read_whole(shop: Callable[..., Shop]) -> None:
    table = shop()
    table.run("ALTER TABLE {t} ADD COLUMN more text DEFAULT 'x'")
    assert table.load().rows_read == 500
    assert table.load().rows_read == 0
    table.run("ALTER TABLE {t} ALTER COLUMN n TYPE bigint")
    assert table.load().rows_read == 500
    table.check()
    assert table.load(where="n <= 100").rows_deleted == 400
    table.run("UPDATE {t} SET name = 'x' WHERE n IN (50, 200)")
    done = table.load(where="n <= 100")
    assert table.compared == 100
    assert done.rows_changed == 1


def test_what_cannot_be_told_apart_by_its_key_is_read_whole(shop: Callable[..., Shop]) -> None:
    table = shop()
    table.run("ALTER TABLE {t} DROP CONSTRAINT {t}_pkey")
    table.connector = Postgres(url=table.connector.url, tables={table.stream: {"key": ["id"], "cursor": ""}})  # type: ignore[dict-item]
    assert table.load().rows_read == 500
    table.run("CREATE TABLE heir () INHERITS ({t})")
    table.run("ALTER TABLE {t} ADD PRIMARY KEY (id)")
    assert table.load().rows_read == 500


def test_facts_that_are_lost_or_torn_have_rows_read_again(shop: Callable[..., Shop], lake: Lake) -> None:
    table = shop()
    facts = Facts(lake, "shop", table.stream)
    for file in facts._files():
        file.write_bytes(file.read_bytes()[:100])
    assert table.load().rows_read == 500
    assert table.load().rows_read == 0
    facts.forget()
    assert table.load().rows_read == 500
    assert table.load().rows_read == 0


def test_facts_that_were_noted_before_their_rows_were_staged_hide_nothing(
    shop: Callable[..., Shop], lake: Lake
) -> None:
    """As a load leaves them that is killed in between: here they come from another load of the same table."""
    table = shop(count=1000)
    table.run("UPDATE {t} SET name = 'seen by nobody' WHERE n = 9")
    stage(lake, table.connector, "other", table.stream)
    noted, behind = Facts(lake, "other", table.stream)._files(), Facts(lake, "shop", table.stream)._files()
    for file in noted:
        shutil.copy(file, behind[0].with_name(file.name))
    assert table.load().rows_changed == 1
    table.check()


@pytest.mark.parametrize("nth", [1, 2])
def test_a_full_read_that_is_killed_after_a_chunk_leaves_the_next_one_all_that_is_missing(
    shop: Callable[..., Shop], nth: int
) -> None:
    table = shop(count=2000)
    table.run("UPDATE {t} SET name = 'x' || n WHERE n % 300 = 0")
    table.run("DELETE FROM {t} WHERE n = 1")
    table.load_killed(f"staging_loaded:{nth}")
    table.run("UPDATE {t} SET name = 'Name ' || n WHERE n = 300")
    table.run("UPDATE {t} SET name = 'after' WHERE n = 301")
    table.load()
    table.check()


Edit = tuple[str, int, int]
EDIT = st.tuples(
    st.sampled_from(["change", "back", "insert", "delete", "case", "swap"]), st.integers(1, 300), st.integers(1, 40)
)


@pytest.mark.parametrize("examples", [3, pytest.param(30, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KEYS)
def test_after_any_edits_the_staged_table_is_as_the_source(shop: Callable[..., Shop], kind: str, examples: int) -> None:
    table = shop(kind, 300, "updated_at")
    new = iter(range(1000, 100_000))

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.lists(EDIT, max_size=4), st.booleans()), min_size=1, max_size=3))
    def law(rounds: list[tuple[list[Edit], bool]]) -> None:
        for edits, full in rounds:
            for what, place, other in edits:
                _edit(table, what, place, other, new)
            table.load(full=full)
        table.load()
        table.check()

    law()


def _edit(table: Shop, what: str, place: int, other: int, new: Iterator[int]) -> None:
    if what == "insert":
        number = next(new)
        table.add(number, number)
    elif what == "delete":
        table.run(f"DELETE FROM {{t}} WHERE n = {place}")
    elif what == "swap":
        table.run(f"UPDATE {{t}} SET name = 'Name ' || ({place + other} - n) WHERE n IN ({place}, {other})")
    else:
        value = {"change": f"'other {other}'", "back": "'Name ' || n", "case": "upper(name)"}[what]
        moved = ", updated_at = clock_timestamp()" * (other % 2)
        table.run(f"UPDATE {{t}} SET name = {value}, price = {other}{moved} WHERE n = {place}")
