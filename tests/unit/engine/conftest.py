"""The workshop on a fresh state."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sync_platform.state.database import Database
from tests.unit.engine.workshop import Workshop


@pytest.fixture
def workshop(fresh_state: Database) -> Iterator[Workshop]:
    """A sync from a staged source to an empty target in memory."""
    made = Workshop(fresh_state)
    yield made
    made.lake.close()
