"""Three syncs into tables that refer to each other, by the command line: order, waiting, deletions the other way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.chaos.scenes import kill_at
from tests.project_files import lay_out
from tests.world import World

SYNC = """
    type: sync_platform.Sync
    attributes:
      source: {connection: office, object: %(name)s}
      target: {connection: office, object: store.%(name)s, match: [id]}
      first_sync: create
      mode: mirror
      mapping: {%(mapping)s}
    """
MAPPINGS = {
    "orders": "id: id, contact_id: contact_id",
    "contacts": "id: id, account_id: account_id",
    "accounts": "id: id",
}
FILES = {
    "resources/systems.py": """
        from dagster import EnvVar

        from sync_platform.connectors.postgres import Postgres

        office = Postgres(url=EnvVar("OFFICE_URL"))
        """,
    **{f"assets/{n}/defs.yaml": SYNC % {"name": n, "mapping": mapping} for n, mapping in MAPPINGS.items()},
}
TABLES = """
CREATE SCHEMA store;
CREATE TABLE accounts (id int PRIMARY KEY);
CREATE TABLE contacts (id int PRIMARY KEY, account_id int);
CREATE TABLE orders (id int PRIMARY KEY, contact_id int);
CREATE TABLE store.accounts (id int PRIMARY KEY);
CREATE TABLE store.contacts (id int PRIMARY KEY, account_id int NOT NULL REFERENCES store.accounts);
CREATE TABLE store.orders (id int PRIMARY KEY, contact_id int NOT NULL REFERENCES store.contacts);
INSERT INTO accounts SELECT generate_series(1, 3);
INSERT INTO contacts SELECT n, 1 + n % 3 FROM generate_series(1, 9) n;
INSERT INTO orders SELECT n, 1 + n % 9 FROM generate_series(1, 30) n;
"""


@pytest.fixture
def office(world: World, new_database: Callable[[str], str], tmp_path: Path) -> Iterator[psycopg.Connection]:
    """The database that is both source and target."""
    url = new_database("office")
    world.project = lay_out(tmp_path / "project", FILES)
    world.extra = {"OFFICE_URL": url}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLES)
        yield connection


def counts(office: psycopg.Connection) -> list[int]:
    """How many accounts, contacts and orders the target holds."""
    names = ("accounts", "contacts", "orders")
    return [office.execute(f"SELECT count(*) FROM store.{name}".encode()).fetchall()[0][0] for name in names]


@pytest.mark.timeout(600)
def test_parents_are_written_before_children_and_deleted_after_them(world: World, office: psycopg.Connection) -> None:
    office.execute("INSERT INTO orders VALUES (99, 77)")
    done = world.cli("run", "orders", "contacts", "accounts", "--json", seconds=400)
    assert done.code == 1, done.out + done.err
    assert done.json["order"][:3] == ["accounts", "contacts", "orders"]
    assert counts(office) == [3, 9, 30]
    (error,) = done.json["reports"][-1]["errors"]
    assert (error["key"], error["field"]) == ("99", "contact_id")
    assert error["reason"] == "the row of store.contacts 77 it refers to isn't there"

    office.execute("DELETE FROM accounts WHERE id = 1; DELETE FROM orders WHERE contact_id IN (3, 6, 9)")
    office.execute("DELETE FROM contacts WHERE account_id = 1; INSERT INTO contacts VALUES (77, 2)")
    done = world.cli("run", "accounts", "contacts", "orders", "--json", seconds=400)
    assert done.code == 0, done.out + done.err
    assert counts(office) == [2, 7, office.execute("SELECT count(*) FROM orders").fetchall()[0][0]]
    letters = world.cli("dead", "list", "--json").json["dead_letters"]
    assert letters == []


@pytest.mark.timeout(600)
def test_a_child_that_ran_first_waits_for_its_parents_and_check_says_which_go_together(
    world: World, office: psycopg.Connection
) -> None:
    notes = world.cli("check", "--json").json["notes"]
    assert any("sync-platform run contacts orders" in note for note in notes)
    assert world.run("contacts").code == 1
    assert counts(office) == [0, 0, 0]
    letters = world.cli("dead", "list", "--json").json["dead_letters"]
    assert {one["state"] for one in letters} == {"retry"}
    assert len(letters) == 9
    assert world.run("accounts").code == 0
    done = world.run("contacts")
    assert done.code == 0, done.out + done.err
    assert counts(office) == [3, 9, 0]
    assert done.json["sync_summary"]["dead_letters_open"] == 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "point",
    ["outcome_written:2", *(pytest.param(p, marks=pytest.mark.slow) for p in ("request_sent:2", "before_intent:3"))],
)
def test_a_run_of_several_that_was_killed_is_finished_by_the_next(
    world: World, office: psycopg.Connection, point: str
) -> None:
    kill_at(world, point, "run", "orders", "contacts", "accounts")
    left = counts(office)
    assert left != [3, 9, 30]
    done = world.cli("run", "orders", "contacts", "accounts", "--json", seconds=400)
    assert done.code == 0, done.out + done.err
    assert counts(office) == [3, 9, 30]
    again = world.cli("run", "orders", "contacts", "accounts", "--json", seconds=400)
    assert [report["sync_summary"]["records_processed"] for report in again.json["reports"]] == [0, 0, 0]
    assert world.cli("dead", "list", "--json").json["dead_letters"] == []
