"""MariaDB's binlog followed into PostgreSQL with the processes a user starts: changes arrive without a run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sync_platform.state.database import Database
from tests.chaos.two_databases import FILES, TwoDatabases
from tests.private_mariadb import shared
from tests.world import World

SYNC = "out_of_mysql"


@pytest.fixture
def both(world: World, state: Database, tmp_path: Path) -> Iterator[TwoDatabases]:
    """Two databases with empty tables; the sync out of MariaDB is a realtime one by capture."""
    name = f"captured_{uuid.uuid4().hex[:8]}"
    with state.session() as admin:
        admin.execute(f"CREATE DATABASE {name}")
    made = TwoDatabases(world, shared(), f"{state.url.rsplit('/', 1)[0]}/{name}", name)
    made.prepare(tmp_path / "project")
    for file, old, new in (
        ("resources/systems.py", "lock_timeout_seconds=3", "capture=True"),
        (f"assets/{SYNC}/defs.yaml", "mode: mirror", "mode: mirror\n  frequency: realtime"),
    ):
        path = made.world.project / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    (made.world.project / "assets/into_mysql/defs.yaml").unlink()
    assert "assets/into_mysql/defs.yaml" in FILES
    yield made
    shared().drop(name)
    with state.session() as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def until(holds: Callable[[], bool], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@pytest.mark.timeout(600)
def test_changes_in_mariadb_reach_the_target_without_a_run_though_the_follower_dies(both: TwoDatabases) -> None:
    world, running = both.world, list[subprocess.Popen[str]]()

    def agreed() -> bool:
        return both.rows("postgres", "target_rows") == both.rows("mysql", "source_rows")

    def following() -> bool:
        told = world.cli("status", "--json").json["captures"]
        return [one["state"] for one in told] == ["following"]

    both.fill("mysql", 1, 200)
    try:
        running.append(world.start("capture"))
        until(following, "it never followed")
        first = world.run(SYNC)
        assert first.code == 0, first.out[-3000:]
        assert agreed()
        running.append(world.start("worker"))
        both.do("mysql", "UPDATE source_rows SET name = 'edited' WHERE id <= 20")
        both.do("mysql", "DELETE FROM source_rows WHERE id = 30")
        both.do("mysql", "UPDATE source_rows SET id = 5000 WHERE id = 31")
        both.fill("mysql", 1001, 1050)
        until(agreed, "edits, deletes and new rows did not arrive")
        os.killpg(running[0].pid, signal.SIGKILL)
        running[0].communicate()
        both.do("mysql", "UPDATE source_rows SET amount = 7 WHERE id > 1000")
        running[0] = world.start("capture")
        until(agreed, "what was committed while nobody followed did not arrive")
    finally:
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
