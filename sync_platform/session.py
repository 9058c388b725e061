"""One run of one process: the project, the state, the lake, the open connections and the sync's lock."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sync_platform.connectors.connector import Shared, Traffic
from sync_platform.connectors.quota import Priority
from sync_platform.ledger.claims import release_claims_of
from sync_platform.ledger.runs import begin_run, finish_run
from sync_platform.project import Project
from sync_platform.staging.lake import Lake
from sync_platform.state.database import Database, open_state
from sync_platform.state.locks import advisory_lock
from sync_platform.state.quota import PostgresQuota
from sync_platform.state.vault import PostgresTokens

if TYPE_CHECKING:
    from sync_platform.connectors.connector import Connector
    from sync_platform.meanwhile import Begun

Say = Callable[[str], None]


def _silent(message: str) -> None:
    """Nobody listens."""


@dataclass
class Session:
    """What the steps of a run share. Close it (or use it as a context manager) to release the lock."""

    project: Project
    database: Database
    lake: Lake
    run_id: str
    say: Say = _silent
    on_orphan: Callable[[str], None] = _silent
    progress: Say = _silent
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    orphans: list[str] = field(default_factory=list)  # runs found dead when the sync was taken
    _held: dict[str, contextlib.ExitStack] = field(default_factory=dict, repr=False)
    _connectors: dict[str, Connector] = field(default_factory=dict, repr=False)
    #: Work begun before its step: loads by "<connection>/<object>", looks at the target by the plan's id.
    begun: dict[str, Begun[Any]] = field(default_factory=dict, repr=False)
    #: What is worked out once for as long as the session lasts, by name.
    kept: dict[str, Any] = field(default_factory=dict, repr=False)
    failed: bool = False
    priority: Priority = Priority.BATCH
    attempts: int | None = None
    opened_at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))

    @classmethod
    def open(cls, project: Project, *, run_id: str | None = None, say: Say = _silent) -> Session:
        """A session on the installation's state, started if necessary."""
        database = open_state()
        return cls(project, database, Lake(database), run_id or str(uuid.uuid4()), say)

    def connector(self, name: str) -> Connector:
        """The open connection of that name."""
        if name not in self._connectors:
            shared = Shared(
                name=name,
                tokens=PostgresTokens(self.database, name),
                quota=PostgresQuota(self.database, name, priority=self.priority),
                attempts=self.attempts,
                installation=self.database.installation,
            )
            self._connectors[name] = self.project.connect(name, shared)
        return self._connectors[name]

    def hold(self, sync: str) -> None:
        """Takes the sync's lock for the rest of this session; waits, and says so, while another run has it."""
        if sync in self._held:
            return
        stack = contextlib.ExitStack()
        stack.enter_context(
            advisory_lock(
                self.database,
                f"sync:{sync}",
                on_wait=lambda *_: self.say(f"{sync}: another run is working; waiting for it to end"),
            )
        )
        self._held[sync] = stack
        orphans = begin_run(self.database, sync, self.run_id)
        if orphans:
            release_claims_of(self.database, orphans)
            self.orphans += orphans
            for orphan in orphans:
                self.say(f"{sync}: run {orphan} died without finishing; it is marked failed and its work taken up")
                self.on_orphan(orphan)

    def traffic(self) -> Traffic:
        """What every connection of this session has cost so far."""
        total = Traffic()
        for connector in self._connectors.values():
            total.api_calls += connector.traffic.api_calls
            total.bytes_sent += connector.traffic.bytes_sent
            total.seconds_waiting_for_quota += connector.traffic.seconds_waiting_for_quota
        return total

    @contextlib.contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Adds the block's wall time to `seconds[step]`."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - begun

    def now(self) -> dt.datetime:
        """The current instant, UTC."""
        return dt.datetime.now(dt.UTC)

    def close(self) -> None:
        """Ends the run and releases every lock; what was begun and not taken is stopped."""
        while self.begun:
            self.begun.popitem()[1].stop()
        if self._held:
            finish_run(self.database, self.run_id, "failed" if self.failed else "done")
        for stack in self._held.values():
            stack.close()
        self._held.clear()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
