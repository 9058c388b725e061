"""Claims of events: in order per record, by one worker at a time, fenced."""

from __future__ import annotations

import uuid

import pytest

from sync_platform.ledger.workers import registered
from sync_platform.realtime import queue
from sync_platform.realtime.queue import FencedError
from tests.unit.warm.office import Office

ONE, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


def claim(office: Office, worker: str, limit: int = 10) -> queue.Batch | None:
    return queue.claim(office.database, worker, ["leads"], limit)


def finish(office: Office, worker: str, *keys: str) -> None:
    with office.database.connection() as connection:
        queue.finish(connection, worker, "leads", {key: ("applied", None) for key in keys})


def test_all_waiting_events_of_a_record_are_claimed_together_in_order_of_arrival(office: Office) -> None:
    told = [office.event(key) for key in ("a", "b", "a")]
    batch = claim(office, ONE)
    assert batch is not None
    assert {key: [one.event_id for one in events] for key, events in batch.events.items()} == {
        "a": [told[0], told[2]], "b": [told[1]],
    }  # fmt: skip


def test_a_later_event_of_a_record_waits_until_the_earlier_ones_are_finished(office: Office) -> None:
    office.event("a")
    first = claim(office, ONE)
    office.event("a")
    office.event("b")
    meanwhile = claim(office, OTHER)
    assert first is not None
    assert meanwhile is not None
    assert (first.keys, meanwhile.keys) == (["a"], ["b"])
    finish(office, ONE, "a")
    later = claim(office, OTHER)
    assert later is not None
    assert later.keys == ["a"]


def test_a_record_that_waits_for_its_next_try_holds_its_later_events_back_and_nobody_elses(office: Office) -> None:
    office.event("a")
    assert claim(office, ONE) is not None
    queue.release(office.database, ONE, "leads", ["a"], delay=60, counted=True, reason="busy")
    office.event("a")
    office.event("b")
    batch = claim(office, ONE)
    assert batch is not None
    assert batch.keys == ["b"]
    assert claim(office, ONE) is None


def test_a_limit_takes_the_oldest(office: Office) -> None:
    for key in ("a", "b", "c"):
        office.event(key)
    batch = claim(office, ONE, limit=2)
    assert batch is not None
    assert batch.keys == ["a", "b"]


def test_the_events_of_a_worker_that_died_come_back_and_it_can_no_longer_finish_them(office: Office) -> None:
    office.event("a")
    assert claim(office, ONE) is not None
    with office.database.connection() as connection:
        connection.execute("INSERT INTO sync.workers (worker_id, host, pid) VALUES (%s, 'here', 1)", (ONE,))
    office.worker(worker_id=OTHER)._bury()
    taken = claim(office, OTHER)
    assert taken is not None
    assert taken.attempts == {"a": 2}
    with pytest.raises(FencedError):
        finish(office, ONE, "a")
    finish(office, OTHER, "a")
    assert office.queue() == [("a", "done", "applied")]


def test_the_events_of_a_worker_that_lives_stay_with_it(office: Office) -> None:
    office.event("a")
    with registered(office.database, ONE):
        assert claim(office, ONE) is not None
        office.worker(worker_id=OTHER)._bury()
        assert claim(office, OTHER) is None


def test_a_lease_that_ran_out_frees_the_events(office: Office) -> None:
    office.event("a")
    with registered(office.database, ONE):
        assert claim(office, ONE) is not None
        office.rows("UPDATE sync.queue SET lease_until = now() - interval '1 second' RETURNING 1")
        office.worker(worker_id=OTHER)._bury()
        assert claim(office, OTHER) is not None


def test_an_outage_is_not_counted_as_a_try(office: Office) -> None:
    office.event("a")
    for _ in range(9):
        assert claim(office, ONE) is not None
        queue.release(office.database, ONE, "leads", ["a"], delay=0, counted=False, reason="away")
    batch = claim(office, ONE)
    assert batch is not None
    assert batch.attempts == {"a": 1}


def test_only_what_a_worker_is_busy_with_keeps_its_lease(office: Office) -> None:
    for key in ("a", "b"):
        office.event(key)
    first, lost = claim(office, ONE, limit=1), claim(office, ONE, limit=1)
    assert first is not None
    assert lost is not None
    office.rows("UPDATE sync.queue SET lease_until = now() - interval '1 second' RETURNING 1")
    queue.renew(office.database, ONE, [first.plan_id])
    with registered(office.database, ONE):
        office.worker(worker_id=OTHER)._bury()
    again = claim(office, OTHER)
    assert again is not None
    assert again.keys == lost.keys == ["b"]
