"""Commands of ours, each in a fork (see `tests.forks`): as if a user had started it, but for the imports.

Tests of starting and of dying start `python -m sync_platform.cli` (`World.start`) instead.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.forks import Fork


@dataclass
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as the one JSON document it must be."""
        return json.loads(self.out)


def started(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, out: IO[Any], err: IO[Any]) -> Fork:
    """A running command, whose output goes to two files."""
    return Fork(_command, *arguments, environment=environment, folder=folder, out=out, err=err)


def ran(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, *, seconds: float) -> Answer:
    """Runs a command to its end; AssertionError, with what it said, when that takes longer."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = started(arguments, environment, folder, out, err)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        code = process.poll()
        process.kill()
        said = [file.seek(0) or file.read() for file in (out, err)]
    assert code is not None, "\n".join([f"{arguments} did not end in {seconds} s", *said])
    return Answer(code, *said)


def _command(*arguments: str) -> None:
    sys.argv = ["sync-platform", *arguments]
    from sync_platform.cli import main

    main()
