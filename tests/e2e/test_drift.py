"""A schema changes while a sync is in use, by the command line: it goes on, adds columns, or waits until told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.project_files import lay_out
from tests.world import World

FILES = {
    "resources/systems.py": """
        from dagster import EnvVar

        from sync_platform.connectors.postgres import Postgres

        office = Postgres(url=EnvVar("OFFICE_URL"))
        """,
    "assets/people/defs.yaml": """
        type: sync_platform.Sync
        attributes:
          source: {connection: office, object: customers}
          target: {connection: office, object: people, match: [id]}
          first_sync: create
          drift: ignore
          mapping: {id: id, name: name}
        """,
}


@pytest.fixture
def office(world: World, new_database: Callable[[str], str], tmp_path: Path) -> Iterator[psycopg.Connection]:
    """The database that is both source and target."""
    url = new_database("office")
    world.project = lay_out(tmp_path / "project", FILES)
    world.extra = {"OFFICE_URL": url}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE customers (id int PRIMARY KEY, name text, age int, spent numeric(10,2))")
        connection.execute("CREATE TABLE people (id int PRIMARY KEY, name text)")
        connection.execute("INSERT INTO customers SELECT n, 'Person ' || n, n, n / 8.0 FROM generate_series(1, 5) n")
        yield connection


def write(world: World, **changes: str) -> None:
    """Other values for keys of the sync."""
    file = world.project / "assets/people/defs.yaml"
    lines = file.read_text().splitlines()
    wanted = [next((f"  {k}: {v}" for k, v in changes.items() if line.startswith(f"  {k}: ")), line) for line in lines]
    file.write_text("\n".join(wanted) + "\n")


def summary(world: World) -> dict[str, Any]:
    """The summary of a run that went well."""
    done = world.run("people")
    assert done.code == 0, done.out + done.err
    found: dict[str, Any] = done.json["sync_summary"]
    return found


@pytest.mark.timeout(600)
def test_mapped_fields_that_the_target_lacks_are_added_when_the_sync_may(
    world: World, office: psycopg.Connection
) -> None:
    assert summary(world)["created"] == 5
    write(world, mapping="{id: id, name: name, age: age, spent: spent * 2, seen: {constant: 'yes'}}")
    problems = world.cli("check", "--json").json["problems"]
    ddl = 'ALTER TABLE "public"."people" ADD COLUMN IF NOT EXISTS "age" integer'
    assert [one["field"] for one in problems] == ["age", "spent", "seen"]
    assert ddl in problems[0]["mend"]
    assert "drift: add_column" in problems[0]["mend"]
    assert world.run("people").code == 2

    write(world, drift="add_column")
    found = world.cli("check", "--json")
    assert found.code == 0, found.out
    assert any(ddl in note for note in found.json["notes"])
    assert summary(world)["updated"] == 5
    kinds = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'people' ORDER BY 1"
    told = dict(office.execute(kinds).fetchall())
    assert (told["age"], told["seen"]) == ("integer", "text")
    assert told["spent"] in ("numeric", "double precision")
    assert office.execute("SELECT id, name, age, spent::float, seen FROM people WHERE id = 4").fetchall() == [
        (4, "Person 4", 4, 1.0, "yes")
    ]
    assert summary(world)["updated"] == 0


@pytest.mark.timeout(600)
def test_a_paused_sync_writes_nothing_until_somebody_says_go(world: World, office: psycopg.Connection) -> None:
    write(world, drift="pause")
    assert summary(world)["created"] == 5
    office.execute("ALTER TABLE customers DROP COLUMN spent")  # nobody reads it
    office.execute("INSERT INTO customers VALUES (6, 'Person 6', 6)")
    assert summary(world)["created"] == 1
    office.execute("ALTER TABLE customers ADD phone text")
    office.execute("UPDATE customers SET name = 'New' WHERE id = 1")
    for _ in range(2):
        done = world.run("people")
        assert done.code == 4, done.out + done.err
        error = done.json["error"]
        assert error["message"].endswith("office/customers has a new field phone (string)")
        assert error["mend"].endswith("sync-platform drift accept people")
    assert office.execute("SELECT name FROM people WHERE id = 1").fetchall() == [("Person 1",)]
    (paused,) = world.cli("drift", "list", "--json").json["paused"]
    assert (paused["sync"], len(paused["differences"])) == ("people", 1)

    accepted = world.cli("drift", "accept", "people", "--json")
    assert accepted.json["accepted"] == paused["differences"]
    assert world.cli("drift", "list", "--json").json["paused"] == []
    assert world.cli("drift", "accept", "people", "--json").code == 2
    assert summary(world)["updated"] == 1

    office.execute("ALTER TABLE people RENAME COLUMN name TO full_name")
    done = world.run("people")
    assert done.code == 4, done.out + done.err
    assert "office/people no longer has name, which the sync writes" in done.json["error"]["message"]
    office.execute("ALTER TABLE people RENAME COLUMN full_name TO name")  # as it was: nobody need be asked
    assert summary(world)["updated"] == 0


@pytest.mark.timeout(600)
def test_a_field_whose_type_changed_is_told_before_it_is_loaded_and_loaded_once_it_is_accepted(
    world: World, office: psycopg.Connection
) -> None:
    write(world, drift="pause", mapping="{id: id, name: age}")
    assert summary(world)["created"] == 5
    office.execute("ALTER TABLE customers ALTER age TYPE text USING 'a' || age")
    done = world.run("people")
    assert done.code == 4, done.out + done.err
    assert done.json["error"]["message"].endswith("office/customers: age is string now, it was int64")
    accepted = world.cli("drift", "accept", "people", "--json")
    assert accepted.code == 0, accepted.out + accepted.err
    assert summary(world)["updated"] == 5
    assert office.execute("SELECT name FROM people ORDER BY id").fetchall() == [(f"a{n}",) for n in range(1, 6)]
