"""A PostgreSQL database as the target, by the command line: what its catalogue knows beyond names and types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

        shop = Postgres(url=EnvVar("SHOP_URL"))
        office = Postgres(url=EnvVar("OFFICE_URL"))
        """,
    "assets/people/defs.yaml": """
        type: sync_platform.Sync
        attributes:
          source: {connection: shop, object: customers}
          target: {connection: office, object: people, match: [tenant, email]}
          first_sync: create
          mapping: {tenant: tenant, email: lower(trim(email)), name: name}
          dedupe: {by: "tenant || ':' || lower(trim(email))", keep: newest}
        """,
}


@dataclass
class Target:
    """A project from a shop into an office, both PostgreSQL, and people at both."""

    world: World
    shop: psycopg.Connection
    office: psycopg.Connection

    def check(self) -> list[dict[str, Any]]:
        """What `check` finds wrong."""
        found: list[dict[str, Any]] = self.world.cli("check", "--json").json["problems"]
        return found

    def line(self, problem: dict[str, Any]) -> str:
        """The line of its file that a problem names."""
        return (self.world.project / problem["file"]).read_text().splitlines()[problem["line"] - 1].strip()


@pytest.fixture
def target(world: World, databases: tuple[str, str], tmp_path: Path) -> Iterator[Target]:
    """The project of `FILES`, its databases filled."""
    shop, office = databases
    fill(shop, office)
    world.project = lay_out(tmp_path / "project", FILES)
    world.extra = {"SHOP_URL": shop, "OFFICE_URL": office}
    with psycopg.connect(shop, autocommit=True) as at_shop, psycopg.connect(office, autocommit=True) as at_office:
        yield Target(world, at_shop, at_office)


@pytest.fixture
def databases(new_database: Callable[[str], str]) -> tuple[str, str]:
    """Two empty databases on the session's server: (shop, office)."""
    return new_database("shop"), new_database("office")


def fill(shop: str, office: str) -> None:
    """Customers with generated keys here, an office that knows two of them there."""
    with psycopg.connect(shop, autocommit=True) as db:
        db.execute(
            "CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant int, email text,"
            " name text, updated_at timestamptz NOT NULL DEFAULT now())"
        )
        db.execute(
            "INSERT INTO customers (tenant, email, name)"
            " SELECT t, ' P' || n || '@X ', 'Person ' || n FROM generate_series(1, 300) n, generate_series(1, 2) t"
        )
    with psycopg.connect(office, autocommit=True) as db:
        db.execute(
            "CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY (START WITH 5000) PRIMARY KEY,"
            " tenant int NOT NULL, email text NOT NULL, name text, UNIQUE (tenant, email))"
        )
        db.execute("INSERT INTO people (tenant, email, name) VALUES (1, 'p1@x', 'Old'), (2, 'p2@x', 'Old')")


@pytest.mark.parametrize("crash", ["", "before_intent", "request_sent", "answer_received", "outcome_written"])
@pytest.mark.timeout(600)
def test_rows_are_matched_by_a_unique_constraint_and_none_is_doubled_by_a_killed_run(
    target: Target, crash: str
) -> None:
    world, office = target.world, target.office
    if crash:
        assert world.run("people", SYNC_CRASH_AT=f"{crash}:1").code < 0
    done = world.run("people")
    assert done.code == 0, done.out + done.err
    rows = office.execute("SELECT id, tenant, email, name FROM people").fetchall()
    assert len(rows) == 600
    assert {row[1:] for row in rows} == {(t, f"p{n}@x", f"Person {n}") for t in (1, 2) for n in range(1, 301)}
    links = world.cli("sql", "SELECT target_id FROM sync.links WHERE sync = 'people'", "--json").json
    assert sorted(int(link["target_id"]) for link in links) == sorted(row[0] for row in rows)
    assert min(row[0] for row in rows) == 5000
    again = world.run("people").json["sync_summary"]
    assert (again["created"], again["updated"]) == (0, 0)


@pytest.mark.parametrize(
    ("constraint", "why"),
    [
        ("CREATE UNIQUE INDEX live ON people (email, tenant) WHERE name IS NOT NULL", "where (name is not null)"),
        ("ALTER TABLE people ADD CONSTRAINT late UNIQUE (tenant, email) DEFERRABLE", "deferrable"),
    ],
)
def test_check_refuses_to_match_by_a_unique_index_that_cannot_tell_what_is_there(
    target: Target, constraint: str, why: str
) -> None:
    assert target.check() == []
    target.office.execute("ALTER TABLE people DROP CONSTRAINT people_tenant_email_key")
    target.office.execute(constraint.encode())
    (problem,) = target.check()
    assert why in problem["message"].lower()
    assert (problem["field"], problem["value"]) == ("match", "tenant, email")
    assert "match: [tenant, email]" in target.line(problem)
    assert "CREATE UNIQUE INDEX ON public.people (tenant, email)" in problem["mend"]
    target.office.execute("DROP INDEX IF EXISTS live")
    target.office.execute("ALTER TABLE people DROP CONSTRAINT IF EXISTS late")
    found = target.world.cli("check", "--json").json
    assert found["ok"]
    assert any("no unique constraint of office/people covers tenant, email" in note for note in found["notes"])


def test_check_refuses_what_the_database_computes_and_says_what_to_do(target: Target) -> None:
    target.office.execute("ALTER TABLE people ADD both_names text GENERATED ALWAYS AS (name || name) STORED")
    file = target.world.project / "assets/people/defs.yaml"
    file.write_text(file.read_text().replace("name: name}", "name: name, both_names: name, id: id}"))
    computed, numbered = target.check()
    assert "the database computes it as (name || name)" in computed["message"]
    assert "both_names: name" in target.line(computed)
    assert (computed["field"], computed["mend"]) == ("both_names", "remove it from the mapping")
    assert "SET GENERATED BY DEFAULT" in numbered["message"]
    assert numbered["field"] == "id"


FUNCTION = """
CREATE TABLE given (key text, op text);
CREATE FUNCTION load_people(op text, rows jsonb) RETURNS TABLE (key text, target_id text, error text)
LANGUAGE sql AS $$
  INSERT INTO given SELECT x._key, op FROM jsonb_to_recordset(rows) AS x(_key text);
  UPDATE people p SET name = x.name FROM jsonb_to_recordset(rows) AS x(_target_id bigint, name text)
  WHERE op = 'update' AND p.id = x._target_id;
  WITH x AS (SELECT * FROM jsonb_to_recordset(rows) AS x(_key text, tenant int, email text, name text)
             WHERE op = 'create'),
       made AS (INSERT INTO people AS p (tenant, email, name) SELECT tenant, email, name FROM x
                WHERE email <> 'p7@x' RETURNING p.id, p.tenant, p.email)
  SELECT x._key, made.id::text, CASE WHEN made.id IS NULL THEN 'seven is not taken' END
  FROM x LEFT JOIN made USING (tenant, email)
$$
"""


@pytest.mark.parametrize("crash", ["request_sent", "answer_received"])
@pytest.mark.timeout(600)
def test_a_function_is_given_each_batch_once_however_a_run_ends(target: Target, crash: str) -> None:
    world, office = target.world, target.office
    file = world.project / "resources/systems.py"
    options = 'office = Postgres(url=EnvVar("OFFICE_URL"), tables={"people": {"procedure": "load_people"}})'
    file.write_text(file.read_text().replace('office = Postgres(url=EnvVar("OFFICE_URL"))', options))
    (problem,) = target.check()
    assert "there is no" in problem["message"]
    assert (problem["field"], problem["value"]) == ("procedure", "load_people")
    assert "target: {connection: office" in target.line(problem)
    office.execute(FUNCTION.replace("target_id text, ", "").replace(", made.id::text", "").encode())
    (problem,) = target.check()
    assert "does not tell which rows it made" in problem["message"]
    assert problem["line"]
    assert problem["mend"] == "let it answer a column target_id, or map id"
    office.execute("DROP FUNCTION load_people")
    office.execute(FUNCTION.replace("CREATE TABLE given (key text, op text);", "").encode())
    assert target.check() == []

    assert world.run("people", SYNC_CRASH_AT=f"{crash}:1").code < 0
    done = world.run("people")
    assert done.code == 1, done.out + done.err
    assert {one["reason"] for one in done.json["errors"]} == {"seven is not taken"}
    assert len(done.json["errors"]) == 2
    assert office.execute("SELECT op, count(*), count(DISTINCT key) FROM given GROUP BY op ORDER BY op").fetchall() == [
        ("create", 598, 598),
        ("update", 2, 2),
    ]
    rows = office.execute("SELECT id, tenant, email, name FROM people").fetchall()
    assert {row[1:] for row in rows} == {(t, f"p{n}@x", f"Person {n}") for t in (1, 2) for n in range(1, 301) if n != 7}
    links = world.cli("sql", "SELECT target_id FROM sync.links WHERE sync = 'people'", "--json").json
    assert sorted(int(link["target_id"]) for link in links) == sorted(row[0] for row in rows)
