"""Fixtures every test may use: a temporary home, and the state on a real embedded PostgreSQL."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from sync_platform.home import Home
from sync_platform.state import server
from sync_platform.state.database import Database, open_state

MIGRATED = "migrated"  # an empty, migrated database on the session's server, to copy
pytest_plugins = ["tests.honesty", "tests.installations", "tests.law_report"]


def pytest_collection_finish() -> None:
    """Imports and collected tests stay: the collector need not look at them again and again."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A temporary home; its PostgreSQL, if the test started one, is stopped and deleted afterwards."""
    made = Home(tmp_path / "home").create()
    yield made
    server.destroy(made)


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The state of a temporary home, on a server without fsync that all tests of the session share."""
    made = Home(tmp_path_factory.mktemp("state") / "home").create()
    url = server.ensure_running(made, fsync=False)
    open_state(made).close()
    with psycopg.connect(url.rsplit("/", 1)[0] + "/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {MIGRATED} TEMPLATE {server.DATABASE}")
    database = open_state(made)
    yield database
    database.close()
    server.destroy(made)


@pytest.fixture
def new_database(state: Database) -> Iterator[Callable[[str], str]]:
    """Makes an empty database on the session's server, named after what it is given, and tells its URL."""
    made: list[str] = []

    def make(kind: str) -> str:
        made.append(f"{kind}_{uuid.uuid4().hex[:8]}")
        with state.session() as admin:
            admin.execute(f"CREATE DATABASE {made[-1]}")
        return f"{state.url.rsplit('/', 1)[0]}/{made[-1]}"

    yield make
    with state.session() as admin:
        for name in made:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def fresh_state(state: Database, tmp_path: Path) -> Iterator[Database]:
    """An empty, migrated state of its own: a new database on the session's server, and a new home."""
    name = f"fresh_{uuid.uuid4().hex[:12]}"
    with state.session() as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {MIGRATED}")
        admin.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    database = open_state(Home(tmp_path / "fresh"), url=state.url.rsplit("/", 1)[0] + f"/{name}")
    yield database
    database.close()
    with state.session() as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
