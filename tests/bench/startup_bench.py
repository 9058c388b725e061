"""How long a person waits before anything happens: `--help`, and Dagster loading the project."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.bench.measure import Measured, Series, run

_ROOT = Path(__file__).parents[2]
HELP, LOCATION = "sync-platform --help", "Dagster location load"
_LOAD = """
from sync_platform.definitions import load
from sync_platform.project import Project
load(Project.current()).get_repository_def()
"""


def bench(rounds: int) -> list[Series]:
    """Both, `rounds` times after one run that warms the disk and writes the bytecode."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    commands = {
        HELP: [Path(sys.executable).parent / "sync-platform", "--help"],
        LOCATION: [sys.executable, "-c", _LOAD],
    }
    found = []
    for work, command in commands.items():
        runs: list[Measured] = [run(command, env=environment, cwd=_ROOT) for _ in range(rounds + 1)][1:]
        series = Series(tool="sync-platform", work=work, runs=runs)
        failed = next((measured for measured in runs if measured.code), None)
        series.invalid = f"exit {failed.code}: {failed.output.strip()[-300:]}" if failed else None
        found.append(series)
        print(f"  {work:24} {series.seconds:6.2f} s  {series.invalid or ''}", flush=True)
    return found
