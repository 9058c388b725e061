"""What is made ready ahead of the records: it asks the sync's own contract, and fails nobody."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from sync_platform.engine.warming import warm
from sync_platform.errors import ConfigError
from tests.unit.engine.workshop import a_sync


class Contract:
    """A contract of two fields that notes what it is asked, and refuses everything."""

    def __init__(self) -> None:
        self.asked: list[pl.DataFrame] = []
        self.columns = {"email": None, "name": None}

    def to_schema(self) -> Contract:
        return self

    def validate(self, frame: pl.DataFrame, *, lazy: bool) -> None:
        self.asked.append(frame)
        raise ValueError("refused")


class Holder:
    """Stands for a session and its project: what a sync names is loaded from it, its target is looked at."""

    def __init__(self, found: Any, target: Exception | None = None) -> None:
        self._found, self._target = found, target
        self.looked_at: list[str] = []

    @property
    def project(self) -> Holder:
        return self

    def load(self, name: str, *, field_name: str) -> Any:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found

    def connector(self, name: str) -> Holder:
        if self._target is not None:
            raise self._target
        return self

    def stream(self, name: str) -> None:
        self.looked_at.append(name)


def test_the_contract_is_asked_about_nobody_and_what_it_says_is_left_for_later() -> None:
    contract = Contract()
    session, sync = Holder(contract), a_sync(contract="checks.leads.Lead")
    warm(session, sync)  # type: ignore[arg-type]
    assert session.looked_at == [sync.target.object]
    assert [(frame.height, frame.columns) for frame in contract.asked] == [(0, ["email", "name"])]


@pytest.mark.parametrize("contract", ["checks.leads.Lead", None])
def test_a_contract_that_cannot_be_loaded_is_told_where_records_are_judged(contract: str | None) -> None:
    warm(Holder(ImportError("no such module")), a_sync(contract=contract))  # type: ignore[arg-type]


def test_a_target_that_cannot_be_reached_is_told_where_records_are_compared() -> None:
    contract = Contract()
    warm(Holder(contract, ConfigError("no url")), a_sync(contract="checks.leads.Lead"))  # type: ignore[arg-type]
    assert len(contract.asked) == 1
