"""Runs single tests in a copy of the tree, whose `sync_platform` is certainly the one that is imported."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.forks import Fork

SECONDS = 400.0
GRACE = 20.0
RED = 1  # pytest: tests ran and some failed; 2 to 5 are collection errors, internal ones, usage, nothing found
NOTHING = 5


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


def compile_all(tree: Path) -> None:
    """Compiles the product once, rather than in each of hundreds of processes."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(tree / "sync_platform")], check=True)


def pytest_in(
    tree: Path, tests: Sequence[str], *, scratch: Path, seconds: float = SECONDS, options: Sequence[str] = ()
) -> Ran:
    """Runs these tests in `tree`; after `seconds` they are interrupted, so that fixtures still stop their servers."""
    arguments = ["-vv", "--tb=short", "-p", "no:cacheprovider", "--color=no", "-o", "addopts=--strict-markers"]
    arguments += [f"--basetemp={scratch}", *options, *tests]
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as told:
        process = Fork(_pytest, str(tree), arguments, environment=environment(tree), folder=tree, out=told, err=told)
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = _interrupted(process)
        told.seek(0)
        return Ran(code=code, said=told.read(), seconds=time.monotonic() - begun)


def _interrupted(process: Fork) -> None:
    """Ends a pytest process as Ctrl-C does, and by force when that does not help."""
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    process.kill()


def _pytest(tree: str, arguments: list[str]) -> None:
    """In a fork, of which nothing of ours is kept: runs pytest with the tree's own code."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "sync_platform")]:
        del sys.modules[name]
    sys.path.insert(0, tree)
    sys.dont_write_bytecode = False
    import hypothesis
    import pytest

    import sync_platform
    import tests

    assert sync_platform.__file__ == f"{tree}/sync_platform/__init__.py", sync_platform.__file__
    assert tests.__file__ == f"{tree}/tests/__init__.py", tests.__file__
    # That a test is red is enough: a smaller example of it is looked for by people.
    hypothesis.settings.register_profile("red", phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate])
    hypothesis.settings.load_profile("red")
    sys.argv = ["pytest", *arguments]
    sys.exit(int(pytest.main(arguments)))
