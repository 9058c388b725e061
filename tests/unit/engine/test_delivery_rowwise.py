"""Delivery to an API: lost answers, refusals, retries, and what is looked at again before anything is written."""

from __future__ import annotations

import polars as pl
import pytest

from sync_platform.engine.rowwise import RowwiseDelivery
from sync_platform.engine.spec import Endpoint
from sync_platform.errors import AccessError, TransientError
from sync_platform.ledger.claims import claimed
from sync_platform.ledger.plans import PlanFiles
from sync_platform.model import Op
from sync_platform.session import Session
from tests.unit.engine.shelf import Fault
from tests.unit.engine.workshop import Workshop, a_sync


def sent_twice(workshop: Workshop) -> list[str]:
    keys = [change.key for call in workshop.shelf.calls for change in call]
    return sorted({key for key in keys if keys.count(key) > 1})


def delivery(workshop: Workshop, session: Session, plan_id: str, sleeps: list[float]) -> RowwiseDelivery:
    """A delivery whose waits are only noted."""
    stream = workshop.shelf.stream(workshop.spec.target.object)
    return RowwiseDelivery(
        session, workshop.spec, plan_id, workshop.shelf, stream, ("email", "name"), False, sleep=sleeps.append
    )


def test_new_records_are_created_once_linked_and_told(workshop: Workshop) -> None:
    workshop.leads(7)
    report = workshop.run()
    assert workshop.shelf.emails() == [f"l{n}@x" for n in range(7)]
    assert [len(call) for call in workshop.shelf.calls] == [3, 3, 1]
    assert sorted(workshop.links()) == [f"l{n}" for n in range(7)]
    assert workshop.statuses("l3") == ["applied"]
    assert report["sync_summary"]["created"] == 7
    assert workshop.rows("SELECT count(*) FROM sync.intents") == [(0,)]
    assert workshop.rows("SELECT count(*) FROM sync.claims") == [(0,)]
    assert workshop.run()["sync_summary"]["records_processed"] == 0
    assert len(workshop.shelf.calls) == 3


def test_a_lost_answer_is_looked_up_and_what_was_stored_is_not_sent_again(workshop: Workshop) -> None:
    workshop.leads(2)
    workshop.shelf.faults[:] = [Fault.ANSWER_LOST]
    workshop.run()
    assert workshop.shelf.emails() == ["l0@x", "l1@x"]
    assert sent_twice(workshop) == []
    assert sorted(workshop.links().values()) == sorted(workshop.shelf.rows)


def test_a_lost_request_is_looked_up_and_then_sent_again(workshop: Workshop) -> None:
    workshop.leads(2)
    workshop.shelf.faults[:] = [Fault.REQUEST_LOST]
    workshop.run()
    assert workshop.shelf.emails() == ["l0@x", "l1@x"]
    assert sent_twice(workshop) == ["l0", "l1"]


@pytest.mark.parametrize("fault", [Fault.REQUEST_LOST, Fault.BUSY])
def test_a_target_that_never_answers_ends_the_run_after_the_retries(workshop: Workshop, fault: Fault) -> None:
    workshop.leads(1)
    planned = workshop.planned()
    workshop.shelf.faults[:] = [fault] * 100
    sleeps: list[float] = []
    with workshop.session() as session:
        session.hold(workshop.spec.name)
        running = delivery(workshop, session, planned.plan_id, sleeps)
        rows = pl.concat(PlanFiles(workshop.database.home.lake, planned.plan_id).parts("changes"))
        with pytest.raises(AccessError, match="still failing after 2 retries"):
            list(running.deliver(Op.CREATE, rows))
    assert len(workshop.shelf.calls) == 3
    if fault is Fault.BUSY:
        assert sleeps == [7.0, 7.0], "the target says how long"


def test_a_create_that_cannot_be_looked_up_is_never_sent_twice_however_often_we_run(workshop: Workshop) -> None:
    workshop.spec = a_sync(target=Endpoint(connection="shop", object="blind"))
    workshop.leads(1)
    workshop.shelf.faults[:] = [Fault.ANSWER_LOST]
    workshop.run()
    assert workshop.waiting() == [("l0", "unknown")]
    workshop.shelf.rows.clear()  # even where a look into the target shows nothing
    for _ in range(3):
        workshop.run()
    assert len(workshop.shelf.calls) == 1
    assert workshop.waiting() == [("l0", "unknown")]


def test_a_create_without_a_match_value_is_not_repeated_after_a_lost_answer(workshop: Workshop) -> None:
    workshop.lead("l0", None, "Nobody")
    workshop.shelf.faults[:] = [Fault.ANSWER_LOST]
    workshop.run()
    assert len(workshop.shelf.rows) == 1
    assert workshop.waiting() == [("l0", "unknown")]
    workshop.run()
    assert len(workshop.shelf.calls) == 1


def test_a_batch_refused_as_a_whole_is_split_until_the_bad_record_stands_alone(workshop: Workshop) -> None:
    workshop.leads(3)
    workshop.shelf.faults[:] = [Fault.WHOLE_REFUSED, Fault.WHOLE_REFUSED]
    workshop.run()
    assert [len(call) for call in workshop.shelf.calls] == [3, 1, 2]
    (alone,) = workshop.shelf.calls[1]
    assert workshop.waiting() == [(alone.key, "rejected")]
    assert workshop.shelf.emails() == sorted({"l0@x", "l1@x", "l2@x"} - {f"{alone.key}@x"})


def test_a_refused_record_is_set_aside_with_its_payload_and_the_others_go_on(workshop: Workshop) -> None:
    workshop.leads(3)
    workshop.shelf.refused.add("l1@x")
    report = workshop.run()
    assert workshop.shelf.emails() == ["l0@x", "l2@x"]
    assert report["sync_summary"]["failed_transfers"] == 1
    assert workshop.rows(
        "SELECT source_key, kind, payload->>'email', reasons->0->>'reason' FROM sync.dead_letters"
    ) == [("l1", "rejected", "l1@x", "not welcome")]
    workshop.shelf.refused.clear()
    workshop.run()
    assert workshop.shelf.emails() == ["l0@x", "l2@x"], "refused for good: not tried again before something changes"
    workshop.lead("l1", "l1@x", "Mended")
    workshop.run()
    assert workshop.shelf.emails() == ["l0@x", "l1@x", "l2@x"]
    assert workshop.waiting() == []


def test_a_passing_refusal_is_tried_again_by_the_next_run(workshop: Workshop) -> None:
    workshop.leads(1)
    workshop.shelf.retried.add("l0@x")
    workshop.run()
    assert workshop.waiting() == [("l0", "transient")]
    workshop.shelf.retried.clear()
    workshop.run()
    assert workshop.shelf.emails() == ["l0@x"]
    assert workshop.waiting() == []


def test_a_passing_refusal_of_a_delete_is_tried_again_by_the_next_run(workshop: Workshop) -> None:
    workshop.spec = a_sync(mode="mirror")
    workshop.leads(2)
    workshop.run()
    workshop.shelf.retried.add("l0@x")
    workshop.lead("l0", "l0@x", deleted=True)
    workshop.run()
    assert workshop.waiting() == [("l0", "transient")]
    workshop.shelf.retried.clear()
    workshop.run()
    assert workshop.shelf.emails() == ["l1@x"]
    assert workshop.waiting() == []


def test_a_link_made_since_the_plan_keeps_a_second_record_from_being_created(workshop: Workshop) -> None:
    workshop.leads(1)
    planned = workshop.planned()
    other = workshop.shelf.put(email="known by another name")
    workshop.rows(
        "INSERT INTO sync.links (sync, source_key, target_id) VALUES ('leads', 'l0', %s) RETURNING target_id", other
    )
    report = workshop.deliver(planned.plan_id)
    assert workshop.shelf.calls == []
    assert report["sync_summary"]["held"] == 1
    assert workshop.statuses("l0") == ["refused"]


def test_a_record_that_appeared_in_the_target_since_the_plan_is_not_created_again(workshop: Workshop) -> None:
    workshop.leads(1)
    planned = workshop.planned()
    made = workshop.shelf.put(email="L0@X")
    workshop.deliver(planned.plan_id)
    assert workshop.shelf.calls == []
    workshop.run()
    assert workshop.links() == {"l0": made}


def test_a_newer_version_delivered_since_the_plan_is_not_overwritten(workshop: Workshop) -> None:
    workshop.leads(1)
    workshop.run()
    workshop.lead("l0", "l0@x", "Planned")
    planned = workshop.planned()
    workshop.rows("UPDATE sync.links SET version_cursor = 10000, version_read_at = 10000 RETURNING sync")
    workshop.deliver(planned.plan_id)
    assert [row["name"] for row in workshop.shelf.rows.values()] == ["Lead 0"]


def test_records_are_claimed_while_they_are_written_and_a_claimed_one_is_waited_for(workshop: Workshop) -> None:
    workshop.leads(1)
    claims: list[int] = []
    workshop.shelf.on_write(lambda: claims.append(workshop.rows("SELECT count(*) FROM sync.claims")[0][0]))
    workshop.run()
    assert claims == [1]
    other = "00000000-0000-0000-0000-000000000001"
    with claimed(workshop.database, workshop.spec.target, ["id:t1"], other):
        never = claimed(
            workshop.database, workshop.spec.target, ["id:t1", "id:t2"], str(other)[:-1] + "2", patience=0.5,
            sleep=lambda _: None,
        )  # fmt: skip
        with pytest.raises(TransientError, match="another writer"), never:
            raise AssertionError("two writers at one record")
        assert workshop.rows("SELECT target_key FROM sync.claims") == [("id:t1",)], "all or none"
