"""The drain job: a run that delivers what waits, with the workers' rules, and tells Dagster."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from sync_platform.commands.scaffold import write_project
from sync_platform.components.draining import drain_job, drain_job_name
from sync_platform.components.installation import Installation
from sync_platform.project import PROJECT_VARIABLE
from sync_platform.sandbox.server import SandboxProcess, env_lines
from tests.unit.components.place import Place
from tests.world import SYNC


def test_a_drain_delivers_what_waits_and_tells_dagster(
    place: Place, sandbox: SandboxProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(tmp_path / "project")
    monkeypatch.setenv(PROJECT_VARIABLE, str(tmp_path / "project"))
    for line in env_lines(sandbox.port):
        monkeypatch.setenv(*line.split("=", 1))
    sandbox.control.post("reset")
    ids = sandbox.control.post("seed", {"system": "salesforce", "stream": "Lead", "count": 3, "options": {}})["ids"]
    for key in ids:
        place.event(key, age=40)
    defs = dg.Definitions(jobs=[drain_job(place.spec)], resources={"installation": Installation()})
    done = defs.resolve_job_def(drain_job_name(SYNC)).execute_in_process(instance=place.instance)
    assert done.success
    assert len(sandbox.control.get("records/hubspot/contacts")["records"]) == 3
    assert place.sql("SELECT DISTINCT state, outcome FROM sync.queue") == [("done", "applied")]
    told = place.instance.get_latest_materialization_event(dg.AssetKey([SYNC, "delivered"]))
    assert told is not None
    assert told.asset_materialization is not None
    metadata = told.asset_materialization.metadata
    assert (metadata["events"].value, metadata["successful_transfers"].value) == (3, 3)
    assert metadata["latency_p50_ms"].value >= 40_000
    assert place.evaluate(f"{SYNC}_backlog").skip_message == "no backlog"
    assert place.sql("SELECT count(*) FROM sync.workers") == [(0,)]
