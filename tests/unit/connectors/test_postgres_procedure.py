"""A function of the database takes the batches: what it is given, what it answers, and that it gets each batch once."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from sync_platform.connectors.postgres import Postgres
from sync_platform.errors import ConfigError, ContractError
from sync_platform.model import Change, Op, Status

Connect = Callable[..., Postgres]
DOCS = Path(__file__).resolve().parents[3] / "docs"
ORDERS = """
CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number text NOT NULL, total numeric(8,2),
                     placed timestamptz, version int NOT NULL);
CREATE TABLE calls (op text, rows jsonb);
"""
ANSWERING = """
CREATE FUNCTION load_orders(op text, rows jsonb) RETURNS TABLE (key text, target_id text, error text)
LANGUAGE plpgsql AS $$
DECLARE r record; made int;
BEGIN
  INSERT INTO calls VALUES (op, rows);
  FOR r IN SELECT * FROM jsonb_to_recordset(rows)
           AS x(_key text, _target_id int, number text, total numeric, placed timestamptz) LOOP
    IF r.total < 0 THEN
      RETURN QUERY SELECT r._key, NULL::text, 'a total is never negative';
    ELSIF op = 'create' THEN
      INSERT INTO orders AS o (number, total, placed, version) VALUES (r.number, r.total, r.placed, 1)
      RETURNING o.id INTO made;
      RETURN QUERY SELECT r._key, made::text, NULL::text;
    ELSIF op = 'update' THEN
      UPDATE orders SET total = r.total, version = version + 1 WHERE id = r._target_id;
    ELSE
      DELETE FROM orders WHERE id = r._target_id;
    END IF;
  END LOOP;
END $$
"""
SILENT = """
CREATE %s load_orders(op text, rows jsonb) %s LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO orders (id, number, version) OVERRIDING SYSTEM VALUE
  SELECT x.id, x.number, 1 FROM jsonb_to_recordset(rows) AS x(id int, number text);
  IF EXISTS (SELECT FROM jsonb_to_recordset(rows) AS x(number text) WHERE x.number = 'bad') THEN
    RAISE EXCEPTION 'there is a bad one';
  END IF;
END $$
"""


@pytest.fixture
def orders(sql: psycopg.Connection) -> psycopg.Connection:
    sql.execute(ORDERS)
    return sql


def called(connect: Connect, **options: Any) -> Postgres:
    return connect(tables={"orders": {"procedure": "load_orders", **options}})


def part(keys: list[str], targets: list[str | None] | None = None, **fields: Any) -> pa.Table:
    known = {"_key": pa.array(keys, pa.string()), "_target_id": pa.array(targets or [None] * len(keys), pa.string())}
    return pa.table(known | {name: v if isinstance(v, pa.Array) else pa.array(v) for name, v in fields.items()})


def test_a_batch_is_one_call_and_each_row_has_its_own_outcome(orders: psycopg.Connection, connect: Connect) -> None:
    orders.execute(ANSWERING)
    postgres = called(connect)
    totals = pa.array([Decimal("1.50"), Decimal("-1.00"), None], pa.decimal128(8, 2))
    rows = part(["a", "b", "c"], number=["A", "B", "C"], total=totals)
    made = postgres.write_bulk("orders", "create", rows, "d1").to_pylist()
    assert [row["_status"] for row in made] == ["applied", "failed", "applied"]
    assert made[1]["_reason"] == "a total is never negative"
    assert orders.execute("SELECT id::text, number, total, version FROM orders ORDER BY number").fetchall() == [
        (made[0]["_target_id"], "A", Decimal("1.50"), 1),
        (made[2]["_target_id"], "C", None, 1),
    ]
    ((op, given),) = orders.execute("SELECT op, rows FROM calls").fetchall()
    assert op == "create"
    assert given[0] == {"_key": "a", "_target_id": None, "number": "A", "total": 1.50}

    assert postgres.write_bulk("orders", "create", rows, "d1").to_pylist() == made
    assert orders.execute("SELECT count(*) FROM calls").fetchone() == (1,)
    ids = [made[0]["_target_id"], made[2]["_target_id"]]
    postgres.write_bulk("orders", "update", part(["a", "c"], ids, total=["7", "-7"]), "d2")
    postgres.write_bulk("orders", "delete", part(["c"], ids[1:]), "d3")
    assert orders.execute("SELECT number, total, version FROM orders").fetchall() == [("A", 7, 2)]


def test_single_changes_are_given_once_too_and_in_the_same_types(orders: psycopg.Connection, connect: Connect) -> None:
    orders.execute(ANSWERING)
    postgres = called(connect)
    change = Change(op=Op.CREATE, key="a", token="t1", fields={"number": "A", "total": Decimal("1.50")})
    (made,) = postgres.write("orders", [change])
    raised = Change(op=Op.UPDATE, key="a", token="t2", target_id=made.target_id, fields={"total": Decimal("2")})
    for _ in range(2):
        assert [one.status for one in postgres.write("orders", [raised])] == [Status.APPLIED]
    assert orders.execute("SELECT total, version FROM orders").fetchall() == [(2, 2)]
    assert orders.execute("SELECT rows->0->'total' FROM calls ORDER BY op").fetchall() == [(1.5,), (2,)]


@pytest.mark.parametrize(("kind", "answer"), [("FUNCTION", "RETURNS void"), ("PROCEDURE", "")])
def test_one_that_raises_gets_the_batch_again_in_halves_until_the_bad_row_stands_alone(
    orders: psycopg.Connection, connect: Connect, kind: str, answer: str
) -> None:
    orders.execute((SILENT % (kind, answer)).encode())
    orders.execute("ALTER TABLE orders ALTER COLUMN id SET GENERATED BY DEFAULT")
    numbers = ["bad" if n == 37 else f"n{n}" for n in range(100)]
    rows = part([f"k{n}" for n in range(100)], id=list(range(100)), number=numbers)
    made = called(connect).write_bulk("orders", "create", rows, "d1").to_pylist()
    assert [(row["_key"], row["_reason"]) for row in made if row["_status"] != "applied"] == [
        ("k37", "there is a bad one")
    ]
    assert [row["_target_id"] for row in made if row["_target_id"]] == [str(n) for n in range(100) if n != 37]
    assert orders.execute("SELECT count(*) FROM orders").fetchone() == (99,)


@pytest.mark.parametrize(
    ("made", "what", "mend"),
    [
        ("", "there is no", "CREATE FUNCTION"),
        (
            "CREATE FUNCTION load_orders(rows jsonb) RETURNS void LANGUAGE sql AS ''",
            r"there is load_orders\(jsonb\)",
            "",
        ),
        (
            "CREATE FUNCTION load_orders(op text, rows jsonb) RETURNS TABLE (number text, error text) LANGUAGE sql"
            " AS $$SELECT 'a', 'b'$$",
            "without a column key",
            "RETURNS TABLE",
        ),
        (
            "CREATE FUNCTION added(text, text, jsonb) RETURNS text LANGUAGE sql AS 'SELECT 1';"
            "CREATE AGGREGATE load_orders(text, jsonb) (SFUNC = added, STYPE = text)",
            "neither a function nor a procedure",
            "function",
        ),
    ],
)
def test_a_procedure_that_cannot_be_called_is_told_when_the_table_is_described(
    orders: psycopg.Connection, connect: Connect, made: str, what: str, mend: str
) -> None:
    if made:
        orders.execute(made.encode())
    with pytest.raises(ConfigError, match=what) as raised:
        called(connect).discover("orders")
    assert (raised.value.field, raised.value.value) == ("procedure", "load_orders")
    assert mend in str(raised.value.mend)


def test_what_it_must_not_do_is_refused_and_nothing_is_written(orders: psycopg.Connection, connect: Connect) -> None:
    body = "LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders (number, version) VALUES ('x', 1); {} END $$"
    rows = part(["a"], number=["A"])
    orders.execute(f"CREATE PROCEDURE load_orders(op text, rows jsonb) {body.format('COMMIT;')}".encode())
    with pytest.raises(ConfigError, match="does not tell which rows it made"):
        called(connect).write_bulk("orders", "create", rows, "d1")
    with pytest.raises(ConfigError, match="ends the transaction"):
        called(connect, key=["number"]).write_bulk("orders", "create", rows, "d1")
    orders.execute("DROP PROCEDURE load_orders")
    head = "CREATE FUNCTION load_orders(op text, rows jsonb) RETURNS TABLE (key text, target_id text)"
    for told, what in (("'other', '1'", "not given"), ("'a', NULL::text", "did not tell which row")):
        orders.execute(f"{head} {body.format(f'RETURN QUERY SELECT {told};')}".encode())
        with pytest.raises(ContractError, match=what):
            called(connect).write_bulk("orders", "create", rows, "d1")
        orders.execute("DROP FUNCTION load_orders")
    assert orders.execute("SELECT count(*) FROM orders").fetchone() == (0,)


def test_many_rows_are_given_in_batches_of_ten_thousand(orders: psycopg.Connection, connect: Connect) -> None:
    orders.execute("CREATE FUNCTION load_orders(op text, rows jsonb) RETURNS void LANGUAGE sql AS"
                   " $$INSERT INTO calls SELECT op, to_jsonb(jsonb_array_length(rows))$$")  # fmt: skip
    keys = [f"k{n}" for n in range(25_000)]
    called(connect, key=["number"]).write_bulk("orders", "create", part(keys, number=keys), "d1")
    assert orders.execute("SELECT rows::int FROM calls").fetchall() == [(10_000,), (10_000,), (5_000,)]


def test_the_function_of_the_documentation_works(orders: psycopg.Connection, connect: Connect) -> None:
    (example,) = re.findall(
        r"```sql\n(CREATE FUNCTION load_orders.*?)```", (DOCS / "systems.md").read_text(), re.DOTALL
    )
    orders.execute(example.encode())
    orders.execute("ALTER TABLE orders ALTER COLUMN version SET DEFAULT 1")
    rows = part(["A-1", "A-2"], number=["A-1", "A-2"], total=pa.array([Decimal("1.50"), None], pa.decimal128(8, 2)))
    made = called(connect).write_bulk("orders", "create", rows, "d1").to_pylist()
    assert {(row["_key"], row["_target_id"], row["_status"]) for row in made} == {
        ("A-1", "1", "applied"), ("A-2", "2", "applied")
    }  # fmt: skip
    assert orders.execute("SELECT number, total FROM orders ORDER BY id").fetchall()[0] == ("A-1", Decimal("1.50"))
