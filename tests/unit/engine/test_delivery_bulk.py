"""Delivery to a transactional target: parts with markers, repeated without harm."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest
from pydantic import PrivateAttr

from sync_platform.commands.plan_file import PlanDocument
from sync_platform.engine import bulk, desired
from sync_platform.engine.spec import Endpoint, ErrorHandling
from sync_platform.errors import AccessError
from sync_platform.staging.outcomes import lake_outcomes_of
from sync_platform.state.database import Database
from tests.unit.engine.depot import CarefulDepot, Depot
from tests.unit.engine.shelf import Fault, Killed
from tests.unit.engine.workshop import Planned, Workshop, a_sync


@pytest.fixture(params=[Depot, CarefulDepot])
def depot(workshop: Workshop, request: pytest.FixtureRequest) -> Depot:
    """The workshop's target, now a transactional one: one that writes on a condition, and one that does not."""
    made: Depot = request.param()
    workshop.target = made
    return made


@pytest.fixture
def careful(workshop: Workshop) -> CarefulDepot:
    """The workshop's target, now one that writes on a condition."""
    made = CarefulDepot()
    workshop.target = made
    return made


def updates_planned(workshop: Workshop, count: int) -> Planned:
    """A plan that renames so many linked leads `Lead n` to `Planned`."""
    workshop.leads(count)
    workshop.run()
    for number in range(count):
        workshop.lead(f"l{number}", f"l{number}@x", "Planned")
    return workshop.planned()


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.REQUEST_LOST, Fault.BUSY])
def test_a_part_whose_answer_was_lost_is_asked_for_again_and_stored_once(
    workshop: Workshop, depot: Depot, fault: Fault
) -> None:
    workshop.leads(5)
    depot.faults[:] = [fault]
    report = workshop.run()
    assert depot.emails() == [f"l{n}@x" for n in range(5)]
    assert len(depot.parts) == 2
    assert report["sync_summary"]["created"] == 5
    assert sorted(workshop.links().values()) == sorted(depot.rows)


def test_a_refused_row_is_set_aside_while_the_others_are_stored(workshop: Workshop, depot: Depot) -> None:
    workshop.leads(3)
    depot.refused.add("l1@x")
    workshop.run()
    assert depot.emails() == ["l0@x", "l2@x"]
    assert workshop.waiting() == [("l1", "rejected")]
    assert workshop.rows("SELECT field, reason, payload->>'email' FROM sync.dead_letters") == [
        ("email", "not welcome", "l1@x")
    ]


def test_a_part_stored_by_a_run_that_died_is_found_and_not_written_again(workshop: Workshop, depot: Depot) -> None:
    workshop.leads(3)
    depot.faults[:] = [Fault.KILLED]
    session = workshop.session()
    planned = workshop.plan(session)
    with pytest.raises(Killed):
        workshop.deliver(planned.plan_id, session=session)
    assert workshop.position() is None
    workshop.run()
    assert depot.emails() == ["l0@x", "l1@x", "l2@x"]
    assert len(depot.parts) == 1
    assert sorted(workshop.links().values()) == sorted(depot.rows)


def test_a_plan_of_creates_alone_says_of_each_the_fields_that_have_a_value(workshop: Workshop, depot: Depot) -> None:
    workshop.lead("l0", "l0@x", "Lead 0")
    workshop.lead("l1", "l1@x", None)
    with workshop.session() as session:
        planned = workshop.plan(session)
        changes = list(PlanDocument(session, workshop.spec, planned.plan_id).changes())
    assert [[one["name"] for one in change["fields"]] for change in changes] == [
        ["email", "name"],
        ["email"],
    ]
    workshop.deliver(planned.plan_id)
    assert sorted((row["email"], row["name"]) for row in depot.rows.values()) == [("l0@x", "Lead 0"), ("l1@x", None)]


def test_apply_refuses_what_moved_since_and_a_run_overwrites_it(workshop: Workshop, depot: Depot) -> None:
    planned = updates_planned(workshop, 2)
    next(iter(depot.rows.values()))["name"] = "By hand"
    report = workshop.deliver(planned.plan_id, exact=True)
    assert len(report["refused"]) == 1
    assert sorted(row["name"] for row in depot.rows.values()) == ["By hand", "Planned"]
    workshop.run()
    assert {row["name"] for row in depot.rows.values()} == {"Planned"}


def test_what_somebody_changes_at_the_last_moment_is_not_overwritten_by_apply(
    workshop: Workshop, careful: CarefulDepot
) -> None:
    planned = updates_planned(workshop, 3)
    links = workshop.links()
    careful.on_last_moment(lambda: careful.rows[links["l1"]].update(name="By hand"))
    report = workshop.deliver(planned.plan_id, exact=True)
    assert [one["key"] for one in report["refused"]] == ["l1"]
    assert {key: careful.rows[target]["name"] for key, target in links.items()} == {
        "l0": "Planned", "l1": "By hand", "l2": "Planned",
    }  # fmt: skip


@pytest.mark.parametrize("moved", [True, False])
def test_where_the_target_cannot_tell_apply_looks_and_writes_only_what_it_saw(
    workshop: Workshop, careful: CarefulDepot, moved: bool
) -> None:
    planned = updates_planned(workshop, 2)
    links = workshop.links()
    careful.be_unsure()
    if moved:
        careful.on_last_moment(lambda: careful.rows[links["l1"]].update(name="By hand"))
    report = workshop.deliver(planned.plan_id, exact=True)
    assert [one["key"] for one in report["refused"]] == (["l1"] if moved else [])
    assert careful.rows[links["l0"]]["name"] == "Planned"
    assert careful.rows[links["l1"]]["name"] == ("By hand" if moved else "Planned")


def test_a_run_overwrites_what_moved_and_says_what_was_there(workshop: Workshop, depot: Depot) -> None:
    planned = updates_planned(workshop, 3)
    links = workshop.links()
    depot.rows[links["l1"]]["name"] = "By hand"
    depot.rows[links["l2"]]["name"] = "Planned"
    workshop.deliver(planned.plan_id)
    assert {row["name"] for row in depot.rows.values()} == {"Planned"}
    told = workshop.rows("SELECT source_key, status, fields->'name'->>0 FROM sync.outcomes WHERE op = 'update'")
    assert sorted(told) == [("l0", "applied", "Lead 0"), ("l1", "applied", "By hand"), ("l2", "noop", "Planned")]


def test_updates_that_a_run_made_before_it_died_are_settled_as_made(workshop: Workshop, careful: CarefulDepot) -> None:
    planned = updates_planned(workshop, 3)
    links = workshop.links()
    careful.rows[links["l1"]]["name"] = "By hand"
    careful.faults[:] = [Fault.KILLED]
    with pytest.raises(Killed):
        workshop.deliver(planned.plan_id)
    workshop.deliver(planned.plan_id)
    assert {row["name"] for row in careful.rows.values()} == {"Planned"}
    assert [workshop.statuses(key)[-1] for key in ("l0", "l1", "l2")] == ["applied", "applied", "applied"]


@pytest.mark.parametrize(("fault", "said"), [(Fault.KILLED, "noop"), (Fault.ANSWER_LOST, "applied")])
def test_what_moved_is_written_once_though_its_delivery_breaks_off(
    workshop: Workshop, careful: CarefulDepot, fault: Fault, said: str
) -> None:
    """A run that died after it had written what moved does not know any more what it found there."""
    planned = updates_planned(workshop, 3)
    links = workshop.links()
    careful.rows[links["l1"]]["name"] = "By hand"
    careful.parts.clear()
    careful.faults[:] = [None, fault]
    if fault is Fault.KILLED:
        with pytest.raises(Killed):
            workshop.deliver(planned.plan_id)
        assert {row["name"] for row in careful.rows.values()} == {"Planned"}
        careful.rows[links["l0"]]["name"] = "By hand, later"
    workshop.deliver(planned.plan_id)
    assert careful.rows[links["l0"]]["name"] == ("By hand, later" if fault is Fault.KILLED else "Planned")
    assert [workshop.statuses(key)[-1] for key in ("l0", "l1", "l2")] == ["applied", said, "applied"]
    again = [keys for _, keys in careful.parts if keys == ["l1"]]
    assert len(again) == (1 if fault is Fault.KILLED else 2), "asked for again where its answer was lost"


def test_a_plan_that_broke_off_between_two_kinds_of_updates_is_taken_up_where_it_stopped(
    workshop: Workshop, depot: Depot
) -> None:
    workshop.spec = a_sync(errors=ErrorHandling(retries=0), match=())
    workshop.leads(2)
    workshop.run()
    workshop.lead("l0", "l0@x", "New name")
    workshop.lead("l1", "new@x", "Lead 1")
    planned = workshop.planned()
    depot.faults[:] = [Fault.ANSWER_LOST]
    with pytest.raises(AccessError):
        workshop.deliver(planned.plan_id, exact=True)
    workshop.deliver(planned.plan_id, exact=True)
    assert sorted((row["email"], row["name"]) for row in depot.rows.values()) == [
        ("l0@x", "New name"),
        ("new@x", "Lead 1"),
    ]
    assert workshop.position() == workshop.seq


def test_deletes_go_before_creates_and_what_is_gone_already_is_no_fault(workshop: Workshop, depot: Depot) -> None:
    workshop.spec = a_sync(mode="mirror")
    workshop.leads(2)
    workshop.run()
    workshop.lead("l0", None, deleted=True)
    workshop.lead("l1", None, deleted=True)
    workshop.lead("l2", "l2@x")
    planned = workshop.planned()
    del depot.rows[workshop.links()["l1"]]
    depot.parts.clear()
    workshop.deliver(planned.plan_id)
    assert depot.parts == [("delete", ["l0"]), ("create", ["l2"])]
    assert depot.emails() == ["l2@x"]
    assert workshop.statuses("l1") == ["applied", "noop"]


def test_two_syncs_of_one_record_share_its_identity(workshop: Workshop, fresh_state: Database) -> None:
    workshop.leads(1)
    workshop.run()
    (target,) = workshop.shelf.rows
    workshop.spec = a_sync(name="names", match=(), target=Endpoint(connection="shop", object="contacts"))
    workshop.run()
    assert list(workshop.shelf.rows) == [target]
    assert workshop.links() == {"l0": target}


class Telling(Depot):
    """A depot that can say whether it is empty, and counts how often it is searched."""

    _searches: int = PrivateAttr(default=0)

    def is_empty(self, stream: str) -> bool:
        """Whether there is no row."""
        return not self._rows

    def find(self, stream: str, field: str, values: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """As the depot."""
        self._searches += 1
        return super().find(stream, field, values, fields)


def test_a_target_that_says_it_is_empty_is_not_searched_and_one_that_is_not_is(workshop: Workshop) -> None:
    telling = Telling()
    workshop.target = telling
    workshop.leads(2)
    workshop.run()
    assert (telling._searches, telling.emails()) == (0, ["l0@x", "l1@x"])
    with workshop.database.connection() as connection:
        connection.execute("DELETE FROM sync.links")
        connection.execute("DELETE FROM sync.pairs")
        connection.execute("DELETE FROM sync.positions")
    workshop.run()
    assert telling._searches == 1
    assert telling.emails() == ["l0@x", "l1@x"]
    assert sorted(workshop.links().values()) == sorted(telling.rows)


def test_parts_are_delivered_in_their_order_and_a_claim_is_taken_anew(
    workshop: Workshop, depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desired, "PART_ROWS", 1)
    monkeypatch.setattr(bulk, "CLAIM_SECONDS", 0.0)
    workshop.leads(3)
    report = workshop.run()
    assert depot.parts == [("create", ["l0"]), ("create", ["l1"]), ("create", ["l2"])]
    assert report["sync_summary"]["created"] == 3
    assert sorted(workshop.links().values()) == sorted(depot.rows)
    assert workshop.rows("SELECT count(*) FROM sync.claims") == [(0,)]


def test_what_the_target_has_is_settled_also_when_the_part_after_it_broke_off(
    workshop: Workshop, depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desired, "PART_ROWS", 1)
    workshop.spec = a_sync(errors=ErrorHandling(retries=0))
    workshop.leads(2)
    planned = workshop.planned()
    depot.faults[:] = [None, Fault.BUSY]  # type: ignore[list-item]  # nothing happens to the first
    with pytest.raises(AccessError):
        workshop.deliver(planned.plan_id)
    assert list(workshop.links()) == ["l0"]
    assert workshop.statuses("l0") == ["applied"]
    assert workshop.position() is None
    workshop.run()
    assert depot.emails() == ["l0@x", "l1@x"]


def test_nothing_is_linked_whose_outcomes_the_lake_could_not_take(
    workshop: Workshop, depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "LAKE_OUTCOMES_FROM", 1)
    workshop.leads(2)
    planned = workshop.planned()

    def full(*_: object, **__: object) -> None:
        raise AccessError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(bulk, "write_lake_outcomes", full)
        with pytest.raises(AccessError, match="disk is full"):
            workshop.deliver(planned.plan_id)
    assert workshop.links() == {}
    workshop.run()
    assert sorted(workshop.links()) == ["l0", "l1"]
    assert depot.emails() == ["l0@x", "l1@x"]


def test_a_death_between_the_lakes_outcomes_and_the_links_doubles_neither(
    workshop: Workshop, depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "LAKE_OUTCOMES_FROM", 1)
    workshop.leads(2)
    session = workshop.session()
    planned = workshop.plan(session)

    def outcomes(key: str) -> list[tuple[str, str]]:
        with workshop.lake.connect() as con:
            return [(one["op"], one["status"]) for one in lake_outcomes_of(con, "leads", key)]

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(bulk, "settle", killed)
        with pytest.raises(Killed):
            workshop.deliver(planned.plan_id, session=session)
    assert outcomes("l0") == [("create", "applied")]  # the lake had them already
    assert workshop.links() == {}
    workshop.run()
    assert outcomes("l0") == outcomes("l1") == [("create", "applied")]
    assert sorted(workshop.links().values()) == sorted(depot.rows)
    assert len(depot.parts) == 1
