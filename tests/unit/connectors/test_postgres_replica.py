"""Reads from a real streaming replica: as fresh as the primary was when they began, and nothing is lost to its lag."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from sync_platform.connectors.postgres import Postgres
from sync_platform.errors import AccessError, ConfigError, TransientError
from sync_platform.model import Change, Op, Position, Status
from tests.private_postgres import PrivateServer
from tests.private_replica import PrivateReplica

Connect = Callable[..., Postgres]
PEOPLE = "CREATE TABLE people (id int PRIMARY KEY, name text, updated_at timestamptz DEFAULT now())"
WHERE = {"query": "SELECT 1 AS id, pg_is_in_recovery() AS replica", "key": ["id"]}


@pytest.fixture(scope="module")
def replica(postgres_server: PrivateServer) -> Iterator[PrivateReplica]:
    with PrivateReplica(postgres_server) as running:
        yield running


@pytest.fixture
def both(connect: Connect, sql: psycopg.Connection, replica: PrivateReplica) -> Iterator[Connect]:
    """Makes connectors that write to the primary and read from the replica, which replays again at the end."""
    sql.execute(PEOPLE)
    yield lambda **options: connect(**{"replica_url": replica.url(), **options})
    replica.run("SELECT pg_wal_replay_resume()")


def drain(postgres: Postgres, stream: str, since: Position | None = None) -> tuple[list[dict[str, Any]], Position]:
    rows: list[dict[str, Any]] = []
    last = None
    for last in postgres.read(stream, since):
        rows += last.table.to_pylist()
    assert last is not None
    return rows, Position(json.loads(json.dumps(last.position.value)))


def test_reads_ask_the_replica_and_look_ups_and_writes_the_primary(both: Connect, replica: PrivateReplica) -> None:
    postgres = both(tables={"where": WHERE})
    assert drain(postgres, "where")[0] == [{"id": 1, "replica": True}]
    assert postgres.check().ok
    assert postgres.get("where", ["1"], ["replica"]).to_pylist() == [{"id": 1, "replica": False}]
    drain(postgres, "people")
    replica.run("SELECT pg_wal_replay_pause()")
    (made,) = postgres.write("people", [Change(op=Op.CREATE, key="a", token="t", fields={"id": 7, "name": "new"})])
    assert made.status is Status.APPLIED
    assert postgres.get("people", ["7"], ["name"]).to_pylist() == [{"id": 7, "name": "new"}]
    assert postgres.find("people", "name", ["new"], []).num_rows == 1


def test_a_read_waits_for_what_the_primary_had_and_says_when_it_waited_in_vain(
    both: Connect, sql: psycopg.Connection, replica: PrivateReplica
) -> None:
    _, position = drain(both(), "people")
    replica.run("SELECT pg_wal_replay_pause()")
    sql.execute("INSERT INTO people VALUES (1, 'unseen')")
    with pytest.raises(TransientError, match="bytes of log behind the primary") as caught:
        drain(both(replica_patience_seconds=0.2), "people", position)
    assert "replica_patience_seconds" in str(caught.value.mend)
    replica.run("SELECT pg_wal_replay_resume()")
    assert [row["id"] for row in drain(both(), "people", position)[0]] == [1]


def test_every_read_sees_what_was_committed_before_it(both: Connect, sql: psycopg.Connection) -> None:
    postgres = both()
    _, position = drain(postgres, "people")
    for number in range(30):
        sql.execute("INSERT INTO people VALUES (%s, 'x', clock_timestamp())", [number])
        rows, position = drain(postgres, "people", position)
        assert number in [row["id"] for row in rows]


def test_a_row_that_commits_late_with_an_older_time_is_not_lost_on_a_replica(
    both: Connect, sql: psycopg.Connection, database: str
) -> None:
    postgres = both(tables={"people": {"lag_seconds": 0}})
    sql.execute("INSERT INTO people VALUES (1, 'first')")
    with psycopg.connect(database) as slow:
        slow.execute("INSERT INTO people VALUES (2, 'late')")
        sql.execute("INSERT INTO people VALUES (3, 'after', clock_timestamp())")
        rows, position = drain(postgres, "people")
        assert [row["id"] for row in rows] == [1, 3]
        rows, position = drain(postgres, "people", position)
        slow.commit()
    rows, position = drain(postgres, "people", position)
    assert 2 in [row["id"] for row in rows]


def test_positions_of_primary_and_replica_go_on_where_the_other_stopped(
    both: Connect, connect: Connect, sql: psycopg.Connection
) -> None:
    position: Position | None = None
    for number in range(6):
        sql.execute("INSERT INTO people VALUES (%s, 'x', clock_timestamp())", [number])
        rows, position = drain(both() if number % 2 else connect(), "people", position)
        assert number in [row["id"] for row in rows]


def test_what_is_no_replica_of_the_primary_is_refused(
    both: Connect, connect: Connect, database: str, postgres_server: PrivateServer
) -> None:
    for url, words in ((database, "is no replica"), (postgres_server.create("other"), "another database")):
        postgres = connect(replica_url=url)
        assert any(words in problem for problem in postgres.check().problems)
        with pytest.raises(ConfigError, match=words) as caught:
            drain(postgres, "people")
        assert "replica_url" in str(caught.value.mend)


def test_a_replica_that_is_down_is_an_access_error_that_names_it(both: Connect, replica: PrivateReplica) -> None:
    gone = replica.url().replace(f":{replica.port}/", ":1/")
    postgres = both(replica_url=gone)
    with pytest.raises(AccessError, match=r"127\.0\.0\.1:1.* cannot be reached"):
        drain(postgres, "people")
    assert not postgres.check().ok
