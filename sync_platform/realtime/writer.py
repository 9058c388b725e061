"""Group commit: what arrives while one transaction is under way goes into the next one, together.

A commit waits for the disk, so one commit per request would end at the disk's pace. One connection and one
transaction at a time keep the order of arrival, and a lone event waits for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sync_platform.errors import AccessError, ContractError, SyncError
from sync_platform.realtime.inbox import Arrival, store_arrivals
from sync_platform.state.database import Database, translated

Link: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]

#: Events of one transaction, at most; one request may bring more.
BATCH: Final = 1_000
#: Events that may wait; beyond it a vendor is asked to come again.
WAITING: Final = 20_000
#: Seconds until a request is answered without a commit: less than the five a vendor waits.
PATIENCE: Final = 4.0
_DIAL: Final[dict[str, Any]] = {
    "connect_timeout": 2,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
}
_LIMITS: Final = "-c statement_timeout=15s -c lock_timeout=10s"


async def dial(database: Database, name: str) -> Link:
    """An autocommitting connection of its own; AccessError when the state cannot be reached."""
    with translated(database.shown):
        known: dict[str, Any] = dict(conninfo_to_dict(database.url_now()))
        options = f"{known.pop('options', None) or ''} {_LIMITS}".strip()
        told = make_conninfo(**{**_DIAL, **known, "options": options, "application_name": name})
        return await psycopg.AsyncConnection.connect(told, autocommit=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    arrivals: Sequence[Arrival]
    done: asyncio.Future[frozenset[int]]


@dataclass(kw_only=True)
class Writer:
    """Stores arrivals of concurrent requests. `run` must be running; `committed` hears how many events each had."""

    database: Database
    committed: Callable[[int], None] = lambda events: None
    _queue: deque[_Request] = field(default_factory=deque, repr=False)
    _waiting: int = 0
    _wake: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _link: Link | None = field(default=None, repr=False)

    async def store(self, arrivals: Sequence[Arrival]) -> frozenset[int]:
        """Returns, once they are committed, the places of the arrivals that were new.

        AccessError when they may not be stored: the state is away, too slow, or too much waits already.
        """
        if self._waiting >= WAITING:
            raise AccessError(f"{self._waiting} events wait to be stored already", mend="the vendor will come again")
        done: asyncio.Future[frozenset[int]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Request(arrivals=arrivals, done=done))
        self._waiting += len(arrivals)
        self._wake.set()
        try:
            async with asyncio.timeout(PATIENCE):
                return await done
        except TimeoutError:
            raise AccessError(f"the state did not commit within {PATIENCE:.0f} seconds") from None

    async def run(self) -> None:
        """Commits batch after batch until it is cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    await self._settle(self._take())
        finally:
            await self._hang_up()

    def _take(self) -> list[_Request]:
        taken: list[_Request] = []
        events = 0
        while self._queue and (not taken or events + len(self._queue[0].arrivals) <= BATCH):
            request = self._queue.popleft()
            self._waiting -= len(request.arrivals)
            if not request.done.done():  # else nobody waits for it any more, and the vendor will come again
                taken.append(request)
                events += len(request.arrivals)
        return taken

    async def _settle(self, batch: Sequence[_Request]) -> None:
        """Commits a batch and tells each request; an event that PostgreSQL refuses fails its own request only."""
        try:
            new = await self._commit([each for request in batch for each in request.arrivals])
        except SyncError as error:
            for request in batch:
                _fail(request, error)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if len(batch) > 1:
                for request in batch:
                    await self._settle([request])
                return
            said = error.diag.message_primary or type(error).__name__
            for request in batch:
                _fail(request, ContractError(f"the state refuses an event: {said}"))
        else:
            first = 0
            for request in batch:
                own = range(first, first + len(request.arrivals))
                first = own.stop
                if not request.done.done():
                    request.done.set_result(frozenset(place - own.start for place in own if place in new))

    async def _commit(self, arrivals: Sequence[Arrival]) -> frozenset[int]:
        """Commits, once more on a new connection if the kept one turns out to be broken: repeating is harmless."""
        if not arrivals:
            return frozenset()
        kept = self._link is not None
        try:
            new = await self._try(arrivals)
        except SyncError:
            await self._hang_up()
            if not kept:
                raise
            new = await self._try(arrivals)
        self.committed(len(arrivals))
        return new

    async def _try(self, arrivals: Sequence[Arrival]) -> frozenset[int]:
        if self._link is None:
            self._link = await dial(self.database, "sync-platform gateway")
        try:
            with translated(self.database.shown):
                return await store_arrivals(self._link, arrivals)
        except (psycopg.DataError, psycopg.IntegrityError):
            raise
        except psycopg.Error as error:  # cancelled as too slow, or a state without our tables
            raise AccessError(f"the state could not store events: {error.diag.message_primary}") from None

    async def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(psycopg.Error):
                await link.close()


def _fail(request: _Request, error: SyncError) -> None:
    if not request.done.done():
        request.done.set_exception(error)
