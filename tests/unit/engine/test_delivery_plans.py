"""Which plans are delivered, what `exact` refuses, and when the position moves."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from sync_platform.engine.spec import Dedupe, ErrorHandling, Expression, Guards, ValueMap
from sync_platform.errors import AccessError, BlockedError, SyncError
from sync_platform.ledger.plans import PlanFiles
from tests.unit.engine.shelf import Fault
from tests.unit.engine.workshop import Workshop, a_sync


def edited_by_hand(workshop: Workshop, email: str, name: str) -> None:
    for row in workshop.shelf.rows.values():
        if row["email"] == email:
            row["name"] = name


def test_the_position_moves_only_after_every_change_was_settled(workshop: Workshop) -> None:
    workshop.leads(4)
    planned = workshop.planned()
    workshop.shelf.on_write(lambda: positions.append(workshop.position()))
    positions: list[int | None] = []
    workshop.deliver(planned.plan_id)
    assert positions == [None, None]
    assert workshop.position() == workshop.seq


def test_a_delivery_that_breaks_off_keeps_what_was_settled_and_the_next_run_does_the_rest(workshop: Workshop) -> None:
    workshop.leads(4)
    planned = workshop.planned()
    workshop.spec = a_sync(errors=ErrorHandling(retries=0))
    workshop.shelf.faults[:] = [Fault.BUSY]
    with pytest.raises(AccessError):
        workshop.deliver(planned.plan_id)
    assert workshop.position() is None
    report = workshop.run()
    assert workshop.shelf.emails() == ["l0@x", "l1@x", "l2@x", "l3@x"]
    assert report["sync_summary"]["records_processed"] == 4
    assert workshop.position() == workshop.seq


def test_a_plan_a_guard_blocked_is_not_delivered_by_anyone(workshop: Workshop) -> None:
    workshop.spec = a_sync(mode="mirror", guards=Guards(max_deletes=1))
    workshop.leads(3)
    workshop.run()
    workshop.lead("l0", None, deleted=True)
    workshop.lead("l1", None, deleted=True)
    planned = workshop.planned()
    assert planned.blocked is not None
    assert "2 records" in planned.blocked
    for exact in (False, True):
        with pytest.raises(BlockedError, match="max_deletes 1"):
            workshop.deliver(planned.plan_id, exact=exact)
    assert len(workshop.shelf.rows) == 3


def test_too_many_deletes_block_and_one_fewer_does_not(workshop: Workshop) -> None:
    workshop.spec = a_sync(mode="mirror", guards=Guards(max_deletes=1))
    workshop.leads(3)
    workshop.run()
    workshop.lead("l0", None, deleted=True)
    workshop.run()
    assert workshop.shelf.emails() == ["l1@x", "l2@x"]


@pytest.mark.parametrize(
    ("bad", "good", "blocked"),
    [(9, 0, False), (10, 0, True), (10, 90, False), (11, 89, True)],
    ids=["a few say nothing about the source", "every one", "just allowed", "one too many"],
)
def test_a_larger_share_of_invalid_records_blocks_unless_they_are_a_few(
    workshop: Workshop, bad: int, good: int, blocked: bool
) -> None:
    named = {"email": Expression(sql="Email"), "name": ValueMap(source="Name", values={"Good": "Good"})}
    workshop.spec = a_sync(mapping=named, guards=Guards(max_invalid=0.1))
    for number in range(bad + good):
        workshop.lead(f"l{number}", f"l{number}@x", "Good" if number < good else "Bad")
    planned = workshop.planned()
    assert planned.summary["counts"]["invalid"] == bad
    if blocked:
        assert planned.blocked == (
            f"{bad} of {bad + good} records ({bad / (bad + good):.1%}) fail the contract, more than max_invalid 10.0%"
        )
        with pytest.raises(BlockedError, match="max_invalid"):
            workshop.deliver(planned.plan_id)
    else:
        assert planned.blocked is None
        assert workshop.deliver(planned.plan_id)["sync_summary"]["failed_transfers"] == bad


def test_an_older_plan_is_refused_after_a_newer_one_was_delivered(workshop: Workshop) -> None:
    workshop.leads(2)
    older = workshop.planned()
    workshop.lead("l0", "l0@x", "Newer")
    workshop.run()
    with pytest.raises(BlockedError, match="superseded"):
        workshop.deliver(older.plan_id)
    assert {row["name"] for row in workshop.shelf.rows.values()} == {"Newer", "Lead 1"}


def test_a_plan_that_broke_off_is_refused_after_a_newer_one_was_delivered(workshop: Workshop) -> None:
    workshop.spec = a_sync(errors=ErrorHandling(retries=0))
    workshop.leads(2)
    planned = workshop.planned()
    workshop.shelf.faults[:] = [Fault.BUSY]
    with pytest.raises(SyncError):
        workshop.deliver(planned.plan_id, exact=True)
    workshop.lead("l0", "l0@x", "Newer")
    workshop.run()
    moved = workshop.position()
    with pytest.raises(BlockedError, match="superseded"):
        workshop.deliver(planned.plan_id, exact=True)
    assert workshop.position() == moved, "a position never goes back"


def test_a_plan_past_its_time_is_refused(workshop: Workshop) -> None:
    workshop.leads(1)
    planned = workshop.planned()
    old = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    workshop.rows("UPDATE sync.plans SET expires_at = %s RETURNING plan_id", old)
    with pytest.raises(BlockedError, match="expired"):
        workshop.deliver(planned.plan_id)
    assert workshop.shelf.calls == []


def test_a_plan_of_another_mapping_and_altered_parts_are_refused(workshop: Workshop) -> None:
    workshop.leads(1)
    planned = workshop.planned()
    usual = workshop.spec
    workshop.spec = a_sync(filter="Name IS NOT NULL")
    with pytest.raises(BlockedError, match="another mapping"):
        workshop.deliver(planned.plan_id)
    workshop.spec = usual
    files = PlanFiles(workshop.database.home.lake, planned.plan_id)
    altered = pl.read_parquet(files.paths("changes")[0]).with_columns(pl.lit("mallory@x").alias("new:email"))
    files.write("changes", 0, altered)
    with pytest.raises(BlockedError, match="not those that were planned"):
        workshop.deliver(planned.plan_id)
    assert workshop.shelf.calls == []


def test_apply_refuses_what_moved_since_and_says_what_it_found(workshop: Workshop) -> None:
    workshop.leads(3)
    workshop.run()
    for number in range(3):
        workshop.lead(f"l{number}", f"l{number}@x", f"Planned {number}")
    planned = workshop.planned()
    edited_by_hand(workshop, "l1@x", "By hand")
    report = workshop.deliver(planned.plan_id, exact=True)
    names = {row["email"]: row["name"] for row in workshop.shelf.rows.values()}
    assert names == {"l0@x": "Planned 0", "l1@x": "By hand", "l2@x": "Planned 2"}
    (refused,) = report["refused"]
    assert refused["key"] == "l1"
    assert refused["field"] == "name"
    assert (refused["planned_old"], refused["found"]) == ("Lead 1", "By hand")
    workshop.run()
    assert {row["name"] for row in workshop.shelf.rows.values()} == {"Planned 0", "Planned 1", "Planned 2"}


def test_a_plan_applied_twice_writes_nothing_the_second_time(workshop: Workshop) -> None:
    workshop.leads(2)
    planned = workshop.planned()
    workshop.deliver(planned.plan_id, exact=True)
    calls = len(workshop.shelf.calls)
    again = workshop.deliver(planned.plan_id, exact=True)
    assert len(workshop.shelf.calls) == calls
    assert again["sync_summary"]["records_processed"] == 0
    with pytest.raises(BlockedError, match="delivered already"):
        workshop.deliver(planned.plan_id)


def test_a_run_tells_what_the_target_really_held_when_it_overwrites(workshop: Workshop) -> None:
    workshop.leads(1)
    workshop.run()
    workshop.lead("l0", "l0@x", "Newer")
    planned = workshop.planned()
    edited_by_hand(workshop, "l0@x", "By hand")
    workshop.deliver(planned.plan_id)
    assert workshop.rows("SELECT fields->'name' FROM sync.outcomes WHERE op = 'update'") == [(["By hand", "Newer"],)]


def test_the_first_sync_without_create_holds_every_create(workshop: Workshop) -> None:
    workshop.spec = a_sync(first_sync="match")
    made = workshop.shelf.put(email="l0@x", name="Lead 0")
    workshop.leads(2)
    report = workshop.run()
    assert workshop.shelf.calls == []
    assert report["first_sync_held"] == 1
    assert workshop.links() == {"l0": made}


def test_a_record_whose_match_another_one_owns_does_not_take_it_although_the_owner_is_not_planned(
    workshop: Workshop,
) -> None:
    workshop.lead("a", "one@x", "A")
    workshop.run()
    workshop.lead("b", "one@x", "B")
    assert workshop.ops(workshop.planned()) == {"b": "create"}
    workshop.run()
    assert workshop.links() == {"a": "t1"}
    assert workshop.shelf.rows["t1"]["name"] == "A"
    assert workshop.waiting() == [("b", "refused")]


def test_a_record_that_was_handed_over_and_goes_its_own_way_becomes_its_own_target(workshop: Workshop) -> None:
    workshop.spec = a_sync(dedupe=Dedupe(by="lower(trim(Email))"))
    workshop.lead("a", "one@x", "First")
    workshop.run()
    workshop.lead("b", "one@x", "Newer twin")
    workshop.run()
    (target,) = workshop.shelf.rows
    assert workshop.links() == {"b": target}
    workshop.lead("a", "two@x", "On its own")
    workshop.run()
    assert workshop.shelf.emails() == ["one@x", "two@x"]
    assert workshop.links()["b"] == target
    assert workshop.links()["a"] != target
    assert workshop.waiting() == []


def test_a_target_whose_take_over_was_refused_goes_when_the_taker_goes_too(workshop: Workshop) -> None:
    workshop.spec = a_sync(mode="mirror", dedupe=Dedupe(by="lower(trim(Email))"))
    workshop.lead("a", "one@x", "First")
    workshop.run()
    workshop.shelf.refused.add("one@x")
    workshop.lead("b", "one@x", "Takes over")
    workshop.lead("a", None, deleted=True)
    workshop.run()
    assert [key for key, _ in workshop.waiting()] == ["a", "b"]
    workshop.shelf.refused.clear()
    workshop.lead("b", None, deleted=True)
    workshop.run()
    assert workshop.shelf.rows == {}
    assert workshop.waiting() == []


def test_the_audit_seal_changes_with_every_outcome(workshop: Workshop) -> None:
    workshop.leads(1)
    workshop.run()
    workshop.lead("l0", "l0@x", "Newer")
    workshop.run()
    (first, second) = workshop.rows("SELECT root, previous FROM sync.audit_batches ORDER BY id")
    assert bytes(second[1]) == bytes(first[0])
    assert bytes(first[0]) != bytes(second[0])
