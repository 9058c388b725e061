"""A couple of systems on a fresh state."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sync_platform.engine.spec import SyncSpec
from sync_platform.state.database import Database
from tests.unit.twoway.couple import Couple, a_two_way_sync


@pytest.fixture
def couple_of(fresh_state: Database) -> Iterator[Callable[[SyncSpec], Couple]]:
    """Makes the couple of a sync."""
    made: list[Couple] = []

    def make(spec: SyncSpec) -> Couple:
        made.append(Couple(fresh_state, spec))
        return made[-1]

    yield make
    for one in made:
        one.lake.close()


@pytest.fixture
def couple(couple_of: Callable[[SyncSpec], Couple]) -> Couple:
    """The plain couple."""
    return couple_of(a_two_way_sync())
