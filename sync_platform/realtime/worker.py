"""The worker: wakes when events arrive, claims the oldest, delivers them, and lives with every kind of failure.

Several workers may run, each with several threads. A thread takes one batch of one sync at a time; what
arrives meanwhile becomes the next batch, so batches grow with the load and nothing waits on purpose.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import polars as pl

from sync_platform.connectors.quota import Priority
from sync_platform.crash import crash_point
from sync_platform.errors import AccessError, BlockedError, ConfigError, ContractError, SyncError, TransientError
from sync_platform.ledger.claims import BusyError
from sync_platform.ledger.workers import forget, registered, workers
from sync_platform.model import Status
from sync_platform.realtime import circuit, queue
from sync_platform.realtime.backlog import MOST, BulkDelivery, deep, make_ready, suits
from sync_platform.realtime.circuit import REFUSED_SECONDS, SystemAwayError
from sync_platform.realtime.keyed import KeyedLoads
from sync_platform.realtime.lane import Delivered, Lane
from sync_platform.realtime.parking import park
from sync_platform.realtime.queue import Batch, FencedError
from sync_platform.realtime.two_way import TwoWayLane
from sync_platform.realtime.window import Windows
from sync_platform.session import Session

if TYPE_CHECKING:
    from sync_platform.engine.spec import Endpoint, SyncSpec

TRIES: Final = 5  # after so many, a record's events are set aside
TOLD_EVERY: Final = 60.0
BEAT_SECONDS: Final = 5.0
POLL_SECONDS: Final = 1.0
STALE_AFTER: Final = 60.0  # what a lane prepared (schemas, mapping) is prepared anew
BATCH_EVENTS: Final = 500
CIRCUIT_SECONDS: Final = 0.25
CHANNEL: Final = "sync_inbox"


@dataclass
class Worker:
    """One worker process. `run` returns after `stop`, with everything claimed either delivered or given back."""

    session: Session
    windows: Windows
    syncs: Callable[[], Mapping[str, SyncSpec]]
    threads: int = 2
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)
    clock: Callable[[], float] = time.monotonic
    worker_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    _lanes: dict[str, tuple[float, Lane | TwoWayLane]] = field(default_factory=dict, repr=False)
    _stopping: threading.Event = field(default_factory=threading.Event, repr=False)
    _lost: threading.Event = field(default_factory=threading.Event, repr=False)
    _wake: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0), repr=False)
    _failing: dict[str, bool] = field(default_factory=dict, repr=False)
    _busy: set[str] = field(default_factory=set, repr=False)
    _circuits: Mapping[str, bool] = field(default_factory=dict, repr=False)
    _looked: float = float("-inf")  # when the circuits were read
    _in_bulk: set[str] = field(default_factory=set, repr=False)  # syncs whose backlog a thread delivers in bulk
    _bulk_turn: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _warm: set[str] = field(default_factory=set, repr=False)  # syncs that were made ready for it
    _bulk_after: dict[str, float] = field(default_factory=dict, repr=False)  # not before, after one that failed

    def __post_init__(self) -> None:
        self.session = replace(self.session, priority=Priority.REALTIME, attempts=2, run_id=self.worker_id)
        self.session.database.by_index()
        self._loads = KeyedLoads(self.session.lake)

    def stop(self) -> None:
        """Asks the worker to finish what it has claimed and to return."""
        self._stopping.set()
        for _ in range(self.threads):
            self._wake.release()

    def run(self) -> None:
        """Works until `stop`. When the state is away, it waits for it and starts over under another id."""
        while not self._stopping.is_set():
            try:
                self._registered()
            except (AccessError, TransientError) as error:
                self.say(f"worker: the state is away, trying again: {error.message}")
                self._stopping.wait(POLL_SECONDS)
                self.worker_id = str(uuid.uuid4())
                self.session = replace(self.session, run_id=self.worker_id)
                self._lanes.clear()
        self._tell(self.windows.due(0.0))

    def drain(self, syncs: Iterable[str] | None = None) -> int:
        """Delivers what waits now (of these syncs) in this thread and returns; how many batches."""
        done, over = 0, threading.Event()
        with registered(self.session.database, self.worker_id):
            self._bury()
            keeper = threading.Thread(target=self._keep_leases, args=(over,), daemon=True)
            keeper.start()
            try:
                chosen = set(syncs) if syncs is not None else None
                while self._step(chosen):
                    done += 1
            finally:
                over.set()
                keeper.join()
        self._tell(self.windows.due(0.0))
        return done

    def _keep_leases(self, over: threading.Event) -> None:
        """Renews what a drain is busy with; a state that is away fails the drain itself."""
        while not over.wait(BEAT_SECONDS):
            with contextlib.suppress(SyncError):
                queue.renew(self.session.database, self.worker_id, list(self._busy))

    # -- the process -----------------------------------------------------------------------------

    def _registered(self) -> None:
        self._lost.clear()
        with registered(self.session.database, self.worker_id):
            crew = [threading.Thread(target=self._work, name=f"worker-{n}", daemon=True) for n in range(self.threads)]
            crew.append(threading.Thread(target=self._listen, name="listen", daemon=True))
            for member in crew:
                member.start()
            try:
                self._beat()
            finally:
                self._lost.set()
                for _ in crew:
                    self._wake.release()
                for member in crew:
                    member.join()

    @property
    def _over(self) -> bool:
        return self._stopping.is_set() or self._lost.is_set()

    def _beat(self) -> None:
        """Renews leases, buries the dead, tells what was done; raises when the state is lost."""
        beaten = -BEAT_SECONDS
        while not self._over:
            if self.clock() - beaten >= BEAT_SECONDS:
                beaten = self.clock()
                queue.renew(self.session.database, self.worker_id, list(self._busy))
                self._bury()
                self._prepare()
            self._tell(self.windows.due(TOLD_EVERY))
            self._stopping.wait(0.2)

    def _prepare(self) -> None:
        """Prepares the lanes before an event needs them, and anew after a while: a staged stream may have grown."""
        for name, spec in self.syncs().items():
            made = self._lanes.get(name)
            if made is None or self.clock() - made[0] > STALE_AFTER:
                try:
                    self._lanes[name] = (self.clock(), self._made(spec))
                    if name not in self._warm:
                        self._warm.add(name)
                        make_ready(self.session, spec, self._loads)
                except BlockedError:  # it is paused: what was prepared before must not go on
                    self._lanes.pop(name, None)
                except SyncError:  # whoever needs it says what is wrong
                    pass

    def _bury(self) -> None:
        _, dead = workers(self.session.database)
        with self.session.database.connection() as connection:
            freed = queue.take_back(connection, dead)
            forget(connection, dead)
        if freed:
            self.say(f"worker: took back {freed} events of workers that died")
            self._wake.release()

    def _listen(self) -> None:
        """Wakes a thread for every notification; a lost connection only means that the poll finds them."""
        while not self._over:
            with contextlib.suppress(SyncError), self.session.database.session() as own:
                own.execute(f"LISTEN {CHANNEL}")
                while not self._over:
                    for _ in own.notifies(timeout=0.5, stop_after=1):
                        self._wake.release()
            self._lost.wait(0.2)

    def _work(self) -> None:
        while not self._over:
            try:
                if self._step(None):
                    continue
            except SyncError as error:
                self.say(f"worker: {error}")
                self._lost.wait(POLL_SECONDS)
            except Exception:  # the edge of the thread, which must go on; its events come back with their lease
                self.say(traceback.format_exc())
                self._lost.wait(POLL_SECONDS)
            self._wake.acquire(timeout=POLL_SECONDS)
            while self._wake.acquire(blocking=False):  # one look answers every call so far
                pass

    # -- one batch -------------------------------------------------------------------------------

    def _step(self, chosen: set[str] | None) -> bool:
        """Claims and delivers one batch; False when nothing waits that may be worked on now."""
        specs = {name: spec for name, spec in self.syncs().items() if chosen is None or name in chosen}
        standing = self._standing()
        # event by event a change costs many times as much, and the thread that delivers in bulk would go without
        free = {name: spec for name, spec in specs.items() if name not in self._in_bulk}
        ready = [name for name, spec in free.items() if all(standing.get(c, True) for c in _systems(spec))]
        if not ready:  # without a trip to the state: every event that arrives wakes a thread
            return False
        trial = any(c in standing for name in ready for c in _systems(specs[name]))
        batch = queue.claim(self.session.database, self.worker_id, ready, 1 if trial else BATCH_EVENTS)
        if batch is None:
            return False
        self._busy.add(batch.plan_id)
        try:
            crash_point("event_claimed")
            self._handle(specs[batch.sync], batch)
        finally:
            self._busy.discard(batch.plan_id)
        if sum(map(len, batch.events.values())) >= BATCH_EVENTS:
            self._work_off(specs[batch.sync])
        return True

    def _work_off(self, spec: SyncSpec) -> None:
        """Delivers a deep backlog in bulk, where the sync can be; what goes wrong there is left to the usual way."""
        with self._bulk_turn:
            if spec.name in self._in_bulk:
                return
            self._in_bulk.add(spec.name)
        try:
            while (
                not self._stopping.is_set()
                and self.clock() >= self._bulk_after.get(spec.name, 0.0)
                and deep(self.session.database, spec.name)
                and suits(self.session, spec)
                and self._delivered_in_bulk(spec)
            ):
                pass
        finally:
            self._in_bulk.discard(spec.name)

    def _delivered_in_bulk(self, spec: SyncSpec) -> bool:
        """Delivers what waits of a sync as one plan; False when there was nothing, or it did not come to that."""
        batch = queue.claim_all(self.session.database, self.worker_id, spec.name, MOST)
        if batch is None:
            return False
        self._busy.add(batch.plan_id)
        begun = time.monotonic()
        try:
            delivered = BulkDelivery(
                session=self.session, spec=spec, worker=self.worker_id, loads=self._loads
            ).deliver(batch)  # fmt: skip
        except Exception as error:  # the edge of the process: the usual way finds whose fault it is
            if not isinstance(error, SyncError):
                self.say(traceback.format_exc())
            self.say(f"worker: {spec.name}: {len(batch.keys)} records were not delivered in bulk: {error}")
            self._bulk_after[spec.name] = self.clock() + STALE_AFTER
            self._give_back(batch, 0.0, str(error))
            return False
        finally:
            self._busy.discard(batch.plan_id)
        if not delivered:
            self._give_back(batch, 0.0, "its source must be read once")
            self._bulk_after[spec.name] = self.clock() + STALE_AFTER
            return False
        took = time.monotonic() - begun
        self.say(f"worker: {spec.name}: delivered {len(batch.keys):,} records in bulk in {took:.1f} s")
        return True

    def _standing(self) -> Mapping[str, bool]:
        """The open circuits, read again after a moment or after a change of ours."""
        if self.clock() - self._looked > CIRCUIT_SECONDS:
            self._circuits, self._looked = circuit.standing(self.session.database), self.clock()
        return self._circuits

    def _handle(self, spec: SyncSpec, batch: Batch) -> None:
        begun = time.monotonic()
        try:
            done = self._lane(spec).deliver(batch)
        except FencedError as error:
            self.say(f"worker: {error}")
        except BusyError as error:
            self._give_back(batch, 0.05, error.message)
        except SystemAwayError as error:
            self._outage(spec, batch, error)
        except (AccessError, TransientError):
            raise  # the state
        except (ConfigError, BlockedError) as error:
            self.say(f"worker: {spec.name} cannot work: {error}")
            self._give_back(batch, REFUSED_SECONDS, error.message)
            self._told_if_changed(spec, failing=True)
        except SyncError as error:
            self._poisoned(spec, batch, error)
        except Exception as error:  # the edge of the process: a bug in one record's way must not stop the others
            self.say(traceback.format_exc())
            self._poisoned(spec, batch, ContractError(f"{type(error).__name__}: {error}"))
        else:
            self._delivered(spec, batch, done, time.monotonic() - begun)

    def _delivered(self, spec: SyncSpec, batch: Batch, done: Delivered, seconds: float) -> None:
        now = dt.datetime.now(dt.UTC)
        told = [event for key in batch.keys if key not in done.again for event in batch.events[key]]
        latencies = [(now - event.received_at).total_seconds() for event in told]
        self.windows.add(spec.name, done, events=len(told), latencies=latencies, seconds=seconds)
        for key, why in done.again.items():
            self._retry(batch, key, why)
        for name in _systems(spec):
            if name in self._circuits and circuit.worked(self.session.database, name):
                self.say(f"worker: {name} answers again")
                self._looked = float("-inf")
        self._told_if_changed(spec, failing=_failed(done))

    def _retry(self, batch: Batch, key: str, why: str) -> None:
        """A record that must be tried again; after too many times the next run has it (its dead letter waits)."""
        if batch.attempts[key] >= TRIES:
            with self.session.database.connection() as connection:
                queue.finish(connection, self.worker_id, batch.sync, {key: ("given up", why)}, state="dead")
            return
        delay = 0.2 * 2 ** batch.attempts[key]
        queue.release(self.session.database, self.worker_id, batch.sync, [key], delay=delay, counted=True, reason=why)

    def _outage(self, spec: SyncSpec, batch: Batch, error: SystemAwayError) -> None:
        """Source or target is away: the events wait, in order, and do not count as tried."""
        self._looked = float("-inf")
        pause = circuit.failed(self.session.database, error.connection, error.message, wait=error.wait)
        self._give_back(batch, pause, error.message)
        self.say(f"worker: {spec.name} waits for {error.connection}; next try in {pause:.1f} s: {error.message}")
        self._told_if_changed(spec, failing=True)

    def _poisoned(self, spec: SyncSpec, batch: Batch, error: SyncError) -> None:
        """Something about a record fails before it can be written: find which, and set it aside in the end."""
        if len(batch.keys) > 1:
            for key in batch.keys:
                one = replace(batch, events={key: batch.events[key]}, attempts={key: batch.attempts[key]})
                self._handle(spec, one)
            return
        key = batch.keys[0]
        if batch.attempts[key] >= TRIES:
            park(self.session, spec, self.worker_id, self.windows.run_of(spec.name), batch, error)
            self.say(f"worker: {spec.name} {key} is set aside after {TRIES} tries: {error.message}")
        else:
            self._retry(batch, key, error.message)

    def _give_back(self, batch: Batch, delay: float, why: str) -> None:
        queue.release(
            self.session.database, self.worker_id, batch.sync, batch.keys, delay=delay, counted=False, reason=why
        )

    # -- lanes and what is told ------------------------------------------------------------------

    def _lane(self, spec: SyncSpec) -> Lane | TwoWayLane:
        made = self._lanes.get(spec.name)
        if made is None or made[1].declared is not spec:
            made = self._lanes[spec.name] = (self.clock(), self._made(spec))
        return made[1]

    def _made(self, spec: SyncSpec) -> Lane | TwoWayLane:
        session, worker, run_of = self.session, self.worker_id, self.windows.run_of
        may_delete = partial(self._may_delete, spec)
        if spec.two_way:
            return TwoWayLane(session=session, spec=spec, worker=worker, run_of=run_of, may_delete=may_delete)
        used = partial(self._used, spec.source)
        return Lane(session=session, spec=spec, worker=worker, run_of=run_of, may_delete=may_delete, others=used)

    def _used(self, stream: Endpoint) -> frozenset[str]:
        """The fields of a source stream that the lanes prepared so far make use of."""
        return frozenset[str]().union(*(lane.uses(stream) for _, lane in list(self._lanes.values())))

    def _may_delete(self, spec: SyncSpec, more: int) -> bool:
        most = spec.guards.max_deletes
        return most is None or more == 0 or self.windows.deleted(spec.name) + more <= most

    def _told_if_changed(self, spec: SyncSpec, *, failing: bool) -> None:
        if self._failing.get(spec.name, False) != failing:
            self._failing[spec.name] = failing
            self.windows.tell(spec)

    def _tell(self, names: Iterable[str]) -> None:
        specs = self.syncs()
        for name in names:
            if name in specs:
                self.windows.tell(specs[name])


def _systems(spec: SyncSpec) -> tuple[str, str]:
    return spec.source.connection, spec.target.connection


def _failed(done: Delivered) -> bool:
    bad = pl.col("status").is_in([str(Status.FAILED), str(Status.RETRY), str(Status.UNKNOWN)])
    return any(one.filter(bad).height for one in done.settled)
