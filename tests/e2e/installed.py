"""An installation with everything `up` starts, asked as a person asks: by the command line and the UI's GraphQL."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from sync_platform.sandbox.server import Control
from tests.forked_commands import Answer
from tests.living import working_in
from tests.world import ROOT, SYNC

REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "sync_platform"}
ASSETS = """{ assetNodes {
  assetKey { path } groupName kinds dependencyKeys { path } jobNames
  assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization {
    runId status evaluation { success severity } } } } }
  assetMaterializations(limit: 1) { runId metadataEntries { label
    ... on JsonMetadataEntry { jsonString }
    ... on MarkdownMetadataEntry { mdStr }
    ... on TableColumnLineageMetadataEntry { lineage { columnName columnDeps { assetKey { path } columnName } } } } }
} }"""
RUN = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status jobName tags { key value } } } }"
LAUNCH = """mutation($selector: JobOrPipelineSelector!) {
  launchRun(executionParams: {selector: $selector, runConfigData: {}}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


@dataclass
class Installed:
    """A fresh installation on its own embedded server, with everything `up` starts."""

    home: Path
    port: int
    sandbox_port: int
    gateway_port: int
    services: list[dict[str, Any]] = field(default_factory=list)
    webhooks: list[dict[str, Any]] = field(default_factory=list)
    decoy: subprocess.Popen[bytes] | None = None

    @property
    def control(self) -> Control:
        return Control(f"http://127.0.0.1:{self.sandbox_port}")

    def environment(self) -> dict[str, str]:
        """The sandbox's variables come from `sandbox --env`, the rest as a user has it."""
        from sync_platform.sandbox.server import env_lines

        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SYNC_", "DAGSTER_"))}
        variables = dict(line.split("=", 1) for line in env_lines(self.sandbox_port))
        return {**kept, **variables, "SYNC_HOME": str(self.home), "SYNC_PG_FSYNC": "off"}

    def cli(self, *arguments: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "sync_platform.cli", *arguments],
            env=self.environment(),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def start(self) -> None:
        """`up --sandbox` on ports of its own."""
        ports = {"--port": self.port, "--sandbox-port": self.sandbox_port, "--gateway-port": self.gateway_port}
        options = [part for option, port in ports.items() for part in (option, str(port))]
        up = self.cli("up", "--sandbox", *options, "--json")
        assert up.code == 0, up.err
        self.services = up.json["services"]

    def without_webhooks(self) -> None:
        """Turns the webhooks off that `up` set up; `webhooks` remembers them."""
        self.webhooks = self.control.get("webhooks")["webhooks"]
        for one in self.webhooks:
            assert self.control.call("DELETE", "webhooks", {"system": one["system"]})["removed"] == 1

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of a GraphQL answer without errors."""
        body = {"query": query, "variables": variables}
        answer = requests.post(f"http://127.0.0.1:{self.port}/graphql", json=body, timeout=60).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def assets(self) -> dict[str, Any]:
        """Every asset by its path."""
        return {"/".join(node["assetKey"]["path"]): node for node in self.ask(ASSETS)["assetNodes"]}

    def checks(self) -> dict[str, Any]:
        """The last execution of each check of the reference sync."""
        return {
            check["name"]: check["executionForLatestMaterialization"]
            for step in ("desired", "plan", "delivered")
            for check in self.assets()[f"{SYNC}/{step}"]["assetChecksOrError"]["checks"]
        }

    def run_status(self, run_id: str) -> str:
        return str(self.ask(RUN, id=run_id)["runOrError"]["status"])

    def launch(self, **selector: Any) -> str:
        """Launches a run as the UI does and waits for its end; returns its id."""
        launched = self.ask(LAUNCH, selector={**REPOSITORY, **selector})["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id = str(launched["run"]["runId"])
        deadline = time.monotonic() + 180
        while self.run_status(run_id) not in ("SUCCESS", "FAILURE", "CANCELED"):
            assert time.monotonic() < deadline, f"run {run_id} is {self.run_status(run_id)}"
            time.sleep(0.25)
        return run_id

    def writes(self) -> int:
        """How many records were written to HubSpot so far."""
        log = self.control.get("log?system=hubspot")["requests"]
        return sum(one["applied"] and one["op"] != "noop" for request in log for one in request["records"])

    def processes(self) -> dict[int, str]:
        """Living processes that work for this installation, but for the decoy: pid -> command."""
        found = working_in(self.home)
        if self.decoy is not None:
            found.pop(self.decoy.pid, None)
        return found


def stop_schedules(ui: Installed) -> None:
    tick(ui, "lake_upkeep", "37 * * * *")
    tick(ui, SYNC, "*/15 * * * *")


def tick(ui: Installed, job: str, cron: str) -> None:
    """Checks that a job's schedule runs, and stops it."""
    found = ui.ask(
        "query($selector: ScheduleSelector!) { scheduleOrError(scheduleSelector: $selector) { ... on Schedule {"
        " id scheduleState { id status } cronSchedule executionTimezone pipelineName } } }",
        selector={**REPOSITORY, "scheduleName": f"{job}_schedule"},
    )["scheduleOrError"]
    assert found["scheduleState"]["status"] == "RUNNING"  # so that `up` alone keeps it going
    assert (found["cronSchedule"], found["executionTimezone"], found["pipelineName"]) == (cron, "UTC", job)
    ui.ask("mutation($id: String!) { stopRunningSchedule(id: $id) { __typename } }", id=found["id"])
