"""From the match plan to links: nothing is created before somebody decided, and nothing is decided twice."""

from __future__ import annotations

import pytest

from sync_platform.ledger.match_decisions import decisions_of
from sync_platform.matching.applying import break_link
from tests.unit.matching.registry import Registry, matching_sync


def first_day(registry: Registry) -> tuple[str, str]:
    """Three leads and two contacts: one the same by key, one alike, one new."""
    same = registry.contact("ann@x.example", "Ann Hallberg")
    alike = registry.contact("eve.martinson@y.example", "Eve Martinson")
    registry.lead("a", "ANN@x.example", "Ann Hallberg")
    registry.lead("e", "eve.martinson@z.example", "Eve Martinson")
    registry.lead("n", "new@x.example", "Nobody Elsewhere")
    return same, alike


def test_the_plan_lists_every_unlinked_record_and_changes_nothing(registry: Registry) -> None:
    same, alike = first_day(registry)
    told = registry.match()
    assert told == {
        "a": ("exact", same, "undecided"),
        "e": (told["e"][0], alike, "undecided"),
        "n": ("unmatched", None, "undecided"),
    }
    assert told["e"][0] in ("likely", "ambiguous")
    assert registry.shelf.calls == []
    assert registry.links() == {}


def test_nothing_is_created_before_the_plan_is_applied_and_what_is_undecided_stays_held(registry: Registry) -> None:
    same, alike = first_day(registry)
    assert registry.run()["first_sync_held"] == 2
    registry.match()
    registry.decide("e", "accept", alike)
    applied = registry.apply()
    assert (applied.linked, applied.create, applied.undecided, applied.refused) == (1, 0, 1, [])
    report = registry.run()
    assert (report["first_sync_held"], report["sync_summary"]["held"]) == (0, 1)
    assert registry.links() == {"a": same, "e": alike}
    assert registry.shelf.rows[alike]["email"] == "eve.martinson@z.example"
    assert len(registry.shelf.rows) == 2
    registry.match()
    assert registry.apply("unmatched").create == 1
    assert registry.run()["sync_summary"]["created"] == 1
    assert registry.waiting() == []
    registry.stage()
    assert registry.match() == {}
    assert registry.run()["sync_summary"]["records_processed"] == 0


def test_applying_twice_links_once(registry: Registry) -> None:
    same, _ = first_day(registry)
    registry.match()
    registry.decide("a", "accept", same)
    assert registry.apply().linked == 1
    assert registry.apply().linked == 0
    assert registry.links() == {"a": same}
    assert registry.statuses("a") == ["noop"]
    assert registry.rows("SELECT count(*) FROM sync.audit_batches") == [(1,)]


def test_a_newcomer_that_looks_like_an_unlinked_record_is_held_and_another_is_created(registry: Registry) -> None:
    registry.spec = matching_sync(first_sync="create")
    known = registry.contact("otto@y.example", "Otto Wickstein")
    registry.lead("o", "otto@z.example", "Otto Wickstein")
    registry.lead("p", "paula@z.example", "Paula Zimmer")
    report = registry.run()
    assert (report["sync_summary"]["created"], report["sync_summary"]["held"]) == (1, 1)
    (reason,) = registry.rows("SELECT reason FROM sync.held WHERE source_key = 'o'")[0]
    assert f"it looks like {known} (" in reason
    assert "sync-platform match leads" in reason
    assert registry.match()["o"][1] == known
    registry.decide("o", "reject", known)
    registry.apply()
    assert registry.run()["sync_summary"]["created"] == 1
    assert registry.waiting() == []
    assert len(registry.shelf.rows) == 3


def test_a_decision_to_create_holds_whatever_arrives_later(registry: Registry) -> None:
    first_day(registry)
    registry.match()
    registry.decide("e", "create")
    registry.apply("exact")
    registry.contact("eve.martinson@w.example", "Eve Martinson")  # another look-alike
    report = registry.run()
    assert report["sync_summary"]["created"] == 1
    assert "e" in registry.links()


def test_a_record_with_anothers_mailbox_is_held_although_the_match_fields_are_equal(registry: Registry) -> None:
    registry.spec = matching_sync(first_sync="create")
    shared = registry.contact("home@x.example", "Eve Martinson")
    registry.lead("o", "home@x.example", "Otto Wickstein")
    assert registry.run()["sync_summary"]["held"] == 1
    assert registry.shelf.rows[shared]["name"] == "Eve Martinson"
    registry.match()
    registry.decide("o", "accept", shared)
    assert registry.apply().linked == 1
    registry.run()
    assert registry.shelf.rows[shared]["name"] == "Otto Wickstein"


def test_a_pair_that_moved_meanwhile_is_refused_and_the_rest_is_applied(registry: Registry) -> None:
    same, alike = first_day(registry)
    registry.match()
    registry.decide("a", "accept", same)
    registry.decide("e", "accept", alike)
    del registry.shelf.rows[alike]
    registry.stage()
    applied = registry.apply()
    assert applied.linked == 1
    assert applied.refused == [
        {"key": "e", "target_id": alike, "reason": "the target record is not there any more"},
    ]
    assert registry.links() == {"a": same}


def test_a_broken_link_is_not_made_again_by_itself(registry: Registry) -> None:
    same, _ = first_day(registry)
    registry.run()
    assert registry.links() == {"a": same}
    with registry.session() as session:
        assert break_link(session, registry.spec, "a") == same
        assert break_link(session, registry.spec, "a") is None
    registry.stage()
    report = registry.run()
    assert registry.links() == {}
    assert report["sync_summary"]["held"] >= 1
    (reason,) = registry.rows("SELECT reason FROM sync.held WHERE source_key = 'a'")[0]
    assert "decided that they are not the same" in reason
    assert registry.rows("SELECT reason FROM sync.outcomes WHERE source_key = 'a' AND lane = 'match'") == [
        (f"the link to {same} was broken by hand",)
    ]


def test_a_sync_that_was_pointed_elsewhere_waits_for_a_plan_of_its_own(registry: Registry) -> None:
    first_day(registry)
    registry.match()
    registry.apply("exact", "unmatched")
    registry.spec = matching_sync(target=registry.spec.target.__class__(connection="shop", object="blind"))
    registry.stage()
    assert registry.run()["first_sync_held"] == 2  # of the old plan nothing holds: not even the create it allowed


@pytest.mark.parametrize("decision", ["accept", "reject", "create", "undecided"])
def test_every_decision_is_remembered_with_what_it_rested_on(registry: Registry, decision: str) -> None:
    _, alike = first_day(registry)
    registry.match()
    registry.decide("e", decision, alike)
    registry.apply()
    told = decisions_of(registry.database, registry.spec, ["e"])
    assert told.rows() == [("e", alike, decision)]
    (row,) = registry.rows("SELECT class, score, evidence FROM sync.match_decisions WHERE source_key = 'e'")
    assert row[0] in ("likely", "ambiguous")
    assert row[1] > 0.4
    assert "name equal" in row[2]


def test_a_record_to_be_created_with_anothers_match_values_is_held_and_says_why(registry: Registry) -> None:
    registry.spec = matching_sync(first_sync="create")
    shared = registry.contact("home@x.example", "Eve Martinson")
    registry.lead("o", "home@x.example", "Otto Wickstein")
    registry.match()
    registry.decide("o", "create")
    registry.apply()
    assert registry.run()["sync_summary"]["held"] == 1
    (reason,) = registry.rows("SELECT reason FROM sync.held WHERE source_key = 'o'")[0]
    assert reason.startswith(f"it is to be created, but {shared} has the same match values")
    assert len(registry.shelf.rows) == 1


def test_every_accepted_pair_is_linked_as_it_was_accepted(registry: Registry) -> None:
    people = {"a": "zoe@x.example", "b": "yan@x.example", "c": "xia@x.example"}
    there = {email: registry.contact(email, email) for email in sorted(people.values())}
    for key, email in people.items():
        registry.lead(key, email, email)
    registry.match()
    assert registry.apply("exact").linked == 3
    assert registry.links() == {key: there[email] for key, email in people.items()}
