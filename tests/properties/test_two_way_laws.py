"""Whatever people do on both sides, both come to agree, no edit is lost, and then there is silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from sync_platform.sandbox.server import SandboxThread
from sync_platform.state.database import Database
from tests.properties.crm_kept import CrmKept, crm_kept
from tests.properties.tables_kept import TablesKept, two_databases
from tests.properties.two_way_history import History, Kept

FEW = settings(
    max_examples=15, stateful_step_count=7, deadline=None, database=None, print_blob=False,
    phases=[Phase.generate],  # a failing history is short, and a shorter one takes minutes to find
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
MANY = settings(FEW, max_examples=45, stateful_step_count=12)
#: The other histories in pieces of a few minutes, each with its own seed, so that a counterexample is found again.
PIECES = range(1, 6)
#: Source and target.
KINDS = [("postgres", "postgres"), ("mysql", "postgres"), ("postgres", "mysql")]


@pytest.fixture
def crm(fresh_state: Database, tmp_path: Path) -> Iterator[CrmKept]:
    """Both CRMs with a gateway before them, for every history of a test."""
    with SandboxThread() as sandbox, crm_kept(fresh_state, sandbox, tmp_path / "project") as kept:
        yield kept
    assert kept.told["refused"] == 0, "the gateway refused a webhook"
    met = {name: kept.told[name] for name in ("acknowledged", "dropped", "duplicated")}
    assert all(met.values()), f"no history met one of these: {met}"


@pytest.fixture
def databases(fresh_state: Database, kinds: tuple[str, str]) -> Iterator[TablesKept]:
    """Both databases, for every history of a test."""
    with two_databases(fresh_state, kinds) as people:
        kept = TablesKept(fresh_state, people)
        yield kept
        kept.close()


def _live(anew: Callable[[], Kept], how: settings, piece: int = 0) -> None:
    @seed(piece)
    def history() -> History:
        return History(anew())

    run_state_machine_as_test(history, settings=how)  # type: ignore[no-untyped-call]


def test_two_crms_come_to_agree_and_no_edit_is_lost(crm: CrmKept) -> None:
    _live(crm.anew, FEW)


@pytest.mark.parametrize("kinds", KINDS[:2], ids="-".join)
def test_two_databases_come_to_agree_and_no_edit_is_lost(databases: TablesKept) -> None:
    _live(databases.anew, settings(FEW, max_examples=8))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("piece", PIECES)
def test_two_crms_come_to_agree_in_hundreds_of_histories(crm: CrmKept, piece: int) -> None:
    _live(crm.anew, MANY, piece)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("piece", PIECES)
def test_two_databases_come_to_agree_in_hundreds_of_histories(databases: TablesKept, piece: int) -> None:
    _live(databases.anew, MANY, piece)
