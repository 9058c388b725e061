"""What a worker did, told once a minute or on a change of state: a report, a seal, and events in Dagster.

A runless Dagster event costs 12 ms and some kilobytes, so none is written on an event's path.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Final

from psycopg.types.json import Jsonb

from sync_platform.connectors.shared import Traffic
from sync_platform.engine.report import Measured, Tally, build_report
from sync_platform.ledger.audit import seal
from sync_platform.ledger.unsettled import count_open

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.realtime.lane import Delivered
    from sync_platform.state.database import Database

SOON: Final = 1.0  # seconds in which what belongs together comes together
Publish = Callable[[str, dict[str, Any]], None]


@dataclass
class _Window:
    """One sync's work since it was last told."""

    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    begun: float = field(default_factory=time.monotonic)
    tally: Tally = field(default_factory=Tally)
    counts: Counter[str] = field(default_factory=Counter)
    cells: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    events: int = 0
    busy: float = 0.0

    @property
    def failing(self) -> bool:
        """Whether the last thing told would be a failure."""
        return bool(self.tally.errors)


@dataclass
class Windows:
    """The windows of one worker. `publish(sync, report)` tells Dagster."""

    database: Database
    publish: Publish
    next_sync: Callable[[SyncSpec], dt.datetime | None]
    traffic: Callable[[], Traffic]
    _open: dict[str, _Window] = field(default_factory=dict, repr=False)
    _told: dict[str, float] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def run_of(self, sync: str) -> str:
        """The run under which the sync's outcomes are told now."""
        with self._lock:
            return self._open.setdefault(sync, _Window()).run_id

    def deleted(self, sync: str) -> int:
        """How many records the sync deleted or archived in its window."""
        with self._lock:
            counted = self._open.get(sync, _Window()).tally.outcomes
            return sum(n for (op, status), n in counted.items() if op in ("delete", "archive") and status == "applied")

    def add(self, sync: str, done: Delivered, *, events: int, latencies: list[float], seconds: float) -> None:
        """Counts a delivered batch."""
        with self._lock:
            window = self._open.setdefault(sync, _Window())
            for settled in done.settled:
                window.tally.add(settled)
            window.tally.outcomes.update(done.usual)
            window.counts.update(done.counts)
            window.cells.update(filled=done.cells[0], total=done.cells[1])
            window.latencies += latencies
            window.events += events
            window.busy += seconds

    def due(self, every: float) -> list[str]:
        """The syncs that did something and were not told of for `every` seconds: first work soon, the rest together."""
        now = time.monotonic()
        with self._lock:
            return [
                sync
                for sync, window in self._open.items()
                if now - self._told.get(sync, float("-inf")) >= every and now - window.begun >= min(every, SOON)
            ]

    def tell(self, spec: SyncSpec) -> None:
        """Closes the sync's window: seals its outcomes, stores its report, tells Dagster."""
        with self._lock:
            window = self._open.pop(spec.name, None)
            self._told[spec.name] = time.monotonic()
        if window is None or not window.events:
            return
        with self.database.connection() as connection:
            report = self._report(spec, window, count_open(connection, spec.name))
            seal(connection, spec.name, window.run_id)
            connection.execute(
                "INSERT INTO sync.reports (run_id, sync, lane, finished_at, report) VALUES (%s, %s, %s, now(), %s)",
                (window.run_id, spec.name, "realtime", Jsonb(report)),
            )
        self.publish(spec.name, report)

    def _report(self, spec: SyncSpec, window: _Window, open_letters: int) -> dict[str, Any]:
        traffic = self.traffic()
        total = window.cells["total"]
        counts = {name: window.counts[name] for name in ("processed", "unchanged", "invalid", "duplicates")}
        report = build_report(
            spec,
            run_id=window.run_id,
            plan_id=None,
            lane="realtime",
            tally=window.tally,
            counts=counts,
            completeness=window.cells["filled"] / total if total else 1.0,
            missing=[],
            open_letters=open_letters,
            measured=Measured(
                seconds=window.busy,
                seconds_by_step={},
                api_calls=traffic.api_calls,
                bytes_sent=traffic.bytes_sent,
                seconds_waiting_for_quota=traffic.seconds_waiting_for_quota,
            ),
            next_sync=self.next_sync(spec),
        )
        return report | {"events": window.events, "latency_ms": percentiles(window.latencies)}


def percentiles(seconds: list[float]) -> Mapping[str, float]:
    """The 50th, 95th and 99th percentile and the longest, in milliseconds."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    cuts = quantiles(ordered, n=100, method="inclusive") if len(ordered) > 1 else ordered * 99
    told = {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": ordered[-1]}
    return {name: round(value * 1000, 1) for name, value in told.items()}
