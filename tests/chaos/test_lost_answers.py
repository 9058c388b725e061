"""A target that fails or does not answer: what was lost is looked up, never blindly repeated."""

from __future__ import annotations

import pytest

from tests.chaos.scenes import CREATE, assert_agreed, assert_settled, creates, fault
from tests.world import World

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("times", [1, 2])
def test_a_create_whose_answer_is_lost_is_looked_up_and_not_repeated(world: World, times: int) -> None:
    world.seed_leads(105)
    fault(world, "disconnect_after", times)
    done = world.run()
    assert done.code == 0, done.out + done.err
    sent = [request for request in world.requests(0, "hubspot") if f"{request['method']} {request['path']}" == CREATE]
    assert len(sent) == 2
    assert len(creates(world)) == 105
    assert_agreed(world, contacts=105)
    assert_settled(world, contacts=105)


def test_a_create_that_never_arrived_is_sent_again(world: World) -> None:
    world.seed_leads(20)
    fault(world, "disconnect_before", 2)
    done = world.run()
    assert done.code == 0, done.out + done.err
    assert_settled(world, contacts=20)


def test_a_target_that_answers_500_for_a_while_is_waited_for(world: World) -> None:
    world.seed_leads(20)
    fault(world, "500", 3)
    done = world.run()
    assert done.code == 0, done.out + done.err
    assert_settled(world, contacts=20)


def test_a_target_that_answers_500_for_long_ends_the_run_with_3_and_the_next_finishes(world: World) -> None:
    world.seed_leads(20)
    fault(world, "500", 1000)
    failed = world.cli("run", "salesforce_leads_to_hubspot_contacts", "--json", seconds=400)
    assert failed.code == 3, failed.out + failed.err
    assert "nothing is lost" in failed.json["error"]["mend"]
    assert creates(world) == []
    fault(world, "500", 0)
    assert_settled(world, contacts=20)
