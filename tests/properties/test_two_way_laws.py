"""Whatever people do on both sides, both come to agree, no edit is lost, and then there is silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from sync_platform.sandbox.server import SandboxThread
from sync_platform.state.database import Database
from tests.properties.crm_kept import CrmKept
from tests.properties.pg_kept import PgKept, two_databases
from tests.properties.two_way_history import History, Kept

FEW = settings(
    max_examples=25, stateful_step_count=6, deadline=None, derandomize=True, database=None, print_blob=False,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
MANY = settings(FEW, max_examples=225, stateful_step_count=20, derandomize=False)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxThread]:
    """One sandbox for every history; each begins with a reset."""
    with SandboxThread() as running:
        yield running


@pytest.fixture(scope="module")
def databases(state: Database) -> Iterator[tuple[str, str]]:
    """Two databases for every history; each begins with empty tables."""
    with two_databases(state) as urls:
        yield urls


def _live(make: Callable[[], Kept], how: settings) -> None:
    def history() -> History:
        return History(make())

    run_state_machine_as_test(history, settings=how)  # type: ignore[no-untyped-call]


def test_two_crms_come_to_agree_and_no_edit_is_lost(fresh_state: Database, sandbox: SandboxThread) -> None:
    _live(lambda: CrmKept(fresh_state, sandbox), FEW)


@pytest.mark.slow
def test_two_crms_come_to_agree_in_hundreds_of_histories(fresh_state: Database, sandbox: SandboxThread) -> None:
    _live(lambda: CrmKept(fresh_state, sandbox), MANY)


def test_two_databases_come_to_agree_and_no_edit_is_lost(fresh_state: Database, databases: tuple[str, str]) -> None:
    _live(lambda: PgKept(fresh_state, databases), FEW)


@pytest.mark.slow
def test_two_databases_come_to_agree_in_hundreds_of_histories(
    fresh_state: Database, databases: tuple[str, str]
) -> None:
    _live(lambda: PgKept(fresh_state, databases), MANY)
