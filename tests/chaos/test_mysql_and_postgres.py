"""kill -9 of a run, and restarts of MariaDB, at any moment and both ways: nothing is lost, nothing is doubled."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_platform.state.database import Database
from tests.chaos.scenes import kill_at
from tests.chaos.two_databases import SYNCS, TwoDatabases
from tests.private_mariadb import PrivateMariaDB
from tests.world import World

POINTS = [
    "staging_loaded", "plan_written", "between_batches", "request_sent", "answer_received", "outcome_written",
    "position_written",
]  # fmt: skip
RESTARTS = 20
IN_MAKE_TEST = 5


@pytest.fixture(scope="module")
def maria() -> Iterator[PrivateMariaDB]:
    """A server of our own that keeps what it committed when it is killed."""
    with PrivateMariaDB(settings={"innodb-flush-log-at-trx-commit": "1"}) as server:
        yield server


@pytest.fixture
def both(world: World, state: Database, maria: PrivateMariaDB, tmp_path: Path) -> Iterator[TwoDatabases]:
    """Two databases with empty tables, and a project between them."""
    name = f"chaos_{uuid.uuid4().hex[:8]}"
    with state.session() as admin:
        admin.execute(f"CREATE DATABASE {name}")
    made = TwoDatabases(world, maria, f"{state.url.rsplit('/', 1)[0]}/{name}", name)
    made.prepare(tmp_path / "project")
    yield made
    maria.drop(name)
    with state.session() as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.slow
@pytest.mark.parametrize("sync", SYNCS)
@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_a_crash_point_is_finished_by_the_next(both: TwoDatabases, sync: str, point: str) -> None:
    both.fill(SYNCS[sync], 1, 2_000)
    assert both.world.run(sync).code == 0
    both.change(SYNCS[sync])
    both.fill(SYNCS[sync], 10_001, 12_000)
    kill_at(both.world, point, "run", sync, "--json")
    both.assert_settled(sync)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "moment", [pytest.param(n, marks=[pytest.mark.slow] if n >= IN_MAKE_TEST else []) for n in range(RESTARTS)]
)
def test_mariadb_restarted_in_mid_run_costs_at_most_that_run(both: TwoDatabases, moment: int) -> None:
    sync = list(SYNCS)[moment % 2]
    both.fill(SYNCS[sync], 1, 30_000)
    running = both.world.start("run", sync, "--json")
    began = time.monotonic()
    while not both.runs_begun() and running.poll() is None and time.monotonic() - began < 120:
        time.sleep(0.05)
    time.sleep(random.Random(moment).uniform(0.0, 3.0))
    both.maria.stop(kill=moment % 4 < 2)
    both.maria.start()
    out, err = running.communicate(timeout=300)
    assert running.returncode in (0, 1, 3), out + err
    if running.returncode:
        assert '"mend": "' in out, out + err
    both.assert_settled(sync)
