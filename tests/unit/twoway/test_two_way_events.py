"""Two-way syncs in the warm lane: events of either side, and the echoes of our own writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sync_platform.engine.spec import SyncSpec, TwoWay
from tests.unit.twoway.couple import Couple, a_two_way_sync
from tests.unit.twoway.desk import Desk

Make = Callable[[SyncSpec], Couple]


@pytest.fixture
def desk(couple: Couple) -> Desk:
    """The plain couple with a worker."""
    return Desk(couple)


def test_an_event_of_either_side_is_written_to_the_other(desk: Desk) -> None:
    couple = desk.couple
    key, other = couple.linked(Email="a@x.org", Name="Ann", Phone="1")
    couple.crm.edit(key, Name="Anna")
    desk.event("crm", key)
    desk.work()
    assert couple.hub.rows[other]["name"] == "Anna"
    couple.hub.edit(other, phone="2")
    desk.event("hub", other)
    desk.work()
    assert couple.crm.rows[key]["Phone"] == "2"
    assert {state for _, state, _ in desk.queue()} == {"done"}
    assert couple.silent()


def test_the_echo_of_our_own_write_costs_one_read_and_no_write(desk: Desk) -> None:
    couple = desk.couple
    key, other = couple.linked(Email="a@x.org", Name="Ann")
    couple.crm.edit(key, Name="Anna")
    desk.event("crm", key)
    desk.work()
    before = len(couple.crm.reads), len(couple.hub.reads), len(couple.crm.written), len(couple.hub.written)
    desk.event("hub", other, times=3)
    desk.event("hub", other)
    desk.work()
    after = len(couple.crm.reads), len(couple.hub.reads), len(couple.crm.written), len(couple.hub.written)
    assert (after[0] - before[0], after[1] - before[1]) == (0, 1)
    assert after[2:] == before[2:]
    assert desk.queue()[-1][1:] == ("done", "unchanged")


def test_both_lanes_make_the_same_of_edits_on_both_sides(desk: Desk) -> None:
    couple = desk.couple
    key, other = couple.linked(Email="a@x.org", Name="Ann", Phone="1")
    couple.crm.edit(key, Name="Anna")
    couple.hub.edit(other, phone="2")
    desk.event("crm", key)  # the other one is lost
    desk.work()
    assert (couple.crm.rows[key]["Phone"], couple.hub.rows[other]["name"]) == ("2", "Anna")
    assert couple.silent()


def test_a_new_record_of_either_side_is_made_on_the_other_once(desk: Desk) -> None:
    couple = desk.couple
    couple.run()
    key = couple.crm.put(Email="a@x.org", Name="Ann")
    other = couple.hub.put(email="b@x.org", name="Bob")
    desk.event("crm", key, "created", times=2)
    desk.event("hub", other, "created", times=2)
    desk.work()
    assert (len(couple.crm.rows), len(couple.hub.rows)) == (2, 2)
    for made in [one for one in couple.hub.rows if one != other]:
        desk.event("hub", made, "created")
    for made in [one for one in couple.crm.rows if one != key]:
        desk.event("crm", made, "created")
    desk.work()
    assert (len(couple.crm.rows), len(couple.hub.rows)) == (2, 2)
    assert couple.silent()


def test_the_same_person_entered_on_both_sides_is_one_record(desk: Desk) -> None:
    couple = desk.couple
    couple.run()
    key = couple.crm.put(Email="a@x.org", Name="Ann")
    other = couple.hub.put(email="a@x.org", phone="7")
    desk.event("hub", other, "created")
    desk.event("crm", key, "created")
    desk.work()
    couple.run()
    assert (len(couple.crm.rows), len(couple.hub.rows)) == (1, 1)
    assert couple.crm.rows[key]["Phone"] == "7"
    assert couple.silent()


def test_a_deletion_follows_its_rule_in_the_warm_lane_too(couple_of: Make) -> None:
    couple = couple_of(a_two_way_sync(TwoWay(deleted_at_source="propagate", deleted_at_target="propagate")))
    desk = Desk(couple)
    key, other = couple.linked(Email="a@x.org")
    second = couple.crm.put(Email="b@x.org")
    couple.run()
    couple.crm.remove(key)
    desk.event("crm", key, "deleted")
    couple.hub.remove(couple.links()[second])
    desk.event("hub", couple.links()[second], "deleted")
    desk.work()
    assert (len(couple.crm.rows), len(couple.hub.rows)) == (0, 0)
    assert other not in couple.hub.rows
    assert couple.silent()


def test_a_conflict_of_the_warm_lane_waits_for_a_person(couple_of: Make) -> None:
    couple = couple_of(a_two_way_sync(TwoWay(conflicts="ask")))
    desk = Desk(couple)
    key, other = couple.linked(Email="a@x.org", Name="Ann")
    couple.crm.edit(key, Name="Anna")
    couple.hub.edit(other, name="Anita")
    desk.event("hub", other)
    desk.work()
    assert [one[1:] for one in couple.conflicts()] == [(key, "name")]
    assert (couple.crm.rows[key]["Name"], couple.hub.rows[other]["name"]) == ("Anna", "Anita")


@pytest.mark.parametrize("side", ["crm", "hub"])
def test_a_merge_told_by_events_moves_the_link_and_deletes_nothing(side: str, couple_of: Make) -> None:
    couple = couple_of(a_two_way_sync(TwoWay(deleted_at_source="propagate", deleted_at_target="propagate")))
    desk = Desk(couple)
    first = couple.crm.put(Email="a@x.org", Phone="1")
    second = couple.crm.put(Email="b@x.org")
    couple.run()
    links = couple.links()
    if side == "crm":
        couple.crm.merge(second, first)
        desk.event("crm", first, "deleted")
        desk.event("crm", second, "updated")
    else:
        couple.hub.merge(links[second], links[first])
        desk.event("hub", links[first], "deleted")
        desk.event("hub", links[second], "merged")
    desk.work()
    assert (len(couple.crm.rows), len(couple.hub.rows)) == ((1, 2) if side == "crm" else (2, 1))
    assert (couple.crm.rows[second]["Phone"], couple.hub.rows[links[second]]["phone"]) == ("1", "1")
    assert couple.silent()


def test_what_is_outside_the_filter_is_left_alone(couple_of: Make) -> None:
    couple = couple_of(replace(a_two_way_sync(), filter="Name <> 'Private'"))
    desk = Desk(couple)
    couple.run()
    key = couple.crm.put(Email="a@x.org", Name="Private")
    desk.event("crm", key, "created")
    desk.work()
    assert couple.hub.rows == {}
    assert desk.queue()[-1][1:] == ("done", "unmatched")
