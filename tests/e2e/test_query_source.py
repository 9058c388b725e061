"""A query as a sync's source, by the command line; what became empty at the source becomes empty, not null."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.project_files import lay_out
from tests.world import World

FILES = {
    "resources/systems.py": """
        from dagster import EnvVar

        from sync_platform.connectors.postgres import Postgres

        QUERY = '''
            SELECT o.id, greatest(o.updated_at, c.updated_at) AS updated_at, c.email, o.note, o.paid_until
            FROM orders o JOIN customers c ON c.id = o.customer -- the newer of both
        '''
        office = Postgres(url=EnvVar("POSTGRES_URL"), tables={
            "billed": {"query": QUERY, "key": ["id"], "cursor": "updated_at"},
            "whole": {"query": "SELECT id, email FROM customers", "key": ["id"]},
            "wrong": {"query": "SELECT id FROM orders; DELETE FROM orders", "key": ["id"]},
        })
        """,
    "assets/billed_to_bills/defs.yaml": """
        type: sync_platform.Sync
        attributes:
          source: {connection: office, object: billed}
          target: {connection: office, object: bills, match: [id]}
          first_sync: create
          mapping: {id: id, email: email, note: note, paid_until: paid_until}
        """,
    "assets/whole_to_people/defs.yaml": """
        type: sync_platform.Sync
        attributes:
          source: {connection: office, object: whole}
          target: {connection: office, object: people, match: [id]}
          first_sync: create
          mapping: {id: id, email: email}
        """,
}
TABLES = """
CREATE TABLE customers (id int PRIMARY KEY, email text, updated_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE orders (id int PRIMARY KEY, customer int, note text, paid_until date,
                     updated_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE bills (id int PRIMARY KEY, email text, note text, paid_until date);
CREATE TABLE people (id int PRIMARY KEY, email text);
INSERT INTO customers SELECT n, 'c' || n || '@example.com' FROM generate_series(1, 20) n;
INSERT INTO orders SELECT n, 1 + n % 20, NULL, 'infinity' FROM generate_series(1, 100) n;
"""


@pytest.fixture
def office(new_database: Callable[[str], str]) -> str:
    """A PostgreSQL database with customers and their orders."""
    url = new_database("office")
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(TABLES)
    return url


def test_a_query_is_checked_synced_by_its_cursor_and_refused_when_it_is_more(
    world: World, office: str, tmp_path: Path
) -> None:
    world.project = lay_out(tmp_path / "project", FILES)
    world.extra = {"POSTGRES_URL": office}
    checked = world.cli("check", "--json")
    assert checked.json["ok"], checked.out
    notes = checked.json["notes"]
    assert any("billed_to_bills: paid_until: infinity and -infinity are read as" in note for note in notes), notes
    assert any("whole_to_people" in note and "has no cursor, so every read is a full one" in note for note in notes)
    assert not any("billed_to_bills" in note and "no cursor" in note for note in notes)

    assert world.run("billed_to_bills").json["sync_summary"]["created"] == 100
    with psycopg.connect(office, autocommit=True) as db:
        db.execute("UPDATE orders SET note = '', updated_at = clock_timestamp() WHERE id = 7")
        db.execute("UPDATE customers SET email = 'new@example.com', updated_at = clock_timestamp() WHERE id = 3")
        done = world.run("billed_to_bills")
        assert done.json["sync_summary"]["updated"] == 6, "one order, and the five of one customer"
        assert db.execute("SELECT id FROM bills WHERE note = ''").fetchall() == [(7,)]
        assert db.execute("SELECT count(*) FROM bills WHERE email = 'new@example.com'").fetchone() == (5,)
    assert world.run("billed_to_bills").json["sync_summary"]["updated"] == 0

    path = world.project / "assets/whole_to_people/defs.yaml"
    path.write_text(path.read_text().replace("object: whole", "object: wrong"))
    refused = world.cli("check", "--json")
    assert refused.code == 2
    (problem,) = [one for one in refused.json["problems"] if "`;`" in one["message"]]
    assert problem["mend"]
