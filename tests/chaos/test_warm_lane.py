"""Events under fire: doubled, reordered, lost, workers killed, the target failing, a batch run at the same time."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.crew import Crew
from tests.chaos.scenes import assert_agreed, assert_settled
from tests.world import World


@pytest.fixture
def crew(world: World, tmp_path: Path) -> Iterator[Crew]:
    """A gateway that the simulated Salesforce will send to; no worker yet."""
    made = Crew(world, tmp_path / "logs")
    made.gateway()
    yield made
    made.stop()
    for kind in ("500", "429", "disconnect_after", "disconnect_before"):
        world.control.post("faults", {"system": "hubspot", "kind": kind, "times": 0})


def storm(world: World, ids: list[str], events: int, chance: random.Random) -> None:
    """Edits random leads, each time with a higher number in its company's name; now and then a new lead."""
    for start in range(0, events, 25):
        numbers = range(start, min(start + 25, events))
        edits = {one: f"Company {number:06d}" for number in numbers for one in [chance.choice(ids)]}
        world.edit("salesforce/Lead", *[{"id": one, "fields": {"Company": name}} for one, name in edits.items()])
        if start % 250 == 0:
            fresh = {"LastName": f"New {start}", "Email": f"new{start}@x.example", "Company": "Fresh",
                     "Status": "Open - Not Contacted"}  # fmt: skip
            ids += world.edit("salesforce/Lead", {"fields": fresh})


def assert_in_order(crew: Crew) -> None:
    """No contact was ever given an older company than it had."""
    rows = crew.rows(
        """SELECT source_key, fields -> 'company' ->> 1 FROM sync.outcomes
           WHERE status = 'applied' AND fields ? 'company' ORDER BY id"""
    )
    assert rows, "nothing was written"
    newest: dict[str, str] = {}
    for key, company in rows:
        if company and company.startswith("Company "):
            assert company >= newest.get(key, ""), (key, company, newest[key])
            newest[key] = company


def under_fire(world: World, crew: Crew, *, leads: int, events: int, every: float) -> None:
    world.seed_leads(leads)
    assert world.run().code == 0
    crew.listen(duplicate_rate=0.3, reorder=True, drop_rate=0.05)
    for kind, rate in (("500", 0.05), ("disconnect_after", 0.03), ("disconnect_before", 0.03)):
        world.control.post("faults", {"system": "hubspot", "kind": kind, "rate": rate})
    for _ in range(2):
        crew.start("worker")
    ids = [lead["id"] for lead in world.records("salesforce/Lead")]
    batches: list[int] = []
    batch = threading.Thread(target=lambda: batches.extend(world.run().code for _ in range(2)))
    with crew.killing("worker", every):
        batch.start()
        storm(world, ids, events, random.Random(7))
        batch.join()
    for kind in ("500", "disconnect_after", "disconnect_before"):
        world.control.post("faults", {"system": "hubspot", "kind": kind, "times": 0})
    crew.quiet()
    assert crew.killed >= 1
    assert set(batches) <= {0, 1, 3}, "the target was failing meanwhile; nothing worse may happen"
    assert_settled(world)
    assert_in_order(crew)
    [told] = world.control.get("webhooks")["webhooks"]
    assert told["dropped"] > 0
    assert told["duplicated"] > 0


def test_every_final_value_is_right_whatever_happens_to_events_workers_and_target(world: World, crew: Crew) -> None:
    under_fire(world, crew, leads=40, events=500, every=3.0)


@pytest.mark.slow
def test_ten_thousand_events_over_five_hundred_records_under_fire(world: World, crew: Crew) -> None:
    under_fire(world, crew, leads=500, events=10_000, every=4.0)


_SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "point",
    [
        "event_claimed",
        "answer_received",
        *(
            pytest.param(one, marks=_SLOW)
            for one in ("before_intent", "after_intent", "request_sent", "outcome_written")
        ),
    ],
)
def test_a_worker_killed_at_a_crash_point_loses_nothing_and_doubles_nothing(
    world: World, crew: Crew, point: str
) -> None:
    world.seed_leads(6)
    assert world.run().code == 0
    crew.listen()
    doomed = crew.start("worker", SYNC_CRASH_AT=point)
    ids = [lead["id"] for lead in world.records("salesforce/Lead")]
    fresh = [{"fields": {"LastName": f"New {n}", "Email": f"new{n}@x.example", "Company": "C"}} for n in range(3)]
    world.edit("salesforce/Lead", *fresh, *[{"id": one, "fields": {"Company": "Edited"}} for one in ids])
    assert doomed.wait(60) == -9, f"{point} was never passed\n{crew.told()}"
    crew.start("worker")
    crew.quiet()
    assert_agreed(world, contacts=9)
    assert world.violations() == []
