"""The embedded PostgreSQL dies: the run says so or recovers, and the next run finishes the work."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sync_platform.home import Home
from sync_platform.sandbox.server import SandboxProcess
from sync_platform.state import server
from tests.chaos.crew import Crew
from tests.chaos.scenes import assert_agreed, assert_settled, fault, until_held
from tests.world import ROOT, SYNC, World

pytestmark = pytest.mark.slow


@pytest.fixture
def own_server(sandbox: SandboxProcess, tmp_path: Path) -> Iterator[World]:
    """An installation with an embedded server of its own."""
    sandbox.control.post("reset")
    made = World(sandbox, tmp_path / "home", "", ROOT, {"SYNC_PG_FSYNC": "off"})
    yield made
    server.destroy(Home(made.home))


def kill_server(world: World) -> None:
    """kill -9 of the server's first process, which takes the others with it."""
    pid = server.running_pid(Home(world.home))
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)


def test_a_server_killed_between_runs_is_started_again_by_the_next(own_server: World) -> None:
    own_server.seed_leads(20)
    assert own_server.run().code == 0
    kill_server(own_server)
    own_server.seed_leads(5)
    assert_settled(own_server, contacts=25)


@pytest.mark.parametrize("kind", ["hold_before", "hold_after"])
def test_a_server_killed_during_a_run_costs_nothing(own_server: World, kind: str) -> None:
    own_server.seed_leads(105)
    fault(own_server, kind)
    running = own_server.start("run", SYNC, "--json")
    until_held(own_server, running)
    kill_server(own_server)
    own_server.control.post("release")
    out, err = running.communicate(timeout=240)
    assert running.returncode in (0, 3), out + err
    if running.returncode == 0:
        assert_agreed(own_server, contacts=105)
    else:
        assert '"mend": "' in out, out + err
    assert_settled(own_server, contacts=105)


def test_a_server_killed_under_gateway_and_worker_loses_no_event(own_server: World, tmp_path: Path) -> None:
    own_server.seed_leads(20)
    assert own_server.run().code == 0
    crew = Crew(own_server, tmp_path / "logs")
    try:
        crew.gateway()
        crew.listen()
        crew.start("worker")
        ids = [lead["id"] for lead in own_server.records("salesforce/Lead")]
        for turn in range(12):
            edits = [{"id": one, "fields": {"Company": f"Company {turn:06d}"}} for one in ids]
            own_server.edit("salesforce/Lead", *edits)
            if turn == 3:
                kill_server(own_server)
                assert own_server.cli("sql", "SELECT 1").code == 0, "any command starts it again"
            time.sleep(0.2)
        crew.database_url = server.running_url(Home(own_server.home)) or ""
        own_server.control.post("clock", {"advance_seconds": 600})  # the vendor repeats what was not acknowledged
        crew.quiet()
        assert_agreed(own_server, contacts=20)
    finally:
        crew.stop()
