"""Forks are processes like any other: nothing of the test's own process is in them, and their end is told truly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.forked_commands import ran, started
from tests.forks import IMPORTED, Fork


def test_what_is_imported_beforehand_starts_no_thread() -> None:
    code = f"import importlib, os\nfor name in {IMPORTED!r}: importlib.import_module(name)\n"
    code += "print(len(os.listdir('/proc/self/task')))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert told.stdout.strip() == "1"


def test_a_command_answers_and_ends_as_one_that_a_user_starts(tmp_path: Path) -> None:
    for arguments in (["version", "--json"], ["run", "--json"], ["nonsense"]):
        environment = {**os.environ, "SYNC_HOME": str(tmp_path)}
        command = [sys.executable, "-m", "sync_platform.cli", *arguments]
        real = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        forked = ran(arguments, environment, tmp_path, seconds=120)
        assert (forked.code, forked.out, forked.err) == (real.returncode, real.stdout, real.stderr)


def test_a_fork_has_the_environment_folder_and_session_it_is_given(tmp_path: Path) -> None:
    os.environ["ONLY_OF_THE_TEST"] = "1"
    try:
        with tempfile.TemporaryFile("w+") as out:
            fork = Fork(_tell, "told", environment={"GIVEN": "2"}, folder=tmp_path, out=out, err=out)
            assert fork.wait(60) == 7
            out.seek(0)
            assert out.read().splitlines() == ["told", "{'GIVEN': '2'}", str(tmp_path), "True", "to stderr"]
    finally:
        del os.environ["ONLY_OF_THE_TEST"]


def _tell(word: str) -> None:
    print(word, dict(os.environ), Path.cwd(), os.getsid(0) == os.getpid(), sep="\n", flush=True)
    print("to stderr", file=sys.stderr)
    sys.exit(7)


def test_a_killed_fork_says_so_and_one_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    with tempfile.TemporaryFile("w+") as out:
        fork = started(["sandbox", "--port", "0"], dict(os.environ), tmp_path, out, out)
        assert fork.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            fork.wait(0.2)
        os.kill(fork.pid, signal.SIGKILL)
        assert fork.wait(20) == fork.poll() == fork.returncode == -signal.SIGKILL
    begun = time.monotonic()
    with pytest.raises(AssertionError, match="did not end in"):
        ran(["sandbox", "--port", "0"], dict(os.environ), tmp_path, seconds=1.5)
    assert time.monotonic() - begun < 60
