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


@pytest.fixture
def both_ways(world: World, office: str, maria: PrivateMariaDB, tmp_path: Path) -> World:
    """A project of the two templates; their sources are full, their targets empty."""
    fill(office, maria)
    world.project = tmp_path / "project"
    write_project(world.project)
    world.extra = {"MYSQL_URL": maria.url("office_shop"), "POSTGRES_URL": office}
    for name in (OUT, IN):
        assert world.cli("new", "--template", name).code == 0
    return world


@pytest.mark.timeout(900)
def test_mysql_and_postgres_both_ways_and_the_second_run_writes_nothing(
    both_ways: World, office: str, maria: PrivateMariaDB
) -> None:
    zone = both_ways.project / "resources" / "mysql.py"
    zone.write_text(zone.read_text().replace('timezone="UTC"', 'timezone="Europe/Berlin"'))
    for sync in ("mysql_to_postgres", "postgres_to_mysql"):
        done = both_ways.run(sync, seconds=400)
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
        summary = both_ways.run(sync, seconds=400).json["sync_summary"]
        assert [summary[name] for name in ("records_processed", "created", "updated", "deleted")] == [0, 0, 0, 0]


@pytest.mark.timeout(900)
def test_apply_writes_rows_that_are_as_they_were_planned_and_no_others(
    both_ways: World, office: str, maria: PrivateMariaDB, tmp_path: Path
) -> None:
    for name in (OUT, IN):
        assert both_ways.run(name.replace("-", "_"), seconds=400).code == 0
    with maria.person("office_shop") as db, db.cursor() as cursor, psycopg.connect(office, autocommit=True) as other:
        cursor.execute("UPDATE customers SET balance = balance + 1, updated_at = now(6)")
        other.execute("UPDATE invoices SET total = total + 1, written_at = clock_timestamp()")
        plans = {}
        for name in (OUT, IN):
            file = tmp_path / f"{name}.json"
            planned = both_ways.cli("plan", name.replace("-", "_"), "--out", str(file), "--json")
            assert planned.code == 0, planned.out + planned.err
            plans[name] = planned.json["plan_id"]
        other.execute("UPDATE clients SET note = 'By hand' WHERE id IN (5, 6)")
        cursor.execute("UPDATE bills SET remark = 'By hand' WHERE number IN ('R-5', 'R-6', 'R-7')")
        for name, refused in ((OUT, 2), (IN, 3)):
            applied = both_ways.cli("apply", str(tmp_path / f"{name}.json"), "--json", seconds=400)
            assert applied.code == 1, applied.out + applied.err
            assert len(applied.json["refused"]) == refused
        assert other.execute("SELECT count(*), count(*) FILTER (WHERE note = 'By hand') FROM clients").fetchone() == (
            ROWS,
            2,
        )
        assert other.execute("SELECT count(*) FROM clients WHERE balance > 1 + id / 100.0 - 0.001").fetchone() == (
            ROWS - 2,
        )
        cursor.execute("SELECT count(*), sum(remark = 'By hand') FROM bills WHERE total < 1")
        assert cursor.fetchone() == (3, 3)
        asked = "SELECT delivery, row_count FROM _sync_delivered WHERE delivery LIKE '{}:%'"
        cursor.execute(asked.format(plans[IN]))
        for told in (cursor.fetchall(), other.execute(asked.format(plans[OUT]).encode()).fetchall()):
            assert sum(rows for _, rows in told) == ROWS  # every row was written, or refused, by one statement
            assert not [delivery for delivery, _ in told if ":again" in str(delivery)]
