"""Events become writes: once, in order, never an older state after a newer one."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from sync_platform.engine.spec import Dedupe, Guards, Matching
from sync_platform.matching.forms import fields_of
from tests.unit.engine.shelf import Fault
from tests.unit.warm.office import Office

NOON = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)


def names(office: Office) -> dict[str, str | None]:
    """Names in the target by e-mail."""
    return {str(row["email"]): row["name"] for row in office.shelf.rows.values()}


def test_a_new_record_is_created_linked_and_told(office: Office) -> None:
    office.crm.put("l1", "a@x", "Ada")
    office.event("l1", "created")
    assert office.work() == 1
    assert names(office) == {"a@x": "Ada"}
    assert office.queue() == [("l1", "done", "applied")]
    assert office.rows("SELECT lane, op, status FROM sync.outcomes") == [("realtime", "create", "applied")]
    assert office.rows("SELECT count(*) FROM sync.links") == [(1,)]
    assert office.rows("SELECT count(*) FROM sync.claims") == [(0,)]
    assert office.rows("SELECT count(*) FROM sync.intents") == [(0,)]
    [report] = office.reports
    assert (report["lane"], report["sync_summary"]["created"], report["events"]) == ("realtime", 1, 1)


def test_an_event_that_comes_twice_is_written_once(office: Office) -> None:
    office.crm.put("l1", "a@x", "Ada")
    for _ in range(3):
        office.event("l1", event_id="e1")
    office.event("l1", event_id="e2")
    office.work()
    assert len(office.shelf.calls) == 1
    office.event("l1", event_id="e3")
    office.work()
    assert len(office.shelf.calls) == 1, "nothing changed, nothing is sent"
    assert office.queue()[-1] == ("l1", "done", "unchanged")


def test_a_value_told_by_an_event_is_written_without_reading_back(office: Office) -> None:
    office.crm.put("l1", "a@x", "Ada", at=NOON)
    office.event("l1", "created")
    office.work()
    reads = len(office.crm.reads)
    office.event("l1", fields={"Name": "Ada L."}, at=NOON + dt.timedelta(seconds=5))
    office.work()
    assert names(office) == {"a@x": "Ada L."}
    assert len(office.crm.reads) == reads


def test_an_older_event_that_comes_late_changes_nothing(office: Office) -> None:
    office.crm.put("l1", "a@x", "Ada", at=NOON)
    office.event("l1", "created")
    office.work()
    for second, name in ((20, "newest"), (10, "older"), (0, "oldest")):
        office.event("l1", fields={"Name": name}, at=NOON + dt.timedelta(seconds=second))
        office.work()
    assert names(office) == {"a@x": "newest"}
    assert len(office.shelf.calls) == 2


def test_a_value_older_than_the_last_read_changes_nothing(office: Office) -> None:
    office.crm.put("l1", "a@x", "read back", at=NOON)
    office.event("l1", "created")
    office.work()
    office.event("l1", fields={"Name": "stale"}, at=NOON - dt.timedelta(seconds=1))
    office.work()
    assert names(office) == {"a@x": "read back"}


def test_an_event_of_another_field_than_text_is_read_back(office: Office) -> None:
    office.crm.put("l1", "a@x", "Ada", at=NOON)
    office.event("l1", "created")
    office.work()
    office.crm.put("l1", "a@x", "Ada L.", at=NOON + dt.timedelta(seconds=1))
    reads = len(office.crm.reads)
    office.event("l1", fields={"Name": 7}, at=NOON + dt.timedelta(seconds=2))
    office.work()
    assert len(office.crm.reads) == reads + 1
    assert names(office) == {"a@x": "Ada L."}


def test_many_syncs_of_one_stream_read_a_record_back_once(office: Office) -> None:
    for number in range(4):
        office.another(f"copy{number}", match=())
    office.crm.put("l1", "a@x", "Ada")
    office.event("l1", "created")
    assert office.work() == 5
    assert office.crm.reads == [["l1"]]
    assert len(office.shelf.rows) == 5 - 4, "the syncs share one pair of records"


def test_a_deleted_record_follows_on_leave(office: Office) -> None:
    office.spec = replace(office.spec, on_leave="delete")
    office.crm.put("l1", "a@x", "Ada")
    office.event("l1", "created")
    office.work()
    del office.crm.rows["l1"]
    office.event("l1", "deleted")
    office.work()
    assert office.shelf.rows == {}
    assert office.queue()[-1] == ("l1", "done", "applied")


def test_an_event_about_a_record_that_never_was_here_is_done_without_a_write(office: Office) -> None:
    office.event("nobody", "deleted")
    office.event("noone")
    office.work()
    assert office.shelf.calls == []
    assert {state for _, state, _ in office.queue()} == {"done"}


def test_a_record_outside_the_filter_is_not_written(office: Office) -> None:
    office.spec = replace(office.spec, filter="Name <> 'hidden'")
    office.crm.put("l1", "a@x", "hidden")
    office.event("l1", "created")
    office.work()
    assert office.shelf.calls == []
    office.crm.put("l1", "a@x", "shown")
    office.event("l1")
    office.work()
    assert names(office) == {"a@x": "shown"}


def test_more_deletes_than_the_guard_allows_are_left_to_a_person(office: Office) -> None:
    office.spec = replace(office.spec, on_leave="delete", guards=Guards(max_deletes=2))
    for number in range(4):
        office.crm.put(f"l{number}", f"{number}@x")
        office.event(f"l{number}", "created")
    office.work()
    office.crm.rows.clear()
    for number in range(4):
        office.event(f"l{number}", "deleted")
    office.work()
    assert len(office.shelf.rows) == 4
    assert {outcome for _, _, outcome in office.queue()[4:]} == {"blocked"}


def test_a_first_sync_that_waits_for_the_match_plan_holds_creates(office: Office) -> None:
    office.spec = replace(office.spec, first_sync="match")
    office.crm.put("l1", "a@x")
    office.event("l1", "created")
    office.work()
    assert office.shelf.calls == []
    assert office.queue() == [("l1", "done", "held")]


def test_a_record_that_matching_must_compare_waits_for_the_next_run(office: Office) -> None:
    matching = Matching(fields=fields_of(("email", "name")))
    office.spec = replace(office.spec, matching=matching, compare="target")
    known = office.shelf.put(email="a@x", name="Ada")
    office.crm.put("l1", "a@x", "Ada L")  # found by its match field: no question
    office.crm.put("l2", "b@x", "Bob")
    for key in ("l1", "l2"):
        office.event(key, "created")
    office.work()
    assert office.queue() == [("l1", "done", "applied"), ("l2", "done", "held")]
    assert office.shelf.rows[known]["name"] == "Ada L"
    office.stage()
    assert office.batch.run()["sync_summary"]["created"] == 1
    assert names(office) == {"a@x": "Ada L", "b@x": "Bob"}


def test_a_duplicate_that_arrives_later_hands_over_and_does_not_flip(office: Office) -> None:
    office.spec = replace(office.spec, dedupe=Dedupe(by="lower(Email)", keep="oldest"))
    office.crm.put("l1", "a@x", "first", at=NOON)
    office.event("l1", "created")
    office.work()
    office.crm.put("l2", "A@x", "second", at=NOON + dt.timedelta(hours=1))
    office.event("l2", "created")
    office.work()
    assert names(office) == {"a@x": "first"}
    office.crm.put("l1", "b@x", "first", at=NOON + dt.timedelta(hours=2))
    office.event("l1")
    office.work()
    assert names(office) == {"b@x": "first", "A@x": "second"}


def test_an_older_batch_plan_does_not_overwrite_what_an_event_brought(office: Office) -> None:
    office.crm.put("l1", "a@x", "old", at=NOON)
    office.stage()
    office.batch.run()
    office.crm.put("l1", "a@x", "planned", at=NOON + dt.timedelta(seconds=1))
    office.stage()
    planned = office.batch.planned()
    office.crm.put("l1", "a@x", "newest", at=NOON + dt.timedelta(seconds=2))
    office.event("l1")
    office.work()
    report = office.batch.deliver(planned.plan_id)
    assert names(office) == {"a@x": "newest"}
    assert report["sync_summary"]["updated"] == 0
    assert "superseded" in office.rows("SELECT reason FROM sync.outcomes ORDER BY id DESC LIMIT 1")[0][0]
    office.stage()
    assert office.batch.run()["sync_summary"]["updated"] == 0
    assert names(office) == {"a@x": "newest"}


def test_a_plan_sees_what_events_brought_before_staging_does(office: Office) -> None:
    office.crm.put("l1", "a@x", "old", at=NOON)
    office.stage()
    office.batch.run()
    office.crm.put("l1", "a@x", "newest", at=NOON + dt.timedelta(seconds=2))
    office.event("l1")
    office.work()
    planned = office.batch.planned()
    assert office.batch.ops(planned) == {"l1": "skip"}, "the staged row is older than the target"
    office.stage()
    office.batch.run()
    assert office.rows("SELECT count(*) FROM sync.observed") == [(0,)], "staging has caught up"


def test_after_events_a_full_compare_has_nothing_to_do(office: Office) -> None:
    for number in range(6):
        office.crm.put(f"l{number}", f"{number}@x", "one")
        office.event(f"l{number}", "created")
    office.work()
    office.crm.put("l3", "3@x", "two")
    office.event("l3")
    office.work()
    office.stage()
    with office.batch.session() as session:
        planned = office.batch.plan(session)
    assert set(office.batch.ops(planned).values()) == {"skip"}


def test_a_lost_answer_to_a_create_is_looked_up_and_nothing_is_doubled(office: Office) -> None:
    office.crm.put("l1", "a@x")
    office.event("l1", "created")
    office.shelf.faults[:] = [Fault.ANSWER_LOST]
    office.work(2)
    assert office.shelf.emails() == ["a@x"]
    assert office.queue() == [("l1", "done", "applied")]


def test_a_field_the_source_hides_is_left_alone_in_the_target_by_events_and_by_plans(office: Office) -> None:
    office.crm.put("l1", "a@x", "Ada", at=NOON)
    office.stage()
    office.batch.run()
    office.crm.hidden.add("Name")
    office.crm.put("l1", "new@x", "Ada", at=NOON + dt.timedelta(seconds=1))
    office.event("l1")
    office.work()
    assert names(office) == {"new@x": "Ada"}, "absent is not null"
    office.stage()
    office.batch.run()
    assert names(office) == {"new@x": "Ada"}


def test_a_row_that_was_not_told_whole_does_not_stand_in_for_the_staged_one(office: Office) -> None:
    office.crm.put("l1", "a@x", "Ada", at=NOON)
    office.stage()
    office.batch.run()
    office.crm.hidden.add("Name")
    office.crm.put("l1", "a@x", "Ada", at=NOON + dt.timedelta(seconds=1))
    office.event("l1")
    office.work()
    planned = office.batch.planned()
    assert set(office.batch.ops(planned).values()) <= {"skip"}


def test_a_field_an_event_calls_empty_is_null_as_it_reads_back(office: Office) -> None:
    office.crm.put("l1", "a@x", "Ada", at=NOON)
    office.event("l1", "created")
    office.work()
    office.event("l1", fields={"Name": ""}, at=NOON + dt.timedelta(seconds=1))
    office.work()
    assert names(office) == {"a@x": None}


@pytest.mark.parametrize("hours", [-30, -1, 1, 30])
def test_a_clock_of_the_source_that_is_wrong_by_hours_loses_no_change(office: Office, hours: int) -> None:
    skewed = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)
    office.crm.put("l1", "a@x", "staged", at=skewed)
    office.stage()
    office.batch.run()
    office.crm.put("l1", "a@x", "told", at=skewed + dt.timedelta(seconds=1))
    office.event("l1", fields={"Name": "told"}, at=skewed + dt.timedelta(seconds=1))
    office.work()
    assert names(office) == {"a@x": "told"}
    office.crm.put("l1", "a@x", "read back", at=skewed + dt.timedelta(seconds=2))
    office.event("l1", at=skewed + dt.timedelta(seconds=2))
    office.work()
    assert names(office) == {"a@x": "read back"}
    office.event("l1", fields={"Name": "told"}, at=skewed + dt.timedelta(seconds=1))
    office.work()
    office.crm.put("l1", "a@x", "batch", at=skewed + dt.timedelta(seconds=3))
    office.stage()
    office.batch.run()
    assert names(office) == {"a@x": "batch"}
    assert office.rows("SELECT fields -> 'name' ->> 1 FROM sync.outcomes WHERE status = 'applied' ORDER BY id") == [
        ("staged",), ("told",), ("read back",), ("batch",)
    ]  # fmt: skip
