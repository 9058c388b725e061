"""What goes wrong with a real PostgreSQL says what to do next, and never tells a secret."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from sync_platform.connectors.postgres import Postgres
from sync_platform.errors import (
    AccessError,
    AuthError,
    ConfigError,
    ContractError,
    SyncError,
    TransientError,
    UnknownOutcome,
)
from sync_platform.model import Change, Op, Status
from tests.cut_proxy import CutProxy
from tests.private_postgres import PrivateServer, free_port

Connect = Callable[..., Postgres]
TABLE = "CREATE TABLE t (id int PRIMARY KEY, email text, updated_at timestamptz DEFAULT now())"
ROOT = Path(__file__).parents[3]


def rows(*ids: int) -> pa.Table:
    keys = pa.array([str(i) for i in ids])
    return pa.table({"_key": keys, "_target_id": pa.nulls(len(ids), pa.string()), "id": pa.array(ids), "email": keys})


def edits(*ids: int) -> pa.Table:
    """These rows, to be updated."""
    given = rows(*ids)
    return given.set_column(1, "_target_id", given["_key"])


@contextmanager
def refused(kind: type[SyncError], *words: str, secret: str = "") -> Iterator[None]:
    """Expects an error of exactly this class that says these words and has a mend and no secret."""
    with pytest.raises(SyncError) as caught:
        yield
    error = caught.value
    assert type(error) is kind, repr(error)
    assert error.mend
    for word in words:
        assert word in str(error)
    assert not secret or secret not in f"{error} {error!r} {error.to_json()} {error.__cause__}"


def with_login(url: str, login: str) -> str:
    return url.replace(url.split("//")[1].split("@")[0], login)


def test_a_wrong_password_is_an_auth_error_without_the_password(database: str, connect: Connect) -> None:
    connector = connect(url=with_login(database, "postgres:hunter2-wrong"))
    with refused(AuthError, "login was refused", secret="hunter2-wrong"):
        connector.check()
    assert "hunter2-wrong" not in repr(connector)


@pytest.mark.parametrize(
    "login", ["postgres:p@ss-w0rd", "postgres:p%40ss-w0rd", "postgres:p/ss-w0rd", "postgres:ss-w0rd:9"]
)
def test_no_part_of_a_badly_written_password_is_shown(database: str, connect: Connect, login: str) -> None:
    with pytest.raises((AccessError, ConfigError)) as caught:
        connect(url=with_login(database, login)).check()
    assert "ss-w0rd" not in f"{caught.value} {caught.value!r}"
    assert caught.value.mend


def test_a_server_that_is_down_is_an_access_error(connect: Connect) -> None:
    port = free_port()
    with refused(AccessError, f"127.0.0.1:{port}", "cannot be reached", secret="s3cret-word"):
        connect(url=f"postgresql://u:s3cret-word@127.0.0.1:{port}/x").check()


def test_an_unknown_database_and_a_wrong_url_are_config_errors(database: str, connect: Connect) -> None:
    with refused(ConfigError, "does not exist"):
        connect(url=database + "_none").check()
    with refused(ConfigError, "cannot be read", secret="s3cret-word"):
        connect(url="postgresql://u:s3cret-word@host:port/x?nonsense").check()


def test_a_missing_permission_names_the_table(sql: psycopg.Connection, database: str, connect: Connect) -> None:
    sql.execute(TABLE)
    sql.execute("DROP ROLE IF EXISTS clerk")
    sql.execute("CREATE ROLE clerk LOGIN PASSWORD 'clerk-word'")
    clerk = connect(url=with_login(database, "clerk:clerk-word"))
    with refused(AuthError, "public.t", "GRANT SELECT"):
        clerk.stream("t")
    sql.execute("GRANT SELECT ON t TO clerk")
    assert clerk.stream("t").key == ("id",)
    with refused(AuthError, "_sync_delivered", "CREATE TABLE IF NOT EXISTS"):
        clerk.write_bulk("t", "create", rows(1), "d1")
    connect().write_bulk("t", "create", rows(1), "d0")
    sql.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON _sync_delivered TO clerk")
    with refused(AuthError, "permission denied for table t"):
        clerk.write_bulk("t", "create", rows(2), "d1")
    assert not connect().delivered("t", "d1")


def test_a_read_only_server_is_an_access_error(sql: psycopg.Connection, database: str, connect: Connect) -> None:
    sql.execute(TABLE)
    connect().write_bulk("t", "create", rows(1), "d0")
    sql.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
    try:
        with refused(AccessError, "read-only", "primary"):
            connect().write_bulk("t", "create", rows(2), "d1")
    finally:
        sql.execute("ALTER DATABASE postgres RESET default_transaction_read_only")


def test_a_lock_and_a_statement_timeout_are_transient(sql: psycopg.Connection, database: str, connect: Connect) -> None:
    sql.execute(TABLE)
    connect().write_bulk("t", "create", rows(1), "d0")
    change = Change(op=Op.UPDATE, key="1", token="x", target_id="1", fields={"email": "new"})
    with psycopg.connect(database) as holder:
        holder.execute("SELECT 1 FROM t FOR UPDATE")
        with refused(TransientError, "lock"):
            list(connect(lock_timeout_seconds=0.05).write("t", [change]))
        with refused(TransientError, "timeout"):
            list(connect(statement_timeout_seconds=0.05).write("t", [change]))
    assert [o.status for o in connect().write("t", [change])] == [Status.APPLIED]


@pytest.mark.parametrize(
    ("word", "answered"),
    [(b"COMMIT\0", True), (b"COMMIT\0", False), (b"SET outcomes", False)],
    ids=["committed", "not-committed", "not-noted"],
)
def test_new_rows_whose_answer_was_lost_are_there_once(
    sql: psycopg.Connection,
    postgres_server: PrivateServer,
    database: str,
    connect: Connect,
    word: bytes,
    answered: bool,
) -> None:
    sql.execute(TABLE)
    with CutProxy(postgres_server.port) as proxy:
        connector = connect(url=database.replace(str(postgres_server.port), str(proxy.port)))
        connector.write_bulk("t", "create", rows(1), "d0")
        proxy.cut_at(word, answered=answered)
        for _ in range(2):  # once more, as a run that knows nothing of it
            outcomes = connector.write_bulk("t", "create", rows(2, 3), "d1")
            assert outcomes["_status"].to_pylist() == ["applied", "applied"]
            assert outcomes["_target_id"].to_pylist() == ["2", "3"]
            assert connector.delivered("t", "d1")
        assert proxy.cuts == 1
    assert sql.execute("SELECT count(*) FROM t").fetchone() == (3,)


@pytest.mark.parametrize(
    ("limit", "words"),
    [({"lock_timeout_seconds": 2.0}, "a lock was not granted"), ({"statement_timeout_seconds": 2.0}, "its timeout")],
    ids=["lock", "statement"],
)
def test_new_rows_that_wait_too_long_are_told_so_after_one_wait_and_written_later(
    sql: psycopg.Connection, database: str, connect: Connect, limit: dict[str, float], words: str
) -> None:
    sql.execute(TABLE)
    connector = connect(**limit)
    connector.write_bulk("t", "create", rows(1), "d0")
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE t IN EXCLUSIVE MODE")
        began = time.monotonic()
        with refused(TransientError, words):
            connector.write_bulk("t", "create", rows(2), "d1")
        assert 1.9 < time.monotonic() - began < 4.0  # not a second time by the longer way
    assert not connector.delivered("t", "d1")
    assert connector.write_bulk("t", "create", rows(2), "d1")["_status"].to_pylist() == ["applied"]
    assert sql.execute("SELECT count(*) FROM t").fetchone() == (2,)


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not-stored"])
def test_a_lost_commit_is_unknown_and_the_marker_tells(
    sql: psycopg.Connection, postgres_server: PrivateServer, database: str, connect: Connect, stored: bool
) -> None:
    sql.execute(f"{TABLE}; INSERT INTO t (id) VALUES (2), (3)")
    with CutProxy(postgres_server.port) as proxy:
        connector = connect(url=database.replace(str(postgres_server.port), str(proxy.port)))
        connector.write_bulk("t", "create", rows(1), "d0")
        proxy.cut_at(b"COMMIT\0", answered=stored)
        with refused(UnknownOutcome, "while committing"):
            connector.write_bulk("t", "update", edits(2, 3), "d1")
        assert proxy.cuts == 1
        assert connector.delivered("t", "d1") is stored
        outcomes = connector.write_bulk("t", "update", edits(2, 3), "d1")
        assert outcomes["_status"].to_pylist() == ["applied", "applied"]
    assert sql.execute("SELECT count(*) FROM t WHERE email = id::text").fetchone() == (3,)


def test_a_connection_lost_before_the_commit_is_transient_and_stores_nothing(
    sql: psycopg.Connection, postgres_server: PrivateServer, database: str, connect: Connect
) -> None:
    sql.execute(f"{TABLE}; INSERT INTO t (id) VALUES (2)")
    with CutProxy(postgres_server.port) as proxy:
        connector = connect(url=database.replace(str(postgres_server.port), str(proxy.port)))
        connector.write_bulk("t", "create", rows(1), "d0")
        proxy.cut_at(b"SET outcomes", answered=False)
        with refused(TransientError, "connection was lost"):
            connector.write_bulk("t", "update", edits(2), "d1")
        assert not connector.delivered("t", "d1")
    assert sql.execute("SELECT email FROM t WHERE id = 2").fetchone() == (None,)


def test_a_connection_lost_while_reading_is_transient_and_claims_nothing(
    sql: psycopg.Connection, database: str, connect: Connect, postgres_server: PrivateServer
) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, a text)")
    sql.execute("INSERT INTO t SELECT n, repeat('x', 200) FROM generate_series(1, 20000) n")
    with CutProxy(postgres_server.port) as proxy:
        url = database.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        connector = connect(url=url, page_bytes=100_000)
        assert connector.check().ok
        proxy.after(1_000_000, lambda: None)  # a quarter of the rows
        with refused(TransientError, "connection was lost"):
            for page in connector.read("t"):
                assert not page.complete
        assert proxy.cuts == 1
        assert sum(page.table.num_rows for page in connector.read("t")) == 20_000


def test_an_error_of_the_server_in_mid_read_is_told_as_what_it_is(sql: psycopg.Connection, connect: Connect) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
    sql.execute("INSERT INTO t SELECT generate_series(1, 50000)")
    sql.execute("CREATE VIEW v AS SELECT id, 1 / (40000 - id) AS a FROM t")
    connector = connect(tables={"v": {"key": ["id"]}}, page_bytes=50_000)
    with refused(ContractError, "division by zero"):
        list(connector.read("v"))


def test_idle_connections_survive_a_restart_of_the_server(connect: Connect) -> None:
    with PrivateServer() as server:
        connector = connect(url=server.url())
        assert connector.check().ok
        server.stop(kill=True)
        with pytest.raises((TransientError, AccessError)):  # the idle connection breaks
            connector.check()
        with refused(AccessError, "cannot be reached"):
            connector.check()
        server.start()
        assert connector.check().ok


def test_an_idle_connection_holds_no_transaction_open(sql: psycopg.Connection, postgres: Postgres) -> None:
    sql.execute(TABLE)
    list(postgres.read("t"))
    postgres.write_bulk("t", "create", rows(1), "d1")
    found = sql.execute(
        "SELECT state, xact_start FROM pg_stat_activity WHERE application_name = 'sync-platform' "
        "AND datname = current_database()"
    ).fetchall()
    assert set(found) == {("idle", None)}


KILLED = """
import os, sys, pyarrow as pa
from sync_platform.connectors.postgres import Postgres
keys = pa.array(["1", "2"])
rows = pa.table({"_key": keys, "_target_id": pa.nulls(2, pa.string()), "id": pa.array([1, 2]), "email": keys})
Postgres(url=os.environ["TEST_URL"]).write_bulk("t", "create", rows, "d1")
"""


@pytest.mark.parametrize(("point", "stored"), [("request_sent", False), ("answer_received", True)])
def test_a_kill_around_the_commit_leaves_all_or_nothing(
    sql: psycopg.Connection, database: str, postgres: Postgres, point: str, stored: bool
) -> None:
    sql.execute(TABLE)
    environment = os.environ | {"SYNC_CRASH_AT": point, "TEST_URL": database}
    ended = subprocess.run([sys.executable, "-c", KILLED], env=environment, cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert postgres.delivered("t", "d1") is stored
    assert sql.execute("SELECT count(*) FROM t").fetchone() == (2 if stored else 0,)
    assert postgres.write_bulk("t", "create", rows(1, 2), "d1")["_status"].to_pylist() == ["applied"] * 2
    assert sql.execute("SELECT count(*) FROM t").fetchone() == (2,)


def test_an_error_behind_the_first_rows_is_told_like_one_before_them(connect: Connect) -> None:
    slow = "SELECT CASE WHEN g = 90000 THEN pg_sleep(60)::text ELSE g::text END AS v FROM generate_series(1, 99000) g"
    with connect(statement_timeout_seconds=2).server().session() as session:
        batches = session.batches(slow, "reading", 1_000)
        assert next(batches).num_rows > 0
        with pytest.raises(TransientError, match="longer than its timeout"):
            list(batches)
