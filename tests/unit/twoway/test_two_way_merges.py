"""Records that people merge in a CRM: the link follows to the survivor, and nothing is deleted or copied back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sync_platform.engine.spec import SyncSpec, TwoWay
from tests.unit.twoway.couple import Couple, a_two_way_sync

Make = Callable[[SyncSpec], Couple]
EAGER = TwoWay(deleted_at_source="propagate", deleted_at_target="propagate")


@pytest.mark.parametrize("side", ["source", "target"])
def test_the_link_of_a_loser_follows_to_a_survivor_that_had_none(side: str, couple_of: Make) -> None:
    couple = couple_of(a_two_way_sync(EAGER, filter="Note IS NULL"))
    key, other = couple.linked(Email="a@x.org", Phone="1")
    if side == "source":
        survivor = couple.crm.put(Email="old@x.org", Note="outside")
        couple.run()
        couple.crm.merge(survivor, key)
        couple.crm.edit(survivor, Note=None)
        couple.run()
        assert couple.links() == {survivor: other}
        assert couple.hub.rows[other]["email"] == "old@x.org"
    else:
        survivor = couple.hub.put(email="old@x.org")
        couple.hub.merge(survivor, other)
        couple.run()
        assert couple.links() == {key: survivor}
        assert couple.crm.rows[key]["Email"] == "old@x.org"
    assert (len(couple.crm.rows), len(couple.hub.rows)) == (1, 1)
    assert couple.silent()


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_survivor_keeps_its_own_partner_and_the_losers_is_left_as_it_is(side: str, couple_of: Make) -> None:
    couple = couple_of(a_two_way_sync(EAGER))
    first = couple.crm.put(Email="a@x.org", Phone="1")
    second = couple.crm.put(Email="b@x.org")
    couple.run()
    links = couple.links()
    if side == "source":
        couple.crm.merge(second, first)
    else:
        couple.hub.merge(links[second], links[first])
    couple.run()
    assert couple.hub.rows[links[second]]["phone"] == "1"  # the survivor took it over
    assert couple.crm.rows[second]["Phone"] == "1"
    assert (len(couple.crm.rows), len(couple.hub.rows)) == ((1, 2) if side == "source" else (2, 1))
    assert any("left as it is" in text for text in couple.said)
    told = couple.rows("SELECT reason FROM sync.outcomes WHERE reason LIKE '%%merged into%%'")
    assert len(told) == 1
    if side == "source":  # the orphan is nobody's any more: neither copied back nor deleted
        couple.hub.edit(links[first], name="Still here")
    else:
        couple.crm.edit(first, Name="Still here")
    assert couple.silent()
    assert len(couple.rows("SELECT reason FROM sync.outcomes WHERE reason LIKE '%%merged into%%'")) == 1


def test_a_merge_of_merges_ends_at_the_last_survivor(couple_of: Make) -> None:
    couple = couple_of(a_two_way_sync(EAGER, filter="Note IS NULL"))
    key, other = couple.linked(Email="a@x.org")
    middle = couple.crm.put(Email="m@x.org", Note="outside")
    last = couple.crm.put(Email="z@x.org", Note="outside")
    couple.crm.merge(middle, key)
    couple.crm.merge(last, middle)
    couple.crm.edit(last, Note=None)
    couple.run()
    assert couple.links() == {last: other}
    assert couple.hub.rows[other]["email"] == "z@x.org"
    assert couple.silent()


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_plan_only_proposes_that_a_link_follows_and_its_delivery_moves_it(side: str, couple_of: Make) -> None:
    couple = couple_of(a_two_way_sync(EAGER, filter="Note IS NULL"))
    key, other = couple.linked(Email="a@x.org", Phone="1")
    if side == "source":
        survivor = couple.crm.put(Email="old@x.org", Note="outside")
        couple.run()
        couple.crm.merge(survivor, key)
        couple.crm.edit(survivor, Note=None)
    else:
        survivor = couple.hub.put(email="old@x.org")
        couple.hub.merge(survivor, other)
    before = ledger(couple)
    for _ in range(2):
        planned = couple.planned()
        assert ledger(couple) == before, "a plan changes nothing"
    assert any("follows" in text for text in couple.said)
    assert [(one["side"], one["op"]) for one in couple.changes(planned)] == [
        ("target" if side == "source" else "source", "update")
    ], "it is planned as the pair it will be"
    couple.deliver(planned.plan_id)
    assert couple.links() == ({survivor: other} if side == "source" else {key: survivor})
    assert (len(couple.crm.rows), len(couple.hub.rows)) == (1, 1)
    assert couple.silent()


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_plan_leaves_a_loser_whose_survivor_is_linked_where_it_is(side: str, couple_of: Make) -> None:
    couple = couple_of(a_two_way_sync(EAGER))
    first, second = couple.crm.put(Email="a@x.org", Phone="1"), couple.crm.put(Email="b@x.org")
    couple.run()
    links = couple.links()
    couple.crm.merge(second, first) if side == "source" else couple.hub.merge(links[second], links[first])
    before = ledger(couple)
    planned = couple.planned()
    assert ledger(couple) == before, "a plan changes nothing"
    assert any("left as it is" in text for text in couple.said)
    couple.deliver(planned.plan_id)
    assert couple.links() == links
    assert couple.silent()


def test_a_plan_sees_merges_of_both_sides_and_chains_of_them(couple_of: Make) -> None:
    couple = couple_of(a_two_way_sync(EAGER, filter="Note IS NULL"))
    key, other = couple.linked(Email="a@x.org")
    ours = [couple.crm.put(Email=f"{n}@x.org", Note="outside") for n in range(2)]
    theirs = [couple.hub.put(email=f"t{n}@x.org") for n in range(2)]
    for survivor, loser in ((ours[0], key), (ours[1], ours[0])):
        couple.crm.merge(survivor, loser)
    for survivor, loser in ((theirs[0], other), (theirs[1], theirs[0])):
        couple.hub.merge(survivor, loser)
    couple.crm.edit(ours[1], Note=None)
    before = ledger(couple)
    planned = couple.planned()
    assert ledger(couple) == before, "a plan changes nothing"
    couple.deliver(planned.plan_id)
    assert couple.links() == {ours[1]: theirs[1]}
    assert (len(couple.crm.rows), len(couple.hub.rows)) == (1, 1)
    assert couple.silent()


def ledger(couple: Couple) -> dict[str, list[tuple[object, ...]]]:
    """What is known of records, whoever they are linked to."""
    tables = ("links", "outcomes", "merged_records", "held", "conflicts", "dead_letters", "positions")
    return {name: couple.rows(f"SELECT * FROM sync.{name} ORDER BY 1, 2, 3") for name in tables}


def test_of_several_losers_the_link_follows_that_the_plan_named(couple_of: Make) -> None:
    couple = couple_of(a_two_way_sync(EAGER))
    keys = [couple.crm.put(Email=f"{name}@x.org", Name=name) for name in ("zoe", "amy", "bob")]
    couple.run()
    links = couple.links()
    survivor = couple.hub.put(email="zoe@x.org", name="zoe")
    for key in (keys[2], keys[0], keys[1]):
        couple.hub.merge(survivor, links[key])
    planned = couple.planned()
    couple.deliver(planned.plan_id)
    [moved] = [key for key, target in couple.links().items() if target == survivor]
    [told] = {text for text in couple.said if "follows" in text}
    assert f"its link to {moved} follows" in told, "the plan said so"
    assert couple.silent()
