"""A real MariaDB's row binlog as a feed: every committed change is told by its key, whatever happens in between."""

from __future__ import annotations

import time
from typing import Any

import pytest
from binlog_feed import TABLE, Connect, Person, following, said, told, until

from sync_platform.connectors.capture import Captures, PositionLostError
from sync_platform.connectors.mysql import MySQL
from sync_platform.connectors.mysql.binlog.spool import IN_MEMORY
from sync_platform.errors import AccessError, TransientError
from tests.private_mariadb import PrivateMariaDB


def test_it_is_one_that_captures(mysql: MySQL) -> None:
    assert isinstance(mysql, Captures)
    assert mysql.capture is False


def test_inserts_updates_and_deletes_are_told_in_the_order_of_their_commits(person: Person, mysql: MySQL) -> None:
    person.execute(TABLE)
    person.execute("INSERT INTO t VALUES (0, 'before', NULL)")
    with following(mysql) as feed:
        person.execute("INSERT INTO t VALUES (1, 'a', NULL), (2, 'b', 'x')")
        person.execute("UPDATE t SET name = 'c' WHERE id = 2")
        person.execute("DELETE FROM t WHERE id = 1")
        events = told(feed, 4)
    assert said(events) == [("created", "1"), ("created", "2"), ("updated", "2"), ("deleted", "1")]
    assert {event.stream for event in events} == {"t"}
    assert all(event.fields == {} for event in events)
    assert len({event.id for event in events}) == 4


def test_a_changed_key_is_the_old_one_deleted_and_the_new_one_updated(person: Person, mysql: MySQL) -> None:
    person.execute(TABLE)
    person.execute("INSERT INTO t VALUES (1, 'a', NULL)")
    with following(mysql) as feed:
        person.execute("UPDATE t SET id = 7 WHERE id = 1")
        assert said(told(feed, 2)) == [("deleted", "1"), ("updated", "7")]


def test_only_the_tables_asked_for_are_told_and_the_position_moves_anyway(person: Person, mysql: MySQL) -> None:
    person.execute(TABLE)
    person.execute("CREATE TABLE other (id INT PRIMARY KEY)")
    with following(mysql) as feed:
        person.execute("INSERT INTO other VALUES (1), (2)")
        moved = until(feed, lambda one: one.position != feed.start)
        assert list(moved.events) == []
        assert feed.next(0.1) is None, "and is told once"


def test_a_transaction_is_told_whole_when_it_is_committed(
    person: Person, mariadb: PrivateMariaDB, mysql: MySQL
) -> None:
    person.execute(TABLE)
    with following(mysql) as feed, mariadb.person("shop") as other, other.cursor() as late:
        late.execute("START TRANSACTION")
        late.execute("INSERT INTO t VALUES (1, 'late', NULL)")
        person.execute("INSERT INTO t VALUES (2, 'early', NULL)")
        assert said(told(feed, 1)) == [("created", "2")]
        late.execute("INSERT INTO t VALUES (3, 'late', NULL)")
        late.execute("COMMIT")
        events = told(feed, 2)
    assert said(events) == [("created", "1"), ("created", "3")]
    assert len({event.id.partition("/")[0] for event in events}) == 1


def test_what_was_rolled_back_is_never_told(person: Person, mysql: MySQL) -> None:
    person.execute(TABLE)
    with following(mysql) as feed:
        for statement in (
            "START TRANSACTION", "INSERT INTO t VALUES (1, 'a', NULL)", "ROLLBACK",
            "START TRANSACTION", "INSERT INTO t VALUES (2, 'b', NULL)", "SAVEPOINT here",
            "INSERT INTO t VALUES (3, 'c', NULL)", "ROLLBACK TO SAVEPOINT here", "COMMIT",
        ):  # fmt: skip
            person.execute(statement)
        assert said(told(feed, 2, seconds=2)) == [("created", "2")]


def test_a_feed_opened_at_a_told_position_tells_exactly_what_follows_with_the_same_ids(
    person: Person, mysql: MySQL
) -> None:
    person.execute(TABLE)
    with following(mysql) as feed:
        start = feed.start
        person.execute("INSERT INTO t VALUES (1, 'a', NULL), (2, 'b', NULL)")
        first = until(feed, lambda one: len(one.events) == 2)
        feed.confirm(first.position)
        person.execute("UPDATE t SET name = 'z'")
        second = until(feed, lambda one: len(one.events) == 2)
    with following(mysql, since=first.position) as feed:
        again = until(feed, lambda one: len(one.events) == 2)
        assert [event.id for event in again.events] == [event.id for event in second.events]
        assert again.position == second.position
    with following(mysql, since=start) as feed:
        whole = told(feed, 4)
        assert [event.id for event in whole] == [event.id for one in (first, second) for event in one.events]


def test_changes_made_while_nobody_listened_are_told(person: Person, mysql: MySQL) -> None:
    person.execute(TABLE)
    with following(mysql) as feed:
        position = feed.start
    person.execute("INSERT INTO t VALUES (1, 'a', NULL)")
    person.execute("FLUSH BINARY LOGS")
    person.execute("INSERT INTO t VALUES (2, 'b', NULL)")
    with following(mysql, since=position) as feed:
        assert said(told(feed, 2)) == [("created", "1"), ("created", "2")]


def test_ids_do_not_depend_on_what_else_is_followed(person: Person, mysql: MySQL) -> None:
    person.execute(TABLE)
    person.execute("CREATE TABLE u (id INT PRIMARY KEY)")
    with following(mysql) as feed:
        position = feed.start
    for statement in ("START TRANSACTION", "INSERT INTO u VALUES (1)", "INSERT INTO t VALUES (1, 'a', NULL)", "COMMIT"):
        person.execute(statement)
    with following(mysql, since=position) as feed:
        alone = told(feed, 1)
    with following(mysql, "u", "t", since=position) as feed:
        both = told(feed, 2)
    assert [event.id for event in both if event.stream == "t"] == [event.id for event in alone]


@pytest.mark.parametrize(
    ("statement", "emptied", "altered"),
    [
        ("TRUNCATE TABLE t", True, False),
        ("TRUNCATE `shop`.`t`", True, False),
        ("/* why */ DROP TABLE IF EXISTS t", True, True),
        ("ALTER TABLE t ADD COLUMN more INT FIRST", False, True),
        ("RENAME TABLE t TO gone", False, True),
        ("CREATE OR REPLACE TABLE t (id BIGINT PRIMARY KEY)", False, True),
        ("DROP DATABASE shop", True, True),
        ("CREATE INDEX named ON t (name)", False, False),
        ("ANALYZE TABLE t", False, False),
        ("CREATE TABLE unlike (t INT)", False, True),  # names it: rather a compare too many
        ("TRUNCATE TABLE other", False, False),
    ],
)
def test_statements_that_change_a_table_are_told(
    person: Person, mysql: MySQL, statement: str, emptied: bool, altered: bool
) -> None:
    person.execute(TABLE)
    person.execute("CREATE TABLE other (id INT PRIMARY KEY)")
    with following(mysql) as feed:
        person.execute(statement)
        one = until(feed, lambda one: one.position != feed.start)
        assert (one.emptied, one.altered) == (frozenset("t" * emptied), frozenset("t" * altered))
        assert list(one.events) == []


def test_rows_before_and_after_an_alter_are_told_though_the_table_is_another_one_now(
    person: Person, mysql: MySQL
) -> None:
    person.execute(TABLE)
    with following(mysql) as feed:
        position = feed.start
    person.execute("INSERT INTO t VALUES (1, 'a', NULL)")
    person.execute("ALTER TABLE t ADD COLUMN more INT FIRST")
    person.execute("INSERT INTO t VALUES (5, 2, 'b', NULL)")
    with following(mysql, since=position) as feed:
        assert until(feed, lambda one: bool(one.altered)).altered == {"t"}
        person.execute("INSERT INTO t VALUES (5, 3, 'b', NULL)")
        assert ("created", "3") in said(told(feed, 1))
    with following(mysql) as feed:
        person.execute("INSERT INTO t VALUES (5, 4, 'b', NULL)")
        assert said(told(feed, 1)) == [("created", "4")]
        person.execute("ALTER TABLE t MODIFY COLUMN more INT AFTER id")
        person.execute("INSERT INTO t VALUES (5, 6, 'b', NULL)")
        assert said(told(feed, 1)) == [("created", "5")], "the columns' types are the same, their places are not"


def test_a_session_that_logs_statements_owes_a_compare_of_the_tables_it_names(person: Person, mysql: MySQL) -> None:
    person.execute(TABLE)
    person.execute("CREATE TABLE other (id INT PRIMARY KEY)")
    with following(mysql) as feed:
        person.execute("SET SESSION binlog_format = 'STATEMENT'")
        person.execute("INSERT INTO other VALUES (1)")
        assert until(feed, lambda one: one.position != feed.start).altered == frozenset()
        person.execute("INSERT INTO t VALUES (1, 'a', NULL)")
        assert until(feed, lambda one: bool(one.altered)).altered == {"t"}


def test_a_distributed_transaction_is_told_when_it_is_committed(
    person: Person, mariadb: PrivateMariaDB, mysql: MySQL
) -> None:
    person.execute(TABLE)
    with following(mysql) as feed:
        for statement in ("XA START 'one'", "INSERT INTO t VALUES (1, 'a', NULL)", "XA END 'one'", "XA PREPARE 'one'"):
            person.execute(statement)
        assert told(feed, 1, seconds=1) == []
        with mariadb.person("shop") as other, other.cursor() as cursor:
            cursor.execute("INSERT INTO t VALUES (2, 'b', NULL)")
        later = until(feed, lambda one: len(one.events) > 0)
        assert said(later.events) == [("created", "2")]
    with following(mysql, since=later.position) as feed:
        person.execute("XA COMMIT 'one'")
        assert ("created", "1") in said(told(feed, 2)), "no position is behind what was prepared and not told"


def test_a_distributed_transaction_that_is_rolled_back_is_never_told(person: Person, mysql: MySQL) -> None:
    person.execute(TABLE)
    with following(mysql) as feed:
        for statement in ("XA START 'two'", "INSERT INTO t VALUES (1, 'a', NULL)", "XA END 'two'", "XA PREPARE 'two'"):
            person.execute(statement)
        person.execute("XA ROLLBACK 'two'")
        person.execute("INSERT INTO t VALUES (2, 'b', NULL)")
        assert said(told(feed, 2, seconds=2)) == [("created", "2")]


def test_a_distributed_transaction_prepared_before_the_feed_began_owes_a_compare(person: Person, mysql: MySQL) -> None:
    person.execute(TABLE)
    for statement in ("XA START 'old'", "INSERT INTO t VALUES (1, 'a', NULL)", "XA END 'old'", "XA PREPARE 'old'"):
        person.execute(statement)
    with following(mysql) as feed:
        person.execute("XA COMMIT 'old'")
        assert until(feed, lambda one: bool(one.altered)).altered == {"t"}


def test_a_big_transaction_does_not_fill_the_memory(person: Person, mysql: MySQL) -> None:
    count = 3 * IN_MEMORY + 1_500
    person.execute(TABLE)
    with following(mysql) as feed:
        person.execute(f"INSERT INTO t SELECT seq, 'a', NULL FROM seq_1_to_{count}")
        one = until(feed, lambda one: len(one.events) > 0, seconds=30)
        assert sum(len(part._rows) for part in one.events._parts) < IN_MEMORY
        assert len(one.events) == count
        assert [event.key for event in one.events] == [str(n) for n in range(1, count + 1)]
        assert len({event.id for event in one.events}) == count
        assert one.events[-1].key == str(count)
        assert [event.key for event in one.events[2_999:3_001]] == ["3000", "3001"]


def test_a_purged_binlog_is_a_lost_position(person: Person, mysql: MySQL) -> None:
    person.execute(TABLE)
    person.execute("INSERT INTO t VALUES (1, 'a', NULL)")
    with following(mysql) as feed:
        position = feed.start
    person.execute("INSERT INTO t VALUES (2, 'b', NULL)")
    person.execute("FLUSH BINARY LOGS")
    person.execute("SHOW MASTER STATUS")
    newest = person.fetchone()[0]
    person.execute("INSERT INTO t VALUES (3, 'c', NULL)")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:  # the server gives a file up once nobody reads it
        person.execute(f"PURGE BINARY LOGS TO '{newest}'")
        person.execute("SHOW BINARY LOGS")
        if person.fetchone()[0] == newest:
            break
        time.sleep(0.1)
    with pytest.raises(PositionLostError) as lost:
        mysql.follow(["t"], position)
    assert "compare" in (lost.value.mend or "")
    with following(mysql) as feed:
        person.execute("INSERT INTO t VALUES (4, 'd', NULL)")
        assert said(told(feed, 1)) == [("created", "4")]


@pytest.mark.parametrize("position", ["nonsense", "0-1", "0-1-99999999999", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"])
def test_a_position_that_is_not_this_servers_is_lost(person: Person, mysql: MySQL, position: str) -> None:
    person.execute(TABLE)
    with pytest.raises(PositionLostError):
        mysql.follow(["t"], position)


@pytest.mark.parametrize("kill", [True, False])
def test_a_server_restarted_in_mid_stream_is_a_passing_fault_and_nothing_is_lost(kill: bool) -> None:
    with PrivateMariaDB(settings={"innodb-flush-log-at-trx-commit": "1", "sync-binlog": "1"}) as server:
        connector = MySQL(url=server.create("own"))
        with server.person("own") as db, db.cursor() as person:
            person.execute(TABLE)
            feed = connector.follow(["t"], None)
            person.execute("INSERT INTO t VALUES (1, 'a', NULL)")
            first = until(feed, lambda one: len(one.events) == 1)
            person.execute("INSERT INTO t VALUES (2, 'b', NULL)")
        server.stop(kill=kill)
        with pytest.raises(TransientError) as lost:
            told(feed, 5)
        assert lost.value.mend
        with pytest.raises(AccessError):
            feed.next(0.1)
        server.start()
        connector.close()
        with server.person("own") as db, db.cursor() as person:
            person.execute("INSERT INTO t VALUES (3, 'c', NULL)")
        with following(connector, since=first.position) as again:
            assert said(told(again, 2)) == [("created", "2"), ("created", "3")]
        connector.close()


def test_the_newer_of_two_feeds_of_one_installation_stays(person: Person, connect_mysql: Connect) -> None:
    person.execute(TABLE)
    older, newer = connect_mysql(server_id=777), connect_mysql(server_id=777)
    with following(older) as first, following(newer) as second:
        with pytest.raises(TransientError):
            told(first, 1)
        person.execute("INSERT INTO t VALUES (1, 'a', NULL)")
        assert said(told(second, 1)) == [("created", "1")]


def test_connections_to_different_databases_have_different_server_ids(
    mysql: MySQL, connect_mysql: Connect, mariadb: PrivateMariaDB
) -> None:
    assert mysql._replica() == connect_mysql()._replica()
    assert mysql._replica() != connect_mysql(url=mariadb.url("elsewhere"))._replica()
    assert connect_mysql(server_id=12)._replica() == 12


def test_behind_counts_the_bytes_of_log_that_are_not_confirmed(person: Person, mysql: MySQL) -> None:
    person.execute(TABLE)
    with following(mysql) as feed:
        before = feed.behind().size
        assert before == 0
        person.execute("INSERT INTO t VALUES (1, %s, NULL), (2, %s, NULL)", ["a" * 40, "b" * 40])
        person.execute("FLUSH BINARY LOGS")
        person.execute("INSERT INTO t VALUES (3, %s, %s)", ["c" * 40, "n" * 1000])
        assert (feed.behind().size or 0) > 1000
        last = None
        while (one := feed.next(0.5)) is not None:
            last = one
        assert last is not None
        assert (feed.behind().size or 0) > 1000, "what is told is not confirmed"
        feed.confirm(last.position)
        assert (feed.behind().size or 0) < 100, "only a note of the server's own (a checkpoint) may follow"


def test_compressed_events_are_read(person: Person, mariadb: PrivateMariaDB, mysql: MySQL) -> None:
    person.execute(TABLE)
    with mariadb.setting("log_bin_compress", 1), following(mysql) as feed:
        person.execute("INSERT INTO t VALUES (1, 'a', repeat('x', 5000))")
        person.execute("UPDATE t SET note = repeat('y', 5000)")
        person.execute("DELETE FROM t")
        person.execute(f"ALTER TABLE t COMMENT '{'z' * 1000}'")
        news = [until(feed, lambda one: len(one.events) >= 1)]
        while len([event for one in news for event in one.events]) < 3 or not news[-1].altered:
            news.append(until(feed, lambda one: True))
    events = [event for one in news for event in one.events]
    assert said(events) == [("created", "1"), ("updated", "1"), ("deleted", "1")]


def test_a_row_larger_than_one_packet_is_read(person: Person, mariadb: PrivateMariaDB, mysql: MySQL) -> None:
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(50), note LONGTEXT)")
    with (
        mariadb.setting("max_allowed_packet", 64 << 20),
        mariadb.person("shop") as other,
        following(mysql) as feed,
        other.cursor() as cursor,
    ):
        cursor.execute("INSERT INTO t SELECT 1, 'a', repeat('long', 5 << 20)")
        cursor.execute("INSERT INTO t VALUES (2, 'b', NULL)")
        assert said(told(feed, 2)) == [("created", "1"), ("created", "2")]


def test_all_tables_of_a_transaction_are_told_and_names_are_those_asked_for(
    person: Person, mariadb: PrivateMariaDB, mysql: MySQL
) -> None:
    mariadb.create("second")
    person.execute(TABLE)
    person.execute("CREATE TABLE second.`odd``name` (id INT PRIMARY KEY)")
    with following(mysql, "t", "shop.t", "second.odd`name") as feed:
        for statement in (
            "START TRANSACTION", "INSERT INTO t VALUES (1, 'a', NULL)", "INSERT INTO second.`odd``name` VALUES (9)",
            "COMMIT",
        ):  # fmt: skip
            person.execute(statement)
        events = told(feed, 3)
    assert [(event.stream, event.key) for event in events] == [("t", "1"), ("shop.t", "1"), ("second.odd`name", "9")]


def test_commit_times_are_the_servers(person: Person, mysql: MySQL) -> None:
    person.execute(TABLE)
    with following(mysql) as feed:
        person.execute("SET timestamp = 1700000000")
        person.execute("INSERT INTO t VALUES (1, 'a', NULL)")
        one: Any = until(feed, lambda one: len(one.events) == 1)
    assert one.committed_at.timestamp() == 1700000000
    assert one.events[0].occurred_at == one.committed_at
