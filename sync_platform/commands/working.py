"""`worker`: delivers events until it is told to stop."""

from __future__ import annotations

import datetime as dt
import signal
from typing import TYPE_CHECKING

from sync_platform.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sync_platform.engine.spec import SyncSpec
    from sync_platform.project import Project
    from sync_platform.realtime.worker import Worker


def work(project: Project, concurrency: int) -> None:
    """Runs a worker with that many threads until SIGTERM or SIGINT; what it has claimed is delivered first."""
    session = Session.open(project)
    worker = worker_of(session, concurrency)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    print(f"worker {worker.worker_id} delivers events of {len(worker.syncs())} syncs", flush=True)
    try:
        worker.run()
    finally:
        session.close()


def worker_of(session: Session, concurrency: int = 2) -> Worker:
    """A worker for the realtime syncs of the session's project, as its files are now."""
    from sync_platform.components.frequency import next_tick
    from sync_platform.realtime.window import Windows
    from sync_platform.realtime.worker import Worker

    project = session.project

    def syncs() -> Mapping[str, SyncSpec]:
        return {name: one.spec for name, one in project.syncs.items() if one.spec.frequency == "realtime"}

    windows = Windows(
        database=session.database,
        publish=lambda sync, report: None,
        next_sync=lambda spec: next_tick(spec.frequency, spec.timezone, dt.datetime.now(dt.UTC)),
        traffic=session.traffic,
    )
    return Worker(session=session, windows=windows, syncs=syncs, threads=concurrency)
