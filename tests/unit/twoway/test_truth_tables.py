"""The truth tables of docs/two-way.md, executed row by row through whole runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from sync_platform.engine.spec import SyncSpec, TwoWay
from sync_platform.state.database import Database
from tests.docs.two_way_tables import DeleteCase, FieldCase, delete_cases, field_cases
from tests.unit.twoway.couple import Couple, a_two_way_sync
from tests.unit.twoway.memory import Memory, text

FIELDS = field_cases()
DELETES = delete_cases()
RULES = ("newest", "source", "target", "owner target", "ask")


def test_every_rule_has_a_table() -> None:
    assert {case.rule for case in FIELDS} == set(RULES)
    assert {(case.side, case.conflicts) for case in DELETES} >= {
        (side, rule) for side in ("source", "target") for rule in ("newest", "source", "target", "ask")
    }


def _rule(name: str) -> TwoWay:
    if name == "owner target":
        return TwoWay(conflicts="source", owners={"phone": "target"})
    return TwoWay(conflicts=name)  # type: ignore[arg-type]


def _apart(couple: Couple) -> None:
    """Both systems keep null and empty text apart."""
    couple.crm = Memory.of(
        text("Email"), text("Name"), text("Phone"), prefix="c", ticks=couple.ticks, empty_is_null=False
    )
    couple.hub = Memory.of(
        text("email", folded=True), text("name"), text("phone"), prefix="h", ticks=couple.ticks, empty_is_null=False
    )


def _edit(couple: Couple, case: FieldCase, key: str, other: str) -> None:
    def ours() -> None:
        if case.source != "A":
            couple.crm.edit(key, Phone=case.source)

    def theirs() -> None:
        if case.target != "A":
            couple.hub.edit(other, phone=case.target)

    for side in (ours, theirs) if case.last == "target" else (theirs, ours):
        side()


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_decides_as_its_table_says(rule: str, couple_of: Callable[[SyncSpec], Couple]) -> None:
    couple = couple_of(a_two_way_sync(_rule(rule)))
    _apart(couple)
    cases = [case for case in FIELDS if case.rule == rule]
    keys = [couple.crm.put(Email=f"p{n}@x.org", Phone="A") for n in range(len(cases))]
    couple.run()
    links = couple.links()
    for case, key in zip(cases, keys, strict=True):
        _edit(couple, case, key, links[key])
    planned = couple.planned()
    wanted: Mapping[str, Any] = {row["key"]: row for row in couple.changes(planned)}
    couple.deliver(planned.plan_id)
    for case, key in zip(cases, keys, strict=True):
        held = (couple.crm.rows[key]["Phone"], couple.hub.rows[links[key]]["phone"])
        assert held == (case.source_then, case.target_then), case
        done = wanted.get(key)
        said = "nothing" if done is None else ("conflict" if done["op"] == "conflict" else f"to {done['side']}")
        assert said == ("nothing" if case.outcome == "settled" else case.outcome), case
    asked = [case for case in cases if case.outcome == "conflict"]
    assert len(couple.conflicts()) == len(asked)
    assert couple.silent()


@pytest.mark.parametrize(
    "case", DELETES, ids=[f"{c.side}-{'edited' if c.edited else 'same'}-{c.on_delete}-{c.conflicts}" for c in DELETES]
)
def test_a_deletion_does_as_its_table_says(case: DeleteCase, couple_of: Callable[[SyncSpec], Couple]) -> None:
    two_way = replace(
        TwoWay(conflicts=case.conflicts),  # type: ignore[arg-type]
        **{f"deleted_at_{case.side}": case.on_delete},
    )
    couple = couple_of(a_two_way_sync(two_way))
    key, other = couple.linked(Email="a@x.org", Phone="A")
    if case.edited and case.side == "source":
        couple.hub.edit(other, phone="B")
    elif case.edited:
        couple.crm.edit(key, Phone="B")
    (couple.crm.remove(key) if case.side == "source" else couple.hub.remove(other))
    couple.run()
    lives = {"both live": (1, 1), "both are gone": (0, 0), "the target lives": (0, 1), "the source lives": (1, 0)}
    assert (len(couple.crm.rows), len(couple.hub.rows)) == lives[case.then]
    assert len(couple.conflicts()) == (case.outcome == "conflict")
    if case.then == "both live":
        assert [row["Phone"] for row in couple.crm.rows.values()] == ["B"]
        assert [row["phone"] for row in couple.hub.rows.values()] == ["B"]
    assert couple.silent()


def test_a_guard_stops_deletions_of_both_sides(fresh_state: Database) -> None:
    from sync_platform.engine.spec import Guards

    couple = Couple(
        fresh_state,
        a_two_way_sync(
            TwoWay(deleted_at_source="propagate", deleted_at_target="propagate"), guards=Guards(max_deletes=1)
        ),
    )
    keys = [couple.crm.put(Email=f"p{n}@x.org") for n in range(3)]
    couple.run()
    links = couple.links()
    couple.crm.remove(keys[0])
    couple.hub.remove(links[keys[1]])
    planned = couple.planned()
    assert planned.blocked is not None
    assert "2 records" in planned.blocked
    couple.lake.close()
