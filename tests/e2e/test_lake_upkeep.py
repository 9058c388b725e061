"""`lake_upkeep` as Dagster runs it: fewer files, the same rows, and nobody who reads or loads is disturbed."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl
import pytest

from sync_platform.definitions import load as definitions_of
from sync_platform.ledger.plans import LIFETIME, Plan, PlanFiles, insert_plan, new_plan_id
from sync_platform.project import Project
from sync_platform.staging.lake import Lake
from sync_platform.staging.load import lock_name, stage
from sync_platform.state.database import Database
from sync_platform.state.locks import advisory_lock
from tests.laws.staging.scripted import Scripted, lead, page
from tests.world import ROOT

ROWS = 'SELECT * FROM lake.crm."Lead" ORDER BY _key'


@pytest.fixture
def lake(fresh_state: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """A lake of an installation that this process's Dagster runs work on, with eight small loads of one stream."""
    monkeypatch.setenv("SYNC_HOME", str(fresh_state.home.root))
    monkeypatch.setenv("SYNC_DATABASE_URL", fresh_state.url)
    monkeypatch.setenv("SYNC_PROJECT", str(ROOT))
    made = Lake(fresh_state)
    for number in range(8):
        records = [lead(str(n), number + n, Name=str(number)) for n in range(number, number + 20)]
        stage(made, Scripted.of(page(records, 1)), "crm", "Lead")
    yield made
    made.close()


def upkeep(**config: float) -> dict[str, Any]:
    """Runs the job in this process; returns what its op told."""
    job = definitions_of(Project(ROOT)).resolve_job_def("lake_upkeep")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(
            instance=instance, run_config={"ops": {"compact_and_expire": {"config": config}}}
        )
    assert result.success
    told: dict[str, Any] = result.output_for_node("compact_and_expire")
    return told


def files(lake: Lake) -> int:
    return len(list((lake.db.home.lake / "crm").rglob("*.parquet")))


def test_small_files_become_few_without_disturbing_a_reader_and_go_when_their_time_is_over(lake: Lake) -> None:
    with lake.connect() as reader, lake.connect() as con:
        reader.begin()
        before, many = reader.execute(ROWS).fetchall(), files(lake)
        done = upkeep()
        assert (done["compacted"], done["busy"]) == (["crm/Lead"], [])
        assert reader.execute(ROWS).fetchall() == before, "files of a day's snapshots stay"
        assert con.execute(ROWS).fetchall() == before
        reader.rollback()
        assert upkeep(keep_hours=0.0)["files"] > 0
        assert files(lake) < many
        assert con.execute(ROWS).fetchall() == before
    again = stage(lake, Scripted.of(page([lead(str(n), 7 + n, Name="7") for n in range(7, 27)], 1)), "crm", "Lead")
    assert again.rows_changed == 0


def test_a_stream_that_is_being_loaded_is_left_for_the_next_time(lake: Lake) -> None:
    with advisory_lock(lake.db, lock_name("crm", "Lead")):
        done = upkeep(patience_seconds=0.0)
    assert (done["compacted"], done["busy"]) == ([], ["crm/Lead"])
    assert upkeep(patience_seconds=0.0)["compacted"] == ["crm/Lead"]


def test_the_parts_of_ended_plans_go_and_those_somebody_may_deliver_stay(lake: Lake) -> None:
    now = dt.datetime.now(dt.UTC)
    states = ("settled", "superseded", "failed", "expired", "delivering", "ready")
    plans = {state: _planned(lake.db, state, now - dt.timedelta(days=2)) for state in states}
    plans |= {"new": _planned(lake.db, "settled", now), "without a row": PlanFiles(lake.db.home.lake, new_plan_id())}
    for files_of in plans.values():
        files_of.write("changes", 0, pl.DataFrame({"_key": ["1"]}))
    long_ago = (now - dt.timedelta(days=2)).timestamp()
    for files_of in plans.values():
        os.utime(files_of.folder, (long_ago, long_ago))
    assert upkeep()["plans"] == 5
    assert {name for name, files_of in plans.items() if files_of.folder.exists()} == {"delivering", "ready", "new"}
    assert upkeep()["plans"] == 0


def _planned(database: Database, state: str, created: dt.datetime) -> PlanFiles:
    plan = Plan(
        plan_id=new_plan_id(), sync="s", digest="", config_hash="", compare="links", positions_from={},
        positions_to={}, evaluated_at=created, state=state, reason=None, created_at=created,
        expires_at=created + LIFETIME,
    )  # fmt: skip
    with database.connection() as connection:
        insert_plan(connection, plan, "run")
    return PlanFiles(database.home.lake, plan.plan_id)
