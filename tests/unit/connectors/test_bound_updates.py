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


def test_the_widest_table_of_postgresql_that_is_bound_takes_a_part_and_a_wider_one_is_not_bound(
    sql: psycopg.Connection, postgres: Postgres
) -> None:
    most = postgres_statements.MOST_COLUMNS // 2 - 1  # beside the key
    names = [f"a_column_with_a_rather_long_name_that_has_the_number_{number}" for number in range(most)]
    sql.execute(f"CREATE TABLE wide (id int PRIMARY KEY, {', '.join(f'{name} int' for name in names)})")
    sql.execute("INSERT INTO wide (id) VALUES (1), (2)")
    sql.execute(f"UPDATE wide SET {names[-1]} = 5 WHERE id = 2")
    assert postgres.updates_unmoved("wide")
    rows = part(["k1", "k2"], ["1", "2"], **{name: [1, 2] for name in names})
    was = pa.table({name: pa.array([None, None], pa.int64()) for name in names})
    assert statuses(postgres.update_unmoved("wide", rows, was, "d1")) == MOVED
    assert sql.execute(f"SELECT {names[0]}, {names[-1]} FROM wide ORDER BY id").fetchall() == [(1, 1), (None, 5)]
    sql.execute("ALTER TABLE wide ADD COLUMN one_more int")
    postgres.table("wide", fresh=True)
    assert not postgres.updates_unmoved("wide")


def test_the_widest_table_of_mariadb_that_is_bound_takes_a_part_and_a_wider_one_is_not_bound(
    person: pymysql.cursors.Cursor, mysql: MySQL
) -> None:
    most = mysql_statements.MOST_COLUMNS // 2 - 1  # beside the key
    names = [f"a_column_with_a_rather_long_name_that_has_the_number_{number}" for number in range(most)]
    person.execute(f"CREATE TABLE wide (id INT PRIMARY KEY, {', '.join(f'{name} INT' for name in names)})")
    person.execute("INSERT INTO wide (id) VALUES (1), (2)")
    person.execute(f"UPDATE wide SET {names[-1]} = 5 WHERE id = 2")
    assert mysql.updates_unmoved("wide")
    rows = part(["k1", "k2"], ["1", "2"], **{name: [1, 2] for name in names})
    was = pa.table({name: pa.array([None, None], pa.int64()) for name in names})
    assert statuses(mysql.update_unmoved("wide", rows, was, "d1")) == MOVED
    person.execute(f"SELECT {names[0]}, {names[-1]} FROM wide ORDER BY id")
    assert list(person.fetchall()) == [(1, 1), (None, 5)]
    person.execute("ALTER TABLE wide ADD COLUMN one_more INT")
    mysql.table("wide", fresh=True)
    assert not mysql.updates_unmoved("wide")
