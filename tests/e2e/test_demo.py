"""`demo`: other numbers than the Makefile's work as well, and what a guard stops ends with the guard's sentence."""

from __future__ import annotations

from pathlib import Path

from sync_platform.home import Home
from sync_platform.sandbox.server import SandboxProcess
from sync_platform.state import server
from tests.forked_commands import Answer
from tests.living import working_in
from tests.world import World


def demo(sandbox: SandboxProcess, home: Path, **numbers: int) -> Answer:
    """Runs `demo` as `make demo` does, with the numbers in the environment and a home of its own."""
    world = World(sandbox, home, "")
    return world.cli("demo", "--json", **{name: str(value) for name, value in numbers.items()}, SYNC_PG_FSYNC="off")


def test_the_demo_agrees_with_the_target_and_leaves_nothing_running(sandbox: SandboxProcess, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = demo(sandbox, home, LEADS=31, MISSING_EMAIL=9, DUPLICATES=4)
    assert done.code == 0, done.out + done.err
    assert (done.json["disagreements"], done.json["violations"]) == ([], [])
    summary = done.json["first"]["sync_summary"]
    assert (summary["records_processed"], summary["successful_transfers"], summary["failed_transfers"]) == (31, 22, 9)
    assert summary["duplicates_skipped"] == 4
    assert done.json["second"]["sync_summary"]["records_processed"] == 0
    assert server.running_pid(Home(home / "demo")) is None
    assert working_in(home) == working_in(home / "demo") == {}


def test_a_demo_with_too_many_bad_leads_ends_with_the_guards_sentence(sandbox: SandboxProcess, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = demo(sandbox, home, LEADS=40, MISSING_EMAIL=12, DUPLICATES=0)
    assert done.code == 4, done.out + done.err
    error = done.json["error"]
    assert "12 of 40 records (30.0%) fail the contract, more than max_invalid 10.0%" in error["message"]
    assert "guards" in error["mend"]
    assert server.running_pid(Home(home / "demo")) is None
    assert working_in(home) == working_in(home / "demo") == {}
