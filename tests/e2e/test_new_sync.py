"""The mission's own configuration becomes the reference sync; an `init` project runs from the built wheel."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

from sync_platform.commands.scaffold import write_project
from sync_platform.commands.templates import templates
from tests.world import ROOT, SYNC, World

MISSION = {
    "source": "Salesforce CRM",
    "target": "HubSpot CRM",
    "sync_frequency": "real-time",
    "data_mapping": {
        "FirstName": "firstname",
        "LastName": "lastname",
        "Email": "email",
        "Company": "company",
        "Status": "lifecyclestage",
    },
    "sync_conditions": "LastModifiedDate > YESTERDAY",
}


def test_the_missions_configuration_gives_the_reference_sync(world: World, tmp_path: Path) -> None:
    project = tmp_path / "project"
    write_project(project)
    reference = yaml.safe_load((project / "assets" / SYNC / "defs.yaml").read_text())["attributes"]
    (project / "assets" / SYNC / "defs.yaml").unlink()
    file = tmp_path / "mission.json"
    file.write_text(json.dumps(MISSION))
    world.project = project
    made = world.cli("new", "--from-json", str(file), "--json")
    assert made.code == 0, made.err
    assert made.json["sync"] == SYNC
    assert made.json["problems"] == []
    assert made.json["assumed"]
    written = yaml.safe_load((project / "assets" / SYNC / "defs.yaml").read_text())["attributes"]
    for key in ("source", "target", "mapping", "dedupe", "contract", "frequency", "mode", "first_sync"):
        assert written[key] == reference[key], key
    world.seed_leads(12, missing={"Email": 1}, duplicates=2)
    assert world.run().code == 1
    assert world.disagreements() == []


def test_unknown_keys_and_systems_are_named_with_their_mend(world: World, tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    for change, field in (
        ({"sink": "x"}, "sink"),
        ({"target": "Abacus 2000"}, "target"),
        ({"data_mapping": {}}, "data_mapping"),
    ):
        file.write_text(json.dumps({**MISSION, **change}))
        refused = world.cli("new", "--from-json", str(file), "--json")
        assert refused.code == 2
        assert refused.json["error"]["field"] == field
        assert refused.json["error"]["mend"]


def test_an_init_project_loads_from_the_built_wheel(world: World, tmp_path: Path) -> None:
    built = tmp_path / "dist"
    subprocess.run(
        [str(Path(sys.executable).parent / "uv"), "build", "--wheel", "-q", "-o", str(built)], cwd=ROOT, check=True
    )
    wheel = next(built.glob("*.whl"))
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"sync_platform"}
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    project = tmp_path / "theirs"
    probe = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "import sync_platform; assert sync_platform.__file__.startswith(sys.argv[1])\n"
        "from sync_platform.commands.scaffold import write_project\n"
        "write_project(Path(sys.argv[2]))\n"
        "from sync_platform.project import Project\n"
        "from sync_platform.commands.templates import from_template, templates\n"
        "[from_template(Project(Path(sys.argv[2])), name) for name in templates()]\n"
        "from sync_platform.definitions import load\n"
        "defs = load(Project(Path(sys.argv[2])))\n"
        "print(sorted(key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, str(installed), str(project)],
        env={k: v for k, v in world.environment().items() if k not in ("SYNC_PROJECT",) and "SALESFORCE" not in k},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in (SYNC, *(one.sync for one in templates().values())):
        assert f"{name}/delivered" in done.stdout
