"""kill -9 in a two-way run: both sides come to agree, no edit is lost, nothing is made twice."""

from __future__ import annotations

import random

import pytest

from tests.chaos.scenes import kill_at
from tests.two_way_world import SYNC, contact, disagreements, install
from tests.world import World

POINTS = [
    "plan_written",
    "between_batches:2",
    "after_intent",
    "after_intent:2",
    "request_sent",
    "request_sent:2",
    "answer_received",
    "answer_received:2",
    "outcome_written",
    "position_written",
]


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_two_way_run_killed_anywhere_is_finished_by_the_next(own: World, point: str) -> None:
    rng = random.Random(point)
    install(own)
    keys = own.edit("salesforce/Contact", *[{"fields": contact(n)} for n in range(6)])
    assert own.run(SYNC).code == 0
    hub = {one["fields"]["email"]: one["id"] for one in own.records("hubspot/contacts")}
    wanted = {f"p{n}@x.org": f"{point} {n}" for n in range(4)}
    for n in range(4):  # half of the edits on each side, and a new record on both
        if n % 2:
            own.edit("salesforce/Contact", {"id": keys[n], "fields": {"FirstName": f"{point} {n}"}})
        else:
            own.edit("hubspot/contacts", {"id": hub[f"p{n}@x.org"], "fields": {"firstname": f"{point} {n}"}})
    own.edit("salesforce/Contact", {"fields": contact(10)})
    own.edit("hubspot/contacts", {"fields": {"email": "h@x.org", "lastname": "Hub"}})
    kill_at(own, point, "run", SYNC, "--json")
    again = rng.choice([1, 3])  # edited once more on the side where it was edited: no conflict
    own.edit("salesforce/Contact", {"id": keys[again], "fields": {"FirstName": "again"}})
    wanted[f"p{again}@x.org"] = "again"
    for _ in range(2):
        done = own.run(SYNC)
        assert done.code in (0, 1), done.out + done.err
    assert disagreements(own) == []
    held = {one["fields"]["email"]: one["fields"].get("firstname") for one in own.records("hubspot/contacts")}
    assert {email: held[email] for email in wanted} == wanted
    assert len(held) == 8
    mark = own.mark()
    assert own.run(SYNC).code == 0
    assert [own.written(mark, system) for system in ("salesforce", "hubspot")] == [[], []]
    assert own.violations() == []
