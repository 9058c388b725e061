"""Random histories of two systems that are kept in step, and what must be true of them whenever they come to rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from sync_platform.state.database import Database
from tests.unit.twoway.memory import Killed

Side = Literal["crm", "hub"]
SIDES: Final[tuple[Side, Side]] = ("crm", "hub")
NAMES: Final = ("first", "title", "phone")  # the fields that people edit, as both worlds call them here
#: What a history leaves in the state; outcomes are append-only and stay.
LEFT: Final = (
    "links pairs positions held dead_letters intents conflicts merged_records observed queue inbox claims plans runs"
)
#: Seconds that pass at once: the latest webhook is on its way for that long.
PASSING: Final = 20
_CLEARED: Final = (None, "")


@dataclass(frozen=True, kw_only=True)
class Post:
    """How badly webhooks go: which share is lost and doubled, whether they overtake each other, seconds under way."""

    lost: float
    doubled: float
    shuffled: bool
    late: int


class Kept(Protocol):
    """Two systems in step, as a history drives them. Each tells us of its changes as `subscribe` said last."""

    def subscribe(self, post: Post) -> None:
        """From now on both systems send webhooks."""

    def make(self, side: Side, number: int) -> str:
        """A person makes a record; its id."""

    def edit(self, side: Side, key: str, name: str, value: str | None) -> None:
        """A person edits one field."""

    def stir(self, side: Side, key: str) -> None:
        """Something changes a record in a way that is none of our business: its stamp moves and we are told."""

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

    def die(self, side: Side, when: str | None) -> None:
        """The next write to a side kills our process."""

    def work(self) -> None:
        """A worker delivers what has arrived."""

    def passes(self, seconds: float) -> None:
        """Time passes at both systems: late webhooks arrive, stamps move again after the write."""

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
    settled: bool = False  # we may have agreed on some of the edits already


def forget(database: Database) -> None:
    """Empties the state of everything a history left."""
    with database.connection() as connection:
        for table in LEFT.split():
            connection.execute(f"DELETE FROM sync.{table}")


values = st.sampled_from(["A", "B", "C", "D", None])
whom = st.integers(0, 5)
sides = st.sampled_from(SIDES)
posts = st.builds(
    Post, lost=st.sampled_from([0.0, 0.3, 1.0]), doubled=st.sampled_from([0.0, 0.5]), shuffled=st.booleans(),
    late=st.sampled_from([0, PASSING]),
)  # fmt: skip


class History(RuleBasedStateMachine):
    """Edits, deletions and merges on both sides, webhooks that are lost, doubled, shuffled and late, runs that die."""

    def __init__(self, kept: Kept) -> None:
        super().__init__()
        self.kept = kept
        self.people: list[Person] = []
        self.steps = self.made = 0
        for side in SIDES:
            for _ in range(2):
                self._make(side)
        self.kept.run()

    @initialize(post=posts)
    def subscribe(self, post: Post) -> None:
        self.kept.subscribe(post)

    # -- what people do --------------------------------------------------------------------------

    def _make(self, side: Side) -> None:
        number = self.made
        self.made += 1  # nobody's e-mail is ever another one's
        key = self.kept.make(side, number)
        self.people.append(Person({side: key}, {"first": f"F{number}", "title": None, "phone": None}))
        self.steps += 1

    def _alive(self, number: int, side: Side) -> Person | None:
        alive = [one for one in self.people if side in one.ids and side not in one.removed and not one.merged]
        people = [one for one in alive if not (one.removed and one.settled)]  # else it may be gone on this side, too
        return people[number % len(people)] if people else None

    @rule(side=sides)
    def make(self, side: Side) -> None:
        if len(self.people) < 8:
            self._make(side)

    @rule(side=sides, number=whom, name=st.sampled_from(NAMES), value=values)
    def edit(self, side: Side, number: int, name: str, value: str | None) -> None:
        person = self._alive(number, side)
        if person is None:
            return
        self.kept.edit(side, person.ids[side], name, value)
        person.edits.setdefault(name, {})[side] = value
        self.steps += 1

    @rule(side=sides, number=whom)
    def remove(self, side: Side, number: int) -> None:
        person = self._alive(number, side)
        if person is None or len(person.ids) < 2:
            return
        self.kept.remove(side, person.ids[side])
        person.removed.add(side)
        self.steps += 1

    @rule(side=sides, number=whom, other=whom)
    def merge(self, side: Side, number: int, other: int) -> None:
        one, two = self._alive(number, side), self._alive(other, side)
        if one is None or two is None or one is two or one.removed or two.removed:
            return
        ids = [one.ids[side], two.ids[side]]
        remains = self.kept.merge(side, *ids) if len(one.ids) == len(two.ids) == 2 else None
        if remains is None:
            return
        one.merged = two.merged = True
        self.steps += 2

    # -- what we do ------------------------------------------------------------------------------

    @rule()
    def work(self) -> None:
        self._may_settle()
        self.kept.work()

    @rule()
    def time_passes(self) -> None:
        self._may_settle()
        self.kept.passes(PASSING)
        self.kept.work()

    def _may_settle(self) -> None:
        """What we do before everything is at rest may settle edits that deletions come after, and deletions."""
        for person in self.people:
            person.settled |= bool(person.edits or person.removed)

    @rule(side=sides, when=st.sampled_from(["before", "after"]))
    def run_that_dies(self, side: Side, when: str) -> None:
        self._may_settle()
        self.kept.die(side, when)
        try:
            self.kept.run()
        except Killed:
            return
        finally:
            self.kept.die(side, None)

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
        """Gone from both sides, unless it was edited where it was not deleted: then it lives on both again.

        What was typed is no edit when it is what was there, or when both sides had agreed on it before the deletion.
        """
        left: list[Side] = [side for side in SIDES if side not in person.removed]
        edited = [side for side in left if any(side in edits for edits in person.edits.values())]
        gone = all(key not in held[side] for side, key in person.ids.items())
        if gone and not (edited and self._surely_edited(person, edited[0])):
            self.people.remove(person)
            return
        assert edited, f"{person.ids} was deleted on one side and lives"
        person.ids = {edited[0]: person.ids[edited[0]]}
        for name, edits in person.edits.items():
            person.edits[name] = {side: value for side, value in edits.items() if side == edited[0]}
        person.removed.clear()
        self._check_alive(person, links, back, held)

    def _surely_edited(self, person: Person, side: Side) -> bool:
        told = [(edits[side], person.agreed[name]) for name, edits in person.edits.items() if side in edits]
        return not person.settled and any(not _same(value, before) for value, before in told)

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
        person.settled = False

    def teardown(self) -> None:
        """At rest, then silence: a minute of events, every record stirred on both sides, and two runs write nothing."""
        self._come_to_rest()
        for third in range(3):
            for person in self.people[third::3]:
                for side, key in person.ids.items():
                    self.kept.stir(side, key)
            self.kept.passes(PASSING)
            self.kept.work()
        for _ in range(2):
            self.kept.run()
        assert self.kept.writes() == 0, "it does not come to rest"


def _same(one: Any, other: Any) -> bool:
    return one == other or (one in _CLEARED and other in _CLEARED)
