"""What the gateway counts, in Prometheus' format, and the queue as it is when somebody asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, LiteralString

import psycopg
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

_BY: Final = ("connection",)
_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_EVENTS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_QUEUE: Final[LiteralString] = """
SELECT q.sync, count(*), greatest(extract(epoch FROM clock_timestamp() - min(i.received_at)), 0)::float8
FROM sync.queue q JOIN sync.inbox i USING (seq) WHERE q.state = 'waiting' GROUP BY q.sync
"""
_CAPTURES: Final[LiteralString] = """
SELECT connection, owner IS NOT NULL AND state = 'following' AND updated_at > now() - make_interval(secs => 30), stored,
       coalesce(behind_bytes, 0) FROM sync.captures
"""
_CIRCUITS: Final[LiteralString] = "SELECT connection, opened_at IS NOT NULL FROM sync.circuits"


class Metrics:
    """The counters of one gateway. `registry` is its own, so that two gateways of a process stay apart."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, of no use to anyone
        self.registry = CollectorRegistry(auto_describe=True)
        at = self.registry
        ProcessCollector(registry=at)
        self.received = self._counter("sync_events_received", "Events of proved webhooks", ["connection"])
        self.stored = Counter(
            "sync_events_stored", "Events that were new and are in the inbox", ["connection"], registry=at
        )
        self.doubled = self._counter("sync_events_doubled", "Events that had been stored before", ["connection"])
        self.unrouted = Counter(
            "sync_events_unrouted", "Stored events no realtime sync reads", ["connection"], registry=at
        )
        self.requests = self._counter("sync_webhook_requests", "Webhook requests answered 2xx", ["connection"])
        self.refused = Counter(
            "sync_webhook_refused", "Webhook requests refused", ["connection", "reason"], registry=at
        )
        self.seconds = Histogram(
            "sync_webhook_commit_seconds", "From receipt to commit", ["connection"], buckets=_SECONDS, registry=at
        )
        self.batch = Histogram("sync_commit_events", "Events of one transaction", buckets=_EVENTS, registry=at)
        self._up = self._gauge("sync_state_up", "Whether the state's PostgreSQL answered this scrape")
        self._depth = self._gauge("sync_queue_depth", "Events that wait for a sync", ["sync"])
        self._oldest = Gauge(
            "sync_queue_oldest_seconds", "Age of the oldest waiting event of a sync", ["sync"], registry=at
        )
        self._circuit = self._gauge("sync_circuit_open", "1: this target is left alone for a while", ["connection"])
        self._following = self._gauge("sync_capture_following", "1: the log of this connection is followed", _BY)
        self._captured = self._gauge("sync_capture_events_total", "Events that came from its log", _BY)
        self._behind = self._gauge("sync_capture_behind_bytes", "Log its database keeps for us", _BY)

    async def read_state(self, connection: psycopg.AsyncConnection[Any] | None, syncs: list[str]) -> None:
        """Takes the queue and the circuits over as they are now; None: the state is away.

        A sync without waiting events is shown as 0, one that is gone from the project is not shown.
        """
        captured = (self._following, self._captured, self._behind)
        for gauge in (self._depth, self._oldest, self._circuit, *captured):
            gauge.clear()
        self._up.set(0 if connection is None else 1)
        if connection is None:
            return
        waiting = await (await connection.execute(_QUEUE)).fetchall()
        for sync in syncs:
            self._depth.labels(sync).set(0)
            self._oldest.labels(sync).set(0)
        for sync, depth, oldest in waiting:
            self._depth.labels(sync).set(depth)
            self._oldest.labels(sync).set(oldest)
        for name, is_open in await (await connection.execute(_CIRCUITS)).fetchall():
            self._circuit.labels(name).set(1 if is_open else 0)
        for name, *figures in await (await connection.execute(_CAPTURES)).fetchall():
            for gauge, figure in zip(captured, figures, strict=True):
                gauge.labels(name).set(float(figure))

    def _counter(self, name: str, told: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, told, labels, registry=self.registry)

    def _gauge(self, name: str, told: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, told, labels, registry=self.registry)

    def text(self) -> bytes:
        """The page a Prometheus server reads."""
        return generate_latest(self.registry)
