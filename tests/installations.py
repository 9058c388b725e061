"""Fresh installations for end-to-end tests: a database copied from a template that Dagster has prepared, too."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_platform.commands.scaffold import write_project
from sync_platform.sandbox.server import SandboxProcess
from sync_platform.state.database import Database
from tests.world import ROOT, World

_PREPARE = (
    "from sync_platform.commands.running import instance_of\n"
    "from sync_platform.state.database import open_state\n"
    "from sync_platform.staging.lake import Lake\n"
    "db = open_state()\n"
    "instance_of(db).dispose()\n"
)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SandboxProcess]:
    """One sandbox for the session; every world resets it."""
    with SandboxProcess() as running:
        yield running


@pytest.fixture(scope="session")
def prepared(state: Database, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a migrated database with Dagster's tables, to copy."""
    with state.session() as admin:
        admin.execute("CREATE DATABASE prepared")
    home = tmp_path_factory.mktemp("prepared")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SYNC_", "DAGSTER_"))}
    environment = {**kept, "SYNC_HOME": str(home), "SYNC_DATABASE_URL": state.url.rsplit("/", 1)[0] + "/prepared"}
    subprocess.run([sys.executable, "-c", _PREPARE], env=environment, check=True, timeout=180)
    return "prepared"


@pytest.fixture
def world(sandbox: SandboxProcess, state: Database, prepared: str, tmp_path: Path) -> Iterator[World]:
    """A fresh installation of the reference project beside an empty sandbox."""
    name = f"world_{uuid.uuid4().hex[:12]}"
    with state.session() as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {prepared}")
    sandbox.control.post("reset")
    yield World(sandbox, tmp_path / "home", state.url.rsplit("/", 1)[0] + f"/{name}", ROOT)
    with state.session() as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def own(world: World, tmp_path: Path) -> World:
    """A world with a project that may be spoiled."""
    project = tmp_path / "project"
    write_project(project)
    world.project = project
    return world
