"""The key under which a followed row is told, and what is refused before anything is made at the server."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from log_reading import SETTINGS, changes

from sync_platform.connectors.capture import Feed
from sync_platform.connectors.postgres import Postgres
from sync_platform.engine.lookups import with_target_id
from sync_platform.errors import ConfigError
from sync_platform.staging.fingerprint import key_sql
from tests.private_postgres import PrivateServer


def test_a_composite_key_is_the_json_array_that_staging_has_and_a_changed_key_is_a_delete_and_an_update(
    sql: psycopg.Connection[Any], following: Callable[..., Feed]
) -> None:
    sql.execute("CREATE TABLE lines (orders uuid, line int, note text, PRIMARY KEY (orders, line))")
    feed = following("lines")
    order = str(uuid.uuid4())
    sql.execute("INSERT INTO lines VALUES (%s, 1, 'a')", (order,))
    assert changes(feed, 1) == [("lines", f'["{order}","1"]', "created")]
    sql.execute("UPDATE lines SET line = 2")
    assert changes(feed, 2) == [("lines", f'["{order}","1"]', "deleted"), ("lines", f'["{order}","2"]', "updated")]


KEYS = {
    "int": ("int", "42"),
    "bigint": ("bigint", "-9000000000"),
    "text": ("text", "'it''s 😀 \\ \"x\"'"),
    "char": ("char(8)", "'ab'"),
    "uuid": ("uuid", "'6F9619FF-8B86-D011-B42D-00CF4FC964FF'"),
    "numeric": ("numeric(12,2)", "1.5"),
    "free numeric": ("numeric", "1.50"),
    "bool": ("boolean", "true"),
    "date": ("date", "'2024-02-29'"),
    "timestamptz": ("timestamptz", "'2024-07-01 12:00:00.5+02'"),
    "whole timestamptz": ("timestamptz", "'2024-07-01 12:00:00+02'"),
    "timestamp": ("timestamp", "'2024-07-01 12:00:00.000001'"),
    "enum": ("mood", "'so so'"),
}


@pytest.mark.parametrize("composite", [False, True], ids=["alone", "in a composite key"])
@pytest.mark.parametrize("name", KEYS)
def test_a_key_told_by_the_log_is_the_key_staging_and_read_back_give(
    sql: psycopg.Connection[Any], shop: Callable[..., Postgres], name: str, composite: bool
) -> None:
    import duckdb

    kind, value = KEYS[name]
    sql.execute("DROP TYPE IF EXISTS mood CASCADE; CREATE TYPE mood AS ENUM ('sad', 'so so')")
    key = "id, part" if composite else "id"
    sql.execute(f"CREATE TABLE things (id {kind}, part int DEFAULT 7, PRIMARY KEY ({key}))".encode())
    postgres = shop()
    with contextlib.closing(postgres.follow(["things"], None)) as feed:
        sql.execute(f"INSERT INTO things (id) VALUES ({value})".encode())
        ((_, told_key, _),) = changes(feed, 1)
    found = postgres.get("things", [told_key], ["id", "part"])
    assert with_target_id(found, postgres.stream("things"))["_target_id"].to_list() == [told_key]
    (page,) = [page.table for page in postgres.read("things") if page.table.num_rows]
    types = dict(zip(page.schema.names, page.schema.types, strict=True))
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("page", page)
        names = postgres.stream("things").key
        assert con.execute(f"SELECT {key_sql(names, types, lambda one: one)} FROM page").fetchall() == [(told_key,)]


@pytest.mark.parametrize("kind", ["real", "double precision", "bytea", "inet", "time"])
def test_a_key_whose_text_in_the_log_is_another_is_refused(
    sql: psycopg.Connection[Any], shop: Callable[..., Postgres], kind: str
) -> None:
    sql.execute(f"CREATE TABLE things (id {kind} PRIMARY KEY)".encode())
    (problem,) = shop().capture_problems(["things"])
    assert "the key column id is a" in problem


@pytest.mark.parametrize(
    ("identity", "problem"),
    [
        ("DEFAULT", None),
        ("FULL", None),
        ("USING INDEX things_code", "the columns of an index as its replica identity"),
        ("NOTHING", "no replica identity"),
    ],
)
def test_a_replica_identity_that_hides_the_key_of_deleted_rows_is_refused_with_the_mend(
    sql: psycopg.Connection[Any], shop: Callable[..., Postgres], identity: str, problem: str | None
) -> None:
    sql.execute("CREATE TABLE things (id int PRIMARY KEY, code text NOT NULL, big text)")
    sql.execute("CREATE UNIQUE INDEX things_code ON things (code)")
    sql.execute(f"ALTER TABLE things REPLICA IDENTITY {identity}".encode())
    postgres = shop()
    found = postgres.capture_problems(["things"])
    if problem is not None:
        assert len(found) == 1
        assert problem in found[0]
        assert "REPLICA IDENTITY FULL" in found[0]
        with pytest.raises(ConfigError, match="replica identity"):
            postgres.follow(["things"], None)
        assert sql.execute("SELECT count(*) FROM pg_publication").fetchone() == (0,), "its updates would fail"
        return
    assert found == []
    with contextlib.closing(postgres.follow(["things"], None)) as feed:
        sql.execute("INSERT INTO things VALUES (1, 'a', repeat(md5('x'), 5000))")
        sql.execute("UPDATE things SET code = 'b'")  # the long value is stored apart and not sent again
        sql.execute("UPDATE things SET id = 2")
        sql.execute("DELETE FROM things")
        seen = []
        deadline = time.monotonic() + 20
        while ("2", "deleted") not in seen:
            assert time.monotonic() < deadline, seen
            seen += [(e.key, e.kind) for one in [feed.next(0.5)] if one is not None for e in one.events]
    assert ("1", "deleted") in seen


def test_an_index_over_the_configured_key_serves_as_replica_identity(
    sql: psycopg.Connection[Any], following: Callable[..., Feed]
) -> None:
    sql.execute("CREATE TABLE things (id int PRIMARY KEY, code text NOT NULL)")
    sql.execute("CREATE UNIQUE INDEX things_code ON things (code)")
    sql.execute("ALTER TABLE things REPLICA IDENTITY USING INDEX things_code")
    feed = following("things", tables={"things": {"key": ["code"]}})
    sql.execute("INSERT INTO things VALUES (1, 'a')")
    assert changes(feed, 1) == [("things", "a", "created")]
    sql.execute("DELETE FROM things")
    assert changes(feed, 1) == [("things", "a", "deleted")]


def test_what_cannot_be_followed_is_told_before_anything_is_made(
    sql: psycopg.Connection[Any], shop: Callable[..., Postgres], followed_server: PrivateServer, url: str
) -> None:
    sql.execute("CREATE TABLE things (id int PRIMARY KEY); CREATE UNLOGGED TABLE quick (id int PRIMARY KEY)")
    sql.execute("CREATE VIEW shown AS SELECT id FROM things")
    sql.execute("DROP ROLE IF EXISTS clerk; CREATE ROLE clerk LOGIN PASSWORD 'x'")
    sql.execute("GRANT SELECT ON things TO clerk")
    name = url.rsplit("/", 1)[1]
    try:
        postgres = shop(tables={"shown": {"key": ["id"]}})
        assert ["is a view" in one for one in postgres.capture_problems(["shown"])] == [True]
        assert ["is not written to the log" in one for one in postgres.capture_problems(["quick"])] == [True]
        clerk = shop(url=followed_server.url(name, user="clerk", password="x"))
        found = clerk.capture_problems(["things"])
        assert 'role clerk may not replicate: ALTER ROLE "clerk" REPLICATION' in found
        assert any("may not create a publication" in one for one in found)
        assert any("does not own public.things" in one for one in found)
        theirs = shop(capture_publication="theirs")
        assert any("there is no publication 'theirs'" in one for one in theirs.capture_problems(["things"]))
        sql.execute("CREATE PUBLICATION theirs WITH (publish = 'insert')")
        found = theirs.capture_problems(["things"])
        assert any("does not publish everything" in one for one in found)
        assert any("is not in publication 'theirs': ALTER PUBLICATION \"theirs\" ADD TABLE" in one for one in found)
        free = SETTINGS["max_replication_slots"]
        for number in range(int(free)):
            sql.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (f"taken_{number}",))
        assert any(f"all {free} replication slots" in one for one in postgres.capture_problems(["things"]))
    finally:
        sql.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        sql.execute("DROP OWNED BY clerk; DROP ROLE clerk")


def test_a_server_without_logical_log_says_which_setting_to_change() -> None:
    with PrivateServer() as plain, psycopg.connect(plain.url(), autocommit=True) as person:
        person.execute("CREATE TABLE things (id int PRIMARY KEY)")
        postgres = Postgres(url=plain.url(), capture=True)
        (problem,) = postgres.capture_problems(["things"])
        postgres.close()
    assert "set wal_level = logical in postgresql.conf and restart it" in problem
