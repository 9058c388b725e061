"""Following tables through logical replication: what is told, under which key, and what is refused at the start."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from sync_platform.connectors.capture import Feed, PositionLostError, Told
from sync_platform.connectors.postgres import Postgres
from sync_platform.connectors.postgres.following import MOST
from sync_platform.engine.lookups import with_target_id
from sync_platform.errors import ConfigError, TransientError
from sync_platform.staging.fingerprint import key_sql
from tests.private_postgres import PrivateServer

SETTINGS = {"wal_level": "logical", "max_replication_slots": "6", "max_wal_senders": "8", "wal_sender_timeout": "4s"}


@pytest.fixture(scope="module", params=[18, pytest.param(17, marks=pytest.mark.slow)])
def followed_server(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    """A server of each major that keeps a log one can follow."""
    with PrivateServer(settings=SETTINGS, major=request.param) as server:
        yield server


@pytest.fixture
def url(followed_server: PrivateServer) -> Iterator[str]:
    """An empty database; slots that a test left are dropped after it."""
    name = f"shop_{uuid.uuid4().hex[:8]}"
    yield followed_server.create(name)
    with psycopg.connect(followed_server.url(), autocommit=True) as admin:
        for (slot,) in admin.execute("SELECT slot_name FROM pg_replication_slots WHERE active").fetchall():
            admin.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s", (slot,)
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg.errors.ObjectInUse):
                admin.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
                break
            time.sleep(0.05)
    followed_server.drop(name)


@pytest.fixture
def sql(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A person at that database, every statement committed at once."""
    with psycopg.connect(url, autocommit=True) as person:
        yield person


@pytest.fixture
def shop(url: str) -> Iterator[Callable[..., Postgres]]:
    """Makes connectors to that database."""
    made: list[Postgres] = []

    def make(**settings: Any) -> Postgres:
        made.append(Postgres(**{"url": url, "capture": True} | settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def following(shop: Callable[..., Postgres]) -> Iterator[Callable[..., Feed]]:
    """Opens feeds, which are closed afterwards."""
    made: list[Feed] = []

    def follow(*streams: str, since: str | None = None, **settings: Any) -> Feed:
        made.append(shop(**settings).follow(streams, since))
        return made[-1]

    yield follow
    for one in made:
        one.close()


def told(feed: Feed, events: int, seconds: float = 20.0) -> list[Told]:
    """Answers until so many events were told."""
    found: list[Told] = []
    deadline = time.monotonic() + seconds
    while sum(len(one.events) for one in found) < events:
        assert time.monotonic() < deadline, found
        answer = feed.next(0.5)
        if answer is not None:
            found.append(answer)
    return found


def changes(feed: Feed, events: int) -> list[tuple[str, str, str]]:
    return [(e.stream, e.key, e.kind) for one in told(feed, events) for e in one.events]


def test_inserts_updates_and_deletes_are_told_by_key_in_the_order_of_their_commits(
    sql: psycopg.Connection[Any], following: Callable[..., Feed]
) -> None:
    sql.execute("CREATE TABLE people (id int PRIMARY KEY, name text)")
    feed = following("people")
    sql.execute("INSERT INTO people VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    sql.execute("UPDATE people SET name = 'B' WHERE id = 2")
    sql.execute("DELETE FROM people WHERE id = 3")
    last: dict[str, str] = {}
    ids = []
    deadline = time.monotonic() + 20
    while last != {"1": "created", "2": "updated", "3": "deleted"}:
        assert time.monotonic() < deadline, last
        for event in ((one := feed.next(0.5)) and one.events) or ():
            last[event.key] = event.kind
            ids.append(event.id)
            assert (event.stream, dict(event.fields)) == ("people", {})
    assert len(set(ids)) == len(ids)


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


def test_a_server_without_logical_log_says_which_setting_to_change(postgres_server: PrivateServer) -> None:
    url = postgres_server.create("plain")
    with psycopg.connect(url, autocommit=True) as person:
        person.execute("CREATE TABLE things (id int PRIMARY KEY)")
    postgres = Postgres(url=url, capture=True)
    (problem,) = postgres.capture_problems(["things"])
    postgres.close()
    assert "set wal_level = logical in postgresql.conf and restart it" in problem


def test_rolled_back_rows_and_savepoints_are_not_told(
    sql: psycopg.Connection[Any], url: str, following: Callable[..., Feed]
) -> None:
    sql.execute("CREATE TABLE things (id int PRIMARY KEY)")
    feed = following("things")
    with psycopg.connect(url) as other:
        other.execute("INSERT INTO things VALUES (1)")
        other.rollback()
        other.execute("INSERT INTO things VALUES (2)")
        with contextlib.suppress(ZeroDivisionError), other.transaction():
            other.execute("INSERT INTO things VALUES (3)")
            raise ZeroDivisionError
        other.commit()
    sql.execute("INSERT INTO things VALUES (4)")
    assert [key for _, key, _ in changes(feed, 2)] == ["2", "4"]


def test_nothing_is_missing_or_told_again_after_a_position(
    sql: psycopg.Connection[Any], shop: Callable[..., Postgres]
) -> None:
    sql.execute("CREATE TABLE things (id int PRIMARY KEY)")
    postgres = shop()
    with contextlib.closing(postgres.follow(["things"], None)) as feed:
        sql.execute("INSERT INTO things VALUES (1)")
        (first,) = told(feed, 1)
        feed.confirm(first.position)
        sql.execute("INSERT INTO things VALUES (2)")
        (second,) = told(feed, 1)  # told, but never confirmed
    sql.execute("INSERT INTO things VALUES (3)")
    with contextlib.closing(postgres.follow(["things"], first.position)) as feed:
        again = [event for one in told(feed, 2) for event in one.events]
    assert [event.key for event in again] == ["2", "3"]
    assert again[0].id == second.events[0].id


def test_a_change_is_told_only_when_a_read_sees_it(
    followed_server: PrivateServer, sql: psycopg.Connection[Any], url: str, shop: Callable[..., Postgres]
) -> None:
    """A commit that waits for a standby is in the log, and invisible."""
    sql.execute("CREATE TABLE things (id int PRIMARY KEY)")
    postgres = shop()
    with contextlib.closing(postgres.follow(["things"], None)) as feed:
        sql.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        sql.execute("SELECT pg_reload_conf()")
        time.sleep(0.3)

        def insert() -> None:
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("INSERT INTO things VALUES (1)")

        waiting = threading.Thread(target=insert)
        waiting.start()
        try:
            assert [feed.next(0.5), feed.next(0.5)] == [None, None]
            assert postgres.get("things", ["1"], ["id"]).num_rows == 0
        finally:
            with psycopg.connect(followed_server.url(), autocommit=True) as admin:
                admin.execute("SET synchronous_commit = local")
                admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
                admin.execute("SELECT pg_reload_conf()")
            waiting.join()
        assert [key for _, key, _ in changes(feed, 1)] == ["1"]
        assert postgres.get("things", ["1"], ["id"]).num_rows == 1


def test_a_transaction_that_was_open_when_its_table_was_published_makes_the_stream_owe_a_compare(
    sql: psycopg.Connection[Any], url: str, shop: Callable[..., Postgres], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_platform.connectors.postgres.following._LOOK", 0.1)
    monkeypatch.setattr("sync_platform.connectors.postgres.following._QUICKLY", 0.1)
    sql.execute("CREATE TABLE things (id int PRIMARY KEY); CREATE TABLE others (id int PRIMARY KEY)")
    postgres = shop()
    with contextlib.closing(postgres.follow(["things"], None)) as feed:
        position = feed.start
    with psycopg.connect(url) as slow:
        slow.execute("INSERT INTO others VALUES (1)")
        with contextlib.closing(postgres.follow(["others", "things"], position)) as feed:
            assert feed.next(0.5) is None
            slow.commit()
            deadline = time.monotonic() + 10
            owing: set[str] = set()
            while "others" not in owing:
                assert time.monotonic() < deadline, "others has a row that nobody was told of"
                answer = feed.next(0.5)
                if answer is not None:
                    owing |= answer.emptied | {event.stream for event in answer.events}
                    position = answer.position
    with contextlib.closing(postgres.follow(["others", "things"], position)) as feed:
        assert feed.next(0.5) is None, "what was told once is not told again"


def test_partitions_are_told_under_their_table_wherever_the_row_lies(
    sql: psycopg.Connection[Any], following: Callable[..., Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_platform.connectors.postgres.following._LOOK", 0.1)
    sql.execute("CREATE TABLE sales (id int, year int, PRIMARY KEY (id, year)) PARTITION BY LIST (year)")
    for year in (2024, 2025):
        sql.execute(f"CREATE TABLE sales_{year} PARTITION OF sales FOR VALUES IN ({year})".encode())
    feed = following("sales")
    sql.execute("INSERT INTO sales VALUES (1, 2024), (2, 2025)")
    assert [key for _, key, _ in changes(feed, 2)] == ['["1","2024"]', '["2","2025"]']
    sql.execute("UPDATE sales SET year = 2025 WHERE id = 1")
    assert set(changes(feed, 2)) == {("sales", '["1","2024"]', "deleted"), ("sales", '["1","2025"]', "created")}
    for statement in ("TRUNCATE sales_2025", "ALTER TABLE sales DETACH PARTITION sales_2024"):
        sql.execute(statement.encode())  # neither has a message
        deadline = time.monotonic() + 10
        while (answer := feed.next(0.5)) is None or "sales" not in answer.emptied:
            assert time.monotonic() < deadline, f"{statement} went unnoticed"


def test_truncation_and_other_columns_are_told(sql: psycopg.Connection[Any], following: Callable[..., Feed]) -> None:
    sql.execute("CREATE TABLE things (id int PRIMARY KEY, a int); CREATE TABLE others (id int PRIMARY KEY)")
    feed = following("things", "others")
    sql.execute("INSERT INTO things VALUES (1)")
    told(feed, 1)
    sql.execute("TRUNCATE others, things")
    answer = feed.next(10)
    assert answer is not None
    assert answer.emptied == {"things", "others"}
    sql.execute("ALTER TABLE things ADD b int DEFAULT 7")
    sql.execute("INSERT INTO things VALUES (2)")
    (answer,) = told(feed, 1)
    assert answer.altered == {"things"}
    sql.execute("ALTER TABLE things DROP a")
    sql.execute("INSERT INTO things VALUES (3)")
    (answer,) = told(feed, 1)
    assert answer.altered == {"things"}


def test_a_big_transaction_is_told_in_parts_under_the_position_before_it(
    sql: psycopg.Connection[Any], following: Callable[..., Feed]
) -> None:
    sql.execute("CREATE TABLE things (id int PRIMARY KEY)")
    feed = following("things")
    sql.execute(f"INSERT INTO things SELECT generate_series(1, {2 * MOST + 100})".encode())
    parts = told(feed, 2 * MOST + 100, 120)
    assert max(len(one.events) for one in parts) == MOST
    assert {one.position for one in parts[:2]} == {feed.start}
    assert parts[-1].position != feed.start
    assert {event.key for one in parts for event in one.events} == {str(n) for n in range(1, 2 * MOST + 101)}


def test_an_idle_feed_answers_keepalives_and_lets_the_log_go(
    sql: psycopg.Connection[Any], shop: Callable[..., Postgres], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_platform.connectors.postgres.following._WORTH_SECONDS", 0.5)
    sql.execute("CREATE TABLE things (id int PRIMARY KEY); CREATE TABLE busy (note text)")
    postgres = shop()
    with contextlib.closing(postgres.follow(["things"], None)) as feed:
        begun, seen = time.monotonic(), 0
        while time.monotonic() - begun < 6:  # longer than wal_sender_timeout
            sql.execute("INSERT INTO busy SELECT md5('x') FROM generate_series(1, 200)")
            answer = feed.next(0.3)
            if answer is not None:
                assert not answer.events
                feed.confirm(answer.position)
                seen += 1
        assert seen
        sql.execute("CHECKPOINT")
        behind = feed.behind()
        end = sql.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) FROM pg_replication_slots")
        assert end.fetchone()[0] < 2 << 20  # type: ignore[index]
        assert behind.size is not None


def test_a_lost_position_says_how_it_was_lost(
    sql: psycopg.Connection[Any], url: str, shop: Callable[..., Postgres], followed_server: PrivateServer
) -> None:
    sql.execute("CREATE TABLE things (id int PRIMARY KEY)")
    postgres = shop()
    with contextlib.closing(postgres.follow(["things"], None)) as feed:
        start = feed.start
    slot = postgres._kept().slot
    sql.execute("INSERT INTO things VALUES (1)")
    deadline = time.monotonic() + 10
    while sql.execute("SELECT active FROM pg_replication_slots").fetchone() == (True,):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sql.execute("SELECT count(*) FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL, 'proto_version', '1',"
                " 'publication_names', %s)", (slot, slot))  # fmt: skip
    with pytest.raises(PositionLostError, match="somebody else read the slot"):
        postgres.follow(["things"], start)
    with pytest.raises(PositionLostError, match="it was restored"):
        postgres.follow(["things"], "FFFF/0")
    sql.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
    with pytest.raises(PositionLostError, match="is gone"):
        postgres.follow(["things"], start)
    with contextlib.closing(postgres.follow(["things"], None)) as feed:
        sql.execute("INSERT INTO things VALUES (2)")
        assert [key for _, key, _ in changes(feed, 1)] == ["2"]


def test_a_second_feed_of_one_slot_is_refused_and_told_who_has_it(
    sql: psycopg.Connection[Any], shop: Callable[..., Postgres]
) -> None:
    sql.execute("CREATE TABLE things (id int PRIMARY KEY)")
    postgres = shop()
    with contextlib.closing(postgres.follow(["things"], None)) as feed:
        with pytest.raises(TransientError, match="is active for PID"):
            postgres.follow(["things"], feed.start)
        with pytest.raises(TransientError, match="sends the slot"):
            shop().follow(["things"], None)


def test_a_slot_beyond_the_limit_is_told_and_where_it_is_allowed_dropped(
    sql: psycopg.Connection[Any], shop: Callable[..., Postgres]
) -> None:
    sql.execute("CREATE TABLE things (id int PRIMARY KEY, note text)")
    limited = shop(slot_limit_bytes=100_000)
    with contextlib.closing(limited.follow(["things"], None)) as feed:
        sql.execute("INSERT INTO things SELECT n, md5(n::text) FROM generate_series(1, 5000) n")
        behind = feed.behind()
        assert behind.size is not None
        assert behind.warn == 100_000 < behind.size
        assert behind.limit is None
    dropping = shop(slot_limit_bytes=100_000, slot_limit_drops=True)
    feed = dropping.follow(["things"], None)
    sql.execute("INSERT INTO things SELECT n, md5(n::text) FROM generate_series(5001, 10000) n")
    with pytest.raises(PositionLostError, match="it was dropped"):
        feed.behind()
    assert sql.execute("SELECT count(*) FROM pg_replication_slots").fetchone() == (0,)


def test_forgetting_drops_slot_and_publication_and_nothing_else(
    sql: psycopg.Connection[Any], shop: Callable[..., Postgres]
) -> None:
    sql.execute("CREATE TABLE things (id int PRIMARY KEY); CREATE PUBLICATION theirs FOR TABLE things")
    sql.execute("SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')")
    postgres = shop()
    assert postgres.kept() is None
    postgres.follow(["things"], None).close()
    assert postgres.kept() is not None
    postgres.forget()
    postgres.forget()
    assert sql.execute("SELECT slot_name FROM pg_replication_slots").fetchall() == [("theirs",)]
    assert sql.execute("SELECT pubname FROM pg_publication").fetchall() == [("theirs",)]
