"""Tells Dagster what the warm lane did: materialisations and check results that belong to no run.

Each costs 12 ms and some kilobytes, so none is written on an event's path: `publish` only notes the report,
and a thread of its own writes it. While Dagster's storage is away reports wait; the state has them anyway.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
import sqlalchemy.exc
from dagster_postgres.utils import DagsterPostgresException

from sync_platform.components.checked import freshness, quality, report_metadata
from sync_platform.errors import SyncError

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.state.database import Database

#: Reports of one sync that wait for Dagster's storage at most; the oldest go first.
WAITING: Final = 60
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
#: What a storage that is away, full or restarting raises.
_AWAY: Final = (SyncError, sqlalchemy.exc.SQLAlchemyError, DagsterPostgresException, dg.DagsterError, OSError)


@dataclass
class Teller:
    """Writes reports to Dagster in the background. `publish` is what `Windows` takes.

    `instance` is asked for once Dagster is needed, and again after a failure. Use it as a context manager,
    or call `close`: it gives what still waits some seconds.
    """

    database: Database
    syncs: Callable[[], Mapping[str, SyncSpec]]
    instance: Callable[[], dg.DagsterInstance]
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)
    _waiting: dict[str, deque[dict[str, Any]]] = field(default_factory=dict, repr=False)
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)
    _closing: bool = field(default=False, repr=False)

    def publish(self, sync: str, report: dict[str, Any]) -> None:
        """Notes a report and returns at once."""
        with self._changed:
            self._waiting.setdefault(sync, deque(maxlen=WAITING)).append(report)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="telling", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self, patience: float = 10.0) -> None:
        """Writes what waits, for `patience` seconds at most."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(patience)

    def __enter__(self) -> Teller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        pause, instance = FIRST_PAUSE, None
        while (taken := self._next()) is not None:
            sync, report = taken
            try:
                instance = instance or self.instance()
                tell(instance, self.database, self.syncs(), sync, report)
                pause = FIRST_PAUSE
            except _AWAY as error:
                instance = None
                self._give_back(sync, report)
                self.say(f"worker: Dagster's storage is away, {sync} is told later: {_first_line(error)}")
                with self._changed:
                    self._changed.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    def _next(self) -> tuple[str, dict[str, Any]] | None:
        """The oldest report of the sync that waits longest; None: closed, and nothing waits."""
        with self._changed:
            while not self._waiting:
                if self._closing:
                    return None
                self._changed.wait()
            sync = next(iter(self._waiting))
            reports = self._waiting.pop(sync)
            report = reports.popleft()
            if reports:
                self._waiting[sync] = reports  # behind the others
            return sync, report

    def _give_back(self, sync: str, report: dict[str, Any]) -> None:
        with self._changed:
            reports = self._waiting.setdefault(sync, deque(maxlen=WAITING))
            if len(reports) < WAITING:
                reports.appendleft(report)


def tell(
    instance: dg.DagsterInstance,
    database: Database,
    syncs: Mapping[str, SyncSpec],
    sync: str,
    report: dict[str, Any],
) -> None:
    """Reports one window: `<sync>/delivered` with its report, and the checks a run would have evaluated."""
    latency = {f"latency_{name}_ms": value for name, value in report.get("latency_ms", {}).items()}
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            asset_key=dg.AssetKey([sync, "delivered"]),
            description="Delivered by a worker as events arrived.",
            metadata={**report_metadata(report), "events": report.get("events", 0), **latency},
        )
    )
    for evaluation in _evaluations(database, syncs.get(sync), report):
        instance.report_runless_asset_event(evaluation)


def _evaluations(
    database: Database, spec: SyncSpec | None, report: dict[str, Any]
) -> Iterator[dg.AssetCheckEvaluation]:
    if spec is None:  # taken out of the project meanwhile
        return
    yield freshness(database, spec, dt.datetime.now(dt.UTC)).evaluation(spec.name)
    found = quality(
        # a worker sees the records of its events only: what a run found wrong before stays red until it is settled
        invalid=max(report["data_quality"]["validation_errors"], _open_letters(database, spec.name)),
        completeness=report["data_quality"]["completeness_score"],
        duplicates=report["sync_summary"]["duplicates_skipped"],
        more={"reasons": dg.MetadataValue.json(report["errors"][:20])},
    )
    for one in found:
        yield one.evaluation(spec.name)


def _open_letters(database: Database, sync: str) -> int:
    """Records that wait because they break the contract."""
    with database.connection() as connection:
        row = connection.execute(
            """SELECT count(*) FROM sync.dead_letters
               WHERE sync = %s AND kind = 'contract' AND state IN ('open', 'retry')""",
            (sync,),
        ).fetchone()
    return int(row[0]) if row else 0


def _first_line(error: BaseException) -> str:
    with contextlib.suppress(IndexError):
        return str(error).strip().splitlines()[0]
    return type(error).__name__
