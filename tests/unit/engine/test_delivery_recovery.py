"""What the next run does about a run that died between a request and its settling."""

from __future__ import annotations

import pytest

from sync_platform.engine.recover import recover
from sync_platform.engine.spec import Endpoint
from tests.unit.engine.shelf import Fault, Killed
from tests.unit.engine.workshop import Workshop, a_sync


def killed_run(workshop: Workshop) -> None:
    """A run that dies right after the target stored its first batch: its lock ends, nothing is settled."""
    workshop.shelf.faults[:] = [Fault.KILLED]
    session = workshop.session()
    planned = workshop.plan(session)
    with pytest.raises(Killed):
        workshop.deliver(planned.plan_id, session=session)


def test_a_create_of_a_dead_run_is_looked_up_and_linked_and_not_repeated(workshop: Workshop) -> None:
    workshop.leads(2)
    killed_run(workshop)
    assert workshop.rows("SELECT count(*) FROM sync.intents") == [(2,)]
    assert workshop.links() == {}
    workshop.run()
    assert workshop.shelf.emails() == ["l0@x", "l1@x"]
    assert len(workshop.shelf.calls) == 1
    assert sorted(workshop.links().values()) == sorted(workshop.shelf.rows)
    assert workshop.rows("SELECT count(*) FROM sync.intents") == [(0,)]
    assert workshop.rows("SELECT DISTINCT status, reason FROM sync.outcomes WHERE op = 'create'") == [
        ("applied", "confirmed by look-up after a run died")
    ]


def test_a_create_that_never_happened_is_done_by_the_next_run(workshop: Workshop) -> None:
    workshop.leads(2)
    killed_run(workshop)
    workshop.shelf.rows.clear()
    workshop.run()
    assert workshop.shelf.emails() == ["l0@x", "l1@x"]


def test_an_edit_that_follows_a_dead_runs_create_reaches_the_same_record(workshop: Workshop) -> None:
    workshop.leads(1)
    killed_run(workshop)
    workshop.lead("l0", "changed@x", "Other address")
    workshop.run()
    assert workshop.shelf.emails() == ["changed@x"], "the look-up is by what was sent, not by what is wanted now"


def test_a_dead_runs_create_that_nobody_can_look_up_waits_for_a_person(workshop: Workshop) -> None:
    workshop.spec = a_sync(target=Endpoint(connection="shop", object="blind"))
    workshop.leads(1)
    killed_run(workshop)
    workshop.shelf.rows.clear()  # even where a look into the target shows nothing
    for _ in range(3):
        workshop.run()
    assert len(workshop.shelf.calls) == 1
    assert workshop.waiting() == [("l0", "unknown")]


def test_a_dead_runs_create_without_a_match_value_waits_for_a_person(workshop: Workshop) -> None:
    workshop.lead("l0", None, "Nobody")
    killed_run(workshop)
    workshop.run()
    assert len(workshop.shelf.rows) == 1
    assert workshop.waiting() == [("l0", "unknown")]


def test_the_look_up_waits_until_a_late_index_shows_what_was_stored(workshop: Workshop) -> None:
    workshop.spec = a_sync(target=Endpoint(connection="shop", object="late"))
    workshop.leads(1)
    killed_run(workshop)
    workshop.rows("UPDATE sync.intents SET created_at = now() - interval '1 hour' RETURNING token")
    sleeps: list[float] = []
    with workshop.session() as session:
        session.hold(workshop.spec.name)
        assert recover(session, workshop.spec, sleep=sleeps.append) == 1
        assert recover(session, workshop.spec, sleep=sleeps.append) == 0
    assert sleeps == [30.0]


def test_the_claims_of_a_dead_run_hold_nobody_up(workshop: Workshop) -> None:
    workshop.leads(1)
    workshop.run()
    dead = "00000000-0000-0000-0000-00000000dead"
    workshop.rows("INSERT INTO sync.runs (run_id, sync, state) VALUES (%s, 'leads', 'running') RETURNING run_id", dead)
    workshop.rows(
        """INSERT INTO sync.claims (target_connection, target_object, target_key, owner, lease_until)
           VALUES ('shop', 'contacts', 'id:t1', %s, now() + interval '1 hour') RETURNING owner""",
        dead,
    )
    workshop.lead("l0", "l0@x", "Newer")
    workshop.run()
    assert [row["name"] for row in workshop.shelf.rows.values()] == ["Newer"]
    assert workshop.rows("SELECT state FROM sync.runs WHERE run_id = %s", dead) == [("failed",)]
    assert any("died without finishing" in line for line in workshop.said)


def test_a_killed_apply_is_taken_up_by_applying_again_without_refusing_its_own_work(workshop: Workshop) -> None:
    workshop.leads(4)
    planned = workshop.planned()
    workshop.shelf.faults[:] = [Fault.KILLED]
    with pytest.raises(Killed):
        workshop.deliver(planned.plan_id, exact=True)
    report = workshop.deliver(planned.plan_id, exact=True)
    assert report["refused"] == []
    assert (report["sync_summary"]["held"], report["sync_summary"]["failed_transfers"]) == (0, 0)
    assert workshop.shelf.emails() == ["l0@x", "l1@x", "l2@x", "l3@x"]
    assert workshop.waiting() == []
