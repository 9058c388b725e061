"""A MariaDB table into PostgreSQL and a PostgreSQL table into MariaDB, by the command line; the second run is idle."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from sync_platform.commands.scaffold import write_project
from sync_platform.commands.templates import template
from tests.private_mariadb import PrivateMariaDB, shared
from tests.world import World

OUT, IN = "mysql-to-postgres", "postgres-to-mysql"
ROWS = 2_000


@pytest.fixture
def office(new_database: Callable[[str], str]) -> str:
    """An empty PostgreSQL database."""
    return new_database("office")


@pytest.fixture
def maria() -> PrivateMariaDB:
    """The session's MariaDB with an empty database `office_shop`."""
    shared().create("office_shop")
    return shared()


def fill(office: str, maria: PrivateMariaDB) -> None:
    """Both sources full, both targets empty."""
    with maria.person("office_shop") as db, db.cursor() as cursor:
        for statement in template(OUT).statements("mysql") + template(IN).statements("mysql"):
            cursor.execute(statement)
        cursor.execute(
            "INSERT INTO customers (email, balance, active, seen_at, note) SELECT concat('USER', seq, '@example.com'),"
            " seq / 100, seq % 2, '2024-07-01 12:00:00' + INTERVAL seq MINUTE,"
            " elt(1 + seq % 3, 'it''s 😀', 'a\\\\b\\n\\t', NULL)"
            f" FROM seq_1_to_{ROWS}"
        )
    with psycopg.connect(office, autocommit=True) as db:
        for statement in template(OUT).statements("postgres") + template(IN).statements("postgres"):
            db.execute(statement.encode())
        db.execute(
            "INSERT INTO invoices (number, total, paid, due, written_at, remark)"
            " SELECT 'R-' || n, n * 0.0001, n % 2 = 0, date '2024-02-28' + n % 3,"
            " timestamptz '2024-07-01 10:00:00.000001Z' + n * interval '1 second',"
            f" (ARRAY['it''s 😀', E'a\\\\b\\n\\t', NULL])[1 + n % 3] FROM generate_series(1, {ROWS}) n"
        )


@pytest.mark.timeout(900)
def test_mysql_and_postgres_both_ways_and_the_second_run_writes_nothing(
    world: World, office: str, maria: PrivateMariaDB, tmp_path: Path
) -> None:
    fill(office, maria)
    world.project = tmp_path / "project"
    write_project(world.project)
    world.extra = {"MYSQL_URL": maria.url("office_shop"), "POSTGRES_URL": office}
    for name in (OUT, IN):
        assert world.cli("new", "--template", name).code == 0
    zone = world.project / "resources" / "mysql.py"
    zone.write_text(zone.read_text().replace('timezone="UTC"', 'timezone="Europe/Berlin"'))
    for sync in ("mysql_to_postgres", "postgres_to_mysql"):
        done = world.run(sync, seconds=400)
        assert done.code == 0, done.out[-3000:] + done.err[-3000:]
        assert done.json["sync_summary"]["created"] == ROWS
    with psycopg.connect(office) as db:
        clients = db.execute("SELECT id, email, balance, active, seen_at, note FROM clients ORDER BY id").fetchall()
    assert len(clients) == ROWS
    first = dt.datetime(2024, 7, 1, 10, 1, tzinfo=dt.UTC)  # noon in Berlin, and a minute
    assert clients[0] == (1, "user1@example.com", Decimal("0.01"), True, first, "a\\b\n\t")
    with maria.person("office_shop") as db, db.cursor() as cursor:
        cursor.execute("SELECT number, total, paid, due, written_at, remark FROM bills WHERE number IN ('R-1', 'R-2')")
        assert sorted(cursor.fetchall()) == [
            ("R-1", Decimal("0.0001"), 0, dt.date(2024, 2, 29), dt.datetime(2024, 7, 1, 12, 0, 1, 1), "a\\b\n\t"),
            ("R-2", Decimal("0.0002"), 1, dt.date(2024, 3, 1), dt.datetime(2024, 7, 1, 12, 0, 2, 1), None),
        ]
        cursor.execute("SELECT count(*) FROM bills")
        assert cursor.fetchone() == (ROWS,)
    for sync in ("mysql_to_postgres", "postgres_to_mysql"):
        summary = world.run(sync, seconds=400).json["sync_summary"]
        assert [summary[name] for name in ("records_processed", "created", "updated", "deleted")] == [0, 0, 0, 0]
