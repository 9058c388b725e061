"""The target is looked at for a plan's first part while that is mapped: once, for that plan, and told if it fails."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest
from pydantic import PrivateAttr

from sync_platform.engine.desired import prepare
from sync_platform.engine.planning import make_plan
from sync_platform.errors import AccessError
from sync_platform.state.database import Database
from tests.unit.engine.depot import Depot
from tests.unit.engine.workshop import Workshop, a_sync


class Watched(Depot):
    """Notes every look-up by id."""

    _looked: list[list[str]] = PrivateAttr(default_factory=list)
    _away: bool = PrivateAttr(default=False)

    def get(self, stream: str, ids: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """As the depot."""
        self._looked.append(sorted(ids))
        if self._away:
            raise AccessError("the depot is closed", mend="wait")
        return super().get(stream, ids, fields)


@pytest.fixture
def watched(fresh_state: Database) -> Workshop:
    """A workshop with two leads delivered to a target that is watched."""
    workshop = Workshop(fresh_state, Watched(), a_sync(compare="links"))
    workshop.leads(2)
    workshop.run()
    return workshop


def target_of(workshop: Workshop) -> Watched:
    """The target, which has been asked nothing from now on."""
    assert isinstance(workshop.target, Watched)
    workshop.target._looked.clear()
    return workshop.target


def test_the_target_is_asked_once_for_what_a_plan_needs(watched: Workshop) -> None:
    target, links = target_of(watched), watched.links()
    watched.lead("l0", "l0@x", "New")
    planned = watched.planned()
    assert target._looked == [[links["l0"]]]
    assert watched.ops(planned) == {"l0": "update"}
    watched.deliver(planned.plan_id)
    assert target.rows[links["l0"]]["name"] == "New"


def test_what_was_seen_for_one_plan_is_not_taken_for_another(watched: Workshop) -> None:
    watched.lead("l0", "l0@x", "New")
    with watched.session() as session:
        first = prepare(session, watched.spec)
        watched.lead("l1", "l1@x", "Newer")
        second = prepare(session, watched.spec)
        assert watched.ops(make_plan(session, watched.spec, first)) == {"l0": "update"}
        assert watched.ops(make_plan(session, watched.spec, second)) == {"l0": "update", "l1": "update"}


def test_a_plan_made_later_sees_what_the_target_holds_then(watched: Workshop) -> None:
    watched.lead("l0", "l0@x", "New")
    with watched.session() as session:
        prepared = prepare(session, watched.spec)
    target_of(watched).rows[watched.links()["l0"]]["name"] = "New"
    with watched.session() as session:
        assert watched.ops(make_plan(session, watched.spec, prepared)) == {"l0": "skip"}


def test_a_target_that_cannot_be_looked_at_is_told_by_the_plan(watched: Workshop) -> None:
    watched.lead("l0", "l0@x", "New")
    target_of(watched)._away = True
    with watched.session() as session:
        prepared = prepare(session, watched.spec)
        with pytest.raises(AccessError, match="closed"):
            make_plan(session, watched.spec, prepared)
