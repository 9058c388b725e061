"""Runs single tests in a copy of the tree, whose `sync_platform` is certainly the one that is imported."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 400.0
GRACE = 20.0
RED = 1  # pytest: tests ran and some failed; 2 to 5 are collection errors, internal ones, usage, nothing found
NOTHING = 5
_PROBE = "import sync_platform, tests; print(sync_platform.__file__); print(tests.__file__)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a pytest process ended: its exit code (None: its time was up), what it said, how long it took."""

    code: int | None
    said: str
    seconds: float

    def verdicts(self, test: str) -> list[str]:
        """PASSED, FAILED, ERROR ... of every case of a test."""
        pattern = rf"^{re.escape(test)}(?:\[.*\])? (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b"
        return re.findall(pattern, self.said, re.MULTILINE)

    @property
    def last_words(self) -> str:
        """The end of the output, for a person."""
        return "\n".join(self.said.strip().splitlines()[-25:])


def environment(tree: Path) -> dict[str, str]:
    """The variables of a process that works in `tree` and knows no installation."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SYNC_", "DAGSTER_", "PYTEST_"))}
    kept.pop("CI", None)
    return {**kept, "PYTHONPATH": str(tree)}


def probe(tree: Path) -> None:
    """Raises AssertionError unless a process in `tree` imports the tree's own code."""
    told = subprocess.run(
        [sys.executable, "-c", _PROBE], cwd=tree, env=environment(tree), capture_output=True, text=True, check=True
    ).stdout.split()
    assert told == [str(tree / "sync_platform/__init__.py"), str(tree / "tests/__init__.py")], told


def pytest(
    tree: Path, tests: Sequence[str], *, scratch: Path, seconds: float = SECONDS, slow_only: bool = False
) -> Ran:
    """Runs these tests in `tree`; after `seconds` they are interrupted, so that fixtures still stop their servers."""
    command = [sys.executable, "-m", "pytest", "-vv", "--tb=short", "-p", "no:cacheprovider", "--color=no"]
    command += [
        "-o",
        "addopts=--strict-markers",
        f"--basetemp={scratch}",
        *(["-m", "slow"] if slow_only else []),
        *tests,
    ]
    begun = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=environment(tree),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        said, code = _interrupted(process), None
    return Ran(code=code, said=said, seconds=time.monotonic() - begun)


def _interrupted(process: subprocess.Popen[str]) -> str:
    """Ends a pytest process as Ctrl-C does, and by force when that does not help; what it said."""
    os.kill(process.pid, signal.SIGINT)
    try:
        said, _ = process.communicate(timeout=GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
    return said
