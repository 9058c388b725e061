"""`worker`: delivers events until it is told to stop."""

from __future__ import annotations

import contextlib
import datetime as dt
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sync_platform.errors import SyncError
from sync_platform.project import Project
from sync_platform.realtime.inbox import Routes
from sync_platform.realtime.routes import RouteTable
from sync_platform.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sync_platform.engine.spec import SyncSpec


class Declared:
    """The realtime syncs of a project's folder, read again when a file has changed."""

    def __init__(self, root: Path) -> None:
        self._table = RouteTable(root=root)
        self._syncs: Mapping[str, SyncSpec] = {}
        self._looked = float("-inf")
        self._lock = threading.Lock()

    @property
    def routes(self) -> Routes:
        """Which of them read a stream, as of the last look."""
        return self._table.routes

    def now(self) -> Mapping[str, SyncSpec]:
        """The syncs as the files are now, looked at once a second; a broken file leaves them as they were."""
        with self._lock:
            if time.monotonic() - self._looked >= 1.0:
                self._looked = time.monotonic()
                try:
                    if self._table.refresh():
                        declared = Project(self._table.root).syncs
                        self._syncs = {n: one.spec for n, one in declared.items() if one.spec.frequency == "realtime"}
                except SyncError as error:
                    print(f"worker: the project cannot be read, its syncs stay as they were: {error}", file=sys.stderr)
            return self._syncs


def work(project: Project, concurrency: int) -> None:
    """Runs a worker with that many threads until SIGTERM or SIGINT; what it has claimed is delivered first."""
    from sync_platform.commands.running import instance_of
    from sync_platform.components.frequency import next_tick
    from sync_platform.realtime.telling import Teller
    from sync_platform.realtime.window import Windows
    from sync_platform.realtime.worker import Worker

    session, declared = Session.open(project), Declared(project.root)
    tell = Teller(session.database, declared.now, lambda: instance_of(session.database))
    with contextlib.closing(session), tell as teller:
        windows = Windows(
            database=session.database,
            publish=teller.publish,
            next_sync=lambda spec: next_tick(spec.frequency, spec.timezone, dt.datetime.now(dt.UTC)),
            traffic=session.traffic,
        )
        worker = Worker(session=session, windows=windows, syncs=declared.now, threads=concurrency)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        print(f"worker {worker.worker_id} delivers events of {len(declared.now())} syncs", flush=True)
        worker.run()
