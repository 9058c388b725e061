"""Crashes, lost races and refusals in two-way runs: the base moves only with a settled outcome."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sync_platform.engine.spec import SyncSpec, TwoWay
from tests.unit.twoway.couple import Couple, a_two_way_sync
from tests.unit.twoway.memory import Killed

Make = Callable[[SyncSpec], Couple]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_an_edit_made_after_a_crash_is_no_conflict_with_our_own_write(side: str, when: str, couple_of: Make) -> None:
    couple = couple_of(a_two_way_sync(TwoWay(conflicts=side)))  # type: ignore[arg-type]  # our write's side would win
    key, other = couple.linked(Email="a@x.org", Name="Ann")
    system = couple.hub if side == "target" else couple.crm

    def edit(name: str) -> None:
        couple.crm.edit(key, Name=name) if side == "target" else couple.hub.edit(other, name=name)

    edit("Anna")
    system.die(when)
    with pytest.raises(Killed):
        couple.run()
    edit("Anja")
    couple.run()
    assert (couple.crm.rows[key]["Name"], couple.hub.rows[other]["name"]) == ("Anja", "Anja")
    assert couple.silent()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_create_whose_answer_was_lost_is_not_made_twice(side: str, when: str, couple: Couple) -> None:
    if side == "target":
        couple.crm.put(Email="a@x.org", Name="Ann")
        couple.hub.die(when)
    else:
        couple.hub.put(email="a@x.org", name="Ann")
        couple.crm.die(when)
    with pytest.raises(Killed):
        couple.run()
    couple.run()
    assert (len(couple.crm.rows), len(couple.hub.rows)) == (1, 1)
    assert len(couple.links()) == 1
    assert couple.silent()


def test_a_field_edited_between_plan_and_write_is_refused_and_merged_by_the_next_run(couple: Couple) -> None:
    key, other = couple.linked(Email="a@x.org", Name="Ann", Phone="1")
    couple.crm.edit(key, Name="Anna")
    planned = couple.planned()
    couple.hub.edit(other, name="Anita")
    report = couple.deliver(planned.plan_id)
    assert report["sync_summary"]["held"] == 1
    assert couple.hub.rows[other]["name"] == "Anita"
    couple.run()
    assert couple.crm.rows[key]["Name"] == "Anita"  # the newest of two edits, decided by the rule
    assert couple.silent()


@pytest.mark.parametrize("side", ["source", "target"])
def test_an_edit_the_other_side_refuses_stays_where_it_was_made(side: str, couple: Couple) -> None:
    key, other = couple.linked(Email="a@x.org", Name="Ann")
    (couple.hub if side == "target" else couple.crm).refused.add("Anna")
    couple.crm.edit(key, Name="Anna") if side == "target" else couple.hub.edit(other, name="Anna")
    assert couple.run()["sync_summary"]["failed_transfers"] == 1
    couple.run(full=True)
    held = couple.crm.rows[key]["Name"], couple.hub.rows[other]["name"]
    assert held == (("Anna", "Ann") if side == "target" else ("Ann", "Anna"))
    (couple.hub if side == "target" else couple.crm).refused.clear()
    couple.run(full=True)
    assert (couple.crm.rows[key]["Name"], couple.hub.rows[other]["name"]) == ("Anna", "Anna")
    assert couple.silent()


def test_a_record_that_may_be_several_of_the_other_side_waits_for_a_person(couple: Couple) -> None:
    couple.crm.put(Email="a@x.org", Name="Ann")
    couple.hub.put(email="a@x.org", name="One")
    couple.hub.put(email="A@x.org", name="Two")
    report = couple.run()
    assert report["sync_summary"]["held"] >= 1
    assert couple.links() == {}
    assert {row["name"] for row in couple.hub.rows.values()} == {"One", "Two"}
    assert len(couple.crm.rows) == 1


def test_a_plan_of_both_sides_applied_is_exactly_what_was_written(couple: Couple) -> None:
    key, other = couple.linked(Email="a@x.org", Name="Ann", Phone="1")
    couple.crm.edit(key, Name="Anna")
    couple.hub.edit(other, phone="2")
    planned = couple.planned()
    wanted = {(row["side"], row["key"]): row["sent"] for row in couple.changes(planned)}
    assert wanted == {("target", key): {"name": "Anna"}, ("source", key): {"Phone": "2"}}
    before = len(couple.crm.written), len(couple.hub.written)
    couple.deliver(planned.plan_id, exact=True)
    assert [dict(one.fields) for one in couple.crm.written[before[0] :]] == [{"Phone": "2"}]
    assert [dict(one.fields) for one in couple.hub.written[before[1] :]] == [{"name": "Anna"}]
    assert couple.silent()


def test_a_chosen_side_is_written_by_the_next_run(couple_of: Make) -> None:
    from sync_platform.ledger.conflicts import list_conflicts, resolve_conflict, show_conflict

    couple = couple_of(a_two_way_sync(TwoWay(conflicts="ask")))
    key, other = couple.linked(Email="a@x.org", Name="Ann", Phone="1")
    couple.crm.edit(key, Name="Anna", Phone="2")
    couple.hub.edit(other, name="Anita")
    assert couple.run()["sync_summary"]["held"] == 1
    assert couple.hub.rows[other]["phone"] == "2"  # the other fields of the record go on
    with couple.database.connection() as connection:
        [waiting] = list_conflicts(connection, "people")
        assert (waiting["key"], waiting["target_id"], waiting["field"]) == (key, other, "name")
        assert (waiting["source"], waiting["target"]) == ({"Name": "Anna"}, {"name": "Anita"})
        assert waiting["base"] == {"source": {"Name": "Ann"}, "target": {"name": "Ann"}}
        resolve_conflict(connection, waiting["id"], "target")
    couple.run()
    assert (couple.crm.rows[key]["Name"], couple.hub.rows[other]["name"]) == ("Anita", "Anita")
    with couple.database.connection() as connection:
        assert show_conflict(connection, waiting["id"])["state"] == "settled"
    assert couple.silent()


def test_a_choice_between_values_that_are_gone_is_asked_again(couple_of: Make) -> None:
    from sync_platform.ledger.conflicts import list_conflicts, resolve_conflict

    couple = couple_of(a_two_way_sync(TwoWay(conflicts="ask")))
    key, other = couple.linked(Email="a@x.org", Name="Ann")
    couple.crm.edit(key, Name="Anna")
    couple.hub.edit(other, name="Anita")
    couple.run()
    with couple.database.connection() as connection:
        [waiting] = list_conflicts(connection, "people")
        resolve_conflict(connection, waiting["id"], "target")
    couple.crm.edit(key, Name="Annabel")
    couple.run()
    assert (couple.crm.rows[key]["Name"], couple.hub.rows[other]["name"]) == ("Annabel", "Anita")
    with couple.database.connection() as connection:
        [again] = list_conflicts(connection, "people")
    assert (again["id"], again["state"], again["take"]) == (waiting["id"], "open", None)


def test_a_first_sync_holds_creates_of_both_sides(couple_of: Make) -> None:
    couple = couple_of(a_two_way_sync(first_sync="match"))
    couple.crm.put(Email="a@x.org")
    couple.hub.put(email="b@x.org")
    couple.crm.put(Email="c@x.org", Name="Cid")
    couple.hub.put(email="c@x.org", name="Cid")
    report = couple.run()
    assert (report["first_sync_held"], report["sync_summary"]["created"]) == (2, 0)
    assert len(couple.links()) == 1
