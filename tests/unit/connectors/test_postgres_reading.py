"""Reading from a real PostgreSQL: no row lost, none twice, whatever commits late."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from sync_platform.connectors.postgres import Postgres
from sync_platform.errors import ConfigError, ContractError
from sync_platform.model import Deletes, Position

Connect = Callable[..., Postgres]
PEOPLE = "CREATE TABLE people (id bigint PRIMARY KEY, name text, updated_at timestamptz NOT NULL DEFAULT now())"


def drain(
    postgres: Postgres, stream: str, since: Position | None = None, **options: Any
) -> tuple[list[dict], Position, bool]:
    """All rows of a read, its last position (as a JSON column would give it back) and its proof."""
    pages = list(postgres.read(stream, since, **options))
    rows = [row for page in pages for row in page.table.to_pylist()]
    last = pages[-1]
    assert last.position is not None
    assert not any(page.complete for page in pages[:-1])
    return rows, Position(json.loads(json.dumps(last.position.value))), last.complete


def ids(rows: list[dict]) -> list[int]:
    return [row["id"] for row in rows]


def test_a_full_read_gives_every_row_once_in_key_order_and_proves_it(sql: psycopg.Connection, connect: Connect) -> None:
    sql.execute(PEOPLE)
    sql.execute("INSERT INTO people SELECT g, repeat('x', 100) FROM generate_series(1, 3000) g")
    pages = list(connect(page_bytes=20_000).read("people"))
    assert len(pages) > 5
    assert [i for page in pages for i in page.table["id"].to_pylist()] == list(range(1, 3001))
    assert [page.complete for page in pages] == [False] * (len(pages) - 1) + [True]


def test_an_empty_table_is_read_completely_with_its_columns(sql: psycopg.Connection, postgres: Postgres) -> None:
    sql.execute(PEOPLE)
    (page,) = postgres.read("people")
    assert page.complete
    assert page.table.num_rows == 0
    assert page.table.column_names == ["id", "name", "updated_at"]
    sql.execute("INSERT INTO people VALUES (1, 'a', '2020-01-01Z')")
    assert ids(drain(postgres, "people", page.position)[0]) == [1]


def test_a_table_is_empty_until_it_holds_a_row(sql: psycopg.Connection, postgres: Postgres) -> None:
    sql.execute(PEOPLE)
    assert postgres.is_empty("people")
    sql.execute("INSERT INTO people VALUES (1)")
    assert not postgres.is_empty("people")


def test_nothing_changed_reads_nothing_although_all_rows_tie(sql: psycopg.Connection, postgres: Postgres) -> None:
    sql.execute(PEOPLE)
    sql.execute("INSERT INTO people SELECT g, 'x', '2024-05-01Z' FROM generate_series(1, 500) g")
    _, position, complete = drain(postgres, "people")
    assert complete
    rows, position, complete = drain(postgres, "people", position)
    assert (rows, complete) == ([], False)
    sql.execute("CREATE TABLE unrelated (id int)")
    assert drain(postgres, "people", position)[1] == position  # nothing new to store
    sql.execute("INSERT INTO people VALUES (501, 'tie', '2024-05-01Z')")
    assert ids(drain(postgres, "people", position)[0]) == [501]


@pytest.mark.parametrize("seen", [True, False], ids=["sees-activity", "plain-role"])
def test_a_row_committed_late_with_an_older_time_is_not_lost(
    sql: psycopg.Connection, database: str, connect: Connect, seen: bool
) -> None:
    sql.execute(PEOPLE)
    url = database
    if not seen:
        sql.execute("DROP ROLE IF EXISTS reader")
        sql.execute("CREATE ROLE reader LOGIN PASSWORD 'plain-reader'")
        sql.execute("GRANT SELECT ON people TO reader")
        url = database.replace(database.split("//")[1].split("@")[0], "reader:plain-reader")
    postgres = connect(url=url, tables={"people": {"lag_seconds": 0}})
    sql.execute("INSERT INTO people VALUES (1, 'first')")
    with psycopg.connect(database) as slow:
        slow.execute("INSERT INTO people VALUES (2, 'late')")
        sql.execute("INSERT INTO people VALUES (3, 'after', clock_timestamp())")
        rows, position, _ = drain(postgres, "people")
        assert ids(rows) == [1, 3]
        rows, position, _ = drain(postgres, "people", position)
        assert ids(rows) in ([], [3])  # written while another transaction ran: may come again
        slow.commit()
    rows, position, _ = drain(postgres, "people", position)
    assert 2 in ids(rows)
    assert drain(postgres, "people", position)[0] == []


def test_a_late_number_below_the_newest_is_not_lost(sql: psycopg.Connection, database: str, connect: Connect) -> None:
    sql.execute("CREATE TABLE notes (id int PRIMARY KEY, version bigint NOT NULL)")
    postgres = connect(tables={"notes": {"cursor": "version"}})
    sql.execute("INSERT INTO notes VALUES (1, 10)")
    _, position, _ = drain(postgres, "notes")
    with psycopg.connect(database) as slow:
        slow.execute("INSERT INTO notes VALUES (2, 11)")
        sql.execute("INSERT INTO notes VALUES (3, 12)")
        rows, position, _ = drain(postgres, "notes", position)
        assert ids(rows) == [3]
        sql.execute("INSERT INTO notes VALUES (4, 13)")
        rows, position, _ = drain(postgres, "notes", position)
        assert 4 in ids(rows)
        slow.commit()
    rows, position, _ = drain(postgres, "notes", position)
    assert 2 in ids(rows)
    assert drain(postgres, "notes", position)[0] == []


def test_a_killed_full_read_resumes_behind_its_last_page_and_misses_no_change(
    sql: psycopg.Connection, connect: Connect
) -> None:
    sql.execute("CREATE TABLE items (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), n int, updated_at timestamptz)")
    sql.execute("INSERT INTO items (n, updated_at) SELECT g, now() FROM generate_series(1, 2000) g")
    postgres = connect(page_bytes=10_000)
    pages = postgres.read("items")
    first, second = next(pages), next(pages)
    pages.close()
    early = first.table["id"][0].as_py()
    sql.execute("UPDATE items SET n = -1, updated_at = now() WHERE id = %s", [early])
    rows, position, complete = drain(postgres, "items", second.position)
    assert not complete
    read = [*first.table["id"].to_pylist(), *second.table["id"].to_pylist(), *(row["id"] for row in rows)]
    assert len(read) == len(set(read)) == 2000
    again, _, _ = drain(postgres, "items", position)
    assert [(row["id"], row["n"]) for row in again] == [(early, -1)]


def test_a_killed_incremental_read_resumes(sql: psycopg.Connection, connect: Connect) -> None:
    sql.execute(PEOPLE)
    postgres = connect(page_bytes=10_000)
    _, start, _ = drain(postgres, "people")
    sql.execute("INSERT INTO people SELECT g, repeat('x', 50), '2024-01-01Z' FROM generate_series(1, 1000) g")
    pages = postgres.read("people", start)
    first = next(pages)
    pages.close()
    rows, _, _ = drain(postgres, "people", first.position)
    assert first.table["id"].to_pylist() + ids(rows) == list(range(1, 1001))


def test_rows_without_a_cursor_value_are_read_when_they_change(sql: psycopg.Connection, postgres: Postgres) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, updated_at timestamptz)")
    sql.execute("INSERT INTO t VALUES (1, NULL), (2, now())")
    rows, position, _ = drain(postgres, "t")
    assert ids(rows) == [1, 2]
    sql.execute("INSERT INTO t VALUES (3, NULL)")
    rows, position, _ = drain(postgres, "t", position)
    assert ids(rows) == [3]
    assert drain(postgres, "t", position)[0] == []


def test_a_time_in_the_far_future_does_not_hide_later_changes(sql: psycopg.Connection, postgres: Postgres) -> None:
    sql.execute(PEOPLE)
    sql.execute("INSERT INTO people VALUES (1, 'wrong clock', '2999-01-01Z'), (2, 'endless', 'infinity')")
    rows, position, _ = drain(postgres, "people")
    assert rows[1]["updated_at"] == dt.datetime(9999, 12, 31, 23, 59, 59, 999999, dt.UTC)
    sql.execute("INSERT INTO people VALUES (3, 'now')")
    assert ids(drain(postgres, "people", position)[0]) == [3]


def test_a_database_restored_elsewhere_is_read_by_time_alone(sql: psycopg.Connection, postgres: Postgres) -> None:
    sql.execute(PEOPLE)
    sql.execute("INSERT INTO people VALUES (1, 'a', '2024-01-01Z'), (2, 'b', '2024-06-01Z')")
    _, position, _ = drain(postgres, "people")
    moved = {"read": {**position.value["read"], "server": "another/test", "xmin": 2**40}}
    assert ids(drain(postgres, "people", Position(moved))[0]) == [2]


def test_a_view_needs_a_key_and_is_then_read_with_overlap(sql: psycopg.Connection, connect: Connect) -> None:
    sql.execute(PEOPLE)
    sql.execute("CREATE VIEW named AS SELECT * FROM people WHERE name IS NOT NULL")
    sql.execute("INSERT INTO people VALUES (1, 'a', '2024-01-01Z'), (2, 'b', '2024-06-01Z'), (3, NULL, '2024-06-01Z')")
    with pytest.raises(ConfigError, match="neither a primary key") as caught:
        connect().stream("named")
    assert "'key'" in str(caught.value.mend)
    postgres = connect(tables={"named": {"key": ["id"]}})
    rows, position, complete = drain(postgres, "named")
    assert (ids(rows), complete) == ([1, 2], True)
    assert ids(drain(postgres, "named", position)[0]) == [2]  # a view cannot tell versions apart: the tie comes again


def test_composite_keys_read_and_look_up(sql: psycopg.Connection, postgres: Postgres) -> None:
    sql.execute("CREATE TABLE lines (region text, n int, note text, PRIMARY KEY (region, n))")
    sql.execute("INSERT INTO lines VALUES ('é \"x\"', 2, 'b'), ('a', 1, 'a'), ('a', 2, NULL)")
    assert postgres.stream("lines").key == ("region", "n")
    assert len(drain(postgres, "lines")[0]) == 3
    found = postgres.get("lines", [json.dumps(['é "x"', "2"]), '["a",1]', '["a",9]', "nonsense"], ["note"])
    assert sorted(found.to_pylist(), key=lambda r: r["n"]) == [
        {"region": "a", "n": 1, "note": "a"},
        {"region": 'é "x"', "n": 2, "note": "b"},
    ]


def test_every_type_arrives_as_discovered(sql: psycopg.Connection, postgres: Postgres) -> None:
    sql.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
    sql.execute("CREATE DOMAIN short AS varchar(5)")
    sql.execute(
        """CREATE TABLE t (id int2 PRIMARY KEY, i int, b bigint, r real, d float8, n numeric(10,2), free numeric,
           ok bool, s varchar(3), c char(3), u uuid, j jsonb, day date, at time, ts timestamp, tz timestamptz,
           raw bytea, tags text[], m mood, span int4range, ip inet, sh short, step interval)"""
    )
    sql.execute(
        """INSERT INTO t VALUES (1, 2, 3, 1.5, 0.1, 12345678.90, 1e30, true, 'abc', 'a',
           '0F0E0D0C-0000-0000-0000-000000000001',
           '{"a": 1}', '2024-02-29', '12:34:56.789', '2024-01-01 10:00', '2024-01-01 10:00+02', '\\x00ff',
           ARRAY['a','b c'], 'happy', '[1,5)', '10.0.0.1', 'short', '1 day')"""
    )
    sql.execute("INSERT INTO t (id, day) VALUES (2, '-infinity')")
    schema = postgres.discover("t")
    (page,) = postgres.read("t")
    assert page.table.schema.equals(schema, check_metadata=True)
    row, other = page.table.to_pylist()
    assert row["n"] == Decimal("12345678.90")
    assert schema.field("free").type == pa.string()
    assert row["free"] == "1000000000000000000000000000000"
    assert row["d"] == 0.1
    assert row["u"] == "0f0e0d0c-0000-0000-0000-000000000001"
    assert json.loads(row["j"]) == {"a": 1}
    assert row["ts"] == dt.datetime(2024, 1, 1, 10)
    assert row["tz"] == dt.datetime(2024, 1, 1, 8, tzinfo=dt.UTC)
    assert row["at"] == dt.time(12, 34, 56, 789000)
    assert row["raw"] == b"\x00\xff"
    assert (row["tags"], row["m"], row["span"], row["ip"]) == ('{a,"b c"}', "happy", "[1,5)", "10.0.0.1/32")
    assert (row["step"], row["c"], row["sh"]) == ("P1D", "a", "short")
    assert other["day"] == dt.date(1, 1, 1)


def test_not_a_number_in_a_decimal_says_how_to_read_it(sql: psycopg.Connection, connect: Connect) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, n numeric(10,2))")
    sql.execute("INSERT INTO t VALUES (1, 'NaN')")
    with pytest.raises(ContractError, match=r"public\.t\.n") as caught:
        drain(connect(), "t")
    assert "as_text" in str(caught.value.mend)
    assert drain(connect(tables={"t": {"as_text": ["n"]}}), "t")[0] == [{"id": 1, "n": "NaN"}]


def test_local_times_are_read_in_their_declared_zone(sql: psycopg.Connection, connect: Connect) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, updated_at timestamp NOT NULL)")
    sql.execute("INSERT INTO t VALUES (1, '2024-07-01 12:00'), (2, '2024-12-01 12:00')")
    postgres = connect(tables={"t": {"timezone": "Europe/Berlin"}})
    rows, position, _ = drain(postgres, "t")
    assert [row["updated_at"].hour for row in rows] == [10, 11]
    sql.execute("INSERT INTO t VALUES (3, '2024-12-01 12:00')")
    assert ids(drain(postgres, "t", position)[0]) == [3]


def test_a_repeated_local_hour_loses_no_row(sql: psycopg.Connection, connect: Connect) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, updated_at timestamp NOT NULL)")
    postgres = connect(tables={"t": {"timezone": "Europe/Berlin", "lag_seconds": 0}})
    sql.execute("INSERT INTO t VALUES (1, '2024-10-27 02:59')")  # before the clocks went back
    _, position, _ = drain(postgres, "t")
    sql.execute("INSERT INTO t VALUES (2, '2024-10-27 02:01')")  # two minutes later
    assert ids(drain(postgres, "t", position)[0]) == [2]


def test_a_tombstone_column_marks_deleted_rows(sql: psycopg.Connection, connect: Connect) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, deleted_at timestamptz, updated_at timestamptz)")
    sql.execute("INSERT INTO t VALUES (1, NULL, now()), (2, now(), now())")
    postgres = connect(tables={"t": {"tombstone": "deleted_at"}})
    assert postgres.stream("t").deletes is Deletes.TOMBSTONE
    assert [row["_deleted"] for row in drain(postgres, "t")[0]] == [False, True]
    found = postgres.get("t", ["1", "2"], ["deleted_at"]).to_pylist()
    assert {row["id"]: row["_deleted"] for row in found} == {1: False, 2: True}, "a row read back for an event, too"
    assert "_deleted" not in postgres.get("t", ["1"], ["updated_at"]).column_names


def test_a_filter_is_asked_of_the_server_and_fields_keep_key_and_cursor(
    sql: psycopg.Connection, postgres: Postgres
) -> None:
    sql.execute('CREATE TABLE t (id int PRIMARY KEY, "Status" text, other text, updated_at timestamptz)')
    sql.execute("INSERT INTO t VALUES (1, 'new', 'x', now()), (2, 'old', 'y', now())")
    rows, _, complete = drain(postgres, "t", fields=["Status"], where="status = 'new' AND id < 5")
    assert complete
    assert [sorted(row) for row in rows] == [["Status", "id", "updated_at"]]
    assert postgres.preview("t", "STATUS ILIKE 'n%'") == "\"Status\" ILIKE 'n%'"
    assert postgres.preview("t", "nothing = 1") is None


@pytest.mark.parametrize(
    ("where", "mend"),
    [
        ("stauts = 'x'", "did you mean status"),
        ("status = = 1", "write a predicate"),
        ("id IN (SELECT 1)", "columns of this"),
    ],
)
def test_a_wrong_filter_is_refused_with_its_mend(
    sql: psycopg.Connection, postgres: Postgres, where: str, mend: str
) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, status text)")
    with pytest.raises(ConfigError) as caught:
        drain(postgres, "t", where=where)
    assert mend in str(caught.value)


def test_look_ups_by_field_answer_all_rows_and_ignore_impossible_values(
    sql: psycopg.Connection, postgres: Postgres
) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, email text, n int)")
    sql.execute("INSERT INTO t VALUES (1, 'a@x', 7), (2, 'a@x', 8), (3, $$q'\"\\{},$$, 9)")
    found = postgres.find("t", "email", ["a@x", "q'\"\\{},", "none"], ["n"])
    assert sorted(row["n"] for row in found.to_pylist()) == [7, 8, 9]
    assert found.column_names == ["id", "email", "n"]
    assert postgres.find("t", "n", ["7", "x", "99999999999999"], []).num_rows == 1
    assert postgres.find("t", "n", [], []).num_rows == 0
    assert postgres.get("t", ["3", "4", "abc"], ["email"])["id"].to_pylist() == [3]


@pytest.mark.parametrize("count", [3, 20_000, 20_001])
def test_many_keys_are_looked_up_each_once(sql: psycopg.Connection, postgres: Postgres, count: int) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE)")
    sql.execute("INSERT INTO t SELECT n, 'c' || n FROM generate_series(1, 30000) n")
    keys = [str(number) for number in range(count, 0, -1)]
    found = postgres.get("t", [*keys[:-1], "40000", keys[-1]], ["code"])
    assert sorted(found["id"].to_pylist()) == list(range(1, count + 1))
    assert set(found["code"].to_pylist()) == {f"c{key}" for key in keys}
    assert postgres.get("t", [*keys, "x", "99999999999999999999"], []).num_rows == count


def test_a_number_that_is_spelled_as_no_row_of_the_table_spells_it_is_in_no_row(
    sql: psycopg.Connection, postgres: Postgres
) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, n smallint)")
    sql.execute("INSERT INTO t VALUES (5, 5), (-5, -5)")
    assert postgres.get("t", ["+5", "1_0", "0x5", "5.0", "2147483648", ""], ["n"]).num_rows == 0
    assert postgres.find("t", "n", ["+5", "32768", "-32769", "five"], []).num_rows == 0
    assert sorted(postgres.find("t", "n", ["5", "-5"], [])["id"].to_pylist()) == [-5, 5]
