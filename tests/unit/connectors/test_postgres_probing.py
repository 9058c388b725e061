"""A table is asked whether it may have changed."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import pytest

from sync_platform.connectors.postgres import Postgres
from tests.private_postgres import PrivateServer

Sql = psycopg.Connection


def person(url: str, statement: str) -> None:
    """What somebody else does in a connection of their own: counters are told at its end at the latest."""
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(statement)


def changed(connector: Postgres, before: str | None, *, stream: str = "leads") -> str:
    """The answer once it differs from the one before."""
    deadline = time.monotonic() + 30
    while (now := connector.probe(stream)) == before:
        assert time.monotonic() < deadline, f"still {now}"
        time.sleep(0.05)
    assert now is not None
    return now


@pytest.mark.parametrize(
    "columns", ["id int PRIMARY KEY, name text", "id int PRIMARY KEY, name text, updated_at timestamptz DEFAULT now()"]
)
def test_every_kind_of_write_changes_the_answer(database: str, connect: Callable[..., Postgres], columns: str) -> None:
    person(database, f"CREATE TABLE leads ({columns})")
    postgres = connect()
    seen = postgres.probe("leads")
    for statement in (
        "INSERT INTO leads (id, name) VALUES (1, 'a'), (2, 'b')",
        "UPDATE leads SET name = 'c' WHERE id = 1",
        "DELETE FROM leads WHERE id = 2",
        "TRUNCATE leads",
    ):
        person(database, statement)
        seen = changed(postgres, seen)


def test_an_unchanged_table_gives_the_same_answer_and_is_not_read(
    database: str, connect: Callable[..., Postgres]
) -> None:
    person(database, "CREATE TABLE leads (id int PRIMARY KEY); INSERT INTO leads VALUES (1)")
    postgres = connect()
    seen = postgres.probe("leads")
    for _ in range(3):
        list(postgres.read("leads"))
        assert postgres.probe("leads") == seen
    scans = "SELECT seq_scan FROM pg_stat_all_tables WHERE relname = 'leads'"
    postgres.close()
    with psycopg.connect(database, autocommit=True) as other:
        before = other.execute(scans).fetchone()
        postgres.probe("leads")
        postgres.close()
        assert other.execute(scans).fetchone() == before


def test_the_newest_value_of_an_indexed_cursor_is_there_at_once(
    database: str, sql: Sql, connect: Callable[..., Postgres]
) -> None:
    sql.execute("CREATE TABLE leads (id int PRIMARY KEY, updated_at timestamptz)")
    sql.execute("CREATE INDEX ON leads (updated_at)")
    sql.execute("INSERT INTO leads VALUES (1, '2026-01-01')")
    postgres = connect()
    before = postgres.probe("leads")
    sql.execute("UPDATE leads SET updated_at = '2026-01-02'")  # this session goes on, its counters come later
    assert postgres.probe("leads") != before


def test_partitions_are_counted_together(database: str, connect: Callable[..., Postgres]) -> None:
    person(
        database,
        "CREATE TABLE leads (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE leads_1 PARTITION OF leads FOR VALUES FROM (0) TO (10)",
    )
    postgres = connect()
    before = postgres.probe("leads")
    person(database, "INSERT INTO leads VALUES (1)")
    changed(postgres, before)


@pytest.mark.parametrize("source", ["a view", "a server that does not count"])
def test_what_has_no_counters_is_counted(
    postgres_server: PrivateServer, database: str, connect: Callable[..., Postgres], source: str
) -> None:
    person(database, "CREATE TABLE leads (id int PRIMARY KEY, updated_at timestamptz)")
    person(database, "CREATE VIEW seen AS SELECT * FROM leads")
    if source != "a view":
        person(database, "ALTER DATABASE postgres SET track_counts = off")
    stream = "seen" if source == "a view" else "leads"
    try:
        postgres = connect(tables={"seen": {"key": ["id"], "cursor": "updated_at"}})
        seen = postgres.probe(stream)
        for statement in (
            "INSERT INTO leads VALUES (1, '2026-01-01'), (2, '2026-01-01')",
            "UPDATE leads SET updated_at = '2026-01-02' WHERE id = 1",
            "DELETE FROM leads WHERE id = 2",
        ):
            person(database, statement)
            now = postgres.probe(stream)
            assert now != seen
            seen = now
    finally:
        person(database, "ALTER DATABASE postgres RESET track_counts")


def test_a_source_with_events_has_no_probe() -> None:
    from sync_platform.components.sensors import has_probe
    from sync_platform.connectors.hubspot import HubSpot
    from sync_platform.connectors.salesforce import Salesforce

    told = [has_probe(one) for one in (Postgres(url="x"), HubSpot.model_construct(), Salesforce.model_construct())]
    assert told == [True, False, False]
