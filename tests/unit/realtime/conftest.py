"""Databases for gateways, and one gateway that the tests of a module share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_platform.state.database import Database
from tests.conftest import MIGRATED
from tests.unit.realtime.gateways import RunningGateway, Written


@pytest.fixture(scope="module")
def gateway(state: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway with default options that the tests of a module share."""
    name, folder = f"gateway_{uuid.uuid4().hex[:12]}", tmp_path_factory.mktemp("gateway")
    with state.session() as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {MIGRATED}")
    url = state.url.rsplit("/", 1)[0] + f"/{name}"
    project = Written.at(folder / "project")
    with RunningGateway(project=project.root, home=folder / "home", database_url=url) as running:
        yield running
    with state.session() as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def project(tmp_path: Path) -> Written:
    """A project of one test's own."""
    return Written.at(tmp_path / "project")
