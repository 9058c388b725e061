"""The office on a fresh state."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sync_platform.state.database import Database
from tests.unit.warm.office import Office


@pytest.fixture
def office(fresh_state: Database) -> Iterator[Office]:
    """A sync with nothing in its source and its target."""
    made = Office(fresh_state)
    yield made
    made.lake.close()
