"""Following tables through logical replication: what is told, under which key, and what is refused at the start."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from log_reading import changes, told

from sync_platform.connectors.capture import Feed, PositionLostError
from sync_platform.connectors.postgres import Postgres
from sync_platform.connectors.postgres.following import MOST, SlotFeed
from sync_platform.connectors.postgres.log_stream import LogStreamError
from sync_platform.errors import TransientError
from tests.private_postgres import PrivateServer


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


def test_a_server_that_shuts_down_loses_no_position(
    sql: psycopg.Connection[Any], following: Callable[..., Feed]
) -> None:
    """Its walsender answers with the code that a slot given up has, too: only the slot itself tells."""
    sql.execute("CREATE TABLE things (id int PRIMARY KEY)")
    feed = following("things")
    assert isinstance(feed, SlotFeed)
    stopping = LogStreamError("cannot execute new commands while WAL sender is in stopping mode", "55000")
    assert type(feed._translated(stopping)) is TransientError
    assert type(feed._translated(LogStreamError("the publication does not exist", "42704"))) is PositionLostError


def test_the_server_forgets_no_more_than_was_confirmed(
    sql: psycopg.Connection[Any], following: Callable[..., Feed]
) -> None:
    sql.execute("CREATE TABLE things (id int PRIMARY KEY); CREATE TABLE others (id int)")
    feed = following("things")
    sql.execute("INSERT INTO things VALUES (1)")
    (answer,) = told(feed, 1)
    feed.confirm(answer.position)
    until = time.monotonic() + 1
    while time.monotonic() < until:  # the log goes on without a change to tell, and the server tells how far
        sql.execute("INSERT INTO others SELECT generate_series(1, 100)")
        feed.next(0.1)
        feed.behind()
        feed._answer(now=True)
    ((confirmed,),) = sql.execute("SELECT confirmed_flush_lsn::text FROM pg_replication_slots").fetchall()
    assert confirmed == answer.position.partition("~")[0]


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
