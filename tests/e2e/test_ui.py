"""The UI tells what the command line did: asked by GraphQL, as a browser asks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import requests

from sync_platform.home import Home
from sync_platform.state import server
from tests.e2e.installed import REPOSITORY, RUN, Installed, stop_schedules
from tests.living import lives
from tests.private_postgres import free_port
from tests.world import ROOT, SYNC

pytestmark = pytest.mark.xdist_group("ui")

CHECKS = {
    "contract": "desired",
    "completeness": "desired",
    "duplicates": "desired",
    "delete_guard": "plan",
    "freshness": "delivered",
}
JOB = """query($selector: PipelineSelector!) { pipelineOrError(params: $selector) {
  ... on Pipeline { name runs(limit: 10) { runId status } } ... on PythonError { message } } }"""


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """`up --sandbox` with everything it starts, and `down` at the end."""
    made = Installed(tmp_path_factory.mktemp("ui") / "home", free_port(), free_port(), free_port())
    try:
        made.start()
        yield made
    finally:
        if made.decoy is not None:
            made.decoy.kill()
            made.decoy.wait()
        made.cli("down")
        server.destroy(Home(made.home))


@pytest.fixture(scope="module")
def first(ui: Installed) -> dict[str, Any]:
    """The report of the first run, of 12 leads one of which has no e-mail; no schedule's tick can disturb it.

    The webhooks that `up` set up are off until the test about them: these tests are about runs.
    """
    stop_schedules(ui)
    ui.without_webhooks()
    body = {"system": "salesforce", "stream": "Lead", "count": 12, "options": {"missing": {"Email": 1}}}
    ui.control.post("seed", body)
    done = ui.cli("run", SYNC, "--json")
    assert done.code == 1, done.err
    report: dict[str, Any] = done.json
    return report


def test_up_started_everything_and_a_second_up_says_so(ui: Installed) -> None:
    by_name = {one["name"]: one for one in ui.services}
    assert list(by_name) == ["postgresql", "sandbox", "gateway", "worker", "dagster-ui", "dagster-daemon"]
    assert all(psutil.pid_exists(one["pid"]) and one["state"] == "running" for one in by_name.values())
    assert by_name["dagster-ui"]["url"] == f"http://127.0.0.1:{ui.port}"
    assert by_name["gateway"]["url"] == f"http://127.0.0.1:{ui.gateway_port}"
    assert requests.get(f"http://127.0.0.1:{ui.gateway_port}/readyz", timeout=10).json() == {"ready": True}
    again = ui.cli("up", "--port", str(free_port()), "--json")
    assert again.code == 2
    assert again.json["error"]["message"].startswith("already up: sandbox (pid ")
    assert "down" in again.json["error"]["mend"]


def test_the_report_names_a_successful_run_of_the_job(ui: Installed, first: dict[str, Any]) -> None:
    run = ui.ask(RUN, id=first["run_id"])["runOrError"]
    assert (run["status"], run["jobName"]) == ("SUCCESS", SYNC)
    job = ui.ask(JOB, selector={**REPOSITORY, "pipelineName": SYNC})["pipelineOrError"]
    assert first["run_id"] in [one["runId"] for one in job["runs"]]  # the job's page lists it


def test_the_assets_stand_in_their_order_with_groups_and_kinds(ui: Installed) -> None:
    assets = ui.assets()
    edges = {name: {"/".join(key["path"]) for key in node["dependencyKeys"]} for name, node in assets.items()}
    assert edges == {
        "staging/salesforce/Lead": set(),
        "staging/hubspot/contacts": set(),
        f"{SYNC}/desired": {"staging/salesforce/Lead", "staging/hubspot/contacts"},
        f"{SYNC}/plan": {f"{SYNC}/desired"},
        f"{SYNC}/delivered": {f"{SYNC}/plan"},
    }
    assert {name: node["groupName"] for name, node in assets.items()} == {
        "staging/salesforce/Lead": "salesforce",
        "staging/hubspot/contacts": "hubspot",
        **{f"{SYNC}/{step}": SYNC for step in ("desired", "plan", "delivered")},
    }
    assert set(assets["staging/salesforce/Lead"]["kinds"]) == {"salesforce", "dlt", "duckdb"}
    assert set(assets[f"{SYNC}/desired"]["kinds"]) == {"polars", "pandera"}
    assert assets[f"{SYNC}/delivered"]["kinds"] == ["hubspot"]
    assert all(SYNC in node["jobNames"] for node in assets.values())


def test_delivered_carries_the_report_that_the_command_line_prints(ui: Installed, first: dict[str, Any]) -> None:
    materialized = ui.assets()[f"{SYNC}/delivered"]["assetMaterializations"][0]
    assert materialized["runId"] == first["run_id"]
    entries = {entry["label"]: entry for entry in materialized["metadataEntries"]}
    printed = ui.cli("report", SYNC, "--json").json
    assert json.loads(entries["report"]["jsonString"]) == printed == first
    assert SYNC in entries["report_markdown"]["mdStr"]
    assert "data:image/svg+xml;base64," in entries["last_runs"]["mdStr"]


def test_every_check_was_evaluated_and_the_bad_record_turns_contract_red(ui: Installed, first: dict[str, Any]) -> None:
    checks = ui.checks()
    assert set(checks) == set(CHECKS)
    assert {check["runId"] for check in checks.values()} == {first["run_id"]}
    assert {name: check["evaluation"]["success"] for name, check in checks.items()} == {
        "contract": False,
        "completeness": True,
        "duplicates": True,
        "delete_guard": True,
        "freshness": True,
    }


def test_desired_tells_which_source_column_each_target_column_comes_from(ui: Installed, first: dict[str, Any]) -> None:
    materialized = ui.assets()[f"{SYNC}/desired"]["assetMaterializations"][0]
    (entry,) = [one for one in materialized["metadataEntries"] if one["label"] == "dagster/column_lineage"]
    lineage = {
        column["columnName"]: {("/".join(dep["assetKey"]["path"]), dep["columnName"]) for dep in column["columnDeps"]}
        for column in entry["lineage"]
    }
    pairs = {"firstname": "FirstName", "lastname": "LastName", "email": "Email", "company": "Company"}
    lead = "staging/salesforce/Lead"
    assert lineage == {name: {(lead, field)} for name, field in {**pairs, "lifecyclestage": "Status"}.items()}


def test_status_tells_services_and_syncs(ui: Installed, first: dict[str, Any]) -> None:
    told = ui.cli("status", "--json").json
    assert set(told) == {"services", "syncs", "captures"}
    assert told["captures"] == []
    assert all(set(one) == {"name", "state", "url", "pid"} for one in told["services"])
    assert [one["pid"] for one in told["services"]] == [one["pid"] for one in ui.services]
    (sync,) = told["syncs"]
    assert set(sync) == {"name", "last_run_id", "next_sync", "dead_letters_open"}
    assert (sync["name"], sync["last_run_id"], sync["dead_letters_open"]) == (SYNC, first["run_id"], 1)
    assert sync["next_sync"] >= first["next_sync"]


def test_a_run_launched_in_the_ui_delivers_what_changed(ui: Installed, first: dict[str, Any]) -> None:
    lead = next(one for one in ui.control.get("records/salesforce/Lead")["records"] if one["fields"]["Email"])
    ui.control.post("records/salesforce/Lead", [{"id": lead["id"], "fields": {"Company": "Launched Ltd"}}])
    planned = ui.cli("plan", SYNC, "--json").json
    documented = json.loads(re.findall(r"```json\n(.*?)```", (ROOT / "docs/interfaces.md").read_text(), re.DOTALL)[1])
    assert set(planned) == set(documented)
    for part in ("pushdown", "summary"):
        assert set(planned[part]) == set(documented[part])
    assert [set(change) for change in planned["changes"]] == [set(documented["changes"][0])]
    assert planned["changes"][0]["fields"][0]["new"] == "Launched Ltd"
    run_id = ui.launch(pipelineName=SYNC)
    assert ui.run_status(run_id) == "SUCCESS"
    printed = ui.cli("report", SYNC, "--json").json
    assert (printed["run_id"], printed["sync_summary"]["updated"]) == (run_id, 1)
    companies = [one["fields"]["company"] for one in ui.control.get("records/hubspot/contacts")["records"]]
    assert companies.count("Launched Ltd") == 1


def test_materialising_only_delivered_does_not_walk_around_a_guard(ui: Installed, first: dict[str, Any]) -> None:
    # twelve without an e-mail: enough for max_invalid, also when contacts that moved in HubSpot are looked at with them
    bad = [{"fields": {"LastName": "No", "Company": f"Mail {n}"}} for n in range(12)]
    ui.control.post("records/salesforce/Lead", bad)
    before = ui.writes()
    blocked = ui.cli("run", SYNC, "--json")
    assert blocked.code == 4, blocked.out
    assert ui.checks()["delete_guard"]["evaluation"] == {"success": False, "severity": "ERROR"}
    run_id = ui.launch(pipelineName="__ASSET_JOB", assetSelection=[{"path": [SYNC, "delivered"]}])
    assert ui.run_status(run_id) == "FAILURE"
    told = ui.ask(
        "query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {"
        " ... on ExecutionStepFailureEvent { failureMetadata { description } error { message } } } } } }",
        id=run_id,
    )["logsForRun"]["events"]
    assert any("blocked" in (one.get("failureMetadata") or {}).get("description", "") for one in told if one), told
    assert ui.writes() == before
    assert ui.cli("report", SYNC, "--json").json["run_id"] != run_id


def test_the_lakes_upkeep_can_be_launched_and_changes_no_plan(ui: Installed, first: dict[str, Any]) -> None:
    before = ui.cli("plan", SYNC, "--json").json["summary"]
    run_id = ui.launch(pipelineName="lake_upkeep")
    assert ui.run_status(run_id) == "SUCCESS"
    assert ui.cli("plan", SYNC, "--json").json["summary"] == before


def started_runs(ui: Installed) -> list[str]:
    """The job's runs that the UI shows as running."""
    runs = ui.ask(JOB, selector={**REPOSITORY, "pipelineName": SYNC})["pipelineOrError"]["runs"]
    return [one["runId"] for one in runs if one["status"] == "STARTED"]


def test_a_run_that_was_killed_is_marked_failed_by_the_next(ui: Installed, first: dict[str, Any]) -> None:
    ui.control.post("faults", {"system": "salesforce", "kind": "hold_before", "times": 1, "match": "GET /services"})
    process = subprocess.Popen(
        [sys.executable, "-m", "sync_platform.cli", "run", SYNC, "--json"],
        env=ui.environment(),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (ui.control.get("held")["held"] and started_runs(ui)):  # it is reading from the source
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    ui.control.post("release")
    ui.control.post("faults", {"system": "salesforce", "kind": "hold_before", "times": 0, "match": "GET /services"})
    (killed,) = started_runs(ui)
    again = ui.cli("run", SYNC, "--json")
    assert f"run {killed} died without finishing" in again.err
    assert ui.run_status(killed) == "FAILURE"


def test_an_edit_reaches_the_target_by_its_webhook_and_the_ui_shows_it(ui: Installed, first: dict[str, Any]) -> None:
    assert {one["system"] for one in ui.webhooks} == {"salesforce", "hubspot"}
    for one in ui.webhooks:
        ui.control.post("webhooks", {"system": one["system"], "target_url": one["target_url"]})
    lead = next(one for one in ui.control.get("records/salesforce/Lead")["records"] if one["fields"]["Email"])
    ui.control.post("records/salesforce/Lead", [{"id": lead["id"], "fields": {"Company": "By Webhook Ltd"}}])
    deadline = time.monotonic() + 60

    def companies() -> list[str]:
        return [one["fields"]["company"] for one in ui.control.get("records/hubspot/contacts")["records"]]

    while "By Webhook Ltd" not in companies():
        assert time.monotonic() < deadline, (ui.home / "logs" / "worker.log").read_text()[-2000:]
        time.sleep(0.1)

    def told() -> dict[str, Any]:
        (last,) = ui.assets()[f"{SYNC}/delivered"]["assetMaterializations"]
        entries = {one["label"]: one for one in last["metadataEntries"]}
        return dict(json.loads(entries["report"]["jsonString"]))

    while told()["lane"] != "realtime":
        assert time.monotonic() < deadline + 30, told()
        time.sleep(0.5)
    report = told()
    assert report["sync_summary"]["updated"] >= 1
    assert report["events"] >= 1
    assert set(report["latency_ms"]) == {"p50", "p95", "p99", "max"}
    assert ui.cli("report", SYNC, "--json").json == report


def test_down_stops_everything_that_was_started_and_nothing_else(ui: Installed) -> None:
    ui.decoy = subprocess.Popen([sys.executable, "-c", "input()"], env=ui.environment(), stdin=subprocess.PIPE)
    postgres, *others = (one["pid"] for one in ui.services)
    born = ui.processes()
    assert set(others) <= set(born)
    backends = [child.pid for child in psutil.Process(postgres).children(recursive=True)]
    assert ui.cli("down", "--json").json["stopped"] == [
        "sandbox",
        "gateway",
        "worker",
        "dagster-ui",
        "dagster-daemon",
        "postgresql",
    ]
    assert ui.processes() == {}
    assert [pid for pid in (*born, postgres, *backends) if lives(pid)] == []
    assert ui.decoy.poll() is None
    assert ui.cli("down", "--json").json["stopped"] == []
