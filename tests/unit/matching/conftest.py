"""The workshop of the engine's tests, with a staged target."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sync_platform.state.database import Database
from tests.unit.matching.registry import Registry


@pytest.fixture
def registry(fresh_state: Database) -> Iterator[Registry]:
    """A sync whose target is staged, with `matching` configured."""
    made = Registry(fresh_state)
    yield made
    made.lake.close()
