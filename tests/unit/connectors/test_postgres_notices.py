"""Notifications of a real PostgreSQL become hints; what was said while nobody listened is never taken for heard."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

from sync_platform.connectors.capture import Captures, Feed, PositionLostError, Told, captures
from sync_platform.connectors.postgres import Postgres
from sync_platform.errors import ConfigError, SyncError, TransientError
from tests.private_postgres import PrivateServer

Connect = Callable[..., Postgres]
ITEMS = "CREATE TABLE items (id int PRIMARY KEY, name text, updated_at timestamptz NOT NULL DEFAULT clock_timestamp())"
TRIGGER = """
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'INSERT' THEN PERFORM pg_notify('told', TG_TABLE_NAME || ':' || OLD.id); END IF;
  IF TG_OP <> 'DELETE' THEN PERFORM pg_notify('told', TG_TABLE_NAME || ':' || NEW.id); END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON items FOR EACH ROW EXECUTE FUNCTION tell();
"""


@pytest.fixture
def listening(sql: psycopg.Connection, connect: Connect) -> Iterator[Callable[..., Feed]]:
    """Opens feeds of a table `items` whose trigger notifies; they are closed afterwards."""
    sql.execute(ITEMS)
    sql.execute(TRIGGER)
    made: list[Feed] = []

    def open_feed(*streams: str, **options: object) -> Feed:
        feed = connect(notify="told", **options).follow(streams or ("items",), None)
        made.append(feed)
        return feed

    yield open_feed
    for feed in made:
        feed.close()


def pairs(told: Told | None) -> list[tuple[str, str]]:
    assert told is not None
    return [(event.stream, event.key) for event in told.events]


def test_what_a_trigger_tells_is_a_hint_once_it_is_committed(
    listening: Callable[..., Feed], sql: psycopg.Connection, database: str
) -> None:
    feed = listening()
    assert feed.next(0.1) is None
    with psycopg.connect(database) as slow:
        slow.execute("INSERT INTO items VALUES (1, 'a'), (2, 'b')")
        slow.execute("UPDATE items SET id = 3 WHERE id = 2")
        assert feed.next(0.2) is None
        slow.commit()
    assert sorted(pairs(feed.next(5))) == [("items", "1"), ("items", "2"), ("items", "3")]
    sql.execute("DELETE FROM items WHERE id = 1")
    told = feed.next(5)
    assert pairs(told) == [("items", "1")]
    assert told is not None
    assert told.position == feed.start


def test_a_notification_arrives_at_once(listening: Callable[..., Feed], sql: psycopg.Connection) -> None:
    feed = listening()
    threading.Timer(0.5, lambda: sql.execute("INSERT INTO items VALUES (1, 'a')")).start()
    assert pairs(feed.next(30)) == [("items", "1")]


def test_keys_are_told_as_staging_knows_them_and_others_payloads_are_left_alone(
    listening: Callable[..., Feed], sql: psycopg.Connection
) -> None:
    sql.execute("CREATE TABLE lines (shop uuid, n int, note text, PRIMARY KEY (shop, n))")
    shop = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
    feed = listening("items", "public.lines")
    for payload in (f'lines:["{shop.upper()}", "07"]', "public.items:007", "nobody:1", "itemss"):
        sql.execute("SELECT pg_notify('told', %s)", [payload])
    sql.execute("SELECT pg_notify('other', 'items:9')")
    found: list[tuple[str, str]] = []
    while len(found) < 2:
        found += pairs(feed.next(5))
    assert sorted(found) == [("items", "7"), ("public.lines", f'["{shop}","7"]')]


def test_without_a_key_the_rows_are_found_by_the_cursor(
    listening: Callable[..., Feed], sql: psycopg.Connection, database: str
) -> None:
    sql.execute("INSERT INTO items VALUES (1, 'old', '2020-01-01Z')")
    sql.execute("DROP TRIGGER tell ON items")
    feed = listening(tables={"items": {"lag_seconds": 0}})
    with psycopg.connect(database) as slow:
        slow.execute("INSERT INTO items VALUES (2, 'late', now())")
        sql.execute("INSERT INTO items VALUES (3, 'new', clock_timestamp())")
        sql.execute("NOTIFY told, 'items'")
        assert pairs(feed.next(5)) == [("items", "3")]
        slow.commit()
    sql.execute("NOTIFY told")
    assert ("items", "2") in pairs(feed.next(5)), "it was committed late, with an older time"


def test_without_key_and_cursor_or_with_a_wrong_key_the_stream_owes_a_compare(
    listening: Callable[..., Feed], sql: psycopg.Connection
) -> None:
    sql.execute("CREATE TABLE plain (id int PRIMARY KEY, note text)")
    feed = listening("plain")
    for payload in ("plain", "plain:no number"):
        sql.execute("SELECT pg_notify('told', %s)", [payload])
        told = feed.next(5)
        assert told is not None
        assert (list(told.events), told.altered) == ([], frozenset({"plain"}))


def test_an_emptied_table_owes_a_compare(listening: Callable[..., Feed], sql: psycopg.Connection) -> None:
    feed = listening()
    sql.execute(
        "CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM pg_notify('told', TG_TABLE_NAME || ':*'); RETURN NULL; END$$"
    )
    sql.execute("CREATE TRIGGER gone AFTER TRUNCATE ON items FOR EACH STATEMENT EXECUTE FUNCTION gone()")
    sql.execute("TRUNCATE items")
    told = feed.next(5)
    assert told is not None
    assert (list(told.events), told.emptied) == ([], frozenset({"items"}))


def test_whoever_listened_before_has_lost_what_was_said_meanwhile(connect: Connect, sql: psycopg.Connection) -> None:
    sql.execute(ITEMS)
    with pytest.raises(PositionLostError, match="is not kept"):
        connect(notify="told").follow(["items"], "listening since then")


def test_a_lost_connection_is_told_and_not_taken_for_silence(
    listening: Callable[..., Feed], sql: psycopg.Connection
) -> None:
    feed = listening()
    threading.Timer(
        0.3,
        lambda: sql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"),
    ).start()
    with pytest.raises(TransientError, match="listening on 'told'") as caught:
        feed.next(30)
    assert "listens again" in str(caught.value.mend)


def test_a_role_without_any_right_to_replicate_listens(
    sql: psycopg.Connection, database: str, connect: Connect
) -> None:
    sql.execute(ITEMS)
    sql.execute("DROP ROLE IF EXISTS listener")
    sql.execute("CREATE ROLE listener LOGIN PASSWORD 'only-listens'")
    sql.execute("GRANT SELECT ON items TO listener")
    url = database.replace(database.split("//")[1].split("@")[0], "listener:only-listens")
    postgres = connect(url=url, notify="told")
    assert captures(postgres)
    assert isinstance(postgres, Captures)
    assert postgres.capture_problems(["items"]) == []
    feed = postgres.follow(["items"], None)
    sql.execute("SELECT pg_notify('told', 'items:1')")
    assert pairs(feed.next(5)) == [("items", "1")]
    feed.close()
    assert captures(connect(notify="")) is False


def test_what_cannot_be_followed_is_said_with_its_mend(
    sql: psycopg.Connection, connect: Connect, postgres_server: PrivateServer
) -> None:
    sql.execute(ITEMS)
    both = connect(notify="told", capture=True)
    assert any("capture and notify are both set" in one for one in both.capture_problems(["items"]))
    with pytest.raises(ConfigError, match="cannot be followed"):
        both.follow(["items"], None)
    assert any("at most 63 bytes" in one for one in connect(notify="x" * 64).capture_problems(["items"]))
    with pytest.raises(SyncError):
        connect(notify="told", url=postgres_server.url("no_such_database")).follow(["items"], None)
