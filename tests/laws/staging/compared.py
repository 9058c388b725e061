"""One table of a database and what is staged of it; as a module it loads one once, in a process that may die."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from sync_platform.connectors.mysql import MySQL
from sync_platform.connectors.postgres import Postgres
from sync_platform.staging.chunks import Limits
from sync_platform.staging.lake import Lake
from sync_platform.staging.ledger import StagedLoad
from sync_platform.staging.load import Progress, stage
from sync_platform.state.database import open_state

ROOT = Path(__file__).parents[3]


class ComparedTable:
    """A table `stream` that is staged as `shop`."""

    lake: Lake
    stream: str
    connector: Postgres | MySQL
    compared = 0

    def load(self, *, full: bool = True, **options: Any) -> StagedLoad:
        """A load; `self.compared` says afterwards how many rows it compared."""
        self.compared = 0

        def tell(progress: Progress) -> None:
            self.compared = progress.compared

        return stage(self.lake, self.connector, "shop", self.stream, full=full, on_progress=tell, **options)

    def load_killed(self, crash_at: str) -> None:
        """A full load in a process that is killed at a crash point; each of its chunks is a page of few rows."""
        kind = type(self.connector)
        env = {**os.environ, "SYNC_HOME": str(self.lake.db.home.root), "SYNC_DATABASE_URL": self.lake.db.url}
        command = [sys.executable, "-m", __name__, kind.__module__, kind.__name__, str(self.connector.url), self.stream]
        killed = subprocess.run(command, cwd=ROOT, env=env | {"SYNC_CRASH_AT": crash_at}, timeout=120, check=False)
        assert killed.returncode == -signal.SIGKILL


def main(module: str, kind: str, url: str, stream: str) -> None:
    """Loads a table once, in chunks of few rows."""
    connector = getattr(importlib.import_module(module), kind)(url=url, page_bytes=1, tables={stream: {"cursor": ""}})
    stage(Lake(open_state()), connector, "shop", stream, full=True, limits=Limits(rows=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
