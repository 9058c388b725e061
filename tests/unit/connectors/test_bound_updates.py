"""Updates bound to what rows were, where a table is not a plain one: views, partitions, very many columns."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pyarrow as pa
import pymysql
from parts import part, statuses

from sync_platform.connectors.mysql import MySQL
from sync_platform.connectors.mysql import statements as mysql_statements
from sync_platform.connectors.postgres import Postgres
from sync_platform.connectors.postgres import statements as postgres_statements

MOVED = ["applied", "refused"]


def test_a_row_that_an_updatable_view_shows_is_bound(sql: psycopg.Connection, connect: Callable[..., Postgres]) -> None:
    sql.execute("CREATE TABLE people (id int PRIMARY KEY, name text, hidden int DEFAULT 7)")
    sql.execute("INSERT INTO people VALUES (1, 'a'), (2, 'b')")
    sql.execute("CREATE VIEW seen AS SELECT id, name FROM people")
    postgres = connect(tables={"seen": {"key": ["id"]}})
    assert postgres.updates_unmoved("seen")
    outcomes = postgres.update_unmoved(
        "seen", part(["k1", "k2"], ["1", "2"], name=["A", "B"]), pa.table({"name": ["a", "z"]}), "d1"
    )
    assert statuses(outcomes) == MOVED
    assert sql.execute("SELECT * FROM people ORDER BY id").fetchall() == [(1, "A", 7), (2, "b", 7)]


def test_a_row_that_goes_to_another_partition_is_bound(sql: psycopg.Connection, postgres: Postgres) -> None:
    sql.execute("CREATE TABLE sales (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region)")
    sql.execute("CREATE TABLE east PARTITION OF sales FOR VALUES IN ('e')")
    sql.execute("CREATE TABLE west PARTITION OF sales FOR VALUES IN ('w')")
    sql.execute("INSERT INTO sales VALUES (1, 'e', 1), (2, 'e', 2)")
    rows = part(["k1", "k2"], ['["1","e"]', '["2","e"]'], region=["w", "w"])
    outcomes = postgres.update_unmoved("sales", rows, pa.table({"region": ["e", "e"], "n": [1, 3]}), "d1")
    assert statuses(outcomes) == MOVED
    assert sql.execute("SELECT * FROM west").fetchall() == [(1, "w", 1)]
    assert sql.execute("SELECT * FROM east").fetchall() == [(2, "e", 2)]


def test_mariadb_binds_a_row_that_a_view_shows_and_one_that_goes_to_another_partition(
    person: pymysql.cursors.Cursor, connect_mysql: Callable[..., MySQL]
) -> None:
    person.execute(
        "CREATE TABLE sales (id INT, region INT, n INT, PRIMARY KEY (id, region)) PARTITION BY LIST (region)"
        " (PARTITION east VALUES IN (1), PARTITION west VALUES IN (2))"
    )
    person.execute("INSERT INTO sales VALUES (1, 1, 1), (2, 1, 2)")
    person.execute("CREATE VIEW seen AS SELECT id, region, n FROM sales")
    mysql = connect_mysql(tables={"seen": {"key": ["id"]}})
    rows = part(["k1", "k2"], ['["1","1"]', '["2","1"]'], region=[2, 2])
    assert statuses(mysql.update_unmoved("sales", rows, pa.table({"region": [1, 1], "n": [1, 3]}), "d1")) == MOVED
    rows = part(["k1", "k2"], ["1", "2"], n=[10, 20])
    assert statuses(mysql.update_unmoved("seen", rows, pa.table({"region": [2, 2], "n": [1, 2]}), "d2")) == MOVED
    person.execute("SELECT * FROM sales ORDER BY id")
    assert list(person.fetchall()) == [(1, 2, 10), (2, 1, 2)]


def as_wide_as_is_bound(target: Postgres | MySQL, run: Callable[[str], object], most: int) -> None:
    """Asserts that the widest table that is bound takes a part, and that one with a column more is not bound."""
    names = [f"a_column_with_a_rather_long_name_that_has_the_number_{number}" for number in range(most - 1)]
    run(f"CREATE TABLE wide (id int PRIMARY KEY, {', '.join(f'{name} int' for name in names)})")
    run("INSERT INTO wide (id) VALUES (1), (2)")
    run(f"UPDATE wide SET {names[-1]} = 5 WHERE id = 2")
    assert target.updates_unmoved("wide")
    rows = part(["k1", "k2"], ["1", "2"], **{name: [1, 2] for name in names})
    was = pa.table({name: pa.array([None, None], pa.int64()) for name in names})
    assert statuses(target.update_unmoved("wide", rows, was, "d1")) == MOVED
    found = pa.concat_tables([page.table for page in target.read("wide", fields=["id", names[0], names[-1]])])
    assert [tuple(row.values()) for row in found.to_pylist()] == [(1, 1, 1), (2, None, 5)]
    run("ALTER TABLE wide ADD COLUMN one_more int")
    target.table("wide", fresh=True)
    assert not target.updates_unmoved("wide")


def test_the_widest_table_of_postgresql_takes_a_part(sql: psycopg.Connection, postgres: Postgres) -> None:
    as_wide_as_is_bound(postgres, lambda one: sql.execute(one.encode()), postgres_statements.MOST_COLUMNS // 2)


def test_the_widest_table_of_mariadb_takes_a_part(person: pymysql.cursors.Cursor, mysql: MySQL) -> None:
    as_wide_as_is_bound(mysql, person.execute, mysql_statements.MOST_COLUMNS // 2)
