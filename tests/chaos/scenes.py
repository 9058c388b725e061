"""What the chaos tests share: a world with work to do, a held request, survivors, and the proof of agreement."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import psutil

from tests.living import lives, working_in
from tests.world import World

CREATE = "POST /crm/v3/objects/contacts/batch/create"


def prepare(world: World, *, before: int = 45, new: int = 40) -> None:
    """A finished first run; then 40 edited leads and as many new ones, two batches of HubSpot's in all."""
    world.seed_leads(before, duplicates=2)
    assert world.run().code == 0
    ids = [lead["id"] for lead in world.records("salesforce/Lead")]
    world.edit(
        "salesforce/Lead",
        *[{"id": one, "fields": {"Company": f"Edited {n} & Co"}} for n, one in enumerate(ids[:40])],
    )
    world.seed_leads(new)


def fault(world: World, kind: str, times: int = 1, match: str = CREATE) -> None:
    """Sets a fault of HubSpot's."""
    world.control.post("faults", {"system": "hubspot", "kind": kind, "times": times, "match": match})


def until(condition: Callable[[], bool], running: subprocess.Popen[str], what: str, seconds: float = 240) -> None:
    """Waits for a condition while a command runs; the command's end or the deadline is a failure."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert running.poll() is None, (what, running.communicate())
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def until_held(world: World, running: subprocess.Popen[str], nth: int = 1) -> None:
    """Waits until the nth request of a hold fault is held; those before it are let go on, one by one."""
    seen: set[int] = set()

    def another() -> bool:
        return bool({one["seq"] for one in world.control.get("held")["held"]} - seen)

    for number in range(1, nth + 1):
        until(another, running, f"request {number} was never held")
        seen |= {one["seq"] for one in world.control.get("held")["held"]}
        if number < nth:
            assert world.control.post("release")["released"] == 1


def survivors(world: World, session: int, patience: float = 5.0) -> list[str]:
    """What is left of a killed command: processes of its session, or that work on its installation."""
    deadline = time.monotonic() + patience
    while True:
        left = [*working_in(world.home).values(), *_of_session(session)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _of_session(session: int) -> list[str]:
    """Living processes of a session, by their commands."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and lives(process.pid):
                found.append(" ".join(process.cmdline()))
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found


def kill(world: World, running: subprocess.Popen[str]) -> None:
    """kill -9 of a command's process group; nothing of it may be left."""
    if running.poll() is None:
        os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert survivors(world, running.pid) == []


def kill_at(world: World, point: str, *arguments: str) -> None:
    """Runs a command that kills itself at a crash point; nothing of it may be left."""
    running = world.start(*arguments, SYNC_CRASH_AT=point)
    out, err = running.communicate(timeout=300)
    assert running.returncode == -signal.SIGKILL, f"{point} was never passed: {out}{err}"
    assert survivors(world, running.pid) == []


def creates(world: World) -> list[str]:
    """The ids of all contacts that were ever created, one entry per create."""
    return [effect["id"] for effect in world.written() if effect["op"] == "create"]


def assert_settled(world: World, *, contacts: int | None = None) -> None:
    """One more run, then agreement with as many creates as contacts, and silence from then on."""
    again = world.run()
    assert again.code == 0, again.out + again.err
    assert_agreed(world, contacts=contacts)
    mark = world.mark()
    last = world.run()
    assert last.json["sync_summary"]["records_processed"] == 0, last.out
    assert world.written(mark) == []
    assert world.violations() == []


def assert_agreed(world: World, *, contacts: int | None = None) -> None:
    """Every target equals its newest source, and nothing was created twice."""
    assert world.disagreements() == []
    made = creates(world)
    assert len(made) == len(set(made)) == len(world.records("hubspot/contacts"))
    assert contacts is None or len(made) == contacts
