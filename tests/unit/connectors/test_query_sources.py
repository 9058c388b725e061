"""A query as the object to read, on PostgreSQL and MariaDB: typed, by pages, by cursor, and never more than a query."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pymysql
import pytest

from sync_platform.connectors.mysql import MySQL
from sync_platform.connectors.postgres import Postgres
from sync_platform.errors import ConfigError, SyncError
from sync_platform.model import Deletes, Field, Position

Any_ = Callable[..., Any]
QUERY = """SELECT o.id, o.updated_at, c.name AS customer, o.total, o.total * 2 AS twice -- with a comment at its end
    FROM orders o JOIN customers c ON c.id = o.customer WHERE c.name <> 'x;y'"""
BIG = {"query": QUERY, "key": ["id"], "cursor": "updated_at"}


@pytest.fixture(params=["postgres", "mysql"])
def system(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(system: str, request: pytest.FixtureRequest) -> Any_:
    """Statements at the database of this test's system, which holds two tables."""
    if system == "postgres":
        db: psycopg.Connection = request.getfixturevalue("sql")

        def execute(statement: str) -> None:
            db.execute(statement.encode())

    else:
        cursor: pymysql.cursors.Cursor = request.getfixturevalue("person")

        def execute(statement: str) -> None:
            cursor.execute(statement)

    stamp = "timestamptz" if system == "postgres" else "TIMESTAMP(6)"
    execute("CREATE TABLE customers (id int PRIMARY KEY, name varchar(30))")
    execute(
        "CREATE TABLE orders (id int PRIMARY KEY, customer int, total decimal(10,2), "
        f"updated_at {stamp} NOT NULL DEFAULT CURRENT_TIMESTAMP{'(6)' if system == 'mysql' else ''})"
    )
    execute("INSERT INTO customers VALUES (1, 'Ann'), (2, 'Bob')")
    return execute


@pytest.fixture
def connector(system: str, request: pytest.FixtureRequest, run: Any_) -> Any_:
    """Makes connectors to that database."""
    make: Any_ = request.getfixturevalue("connect" if system == "postgres" else "connect_mysql")
    return make


def drain(connector: Any, since: Position | None = None, **more: Any) -> tuple[list[dict[str, Any]], Position, bool]:
    rows: list[dict[str, Any]] = []
    last = None
    for last in connector.read("big", since, **more):
        rows += last.table.to_pylist()
    assert last is not None
    return rows, Position(json.loads(json.dumps(last.position.value))), last.complete


def test_a_query_is_read_typed_and_then_by_its_cursor(run: Any_, connector: Any_) -> None:
    run("INSERT INTO orders VALUES (1, 1, 12.50, '2024-01-01'), (2, 2, 1, '2024-06-01')")
    big = connector(tables={"big": BIG})
    schema = big.discover("big")
    assert schema.field("total").type == pa.decimal128(10, 2)
    assert pa.types.is_timestamp(schema.field("updated_at").type)
    assert all(Field.from_arrow(field).readonly for field in schema)
    stream = big.stream("big")
    assert (stream.key, stream.writable, stream.deletes) == (("id",), False, Deletes.ABSENCE)
    assert stream.cursor is not None
    rows, position, complete = drain(big)
    assert complete
    assert [(row["id"], row["customer"], row["total"]) for row in rows] == [
        (1, "Ann", Decimal("12.50")),
        (2, "Bob", Decimal("1.00")),
    ]
    run("INSERT INTO orders VALUES (3, 1, 7, '2024-07-01')")
    rows, position, complete = drain(big, position)
    assert 3 in [row["id"] for row in rows]
    assert 1 not in [row["id"] for row in rows], "the cursor is asked of the server"
    assert not complete


def test_a_query_is_read_page_by_page_and_goes_on_behind_the_last_one(run: Any_, connector: Any_) -> None:
    values = ", ".join(f"({n}, {1 + n % 2}, {n}, '2024-01-01')" for n in range(1, 1501))
    run(f"INSERT INTO orders VALUES {values}")
    big = connector(tables={"big": BIG}, page_bytes=5_000)
    pages = big.read("big")
    first, second = next(pages), next(pages)
    pages.close()
    rows, _, _ = drain(big, second.position)
    found = [*first.table["id"].to_pylist(), *second.table["id"].to_pylist(), *(row["id"] for row in rows)]
    assert sorted(found) == list(range(1, 1501))


def test_rows_of_a_query_are_looked_up_and_filtered(run: Any_, connector: Any_) -> None:
    run("INSERT INTO orders VALUES (1, 1, 12.50, '2024-01-01'), (2, 2, 1, '2024-06-01')")
    big = connector(tables={"big": BIG})
    assert big.get("big", ["2", "9"], ["customer"]).to_pylist() == [{"id": 2, "customer": "Bob"}]
    assert big.find("big", "customer", ["Ann"], ["total"])["id"].to_pylist() == [1]
    assert [row["id"] for row in drain(big, where="total > 5")[0]] == [1]
    before = big.probe("big")
    run("INSERT INTO orders VALUES (3, 1, 7, '2024-07-01')")
    assert big.probe("big") != before


def test_another_query_under_the_same_name_is_read_anew(run: Any_, connector: Any_) -> None:
    run("INSERT INTO orders VALUES (1, 1, 12.50, '2024-01-01'), (2, 2, 1, '2024-06-01')")
    _, position, _ = drain(connector(tables={"big": BIG}))
    other = connector(tables={"big": {**BIG, "query": QUERY.replace("* 2", "* 3")}})
    rows, _, complete = drain(other, position)
    assert [row["id"] for row in rows] == [1, 2]
    assert not complete, "what the other query returned is not proven gone"


def test_columns_that_come_and_go_are_discovered(run: Any_, connector: Any_) -> None:
    run("CREATE VIEW wide AS SELECT id, total FROM orders")
    big = connector(tables={"big": {"query": "SELECT * FROM wide", "key": ["id"]}})
    assert big.discover("big").names == ["id", "total"]
    run("DROP VIEW wide")
    run("CREATE VIEW wide AS SELECT id, customer FROM orders")
    assert big.discover("big").names == ["id", "customer"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT 1 AS id; DELETE FROM orders", "`;`"),
        ("DELETE FROM orders", "does not begin with SELECT"),
        ("SELECT 1 AS id) AS x, (SELECT 2", "are not understood|does not begin|does not take"),
        ("SELECT id INTO copied FROM orders", "writes"),
        ("SELECT id FROM orders FOR UPDATE", "writes or locks"),
        ("", "does not begin with SELECT"),
        ("SELECT id FROM no_such_table", "does not take its query.*no_such_table"),
        ("SELECT o.id, c.id FROM orders o, customers c", "(?i)duplicate|name of their own"),
    ],
)
def test_more_or_other_than_one_query_is_refused_with_the_reason(connector: Any_, query: str, words: str) -> None:
    big = connector(tables={"big": {"query": query, "key": ["id"]}})
    with pytest.raises(ConfigError, match=words) as caught:
        big.discover("big")
    assert caught.value.mend


def test_a_query_without_a_key_or_with_a_wrong_cursor_says_what_to_set(connector: Any_) -> None:
    with pytest.raises(ConfigError, match="needs its key") as caught:
        connector(tables={"big": {"query": QUERY}}).stream("big")
    assert "'key': [...]" in str(caught.value.mend)
    with pytest.raises(ConfigError, match="has no column 'upd'"):
        connector(tables={"big": {**BIG, "cursor": "upd"}}).stream("big")
    with pytest.raises(ConfigError, match="the cursor customer is"):
        connector(tables={"big": {**BIG, "cursor": "customer"}}).stream("big")


def test_no_cursor_is_guessed_for_a_query(connector: Any_) -> None:
    big = connector(tables={"big": {"query": QUERY, "key": ["id"]}})
    assert big.stream("big").cursor is None


def test_a_query_is_not_written_and_not_followed(connector: Any_) -> None:
    big = connector(tables={"big": BIG})
    part = pa.table({"_key": ["a"], "_target_id": pa.nulls(1, pa.string()), "id": [1]})
    with pytest.raises(ConfigError, match="cannot be written"):
        big.write_bulk("big", "create", part, uuid.uuid4().hex)
    (problem,) = big.capture_problems(["big"])
    assert "is a query" in problem
    assert "name its cursor" in problem


def test_a_query_that_writes_by_a_function_is_stopped_by_its_transaction(
    sql: psycopg.Connection, connect: Callable[..., Postgres]
) -> None:
    sql.execute("CREATE TABLE log (at timestamptz)")
    sql.execute(
        "CREATE FUNCTION sneaky() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO log VALUES (now()); RETURN 1; END'"
    )
    big = connect(tables={"big": {"query": "SELECT sneaky() AS id", "key": ["id"]}})
    with pytest.raises(SyncError, match="read-only"):
        list(big.read("big"))
    assert sql.execute("SELECT count(*) FROM log").fetchone() == (0,)


def test_materialised_views_and_foreign_tables_are_read_like_views(
    sql: psycopg.Connection, database: str, connect: Callable[..., Postgres]
) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, v text, updated_at timestamptz)")
    sql.execute("INSERT INTO t VALUES (1, 'a', '2024-01-01'), (2, 'b', '2024-06-01')")
    sql.execute("CREATE MATERIALIZED VIEW seen AS SELECT * FROM t")
    sql.execute("CREATE EXTENSION IF NOT EXISTS postgres_fdw")
    told = psycopg.conninfo.conninfo_to_dict(database)
    options = f"host '127.0.0.1', port '{told['port']}', dbname '{told['dbname']}'"
    sql.execute("DROP SERVER IF EXISTS elsewhere CASCADE")
    sql.execute(f"CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({options})".encode())
    login = f"user 'postgres', password '{told['password']}'"
    sql.execute(f"CREATE USER MAPPING FOR postgres SERVER elsewhere OPTIONS ({login})".encode())
    sql.execute(
        "CREATE FOREIGN TABLE far (id int, v text, updated_at timestamptz) SERVER elsewhere OPTIONS (table_name 't')"
    )
    postgres = connect(tables={name: {"key": ["id"]} for name in ("seen", "far")})
    for name in ("seen", "far"):
        (page,) = postgres.read(name)
        assert page.table["v"].to_pylist() == ["a", "b"]
        assert page.complete
        sql.execute("UPDATE t SET v = 'c', updated_at = '2024-07-01' WHERE id = 2")
        sql.execute("REFRESH MATERIALIZED VIEW seen")
        rows = [row for more in postgres.read(name, page.position) for row in more.table.to_pylist()]
        assert (2, "c") in [(row["id"], row["v"]) for row in rows]
        sql.execute("UPDATE t SET v = 'b', updated_at = '2024-06-01' WHERE id = 2")
        (problem,) = postgres.capture_problems([name])[-1:]
        assert "the log tells of tables only" in problem


def test_columns_of_every_kind_keep_their_types_in_a_query_of_mariadb(
    person: pymysql.cursors.Cursor, connect_mysql: Callable[..., MySQL]
) -> None:
    person.execute(
        "CREATE TABLE kinds (id BIGINT UNSIGNED PRIMARY KEY, ok TINYINT(1), m DECIMAL(12,2), b BIT(1), n INT UNSIGNED,"
        " at DATETIME(3), ts TIMESTAMP(6), day DATE, span TIME(2), y YEAR, e ENUM('a','b'), s SET('x','y'), t TEXT,"
        " raw BLOB, f FLOAT, d DOUBLE)"
    )
    person.execute(
        "INSERT INTO kinds VALUES (18446744073709551615, 1, 1.50, 1, 4294967295, '2024-01-01 10:00:00.123',"
        " '2024-01-01 10:00:00.123456', '2024-02-29', '-01:00:00.12', 2024, 'b', 'x,y', 'é', x'00ff', 0.1, 0.1)"
    )
    mysql = connect_mysql(tables={"q": {"query": "SELECT * FROM kinds", "key": ["id"]}})
    plain, asked = mysql.discover("kinds"), mysql.discover("q")
    assert {f.name: f.type for f in asked} == {f.name: f.type for f in plain}
    (whole,), (page,) = mysql.read("kinds"), mysql.read("q")
    assert page.table.to_pylist() == whole.table.to_pylist()
    assert page.table["at"].to_pylist() == [dt.datetime(2024, 1, 1, 10, 0, 0, 123_000)]
