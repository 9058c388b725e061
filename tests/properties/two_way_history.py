"""Random histories of two systems that are kept in step, and what must be true of them whenever they come to rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.unit.twoway.memory import Killed

Side = Literal["crm", "hub"]
SIDES: Final[tuple[Side, Side]] = ("crm", "hub")
NAMES: Final = ("first", "title", "phone")  # the fields that people edit, as both worlds call them here
_CLEARED: Final = (None, "")


class Kept(Protocol):
    """Two systems in step, as a history drives them."""

    def make(self, side: Side, number: int) -> str:
        """A person makes a record; its id."""

    def edit(self, side: Side, key: str, name: str, value: str | None) -> None:
        """A person edits one field."""

    def remove(self, side: Side, key: str) -> None:
        """A person deletes a record."""

    def merge(self, side: Side, survivor: str, loser: str) -> str | None:
        """A person merges two records; the id that remains, None where nobody can."""

    def values(self, side: Side) -> dict[str, dict[str, Any]]:
        """The living records' edited fields by id."""

    def links(self) -> dict[str, str]:
        """Hub ids by crm id."""

    def run(self) -> None:
        """A run of the batch lane."""

    def die(self, side: Side, when: str) -> None:
        """The next write to a side kills our process."""

    def event(self, side: Side, key: str, kind: str, times: int) -> None:
        """A webhook, doubled as often as the vendor likes."""

    def work(self) -> None:
        """A worker delivers what waits."""

    def writes(self) -> int:
        """How many records we wrote on either side since this was asked last."""


@dataclass
class Person:
    """One record as people know it: its ids, what was edited since both sides were at rest, and what they agreed on."""

    ids: dict[Side, str]
    agreed: dict[str, str | None]
    edits: dict[str, dict[Side, str | None]] = field(default_factory=dict)
    removed: set[Side] = field(default_factory=set)
    merged: bool = False


values = st.sampled_from(["A", "B", "C", "D", None])
whom = st.integers(0, 5)
sides = st.sampled_from(SIDES)
tellings = st.integers(0, 2)


class History(RuleBasedStateMachine):
    """Edits, deletions and merges on both sides, events that are lost, doubled and late, runs that die."""

    def __init__(self, kept: Kept) -> None:
        super().__init__()
        self.kept = kept
        self.people: list[Person] = []
        self.late: list[tuple[Side, str, str, int]] = []
        self.steps = self.made = 0
        for side in SIDES:
            for _ in range(2):
                self._make(side)
        self.kept.run()

    # -- what people do --------------------------------------------------------------------------

    def _make(self, side: Side) -> None:
        number = self.made
        self.made += 1  # nobody's e-mail is ever another one's
        key = self.kept.make(side, number)
        self.people.append(Person({side: key}, {"first": f"F{number}", "title": None, "phone": None}))
        self.steps += 1

    def _alive(self, number: int, side: Side) -> Person | None:
        people = [one for one in self.people if side in one.ids and side not in one.removed and not one.merged]
        return people[number % len(people)] if people else None

    @rule(side=sides, told=tellings)
    def make(self, side: Side, told: int) -> None:
        if len(self.people) < 8:
            self._make(side)
            self._tell(side, self.people[-1].ids[side], "created", told)

    @rule(side=sides, number=whom, name=st.sampled_from(NAMES), value=values, told=tellings)
    def edit(self, side: Side, number: int, name: str, value: str | None, told: int) -> None:
        person = self._alive(number, side)
        if person is None:
            return
        self.kept.edit(side, person.ids[side], name, value)
        person.edits.setdefault(name, {})[side] = value
        self.steps += 1
        self._tell(side, person.ids[side], "updated", told)

    @rule(side=sides, number=whom, told=tellings)
    def remove(self, side: Side, number: int, told: int) -> None:
        person = self._alive(number, side)
        if person is None or len(person.ids) < 2:
            return
        self.kept.remove(side, person.ids[side])
        person.removed.add(side)
        self.steps += 1
        self._tell(side, person.ids[side], "deleted", told)

    @rule(side=sides, number=whom, other=whom, told=tellings)
    def merge(self, side: Side, number: int, other: int, told: int) -> None:
        one, two = self._alive(number, side), self._alive(other, side)
        if one is None or two is None or one is two or one.removed or two.removed:
            return
        ids = [one.ids[side], two.ids[side]]
        remains = self.kept.merge(side, *ids) if len(one.ids) == len(two.ids) == 2 else None
        if remains is None:
            return
        one.merged = two.merged = True
        self.steps += 2
        for gone in [key for key in ids if key != remains]:
            self._tell(side, gone, "deleted", told)
        self._tell(side, remains, "merged", told)

    def _tell(self, side: Side, key: str, kind: str, told: int) -> None:
        """0: lost, 1: in order, 2: doubled and late, after newer ones."""
        if told == 1:
            self.kept.event(side, key, kind, 1)
        elif told == 2:
            self.late.append((side, key, kind, 2))

    # -- what we do ------------------------------------------------------------------------------

    @rule()
    def work(self) -> None:
        self.kept.work()

    @rule()
    def late_events(self) -> None:
        for one in reversed(self.late):
            self.kept.event(*one)
        self.late.clear()
        self.kept.work()

    @rule(side=sides, when=st.sampled_from(["before", "after"]))
    def run_that_dies(self, side: Side, when: str) -> None:
        self.kept.die(side, when)
        try:
            self.kept.run()
        except Killed:
            return
        finally:
            self.kept.die(side, "")

    @rule()
    def run(self) -> None:
        self._come_to_rest()

    # -- what must be true -----------------------------------------------------------------------

    def _come_to_rest(self) -> None:
        """Two runs: what a first one refuses because it moved meanwhile, the second one writes."""
        self.kept.run()
        self.kept.run()
        links, held = self.kept.links(), {side: self.kept.values(side) for side in SIDES}
        assert self.kept.writes() <= 2 * self.steps, "more than one echo for an edit"
        self.steps = 0
        back = {hub: crm for crm, hub in links.items()}
        for person in list(self.people):
            if person.merged:
                self.people.remove(person)
            elif person.removed:
                self._check_removed(person, links, back, held)
            else:
                self._check_alive(person, links, back, held)

    def _check_removed(self, person: Person, links: dict[str, str], back: dict[str, str], held: Any) -> None:
        """Gone from both sides, unless it was edited where it was not deleted: then it lives on both again."""
        left: list[Side] = [side for side in SIDES if side not in person.removed]
        edited = [side for side in left if any(side in edits for edits in person.edits.values())]
        if not edited:
            for side, key in person.ids.items():
                assert key not in held[side], f"{side} {key} was deleted on the other side and lives"
            self.people.remove(person)
            return
        person.ids = {edited[0]: person.ids[edited[0]]}
        for name, edits in person.edits.items():
            person.edits[name] = {side: value for side, value in edits.items() if side == edited[0]}
        person.removed.clear()
        self._check_alive(person, links, back, held)

    def _check_alive(self, person: Person, links: dict[str, str], back: dict[str, str], held: Any) -> None:
        crm = person.ids.get("crm") or back.get(person.ids["hub"])
        hub = person.ids.get("hub") or links.get(person.ids["crm"])
        assert crm is not None, f"{person.ids} has no partner"
        assert hub is not None, f"{person.ids} has no partner"
        assert links.get(crm) == hub, f"{crm} is linked to {links.get(crm)}, not {hub}"
        ours, theirs = held["crm"][crm], held["hub"][hub]
        for name in NAMES:
            assert _same(ours[name], theirs[name]), f"{name}: {ours[name]!r} and {theirs[name]!r}"
            wanted = list(person.edits.get(name, {}).values()) or [person.agreed[name]]
            assert any(_same(ours[name], one) for one in wanted), f"{name} is {ours[name]!r}, edited to {wanted}"
            person.agreed[name] = ours[name] or None
        person.ids = {"crm": crm, "hub": hub}
        person.edits.clear()

    def teardown(self) -> None:
        """At rest, then silence: two runs and an event for every record write nothing."""
        self._come_to_rest()
        for person in self.people:
            for side, key in person.ids.items():
                self.kept.event(side, key, "updated", 1)
        self.kept.work()
        self.kept.run()
        assert self.kept.writes() == 0, "it does not come to rest"


def _same(one: Any, other: Any) -> bool:
    return one == other or (one in _CLEARED and other in _CLEARED)
