"""Capture: follows the logs of databases and stores what changed as events of the inbox.

Events and the position behind them are one transaction of the state; only then is the position confirmed to the
database. A death anywhere repeats events, which vanish by their ids. What events cannot tell (a lost position, a
truncated or altered table, the time before a stream was followed) makes the stream owe a full compare, in the same
transaction. Each connection is followed by one process; others stand by.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from sync_platform.connectors.capture import Captures, Feed, PositionLostError, Told, captures
from sync_platform.crash import crash_point
from sync_platform.errors import AuthError, ConfigError, ContractError, SyncError, TransientError
from sync_platform.ledger import captures as ledger
from sync_platform.realtime.inbox import LONGEST, Routes, storable, store
from sync_platform.staging.debts import owe
from sync_platform.state.locks import advisory_lock

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.ledger.captures import Standing
    from sync_platform.model import Event
    from sync_platform.session import Session
    from sync_platform.state.database import Connection

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 30.0
STANDBY_SECONDS: Final = 2.0
BEAT_SECONDS: Final = 5.0
NEXT_SECONDS: Final = 1.0
#: A feed that told nothing wrong for so long: the next trouble begins with a short pause again.
CALM_SECONDS: Final = 10.0
#: Events that are stored by one statement: a transaction may have had millions.
AT_ONCE: Final = 5_000
FOLLOWED: Final = "it is followed from now on, and what happened before must be compared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The streams of one connection that realtime syncs read, by the names the syncs give them, and the routes."""

    streams: tuple[str, ...]
    routes: Routes


def wanted_of(syncs: Mapping[str, SyncSpec], connection: str, routes: Routes) -> Wanted:
    """What to follow at a connection for these syncs: both sides of two-way ones."""
    found: set[str] = set()
    for spec in syncs.values():
        if spec.frequency != "realtime":
            continue
        ends = [spec.source, spec.target] if spec.two_way is not None else [spec.source]
        found |= {end.object for end in ends if end.connection == connection}
    return Wanted(streams=tuple(sorted(found)), routes=routes)


@dataclass
class Follower:
    """Follows one connection until `stop`. Its thread is the only one that uses the feed."""

    session: Session
    name: str
    wanted: Callable[[], Wanted]
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)
    owner: str = field(default_factory=lambda: str(uuid.uuid4()))
    _stopping: threading.Event = field(default_factory=threading.Event, repr=False)
    _pause: float = FIRST_PAUSE
    _standing_by: bool = False
    _warned: bool = False
    _beaten: float = float("-inf")

    def stop(self) -> None:
        """Asks it to return; what was told is stored first."""
        self._stopping.set()

    def run(self) -> None:
        """Follows, through every kind of trouble."""
        while not self._stopping.is_set():
            if not self.wanted().streams:
                self._stopping.wait(NEXT_SECONDS)
                continue
            begun = time.monotonic()
            try:
                with self._alone() as lock:
                    if lock is not None:
                        self._follow(lock)
            except PositionLostError as error:
                self._trouble("waiting", error, begun)
            except (ConfigError, AuthError) as error:
                self._pause = LONGEST_PAUSE
                self._trouble("refused", error, begun)
            except SyncError as error:
                self._trouble("waiting", error, begun)
            except Exception as error:  # the edge of the thread, which must go on
                self.say(traceback.format_exc())
                self._trouble("waiting", SyncError(f"{type(error).__name__}: {error}"), begun)
        with contextlib.suppress(SyncError):
            ledger.stopped(self.session.database, self.name, self.owner)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[Connection | None]:
        """The connection's lock for the block; None, after a while, when another process has it."""
        with contextlib.ExitStack() as held:
            try:
                lock = held.enter_context(
                    advisory_lock(self.session.database, f"capture:{self.name}", timeout=STANDBY_SECONDS)
                )
            except TransientError as error:
                if not self._standing_by:
                    self.say(f"capture: {self.name}: standing by ({error.message})")
                self._standing_by = True
                yield None
                return
            self._standing_by = False
            yield lock

    def _trouble(self, state: str, error: SyncError, begun: float) -> None:
        """Notes what is wrong and waits, longer every time."""
        if time.monotonic() - begun > CALM_SECONDS:
            self._pause = min(self._pause, FIRST_PAUSE)
        self.say(f"capture: {self.name}: {error}; next try in {self._pause:.1f} s")
        with contextlib.suppress(SyncError):
            ledger.troubled(self.session.database, self.name, self.owner, state, str(error))
        self._stopping.wait(self._pause)
        self._pause = min(LONGEST_PAUSE, self._pause * 2)

    # -- following -------------------------------------------------------------------------------

    def _follow(self, lock: Connection) -> None:
        """Follows from where the last one stopped until it is told to stop, or the streams change."""
        streams = self.wanted().streams
        connector = self.session.connector(self.name)
        assert isinstance(connector, Captures)
        standing = ledger.standings(self.session.database).get(self.name)
        try:
            feed = connector.follow(streams, standing.position if standing is not None else None)
            with contextlib.closing(feed):
                self._begin(feed, streams, standing)
                while not self._stopping.is_set() and self.wanted().streams == streams:
                    self._step(feed, lock)
        except PositionLostError as error:
            self._lost({*streams, *(standing.streams if standing is not None else ())}, error)
            raise

    def _begin(self, feed: Feed, streams: tuple[str, ...], standing: Standing | None) -> None:
        followed = standing.streams if standing is not None and standing.position is not None else ()
        fresh = sorted(set(streams) - set(followed))
        with self.session.database.connection() as connection:
            ledger.begin(connection, self.name, self.owner, feed.start, streams)
            if fresh:
                owe(connection, self.name, fresh, FOLLOWED)
        self.say(f"capture: {self.name}: following {', '.join(streams)} from {feed.start}")
        self._beaten = float("-inf")

    def _step(self, feed: Feed, lock: Connection) -> None:
        """Stores what was told next, then confirms it."""
        told = feed.next(NEXT_SECONDS)
        if told is not None:
            crash_point("event_verified")
            self._store(told)
            crash_point("event_stored")
            feed.confirm(told.position)
            crash_point("position_written")
        if time.monotonic() - self._beaten >= BEAT_SECONDS:
            self._beaten = time.monotonic()
            lock.execute("SELECT 1")  # a lost lock means that another process may follow
            self._beat(feed)
            self._pause = FIRST_PAUSE

    def _store(self, told: Told) -> None:
        """Events, debts and position, in one transaction; a slice of the events at a time is in memory."""
        routes, new, unstorable = self.wanted().routes, 0, set[str]()
        with self.session.database.connection() as connection:
            arriving = iter(told.events)
            while some := list(islice(arriving, AT_ONCE)):
                events, left_out = _storable(some)
                new += store(connection, self.name, events, routes).stored
                unstorable |= left_out
            if unstorable:
                owe(connection, self.name, sorted(unstorable), f"a row's key is longer than {LONGEST} bytes")
            if told.emptied:
                owe(connection, self.name, sorted(told.emptied), "it was emptied or replaced", emptied=True)
            if told.altered - told.emptied:
                owe(connection, self.name, sorted(told.altered - told.emptied), "its columns changed")
            ledger.moved(connection, self.name, self.owner, told, new)

    def _beat(self, feed: Feed) -> None:
        behind = feed.behind()
        loud = behind.warn is not None and behind.size is not None and behind.size > behind.warn
        reason = None
        if loud:
            reason = f"the database keeps {behind.size:,} bytes of its log for us, more than {behind.warn:,}"
            if not self._warned:
                self.say(f"capture: {self.name}: {reason}; its disk may fill")
        self._warned = loud
        ledger.beat(self.session.database, self.name, self.owner, behind, reason)

    def _lost(self, streams: set[str], error: PositionLostError) -> None:
        """The position is worth nothing: all streams owe a compare, and the next try begins from now."""
        self._pause = FIRST_PAUSE
        with self.session.database.connection() as connection:
            ledger.lost(connection, self.name, error.message)
            owe(connection, self.name, sorted(streams), error.message)


def _storable(some: Sequence[Event]) -> tuple[list[Event], set[str]]:
    """The events the inbox can hold, and the streams of those it cannot."""
    events, streams = [], set()
    for event in some:
        try:
            events.append(storable(event))
        except ContractError:
            streams.add(event.stream)
    return events, streams


@dataclass
class Capture:
    """One capture process: a follower for each connection whose `capture` is on. `run` returns after `stop`."""

    session: Session
    wanted: Callable[[str], Wanted]
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)
    _stopping: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def connections(self) -> list[str]:
        """The connections to follow."""
        return sorted(name for name, one in self.session.project.connectors.items() if captures(one))

    def stop(self) -> None:
        """Asks every follower to return."""
        self._stopping.set()

    def run(self) -> None:
        """Follows until `stop`."""
        followers = [
            Follower(self.session, name, lambda name=name: self.wanted(name), self.say)  # type: ignore[misc]
            for name in self.connections
        ]
        threads = [threading.Thread(target=one.run, name=f"capture-{one.name}", daemon=True) for one in followers]
        for thread in threads:
            thread.start()
        self._stopping.wait()
        for one in followers:
            one.stop()
        for thread in threads:
            thread.join()
