"""Two-way runs: each edit reaches the other side, once, and nothing comes back."""

from __future__ import annotations

from tests.unit.twoway.couple import Couple


def test_a_record_of_either_side_is_made_on_the_other_and_then_there_is_silence(couple: Couple) -> None:
    ours = couple.crm.put(Email="a@x.org", Name="Ann")
    theirs = couple.hub.put(email="b@x.org", name="Bob")
    report = couple.run()
    assert report["sync_summary"]["created"] == 2
    assert {row["email"]: row["name"] for row in couple.hub.rows.values()} == {"a@x.org": "Ann", "b@x.org": "Bob"}
    assert {row["Email"]: row["Name"] for row in couple.crm.rows.values()} == {"a@x.org": "Ann", "b@x.org": "Bob"}
    assert set(couple.links()) == set(couple.crm.rows)
    assert {ours, theirs} <= {*couple.links(), *couple.links().values()}
    assert couple.silent()


def test_edits_of_different_fields_of_one_record_both_arrive(couple: Couple) -> None:
    key, other = couple.linked(Email="a@x.org", Name="Ann", Phone="1")
    couple.crm.edit(key, Name="Anna")
    couple.hub.edit(other, phone="2")
    couple.run()
    assert (couple.crm.rows[key]["Name"], couple.crm.rows[key]["Phone"]) == ("Anna", "2")
    assert (couple.hub.rows[other]["name"], couple.hub.rows[other]["phone"]) == ("Anna", "2")
    assert couple.silent()


def test_the_same_edit_on_both_sides_is_settled_without_a_write(couple: Couple) -> None:
    key, other = couple.linked(Email="a@x.org", Name="Ann")
    couple.crm.edit(key, Name="Anna")
    couple.hub.edit(other, name="Anna")
    assert couple.silent(1)
    couple.crm.edit(key, Name="Anja")
    couple.run()
    assert couple.hub.rows[other]["name"] == "Anja"
    assert couple.silent()


def test_the_first_meeting_of_two_populations_matches_before_it_creates(couple: Couple) -> None:
    couple.crm.put(Email="a@x.org", Name="Ann")
    couple.hub.put(email="A@x.org", name="Ann", phone="7")
    couple.run()
    assert (len(couple.crm.rows), len(couple.hub.rows)) == (1, 1)
    assert next(iter(couple.crm.rows.values()))["Phone"] == "7"
    assert couple.silent()


def test_a_value_the_vendor_rewrites_does_not_come_back_for_ever(couple: Couple) -> None:
    couple.hub.habit(lambda name, value: value.replace(" ", "") if name == "phone" and value else value)
    key, other = couple.linked(Email="a@x.org", Phone="030 123")
    assert couple.hub.rows[other]["phone"] == "030123"
    couple.run()
    couple.run()
    assert couple.silent()
    couple.crm.edit(key, Phone="030 124")
    couple.run()
    assert couple.hub.rows[other]["phone"] == "030124"
