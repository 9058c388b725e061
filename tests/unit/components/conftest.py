"""The reference project on a real state, with Dagster's own storage in it, as a sensor finds them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_platform.commands.running import instance_of
from sync_platform.home import Home
from sync_platform.project import PROJECT_VARIABLE
from sync_platform.state.dagster_home import dagster_environment
from sync_platform.state.database import Database, open_state
from tests.unit.components.place import Place
from tests.world import ROOT


@pytest.fixture
def place(state: Database, prepared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A fresh installation of the reference project."""
    name = f"place_{uuid.uuid4().hex[:12]}"
    with state.session() as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {prepared}")
    url = state.url.rsplit("/", 1)[0] + f"/{name}"
    for variable in [one for one in os.environ if one.startswith(("SYNC_", "DAGSTER_"))]:
        monkeypatch.delenv(variable)
    for variable, value in (
        ("SYNC_HOME", str(tmp_path / "place")),
        ("SYNC_DATABASE_URL", url),
        (PROJECT_VARIABLE, str(ROOT)),
    ):
        monkeypatch.setenv(variable, value)
    database = open_state(Home.current())
    for variable, value in dagster_environment(database).items():
        monkeypatch.setenv(variable, value)
    with instance_of(database) as instance:
        yield Place(database, instance)
    database.close()
    with state.session() as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
