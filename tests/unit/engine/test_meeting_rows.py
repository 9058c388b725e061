"""Into real PostgreSQL tables: rows that met others by a unique constraint, and rows that wait for others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from sync_platform.connectors.postgres import Postgres
from sync_platform.engine import desired
from tests.unit.engine.workshop import Workshop, a_sync


@pytest.fixture
def sql(new_database: Callable[[str], str]) -> Iterator[psycopg.Connection]:
    """A person at an empty database of the session's server."""
    with psycopg.connect(new_database("target"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def postgres(sql: psycopg.Connection) -> Iterator[Postgres]:
    """A connector to that database."""
    info = sql.info
    url = f"postgresql://{info.user}:{info.password}@{info.host}:{info.port}/{info.dbname}"
    made = Postgres(url=url)
    yield made
    made.close()


@pytest.fixture
def contacts(workshop: Workshop, postgres: Postgres, sql: psycopg.Connection) -> psycopg.Connection:
    """The workshop's target: contacts with a drawn key, matched by e-mail."""
    workshop.target = postgres
    sql.execute(
        "CREATE TABLE contacts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text UNIQUE, name text)"
    )
    return sql


def rows(sql: psycopg.Connection) -> list[tuple[Any, ...]]:
    return sql.execute("SELECT id, email, name FROM contacts ORDER BY id").fetchall()


def test_a_row_that_somebody_made_since_the_plan_is_updated_and_linked(
    workshop: Workshop, contacts: psycopg.Connection
) -> None:
    workshop.leads(4)
    planned = workshop.planned()
    contacts.execute("INSERT INTO contacts (email, name) VALUES ('l2@x', 'By hand')")
    report = workshop.deliver(planned.plan_id)
    assert {(email, name) for _, email, name in rows(contacts)} == {(f"l{n}@x", f"Lead {n}") for n in range(4)}
    assert (report["sync_summary"]["created"], report["sync_summary"]["updated"]) == (3, 1)
    assert workshop.links()["l2"] == "1"
    assert workshop.rows("SELECT op, fields->'name' FROM sync.outcomes WHERE source_key = 'l2'") == [
        ("update", ["By hand", "Lead 2"])
    ]
    assert workshop.waiting() == []


def test_an_exact_plan_does_not_write_over_a_row_it_has_not_seen_and_the_next_run_does(
    workshop: Workshop, contacts: psycopg.Connection
) -> None:
    workshop.leads(2)
    planned = workshop.planned()
    contacts.execute("INSERT INTO contacts (email, name) VALUES ('l1@x', 'By hand')")
    report = workshop.deliver(planned.plan_id, exact=True)
    assert [one["key"] for one in report["refused"]] == ["l1"]
    assert (1, "l1@x", "By hand") in rows(contacts)
    workshop.run()
    assert (1, "l1@x", "Lead 1") in rows(contacts)
    assert workshop.links()["l1"] == "1"


@pytest.mark.parametrize(("mode", "name"), [("insert", "By hand"), ("fill_empty", "By hand"), ("mirror", "Lead 0")])
def test_what_becomes_of_a_row_that_was_met_follows_the_mode(
    workshop: Workshop, contacts: psycopg.Connection, mode: Any, name: str
) -> None:
    workshop.spec = a_sync(mode=mode)
    workshop.leads(1)
    planned = workshop.planned()
    contacts.execute("INSERT INTO contacts (email, name) VALUES ('l0@x', 'By hand')")
    workshop.deliver(planned.plan_id)
    workshop.run()
    assert rows(contacts) == [(1, "l0@x", name)]
    assert workshop.links() == {"l0": "1"}


def test_a_row_that_another_record_owns_is_not_taken(workshop: Workshop, contacts: psycopg.Connection) -> None:
    workshop.lead("a", "a@x", "A")
    workshop.run()
    workshop.lead("b", "b@x", "B")
    planned = workshop.planned()
    contacts.execute("UPDATE contacts SET email = 'b@x'")
    workshop.deliver(planned.plan_id)
    assert rows(contacts) == [(1, "b@x", "A")]
    assert workshop.links() == {"a": "1"}
    assert workshop.waiting() == [("b", "refused")]
    ((reason,),) = workshop.rows("SELECT reason FROM sync.held")
    assert "linked to a" in reason


def test_a_constraint_in_which_nothing_equals_nothing_is_matched_by_it(
    workshop: Workshop, contacts: psycopg.Connection
) -> None:
    contacts.execute("ALTER TABLE contacts DROP CONSTRAINT contacts_email_key")
    contacts.execute("ALTER TABLE contacts ADD UNIQUE NULLS NOT DISTINCT (email)")
    workshop.lead("a", None, "A")
    contacts.execute("INSERT INTO contacts (name) VALUES ('By hand')")
    workshop.run()
    assert rows(contacts) == [(1, None, "A")]
    assert workshop.links() == {"a": "1"}


def test_another_constraint_than_the_one_matched_by_still_refuses_its_row_alone(
    workshop: Workshop, contacts: psycopg.Connection
) -> None:
    contacts.execute("ALTER TABLE contacts ADD UNIQUE (name)")
    workshop.leads(3)
    planned = workshop.planned()
    contacts.execute("INSERT INTO contacts (email, name) VALUES ('l0@x', 'x'), ('z@x', 'Lead 1')")
    workshop.deliver(planned.plan_id)
    assert {row[1:] for row in rows(contacts)} == {("l0@x", "Lead 0"), ("z@x", "Lead 1"), ("l2@x", "Lead 2")}
    assert workshop.waiting() == [("l1", "rejected")]


EMPLOYEES = "CREATE TABLE contacts (email text PRIMARY KEY, name text REFERENCES contacts)"


@pytest.fixture
def employees(workshop: Workshop, postgres: Postgres, sql: psycopg.Connection, monkeypatch: Any) -> psycopg.Connection:
    """The workshop's target: people who refer to their managers, in parts of two."""
    monkeypatch.setattr(desired, "PART_ROWS", 2)
    workshop.target = postgres
    sql.execute(EMPLOYEES)
    return sql


def test_rows_go_in_whatever_part_their_parent_is_in_and_a_missing_one_is_waited_for(
    workshop: Workshop, employees: psycopg.Connection
) -> None:
    for number in range(7):
        workshop.lead(f"l{number}", f"l{number}@x", f"l{number + 1}@x")  # the last one refers to nobody there
    workshop.lead("alone", "alone@x", None)
    workshop.lead("a", "a@x", "b@x")
    workshop.lead("filler", "z@x", None)
    workshop.lead("b", "b@x", "a@x")
    report = workshop.run()
    assert {row[0] for row in employees.execute("SELECT email FROM contacts")} == {"alone@x", "a@x", "b@x", "z@x"}
    assert report["sync_summary"]["failed_transfers"] == 7
    told = {one["key"]: (one["field"], one["reason"], one["resolution"]) for one in report["errors"]}
    assert told["l6"] == (
        "name", "the row of public.contacts l7@x it refers to isn't there", "every run tries it again"
    )  # fmt: skip
    assert workshop.rows("SELECT DISTINCT kind, state FROM sync.dead_letters") == [("transient", "retry")]
    assert {name for _, name in workshop.links().items()} == {"alone@x", "a@x", "b@x", "z@x"}

    employees.execute("INSERT INTO contacts VALUES ('l7@x')")
    report = workshop.run()
    assert report["sync_summary"]["created"] == 7
    assert workshop.waiting() == []
    assert len(workshop.links()) == 11


def test_an_update_may_refer_to_a_row_that_the_same_plan_creates_and_a_delete_to_one_it_moves_away(
    workshop: Workshop, employees: psycopg.Connection
) -> None:
    workshop.spec = a_sync(mode="mirror")
    workshop.lead("boss", "boss@x", None)
    workshop.lead("a", "a@x", "boss@x")
    workshop.run()
    workshop.lead("a", "a@x", "new@x")
    workshop.lead("new", "new@x", None)
    workshop.lead("boss", None, deleted=True)
    report = workshop.run()
    assert sorted(employees.execute("SELECT email, name FROM contacts").fetchall()) == [
        ("a@x", "new@x"), ("new@x", None)
    ]  # fmt: skip
    summary = report["sync_summary"]
    assert [summary[name] for name in ("created", "updated", "deleted", "failed_transfers")] == [1, 1, 1, 0]
    assert workshop.waiting() == []
