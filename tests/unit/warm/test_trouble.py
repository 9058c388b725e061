"""What fails: targets that are away, records that nobody can write, workers that die."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from sync_platform.engine.recover import recover
from sync_platform.engine.spec import Transform
from sync_platform.ledger.claims import EVERYTHING, BusyError, claimed
from sync_platform.realtime.worker import TRIES
from tests.unit.engine.shelf import Fault, Killed
from tests.unit.warm.office import NAMES, Office


def test_a_target_that_is_away_keeps_its_events_waiting_in_order_and_opens_the_circuit(office: Office) -> None:
    for number in range(3):
        office.crm.put(f"l{number}", f"{number}@x")
        office.event(f"l{number}", "created")
    office.shelf.faults[:] = [Fault.BUSY] * 3
    office.worker().drain()
    assert {state for _, state, _ in office.queue()} == {"waiting"}
    assert office.rows("SELECT connection FROM sync.circuits") == [("shop",)]
    calls = len(office.shelf.calls)
    office.rows("UPDATE sync.circuits SET retry_at = now() + interval '1 minute' RETURNING 1")
    office.worker().drain()
    assert len(office.shelf.calls) == calls, "nobody calls while the circuit is open"
    office.work(3)
    assert office.shelf.emails() == ["0@x", "1@x", "2@x"]
    assert office.rows("SELECT count(*) FROM sync.circuits") == [(0,)]
    assert office.rows("SELECT max(attempts) FROM sync.queue") == [(1,)], "an outage is nobody's try"


def test_a_source_that_is_away_opens_its_own_circuit(office: Office) -> None:
    office.crm.put("l1", "a@x")
    office.event("l1", "created")
    office.crm.fail(1)
    office.worker().drain()
    assert office.rows("SELECT connection FROM sync.circuits") == [("crm",)]
    office.work(2)
    assert office.shelf.emails() == ["a@x"]


def test_a_record_the_target_refuses_is_set_aside_and_the_others_go_on(office: Office) -> None:
    for key, email in (("l1", "a@x"), ("l2", "bad@x"), ("l3", "c@x")):
        office.crm.put(key, email)
        office.event(key, "created")
    office.shelf.refused.add("bad@x")
    office.work()
    assert office.shelf.emails() == ["a@x", "c@x"]
    assert dict((key, outcome) for key, _, outcome in office.queue()) == {
        "l1": "applied",
        "l2": "failed",
        "l3": "applied",
    }
    assert office.batch.waiting() == [("l2", "rejected")]


def test_a_record_that_nobody_can_process_is_parked_after_its_tries_and_blocks_nobody(office: Office) -> None:
    office.spec = replace(
        office.spec,
        mapping={**NAMES, "name": Transform(function="tests.unit.warm.test_trouble.touchy", arguments=("Name",))},
    )
    for key, name in (("l1", "fine"), ("l2", "poison"), ("l3", "fine")):
        office.crm.put(key, f"{key}@x", name)
        office.event(key, "created")
    office.work(TRIES + 1)
    assert office.shelf.emails() == ["l1@x", "l3@x"]
    assert [row for row in office.queue() if row[0] == "l2"] == [("l2", "dead", "dead")]
    assert office.batch.waiting() == [("l2", "contract")]
    office.crm.put("l2", "l2@x", "fine")
    office.event("l2")
    office.work()
    assert office.shelf.emails() == ["l1@x", "l2@x", "l3@x"], "its next event is tried like any other"
    assert office.batch.waiting() == []


def touchy(names):  # type: ignore[no-untyped-def]
    """A transform with a bug: it fails for a whole frame as soon as one name is poison."""
    import polars as pl

    def look(series: pl.Series) -> pl.Series:
        if "poison" in series.to_list():
            raise ZeroDivisionError("poison")
        return series

    return names.map_batches(look, return_dtype=pl.String)


def test_a_worker_killed_after_its_write_is_followed_by_one_that_looks_it_up(office: Office) -> None:
    office.crm.put("l1", "a@x")
    office.event("l1", "created")
    office.shelf.faults[:] = [Fault.KILLED]
    doomed = office.worker()
    with pytest.raises(Killed):
        doomed.drain()
    assert office.rows("SELECT count(*) FROM sync.intents") == [(1,)]
    office.work()
    assert office.shelf.emails() == ["a@x"]
    assert office.rows("SELECT status, reason FROM sync.outcomes") == [
        ("applied", "confirmed by look-up after a run died")
    ]
    assert office.queue() == [("l1", "done", "unchanged")]


def test_a_batch_run_leaves_the_creates_of_a_living_worker_alone(office: Office) -> None:
    office.crm.put("l1", "a@x")
    office.stage()
    office.event("l1", "created")
    seen: list[int] = []
    office.shelf.on_write(lambda: seen.append(_recovered(office)))
    office.work()
    assert seen == [0]
    assert office.shelf.emails() == ["a@x"]


def _recovered(office: Office) -> int:
    with office.batch.session() as session:
        return recover(session, office.spec, sleep=lambda _: None)


def test_events_wait_while_a_bulk_delivery_has_claimed_everything(office: Office) -> None:
    office.crm.put("l1", "a@x")
    office.event("l1", "created")
    with claimed(office.database, office.spec.target, [EVERYTHING], str(uuid.uuid4())):
        office.worker().drain()
        assert office.shelf.calls == []
        assert office.queue() == [("l1", "waiting", None)]
    office.work(2)
    assert office.shelf.emails() == ["a@x"]


def test_everything_cannot_be_claimed_while_an_event_is_being_written(office: Office) -> None:
    with claimed(office.database, office.spec.target, ["id:t1"], str(uuid.uuid4())):
        never = claimed(
            office.database, office.spec.target, [EVERYTHING], str(uuid.uuid4()), patience=0, sleep=lambda _: None
        )
        with pytest.raises(BusyError), never:
            pass


def test_while_a_thread_delivers_a_backlog_in_bulk_the_others_leave_its_sync_alone(office: Office) -> None:
    office.crm.put("l1", "a@x")
    office.event("l1", "created")
    worker = office.worker()
    worker._in_bulk.add(office.spec.name)
    assert worker.drain() == 0
    assert office.shelf.emails() == []
    worker._in_bulk.clear()
    assert worker.drain() == 1
    assert office.shelf.emails() == ["a@x"]
