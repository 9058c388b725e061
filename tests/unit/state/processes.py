"""Runs Python in real processes of its own, for tests about what several processes do at once."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from sync_platform.state.database import Database

Answer = TypeVar("Answer")
_AWAKE, _LEFT = -1.0, float("inf")
_FORK = multiprocessing.get_context("fork")

ROOT = Path(__file__).resolve().parents[3]


def environment(**more: str) -> dict[str, str]:
    """This process's environment without settings of ours, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNC_")}
    return {**kept, "PYTHONPATH": str(ROOT), "SYNC_PG_FSYNC": "off", **more}


def of(database: Database, **more: str) -> dict[str, str]:
    """The environment of a process that shares this state."""
    return environment(SYNC_HOME=str(database.home.root), SYNC_DATABASE_URL=database.url, **more)


def start(code: str, env: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    """A process that runs `code`; it talks through pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=dict(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], *, code: int = 0) -> str:
    """What the process printed, once it ended with `code`."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, f"exit {process.returncode}: {err}"
    return out.strip()


def line(process: subprocess.Popen[str]) -> str:
    """The next line it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def at_once(count: int, work: Callable[[int], Answer]) -> list[Answer]:
    """What `work(number)` returned in each of `count` forked processes, which began it together."""
    barrier = _FORK.Barrier(count)
    answers = _FORK.SimpleQueue()

    def run(number: int) -> None:
        barrier.wait(60)
        answers.put(work(number))

    forked = [_FORK.Process(target=run, args=(number,)) for number in range(count)]
    for process in forked:
        process.start()
    got = [answers.get() for _ in forked]
    for process in forked:
        process.join(60)
        assert process.exitcode == 0
    return got


class MadeUpTime:
    """A clock for several processes: it jumps to the next alarm once every one of them sleeps.

    A process that is done calls `leave`.
    """

    def __init__(self, count: int, begin: float) -> None:
        self._changed = _FORK.Condition()
        self._now = _FORK.Value("d", begin, lock=False)
        self._alarms = _FORK.Array("d", [_AWAKE] * count, lock=False)

    def clock(self) -> float:
        """The time it is."""
        return self._now.value

    def sleep(self, number: int, seconds: float) -> None:
        """Waits until the clock has moved on."""
        with self._changed:
            self._alarms[number] = self._now.value + seconds
            self._ring()
            assert self._changed.wait_for(lambda: self._alarms[number] == _AWAKE, 60)

    def leave(self, number: int) -> None:
        """The others no longer wait for this process."""
        with self._changed:
            self._alarms[number] = _LEFT
            self._ring()

    def _ring(self) -> None:
        alarms = list(self._alarms)
        if _AWAKE in alarms or min(alarms) == _LEFT:
            return
        first = alarms.index(min(alarms))
        self._now.value = alarms[first]
        self._alarms[first] = _AWAKE
        self._changed.notify_all()
