"""Processes forked from one that has imported the big libraries: importing is over half of what a short one costs.

Each has a session, environment and folder of its own. polars, pyarrow, numpy and DuckDB are not among what is imported
beforehand: they start threads then, which a fork would not have.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any

IMPORTED = (
    "alembic.command",
    "dagster",
    "dagster_postgres",
    "dlt",
    "hypothesis",
    "psycopg_pool",
    "pytest",
    "rich.console",
    "rich.table",
    "sqlglot",
    "typer",
    "uvicorn",
)
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(list(IMPORTED))


class Fork:
    """A process that calls `target(*arguments)` and writes to two files; used like a `subprocess.Popen`."""

    def __init__(
        self,
        target: Callable[..., None],
        *arguments: Any,
        environment: Mapping[str, str],
        folder: Path,
        out: IO[Any],
        err: IO[Any],
    ) -> None:
        streams = DupFd(out.fileno()), DupFd(err.fileno())
        self._process = _FORKS.Process(target=_called, args=(target, arguments, dict(environment), folder, *streams))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """As `returncode`."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end; subprocess.TimeoutExpired when that takes longer than `timeout` seconds."""
        self._process.join(timeout)
        code = self.returncode
        if code is None:
            raise subprocess.TimeoutExpired("a fork", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Sends a signal to the process."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Asks it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kills it, and what it started in its session's group."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()


def _called(
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    environment: dict[str, str],
    folder: Path,
    out: Any,
    err: Any,
) -> None:
    gc.freeze()  # what the parent imported is shared as long as nobody looks through it
    os.setsid()
    for stream, file in ((out, 1), (err, 2)):
        os.dup2(stream.detach(), file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        target(*arguments)
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends its processes without it
