"""Wall clock and peak memory of a whole process tree."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil

_EVERY = 0.05  # seconds between two looks at the memory
_LOOKS_A_FAMILY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of a command: seconds, highest sum of resident memory (bytes), exit code and what it said.

    `stopped`: it was not done by then, and was ended.
    """

    seconds: float
    peak: int
    code: int
    output: str
    stopped: bool = False


class _Family:
    """A process and its descendants, and the memory they have resident.

    The meter must not take what it measures: to find descendants is to look at every process of the machine (2 to 5
    milliseconds), so that is done at every tenth look only.
    """

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._members = [self._root]
        self._looks = 0

    def resident(self) -> int:
        """Bytes, now."""
        if self._looks % _LOOKS_A_FAMILY == 0:
            with contextlib.suppress(psutil.Error):
                self._members = [self._root, *self._root.children(recursive=True)]
        self._looks += 1
        total = 0
        for member in self._members:
            with contextlib.suppress(psutil.Error):  # ended in between
                total += member.memory_info().rss
        return total


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills a process and everything it started."""
    try:
        root = psutil.Process(process.pid)
        family = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


def run(
    command: Sequence[str | Path] | str,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 1800.0,
) -> Measured:
    """Runs a command (a text is a shell line) to its end and samples the memory of all its processes."""
    with tempfile.TemporaryFile() as out:
        began = time.perf_counter()
        process = subprocess.Popen(
            command if isinstance(command, str) else [str(part) for part in command],
            shell=isinstance(command, str), executable="/bin/bash" if isinstance(command, str) else None,
            env=dict(env) if env is not None else None, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        peak, ended = 0, threading.Event()

        def sample() -> None:
            nonlocal peak
            family = _Family(process.pid)
            while not ended.wait(_EVERY):
                peak = max(peak, family.resident())

        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        stopped = False
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            stopped = True
            end(process)
            code = process.wait()
        except BaseException:  # the bench itself is being stopped: leave nothing behind
            end(process)
            raise
        seconds = time.perf_counter() - began
        ended.set()
        sampler.join()
        out.seek(0)
        told = out.read().decode("utf-8", "replace")
        return Measured(seconds=seconds, peak=peak, code=code, output=told, stopped=stopped)


@dataclass(slots=True)
class Series:
    """The runs of one tool at one work, and why they do not count, if they do not."""

    tool: str
    work: str
    runs: list[Measured]
    invalid: str | None = None
    empty: list[float] = field(default_factory=list)  # seconds of runs on an empty table, one beside each run
    steps: list[dict[str, float]] = field(default_factory=list)  # of each run, as its report tells them

    @property
    def stopped(self) -> bool:
        """Whether a run was ended before it was done: its seconds are the least it takes."""
        return any(run.stopped for run in self.runs)

    @property
    def seconds(self) -> float:
        """The median wall clock."""
        return median(run.seconds for run in self.runs)

    @property
    def engine(self) -> float | None:
        """The median without what a run on an empty table takes; None where there was none."""
        return self.seconds - median(self.empty) if self.empty else None

    @property
    def peak(self) -> int:
        """The highest memory of any run, in bytes."""
        return max(run.peak for run in self.runs)
