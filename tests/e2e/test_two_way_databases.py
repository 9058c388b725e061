"""A MariaDB table and a PostgreSQL table kept in step both ways, by runs and by their followed logs."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sync_platform.commands.scaffold import write_project
from sync_platform.commands.templates import template
from tests.captured import SETTINGS, Running
from tests.private_mariadb import shared
from tests.private_postgres import PrivateServer
from tests.world import SYNC as REFERENCE
from tests.world import World

TEMPLATE = "mysql-and-postgres-two-way"
SYNC = "mysql_and_postgres_two_way"
FIELDS = "email, name, phone, credit"


@pytest.fixture(scope="module")
def office() -> Iterator[PrivateServer]:
    """A PostgreSQL whose log can be followed."""
    with PrivateServer(settings=SETTINGS) as server:
        yield server


class Both(Running):
    """The template in a new project, its tables, and a person at each."""

    database: str
    office_url: str

    def mysql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Statements in MariaDB, each committed; the last one's rows."""
        with shared().person(self.database) as db, db.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def postgres(self, *statements: str) -> list[tuple[Any, ...]]:
        """Statements in PostgreSQL, each committed; the last one's rows."""
        with psycopg.connect(self.office_url, autocommit=True) as db:
            for statement in statements:
                cursor = db.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def held(self) -> tuple[set[tuple[Any, ...]], set[tuple[Any, ...]]]:
        """What each side holds."""
        return set(self.mysql(f"SELECT {FIELDS} FROM clients")), set(self.postgres(f"SELECT {FIELDS} FROM customers"))

    def written(self) -> int:
        """How many writes were applied."""
        return int(self.rows("SELECT count(*) FROM sync.outcomes WHERE status = 'applied'")[0][0])

    def run_once(self) -> dict[str, Any]:
        """One run that ends well."""
        done = self.world.run(SYNC)
        assert done.code == 0, done.out[-3000:] + done.err[-3000:]
        summary: dict[str, Any] = done.json["sync_summary"]
        return summary


@pytest.fixture
def both(world: World, office: PrivateServer, tmp_path: Path) -> Iterator[Both]:
    """Empty tables on both sides."""
    made = Both(world, tmp_path / "logs")
    made.database = f"both_{uuid.uuid4().hex[:8]}"
    world.project = tmp_path / "project"
    write_project(world.project)
    (world.project / "assets" / REFERENCE / "defs.yaml").unlink()  # realtime, too
    made.office_url = office.create(made.database)
    world.extra = {"MYSQL_URL": shared().create(made.database), "POSTGRES_URL": made.office_url}
    assert world.cli("new", "--template", TEMPLATE).code == 0
    made.mysql(*template(TEMPLATE).statements("mysql"))
    made.postgres(*template(TEMPLATE).statements("postgres"))
    yield made
    made.stop()
    world.cli("capture", "forget", "postgres")
    office.drop(made.database)
    shared().drop(made.database)


NEW = "INSERT INTO {} (email, name, phone, credit) VALUES ('{}@x.org', '{}', '1', 1.50)"


def test_edits_of_both_sides_meet_by_runs_and_then_there_is_silence(both: Both) -> None:
    assert both.world.cli("check", "--json").json["problems"] == []
    both.mysql(*[NEW.format("clients", f"m{n}", f"M {n}") for n in range(5)])
    both.postgres(*[NEW.format("customers", f"p{n}", f"P {n}") for n in range(4)])
    both.mysql(NEW.format("clients", "both", "Same"))
    both.postgres(NEW.format("customers", "both", "Same"))
    assert both.run_once()["created"] == 9
    ours, theirs = both.held()
    assert ours == theirs
    assert len(ours) == 10
    both.mysql("UPDATE clients SET name = 'of MariaDB' WHERE email = 'p1@x.org'")
    both.postgres("UPDATE customers SET phone = '999' WHERE email = 'p1@x.org'")  # another field of the same record
    both.mysql("UPDATE clients SET credit = 5 WHERE email = 'm1@x.org'")
    time.sleep(0.05)
    both.postgres("UPDATE customers SET credit = 6 WHERE email = 'm1@x.org'")  # a conflict, and the newer one
    both.run_once()
    ours, theirs = both.held()
    assert ours == theirs
    by_email = {row[0]: row[1:] for row in ours}
    assert by_email["p1@x.org"][:2] == ("of MariaDB", "999")
    assert by_email["m1@x.org"][2] == 6
    assert len(by_email) == 10
    both.mysql("DELETE FROM clients WHERE email = 'm2@x.org'")
    followed = both.world.project / "resources" / "mysql.py"
    followed.write_text(followed.read_text().replace("capture=True", "capture=False"))
    notes = [note for note in both.world.cli("check", "--json").json["notes"] if "deletions" in note]
    assert len(notes) == 1, "PostgreSQL's log tells of deletions"
    assert "mysql/clients are not seen, its rows are read by updated_at" in notes[0]
    before = both.written()
    summary = both.run_once()
    assert [summary[name] for name in ("created", "updated", "deleted")] == [0, 0, 0]
    assert both.written() == before


@pytest.mark.timeout(600)
def test_edits_of_both_sides_meet_by_their_logs_without_a_run_and_without_a_loop(both: Both) -> None:
    both.mysql(*[NEW.format("clients", f"m{n}", f"M {n}") for n in range(5)])
    both.postgres(*[NEW.format("customers", f"p{n}", f"P {n}") for n in range(5)])
    both.capture(follows=2)
    both.run_once()
    both.start("worker")
    loads = both.rows("SELECT count(*) FROM sync.loads")

    def agreed() -> bool:
        ours, theirs = both.held()
        return ours == theirs and not both.waiting()

    both.until(agreed, "both hold the first people")
    written = both.written()
    both.mysql("UPDATE clients SET name = 'of MariaDB' WHERE email = 'p1@x.org'", NEW.format("clients", "m9", "M 9"))
    both.postgres("UPDATE customers SET phone = '999' WHERE email = 'm1@x.org'", NEW.format("customers", "p9", "P 9"))
    both.mysql("DELETE FROM clients WHERE email = 'm2@x.org'")
    both.postgres("DELETE FROM customers WHERE email = 'p2@x.org'")
    both.until(lambda: agreed() and len(both.held()[0]) == 10 and both.written() >= written + 6, "both hold the edits")
    by_email = {row[0]: row[1:] for row in both.held()[0]}
    assert by_email["p1@x.org"][0] == "of MariaDB"
    assert by_email["m1@x.org"][1] == "999"
    quiet = both.written()
    assert quiet == written + 6, "every edit was written once"
    time.sleep(3)  # the echoes of our own writes are followed, too
    assert agreed()
    assert both.written() == quiet
    assert both.rows("SELECT count(*) FROM sync.loads") == loads, "no run was needed"
