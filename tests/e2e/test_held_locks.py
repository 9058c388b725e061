"""A target whose table somebody has locked for longer than we wait: a clear error; the next run writes everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.private_mariadb import shared
from tests.project_files import lay_out
from tests.world import World

ROWS = 50
FILES = {
    "resources/systems.py": """
        from dagster import EnvVar

        from sync_platform.connectors.mysql import MySQL
        from sync_platform.connectors.postgres import Postgres

        postgres = Postgres(url=EnvVar("POSTGRES_URL"), lock_timeout_seconds=1)
        mysql = MySQL(url=EnvVar("MYSQL_URL"), lock_timeout_seconds=1)
        """,
    **{
        f"assets/to_{system}/defs.yaml": f"""
        type: sync_platform.Sync
        attributes:
          source: {{connection: postgres, object: orders}}
          target: {{connection: {system}, object: bills, match: [id]}}
          first_sync: create
          mapping: {{id: id, note: note}}
          errors: {{retries: 0}}
        """
        for system in ("postgres", "mysql")
    },
}


@pytest.fixture
def office(new_database: Callable[[str], str]) -> str:
    """A PostgreSQL database with orders, and bills in it and in MariaDB."""
    url = new_database("locks")
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("CREATE TABLE orders (id int PRIMARY KEY, note text, updated_at timestamptz DEFAULT now())")
        db.execute("CREATE TABLE bills (id int PRIMARY KEY, note text)")
        db.execute(f"INSERT INTO orders SELECT n, 'x' FROM generate_series(1, {ROWS}) n")
    shared().create("locks")
    with shared().person("locks") as person, person.cursor() as cursor:
        cursor.execute("CREATE TABLE bills (id INT PRIMARY KEY, note TEXT)")
    return url


@contextmanager
def held(system: str, office: str) -> Iterator[None]:
    """Somebody else has the table of bills to themselves."""
    if system == "postgres":
        with psycopg.connect(office) as db:
            db.execute("LOCK TABLE bills IN ACCESS EXCLUSIVE MODE")
            yield
        return
    with shared().person("locks") as person, person.cursor() as cursor:
        cursor.execute("LOCK TABLES bills WRITE")
        yield


@pytest.mark.parametrize("system", ["postgres", "mysql"])
def test_a_lock_held_for_too_long_is_told_and_the_next_run_writes_everything(
    world: World, office: str, tmp_path: Path, system: str
) -> None:
    world.project = lay_out(tmp_path / "project", FILES)
    world.extra = {"POSTGRES_URL": office, "MYSQL_URL": shared().url("locks")}
    with held(system, office):
        stopped = world.run(f"to_{system}")
    assert stopped.code != 0
    told = stopped.out + stopped.err
    assert "lock" in told.lower(), told[-2000:]
    assert "bills" in told
    assert "Traceback" not in told, told[-3000:]
    summary = world.run(f"to_{system}").json["sync_summary"]
    assert (summary["created"], summary["failed_transfers"]) == (ROWS, 0)
    assert world.run(f"to_{system}").json["sync_summary"]["created"] == 0
