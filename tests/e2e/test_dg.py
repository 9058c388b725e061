"""Dagster's own `dg` works with a project: it checks the YAML, lists what there is and scaffolds new syncs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sync_platform.commands.scaffold import write_project
from tests.forked_commands import Answer
from tests.world import ROOT, SYNC

DG = Path(sys.executable).parent / "dg"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project as `init` writes it."""
    folder = tmp_path / "project"
    write_project(folder)
    return folder


def dg(folder: Path, *arguments: str) -> Answer:
    """Runs `dg` in a folder, with no secret set and nobody to be told about it."""
    names = ("SYNC_", "DAGSTER_", "SALESFORCE_", "HUBSPOT_", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    environment = {
        **kept,
        "DG_CLI_CONFIG": str(folder / "no-user-config.toml"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "COLUMNS": "200",
    }
    done = subprocess.run(
        [str(DG), *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def test_yaml_and_definitions_of_the_repository_are_sound() -> None:
    checked = dg(ROOT, "check", "defs")  # checks the YAML first
    assert checked.code == 0, checked.out + checked.err
    assert "All component YAML validated successfully" in checked.out + checked.err


def test_an_init_project_takes_what_dg_scaffolds_and_lists_it(project: Path) -> None:
    listed = dg(project, "list", "components", "--json")
    assert {"sync_platform.Source", "sync_platform.Sync"} <= {item["key"] for item in listed.json["items"]}
    made = dg(project, "scaffold", "defs", "sync_platform.Sync", "x")
    assert made.code == 0, made.out + made.err
    assert (project / "assets" / "x" / "defs.yaml").is_file()
    checked = dg(project, "check", "yaml")
    assert checked.code == 0, checked.out + checked.err
    defs = dg(project, "list", "defs", "--json").json
    assert {asset["asset_key"] for asset in defs["assets"]} == {
        "staging/salesforce/Lead",
        "staging/hubspot/contacts",
        *[f"{sync}/{step}" for sync in (SYNC, "x") for step in ("desired", "plan", "delivered")],
    }
    assert len(defs["asset_checks"]) == 10
    assert {SYNC, "x"} <= {job["name"] for job in defs["jobs"]}
    assert {schedule["name"] for schedule in defs["schedules"]} == {
        f"{SYNC}_schedule", "lake_upkeep_schedule", "purge_runless_events_schedule",
    }  # fmt: skip


def test_wrong_yaml_is_told_with_its_file_and_line(project: Path) -> None:
    file = project / "assets" / SYNC / "defs.yaml"
    lines = file.read_text().splitlines()
    mode, share = (
        next(n for n, line in enumerate(lines, 1) if word in line) for word in ("mode: upsert", "max_invalid: 10%")
    )
    default = next(n for n, line in enumerate(lines, 1) if "default: lead" in line)
    lines[default - 2] = "        Yes: lead"  # which YAML reads as true
    lines[mode - 1] = lines[mode - 1].replace("upsert", "upsrt")
    lines[share - 1] = lines[share - 1].replace("10%", "half")
    file.write_text("\n".join(lines) + "\n")
    refused = dg(project, "check", "yaml")
    told = refused.out + refused.err
    assert refused.code == 1
    assert f"{file}:{mode}" in told
    assert "'upsrt' is not one of ['insert', 'update', 'upsert'" in told
    assert f"{file}:{share}" in told
    assert "True: 'lead'" in told  # a table of values has texts for keys
    assert "max_invalid" in told
