"""Two runs of one sync at once: the second waits, says so, and nothing is done twice."""

from __future__ import annotations

import threading

import pytest

from tests.chaos.scenes import assert_agreed, creates, fault, until, until_held
from tests.world import SYNC, World


@pytest.mark.slow
def test_a_second_run_waits_for_the_first_and_says_so(world: World) -> None:
    world.seed_leads(30)
    fault(world, "hold_before")
    first = world.start("run", SYNC, "--json")
    until_held(world, first)
    second = world.start("run", SYNC, "--json")
    said: list[str] = []
    assert second.stderr is not None
    reader = threading.Thread(target=lambda: said.extend(iter(second.stderr.readline, "")), daemon=True)  # type: ignore[union-attr]
    reader.start()
    until(lambda: any("another run is working; waiting" in line for line in said), second, "the second never said so")
    assert second.poll() is None
    assert creates(world) == []
    world.control.post("release")
    out, err = first.communicate(timeout=240)
    assert first.returncode == 0, out + err
    assert second.stdout is not None
    told = second.stdout.read()
    assert second.wait(timeout=240) == 0, told
    assert '"records_processed": 0' in told
    assert_agreed(world, contacts=30)
