"""kill -9 anywhere: after the next run every target equals its newest source, nothing lost, nothing doubled."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.chaos.scenes import assert_settled, creates, fault, kill, kill_at, prepare, until_held
from tests.world import SYNC, World

POINTS = [
    "staging_loaded",
    "plan_written",
    "between_batches",
    "before_intent",
    "after_intent",
    "request_sent",
    "answer_received",
    "answer_received:2",
    "outcome_written",
    "position_written",
]
FIRST_RUN_POINTS = ["staging_loaded", "plan_written", "after_intent", "answer_received", "outcome_written"]


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_a_crash_point_is_finished_by_the_next(world: World, point: str) -> None:
    prepare(world)
    kill_at(world, point, "run", SYNC, "--json")
    assert_settled(world, contacts=85)


@pytest.mark.slow
@pytest.mark.parametrize("point", FIRST_RUN_POINTS)
def test_the_very_first_run_killed_is_finished_by_the_next(world: World, point: str) -> None:
    world.seed_leads(105, duplicates=3)
    kill_at(world, point, "run", SYNC, "--json")
    assert_settled(world, contacts=105)


@pytest.mark.slow
def test_a_run_killed_after_a_token_refresh_keeps_the_new_token(world: World) -> None:
    prepare(world)
    world.control.post("faults", {"system": "salesforce", "kind": "expire_token", "times": 1})
    kill_at(world, "token_refreshed", "run", SYNC, "--json")
    assert_settled(world)


@pytest.mark.parametrize(
    ("kind", "nth", "stored"),
    [("hold_before", 1, 0), ("hold_after", 1, 100), ("hold_before", 2, 100), ("hold_after", 2, 105)],
)
def test_a_run_killed_while_a_create_is_held_doubles_nothing(world: World, kind: str, nth: int, stored: int) -> None:
    world.seed_leads(105)
    fault(world, kind, times=nth)
    running = world.start("run", SYNC, "--json")
    until_held(world, running, nth)
    kill(world, running)
    world.control.post("release")
    assert len(creates(world)) == len(world.records("hubspot/contacts")) == stored
    assert_settled(world, contacts=105)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_run_killed_at_a_random_moment_is_finished_by_the_next(world: World, seed: int) -> None:
    prepare(world)
    begun = time.monotonic()
    running = world.start("run", SYNC, "--json")
    # moments of the work, not of Python's start: counted from the run's first request
    mark = world.mark()
    while world.mark() == mark and running.poll() is None and time.monotonic() - begun < 120:
        time.sleep(0.05)
    time.sleep(random.Random(seed).uniform(0.0, 6.0))
    kill(world, running)
    assert_settled(world, contacts=85)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["after_intent", "answer_received", "outcome_written"])
def test_a_killed_apply_is_resumed_by_apply_and_then_run(world: World, tmp_path: Path, point: str) -> None:
    world.seed_leads(105)
    file = tmp_path / "plan.json"
    assert world.cli("plan", SYNC, "--out", str(file), "--json").code == 0
    assert creates(world) == []
    kill_at(world, point, "apply", str(file), "--json")
    resumed = world.cli("apply", str(file), "--json")
    assert resumed.code == 0, resumed.out + resumed.err
    assert len(creates(world)) == 105
    assert_settled(world, contacts=105)
