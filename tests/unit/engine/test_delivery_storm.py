"""A law: whatever is edited and whatever goes wrong, the target ends up as the newest source wants it, once each."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field

import pytest

from sync_platform.engine.spec import Dedupe, ErrorHandling, Guards
from sync_platform.errors import AccessError
from tests.unit.engine.shelf import Fault, Killed
from tests.unit.engine.workshop import Workshop, a_sync

ROUNDS = 10
ADDRESSES = [f"p{n}@x" for n in range(8)]


@dataclass
class Source:
    """The source as a person sees it: key -> (version, e-mail, name); a deleted record is not in it."""

    workshop: Workshop
    chance: random.Random
    held: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    made: int = 0

    def stir(self) -> None:
        """Adds, edits, re-addresses or deletes a record."""
        keys = sorted(self.held)
        what = self.chance.choice(["add", "add", "edit", "move", "delete"]) if keys else "add"
        if what == "delete":
            gone = self.chance.choice(keys)
            self.workshop.lead(gone, None, deleted=True)
            del self.held[gone]
            return
        key = f"k{self.made}" if what == "add" else self.chance.choice(keys)
        email = self.held[key][1] if what == "edit" else self.chance.choice(ADDRESSES)
        self.made += what == "add"
        name = f"name {self.workshop.seq}"
        self.workshop.lead(key, email, name)
        self.held[key] = (self.workshop.seq, email, name)

    def wanted(self) -> list[tuple[str, str]]:
        """(e-mail, name) of the newest record of every address."""
        newest: dict[str, tuple[int, str, str]] = {}
        for one in self.held.values():
            if one[1] not in newest or one > newest[one[1]]:
                newest[one[1]] = one
        return sorted((email, name) for _, email, name in newest.values())


@pytest.mark.parametrize("seed", [1, 4])
def test_a_storm_of_edits_and_faults_loses_and_doubles_nothing(workshop: Workshop, seed: int) -> None:
    chance = random.Random(seed)
    workshop.spec = a_sync(
        mode="mirror",
        dedupe=Dedupe(by="lower(trim(Email))"),
        guards=Guards(max_deletes=None),
        errors=ErrorHandling(retries=1, backoff_seconds=0.0),
    )
    source, shelf, met = Source(workshop, chance), workshop.shelf, 0
    for _ in range(ROUNDS):
        for _ in range(chance.randint(1, 6)):
            source.stir()
        shelf.faults[:] = chance.choices(
            [Fault.ANSWER_LOST, Fault.REQUEST_LOST, Fault.KILLED, Fault.WHOLE_REFUSED], k=2
        )
        shelf.retried.clear()
        shelf.retried.update(chance.sample(ADDRESSES, 1))
        with contextlib.suppress(Killed, AccessError):
            workshop.run()
        met += 2 - len(shelf.faults)
    shelf.faults.clear()
    shelf.retried.clear()
    assert met > ROUNDS / 2, "a storm without faults proves nothing"
    workshop.rows("UPDATE sync.dead_letters SET state = 'retry' WHERE state = 'open' RETURNING id")
    workshop.run()
    workshop.run()
    assert sorted((row["email"], row["name"]) for row in shelf.rows.values()) == source.wanted()
    assert workshop.waiting() == []
    calls = len(shelf.calls)
    assert workshop.run()["sync_summary"]["records_processed"] == 0
    assert len(shelf.calls) == calls
