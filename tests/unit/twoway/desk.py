"""A couple with a worker: edits of either side come as events, doubled, lost or late as a test wants."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import dataclass, field
from typing import Any, Literal

from sync_platform.connectors.shared import Traffic
from sync_platform.model import Event
from sync_platform.realtime.inbox import TARGET_SIDE, store
from sync_platform.realtime.window import Windows
from sync_platform.realtime.worker import Worker
from sync_platform.session import Session
from tests.unit.twoway.couple import Couple


@dataclass
class Desk:
    """Events of a couple's two systems, and workers that deliver them."""

    couple: Couple
    said: list[str] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def session(self) -> Session:
        """A session on the two systems."""
        made = self.couple.session()
        made.project.__dict__["sources"] = {}
        return made

    def event(self, side: Literal["crm", "hub"], key: str, kind: str = "updated", *, times: int = 1) -> None:
        """Stores an event as the gateway does; a vendor that doubles one gives it the same id."""
        place = self.couple.spec.source if side == "crm" else self.couple.spec.target
        routes = {
            (self.couple.spec.source.connection, self.couple.spec.source.object.lower()): [self.couple.spec.name],
            (self.couple.spec.target.connection, self.couple.spec.target.object.lower()): [
                TARGET_SIDE + self.couple.spec.name
            ],
        }
        one = Event(
            id=f"e{next(self._numbers)}", stream=place.object, key=key, kind=kind, occurred_at=dt.datetime.now(dt.UTC)
        )
        with self.couple.database.connection() as connection:
            for _ in range(times):
                store(connection, place.connection, [one], routes)

    def work(self, times: int = 3) -> None:
        """Lets workers deliver what waits, again after every pause they were told to make."""
        spec = self.couple.spec
        for _ in range(times):
            windows = Windows(
                database=self.couple.database, publish=lambda _, report: self.reports.append(report),
                next_sync=lambda _: None, traffic=Traffic,
            )  # fmt: skip
            Worker(
                session=self.session(), windows=windows, syncs=lambda: {spec.name: spec}, say=self.said.append
            ).drain()
            if not self.couple.rows("UPDATE sync.queue SET not_before = NULL WHERE state = 'waiting' RETURNING 1"):
                return

    def queue(self) -> list[tuple[str, str, str | None]]:
        """Key, state and outcome of every queue row, in order of arrival."""
        return [tuple(row) for row in self.couple.rows("SELECT key, state, outcome FROM sync.queue ORDER BY seq")]
