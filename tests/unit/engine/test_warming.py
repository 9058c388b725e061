"""What is made ready ahead of the records: it asks the sync's own contract, and fails nobody."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from sync_platform.engine.warming import warm
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
    """Stands for a project: what a sync names is loaded from it."""

    def __init__(self, found: Any) -> None:
        self._found = found

    def load(self, name: str, *, field_name: str) -> Any:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


def test_the_contract_is_asked_about_nobody_and_what_it_says_is_left_for_later() -> None:
    contract = Contract()
    warm(Holder(contract), a_sync(contract="checks.leads.Lead"))  # type: ignore[arg-type]
    assert [(frame.height, frame.columns) for frame in contract.asked] == [(0, ["email", "name"])]


@pytest.mark.parametrize("contract", ["checks.leads.Lead", None])
def test_a_contract_that_cannot_be_loaded_is_told_where_records_are_judged(contract: str | None) -> None:
    warm(Holder(ImportError("no such module")), a_sync(contract=contract))  # type: ignore[arg-type]
