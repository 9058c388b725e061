"""Storing events: once each, with their queue rows, in one transaction, told to who listens."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from sync_platform.errors import ContractError
from sync_platform.model import Event
from sync_platform.realtime.inbox import CHANNEL, LONGEST, Stored, storable, store
from sync_platform.state.database import Database

MOMENT = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
ROUTES = {("crm", "lead"): ("one", "two")}


def event(identity: str, key: str = "k", **more: object) -> Event:
    given = {"stream": "Lead", "kind": "updated", "occurred_at": MOMENT, **more}
    return Event(id=identity, key=key, **given)  # type: ignore[arg-type]


def test_new_events_are_stored_with_a_queue_row_per_sync_and_known_ones_vanish(fresh_state: Database) -> None:
    with fresh_state.connection() as connection:
        first = store(connection, "crm", [event("a"), event("b", "j"), event("a", "other")], ROUTES)
        second = store(connection, "crm", [event("b"), event("c", stream="Deal")], ROUTES)
        third = store(connection, "shop", [event("a")], ROUTES)
    assert (first, second, third) == (
        Stored(stored=2, doubled=1),
        Stored(stored=1, doubled=1),
        Stored(stored=1, doubled=0),
    )
    with fresh_state.connection() as connection:
        stored = connection.execute("SELECT connection, event_id, key FROM sync.inbox ORDER BY seq").fetchall()
        query = (
            "SELECT q.sync, i.event_id, q.key, q.state FROM sync.queue q JOIN sync.inbox i USING (seq) ORDER BY 2, 1"
        )
        queued = connection.execute(query).fetchall()
    assert stored == [("crm", "a", "k"), ("crm", "b", "j"), ("crm", "c", "k"), ("shop", "a", "k")]
    assert queued == [(sync, each, key, "waiting") for each, key in (("a", "k"), ("b", "j")) for sync in ("one", "two")]


def test_any_text_and_any_moment_is_stored_as_it_is(fresh_state: Database) -> None:
    odd = ['a "quoted" {key},', "back\\slash", "NULL", " ", "tab\tand\nline", "ÄŽ€ 日本", "'"]
    moment = dt.datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=dt.timezone(dt.timedelta(hours=-5, minutes=-30)))
    fields = {"text": 'say "no" to \\', "nothing": None, "number": 1.5}
    with fresh_state.connection() as connection:
        given = [event(f"id {text}", text, occurred_at=moment, fields=fields) for text in odd]
        assert store(connection, "crm", given, ROUTES) == Stored(stored=len(odd), doubled=0)
        stored = connection.execute("SELECT event_id, key, occurred_at, fields FROM sync.inbox ORDER BY seq").fetchall()
        queued = connection.execute("SELECT key FROM sync.queue WHERE sync = 'two' ORDER BY seq").fetchall()
    assert stored == [(f"id {text}", text, moment, fields) for text in odd]
    assert [row[0] for row in queued] == odd


def test_the_order_of_arrival_is_kept_whatever_the_ids_are(fresh_state: Database) -> None:
    names = ["z", "m", "a", "q"]
    with fresh_state.connection() as connection:
        store(connection, "crm", [event(name) for name in names], ROUTES)
        rows = connection.execute("SELECT event_id FROM sync.inbox ORDER BY seq").fetchall()
    assert [row[0] for row in rows] == names


def test_what_is_rolled_back_leaves_neither_event_nor_queue_row(fresh_state: Database) -> None:
    with fresh_state.connection() as connection:
        store(connection, "crm", [event("a")], ROUTES)
        connection.rollback()
    with fresh_state.connection() as connection:
        counts = connection.execute(
            "SELECT (SELECT count(*) FROM sync.inbox), (SELECT count(*) FROM sync.queue)"
        ).fetchone()
    assert counts == (0, 0)


def test_who_listens_is_told_of_new_work_and_only_of_that(fresh_state: Database) -> None:
    with fresh_state.session() as listener:
        listener.execute(f"LISTEN {CHANNEL}")
        for events in ([event("a")], [event("a")], [event("b", stream="Deal")], [event("c")]):
            with fresh_state.connection() as connection:
                store(connection, "crm", events, ROUTES)
        heard = list(listener.notifies(timeout=2, stop_after=3))
    assert len(heard) == 2


def test_two_gateways_that_store_the_same_events_in_opposite_orders_do_not_lock_each_other_out(
    fresh_state: Database,
) -> None:
    def put(backwards: bool) -> int:
        stored = 0
        with psycopg.connect(fresh_state.url) as connection:
            for part in range(30):
                events = [event(f"{part}-{number}", str(number)) for number in range(200)]
                stored += store(connection, "crm", events[::-1] if backwards else events, ROUTES).stored
                connection.commit()
        return stored

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(put, (False, True))) == 6_000
    with fresh_state.connection() as connection:
        assert connection.execute("SELECT count(*) FROM sync.queue").fetchone() == (12_000,)


@pytest.mark.parametrize(
    "bad",
    [
        event(""),
        event("a\0"),
        event("a" * (LONGEST + 1)),
        event("a", ""),
        event("a", stream=""),
        event("a", kind="odd"),
    ],
)
def test_an_event_the_inbox_cannot_hold_is_refused_before_it_reaches_the_state(bad: Event) -> None:
    with pytest.raises(ContractError):
        storable(bad)


def test_a_nul_deep_in_a_field_takes_only_that_field_away() -> None:
    fields = {"a": [{"b": "x\0"}], "n\0": 1, "c": "x", "d": "\\u0000"}
    assert storable(event("a", fields=fields)).fields == {"c": "x", "d": "\\u0000"}
