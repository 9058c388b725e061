"""A lake on a fresh state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sync_platform.staging.lake import Lake
from sync_platform.state.database import Database


@pytest.fixture
def lake(fresh_state: Database) -> Iterator[Lake]:
    """An empty lake of its own."""
    made = Lake(fresh_state)
    yield made
    made.close()


@pytest.fixture
def rows(lake: Lake) -> Callable[..., list[dict[str, Any]]]:
    """Rows of a SQL query on the lake, as dicts."""

    def run(sql: str) -> list[dict[str, Any]]:
        with lake.connect() as con:
            return con.execute(sql).to_arrow_table().to_pylist()

    return run


@pytest.fixture
def leads(rows: Callable[..., list[dict[str, Any]]]) -> Callable[..., dict[str, Any]]:
    """A column of the staged leads by key; no key may be there twice."""

    def column(name: str, where: str = "true") -> dict[str, Any]:
        found = rows(f'SELECT _key, {name} AS value FROM lake.crm."Lead" WHERE {where} ORDER BY _key')
        by_key = {row["_key"]: row["value"] for row in found}
        assert len(by_key) == len(found), f"some record is staged twice: {found}"
        return by_key

    return column
