"""Foreign keys of a PostgreSQL target: what waits for other rows is told by row, and never fails its neighbours."""

from __future__ import annotations

from typing import Any

import psycopg
import pyarrow as pa
import pytest

from sync_platform.connectors.postgres import Postgres
from sync_platform.model import Change, Op, Status

TABLES = """
CREATE TABLE accounts (id int PRIMARY KEY, region int UNIQUE);
CREATE TABLE contacts (id int PRIMARY KEY, account_id int REFERENCES accounts, email varchar(9));
CREATE TABLE employees (id int PRIMARY KEY, manager_id int REFERENCES employees, name varchar(9));
"""


@pytest.fixture
def tables(sql: psycopg.Connection) -> psycopg.Connection:
    sql.execute(TABLES)
    return sql


def part(ids: list[int], *, targets: bool = False, **fields: list[Any]) -> pa.Table:
    """Rows `k<id>`; with `targets` they are there already."""
    keys = pa.array([f"k{n}" for n in ids], pa.string())
    known = pa.array([str(n) if targets else None for n in ids], pa.string())
    own = {} if targets else {"id": pa.array(ids)}
    return pa.table({"_key": keys, "_target_id": known, **own, **{name: pa.array(v) for name, v in fields.items()}})


def told(outcomes: pa.Table) -> dict[str, tuple[str, str | None, str | None]]:
    return {row["_key"]: (row["_status"], row["_field"], row["_reason"]) for row in outcomes.to_pylist()}


def test_rows_whose_parent_is_missing_wait_with_column_and_reason_and_the_others_are_written(
    tables: psycopg.Connection, postgres: Postgres
) -> None:
    tables.execute("INSERT INTO accounts VALUES (1)")
    ids = list(range(400))
    parents = [17 if n % 5 == 0 else None if n % 5 == 1 else 1 for n in ids]
    emails = ["far too long" if n == 7 else f"e{n}" for n in ids]
    outcomes = told(postgres.write_bulk("contacts", "create", part(ids, account_id=parents, email=emails), "d1"))
    waiting = {key for key, (status, _, _) in outcomes.items() if status == "retry"}
    assert waiting == {f"k{n}" for n in ids if n % 5 == 0}
    why = ("retry", "account_id", "the row of public.accounts 17 it refers to isn't there")
    assert {outcomes[key] for key in waiting} == {why}
    assert outcomes["k7"][:2] == ("failed", "email")
    assert tables.execute("SELECT count(*) FROM contacts").fetchone() == (400 - 80 - 1,)


def test_what_waits_costs_a_few_statements_however_many_rows_it_is(
    tables: psycopg.Connection, postgres: Postgres
) -> None:
    def calls(prefix: str, ids: list[int]) -> int:
        before = postgres.traffic.api_calls
        postgres.write_bulk("contacts", "create", part(ids, account_id=[5] * len(ids)), prefix)
        return postgres.traffic.api_calls - before

    calls("d0", [5000])  # the table is described
    assert calls("d1", list(range(1000))) == calls("d2", list(range(2)))


@pytest.mark.parametrize("bad", [None, 3])
def test_a_table_that_refers_to_itself_takes_its_rows_in_any_order(
    tables: psycopg.Connection, postgres: Postgres, bad: int | None
) -> None:
    ids = list(range(1, 65))
    managers = [n + 1 if n < 64 else None for n in ids]  # each refers to the one after it
    names = ["far too long" if n == bad else f"e{n}" for n in ids]
    outcomes = told(postgres.write_bulk("employees", "create", part(ids, manager_id=managers, name=names), "d1"))
    refused = {} if bad is None else {"k3": "failed", "k2": "retry", "k1": "retry"}
    assert {key: status for key, (status, _, _) in outcomes.items() if status != "applied"} == refused
    assert tables.execute("SELECT count(*) FROM employees").fetchone() == (64 - len(refused),)


def test_rows_that_refer_to_each_other_go_in_together_and_a_cycle_with_a_bad_row_waits(
    tables: psycopg.Connection, postgres: Postgres
) -> None:
    names = ["a", "b", "far too long", "d", "e"]
    rows = part([1, 2, 3, 4, 5], manager_id=[2, 1, 4, 3, 5], name=names)
    outcomes = told(postgres.write_bulk("employees", "create", rows, "d1"))
    assert {key: status for key, (status, _, _) in outcomes.items()} == {
        "k1": "applied", "k2": "applied", "k3": "failed", "k4": "retry", "k5": "applied"
    }  # fmt: skip
    assert outcomes["k4"][2] == "the row of public.employees 3 it refers to isn't there"


def test_an_update_to_a_missing_parent_waits_and_the_others_are_made(
    tables: psycopg.Connection, postgres: Postgres
) -> None:
    tables.execute("INSERT INTO accounts VALUES (1); INSERT INTO contacts (id) VALUES (1), (2)")
    outcomes = told(postgres.write_bulk("contacts", "update", part([1, 2], targets=True, account_id=[9, 1]), "d1"))
    assert {key: status for key, (status, _, _) in outcomes.items()} == {"k1": "retry", "k2": "applied"}
    changes = [
        Change(op=Op.UPDATE, key=f"k{n}", token=f"t{n}", target_id=str(n), fields={"account_id": parent})
        for n, parent in ((1, 1), (2, 8))
    ]
    first, second = postgres.write("contacts", changes)
    assert (first.status, second.status, second.field) == (Status.APPLIED, Status.RETRY, "account_id")
    assert second.waits
    assert "every run tries it again" in str(second.resolution)


def test_rows_that_others_refer_to_wait_to_be_deleted_and_a_tree_goes_at_once(
    tables: psycopg.Connection, postgres: Postgres
) -> None:
    tables.execute("INSERT INTO accounts VALUES (1), (2); INSERT INTO contacts VALUES (1, 1)")
    outcomes = told(postgres.write_bulk("accounts", "delete", part([1, 2], targets=True), "d1"))
    assert outcomes == {
        "k1": ("retry", None, "rows of public.contacts still refer to it"),
        "k2": ("applied", None, None),
    }
    tables.execute("INSERT INTO employees VALUES (1, NULL), (2, 1), (3, 2), (4, 1)")
    outcomes = told(postgres.write_bulk("employees", "delete", part([1, 2, 3], targets=True), "d2"))
    assert {key: status for key, (status, _, _) in outcomes.items()} == {
        "k1": "retry", "k2": "applied", "k3": "applied"
    }  # fmt: skip
    assert outcomes["k1"][2] == "other rows of public.employees still refer to it"


def test_a_reference_over_several_columns_and_deferred_is_told_by_row(
    sql: psycopg.Connection, postgres: Postgres
) -> None:
    sql.execute("CREATE TABLE orders (tenant int, number text, PRIMARY KEY (tenant, number))")
    sql.execute(
        "CREATE TABLE items (id int PRIMARY KEY, tenant int, number text, FOREIGN KEY (tenant, number)"
        " REFERENCES orders DEFERRABLE INITIALLY DEFERRED)"
    )
    sql.execute("INSERT INTO orders VALUES (1, 'a')")
    rows = part([1, 2, 3], tenant=[1, 1, None], number=["a", "b", "c"])
    outcomes = told(postgres.write_bulk("items", "create", rows, "d1"))
    assert {key: status for key, (status, _, _) in outcomes.items()} == {
        "k1": "applied", "k2": "retry", "k3": "applied"
    }  # fmt: skip
    assert outcomes["k2"][2] == "the row of public.orders 1, b it refers to isn't there"
