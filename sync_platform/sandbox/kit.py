"""What every simulator is built from: a world with a clock, stores, faults and a log.

A system is one `Simulator` subclass. It owns `Store`s shared with the control API, answers vendor
requests (`handle`), and says how a person edits its records in the vendor's UI (`create`, `update`,
`delete`). Everything it needs to know about time, chance and faults comes from its `World`.

    class Shop(Simulator):
        system = "shop"
        streams = ("orders",)
        habits = (HabitSpec("index_lag", 10.0, "https://shop.example/docs/search"),)

        async def handle(self, call: Call) -> Response:
            if call.method == "POST" and call.path == "/orders":
                record = self.store("orders").insert(self.new_id("orders"), call.json(), created_at=self.world.now_ms())
                call.effect("orders", record.id, "create")
                return JSONResponse({"id": record.id}, 201)
            return self.unbuilt(call)

A handler answers in one go, without awaiting others, so each request is atomic.
"""

from __future__ import annotations

import abc
import contextlib
import datetime as dt
import gc
import heapq
import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from starlette.responses import Response

from sync_platform.sandbox.faults import Fault, FaultBoard
from sync_platform.sandbox.kit_call import Call, JSONResponse
from sync_platform.sandbox.kit_notices import Change, Dialect
from sync_platform.sandbox.kit_people import People, Person
from sync_platform.sandbox.kit_seed import SandboxError, SeedOptions, SeedRow, seed_rows
from sync_platform.sandbox.kit_store import Fields, Record, Store, Undo, Version, select, uncollected, without_nulls
from sync_platform.sandbox.kit_webhooks import Outbox
from sync_platform.sandbox.request_log import Effect, Entry, RequestLog, iso

__all__ = [
    "Call", "Change", "Effect", "Entry", "Fault", "Fields", "Habit", "HabitSpec", "JSONResponse", "People", "Person",
    "Record", "SandboxError", "SeedOptions", "SeedRow", "Simulator", "Store", "Version", "World", "iso", "select",
    "uncollected", "without_nulls",
]  # fmt: skip


#: Seeds of more records than this are kept out of the garbage collector's rounds.
LARGE_SEED: Final = 10_000


@dataclass(frozen=True, slots=True)
class HabitSpec:
    """A bad habit of a vendor: on by default, with its documented figure and where it is documented."""

    name: str
    value: Any  # a number, a string, a list ...; POST habits takes a value of the same JSON type
    source: str
    on: bool = True


@dataclass(slots=True)
class Habit:
    """A habit as it is set now."""

    name: str
    on: bool
    value: Any
    source: str


class World:
    """Everything the simulators share. `clock` gives real seconds since the epoch."""

    def __init__(
        self, simulators: Sequence[type[Simulator]], *, seed: int = 7, clock: Callable[[], float] = time.time
    ) -> None:
        self.seed = seed
        self._clock = clock
        self._offset_ms = 0
        self._due: list[tuple[int, int, str, Callable[[], None]]] = []
        self._counter = itertools.count()
        self.chance = random.Random(f"{seed}/faults")
        self.faults = FaultBoard()
        self.log = RequestLog()
        self.deliveries: Iterator[int] = itertools.count(1)
        self.origin = ""  # http://host:port, as whoever set up the last webhook sees it
        self.systems: dict[str, Simulator] = {}
        for simulator in simulators:
            self.systems[simulator.system] = simulator(self)

    def now_ms(self) -> int:
        """The sandbox clock, milliseconds since the epoch."""
        return int(self._clock() * 1000) + self._offset_ms

    def wire_ms(self) -> int:
        """The time on the wire: the sandbox clock without what `POST clock` added.

        A receiver checks the age of a signed request by its own clock, which nobody moves.
        """
        return int(self._clock() * 1000)

    def now(self) -> dt.datetime:
        """The sandbox clock as an aware UTC datetime."""
        return dt.datetime.fromtimestamp(self.now_ms() / 1000, dt.UTC)

    def advance(self, seconds: float) -> None:
        """Moves the sandbox clock forward and runs what falls due."""
        self._offset_ms += int(seconds * 1000)
        self.run_due()

    def schedule(self, at_ms: int, system: str, action: Callable[[], None]) -> None:
        """Runs `action` once the sandbox clock passes `at_ms`: seen before the next request."""
        heapq.heappush(self._due, (at_ms, next(self._counter), system, action))

    def run_due(self) -> None:
        """Runs scheduled actions whose time has come, in order. Called before every request."""
        while self._due and self._due[0][0] <= self.now_ms():
            heapq.heappop(self._due)[3]()
        for simulator in self.systems.values():
            if simulator.outbox.webhooks:
                simulator.outbox.tick()

    @contextlib.contextmanager
    def atomic(self, simulator: Simulator) -> Iterator[None]:
        """Undoes every store write of the block if it raises."""
        journal: list[Undo] = []
        stores = simulator.stores.values()
        told = len(simulator.outbox.changes)
        for store in stores:
            store.journal = journal
        try:
            yield
        except BaseException:
            for store in stores:
                store.journal = None
            for undo in reversed(journal):
                undo()
            del simulator.outbox.changes[told:]
            raise
        finally:
            for store in stores:
                store.journal = None

    def reset(self, system: str | None = None) -> None:
        """Records, faults, log, tokens, quotas and randomness back to the start; without `system` the clock too.

        Habits and webhook subscriptions stay as they were set.
        """
        if system is None:
            self._offset_ms = 0
            self.chance = random.Random(f"{self.seed}/faults")
        self._due = [due for due in self._due if system is not None and due[2] != system]
        heapq.heapify(self._due)
        self.faults.clear(system)
        self.log.clear(system)
        for name, simulator in self.systems.items():
            if system in (None, name):
                simulator.reset()


class Simulator(abc.ABC):
    """One vendor. Subclasses set the class variables and implement `handle` and the editing methods."""

    system: ClassVar[str]
    streams: ClassVar[tuple[str, ...]]
    habits: ClassVar[tuple[HabitSpec, ...]] = ()

    def __init__(self, world: World) -> None:
        self.world = world
        self.stores: dict[str, Store] = {name: Store(name, world.now_ms) for name in self.streams}
        self.habit: dict[str, Habit] = {h.name: Habit(h.name, h.on, h.value, h.source) for h in self.habits}
        self.outbox = Outbox(world, self.system, self.dialect())
        self._by_hand = False
        self._restart()

    def _restart(self) -> None:
        self.rng = random.Random(f"{self.world.seed}/{self.system}/behaviour")  # for habits and ids
        self.seed_rng = random.Random(f"{self.world.seed}/{self.system}/seed")  # for seeding only
        self.people = People(self.seed_rng)

    # ---- what a subclass implements

    @abc.abstractmethod
    async def handle(self, call: Call) -> Response:
        """Answers a vendor request."""

    @abc.abstractmethod
    def new_id(self, stream: str) -> str:
        """The next record id of a stream."""

    @abc.abstractmethod
    def create(self, stream: str, fields: Mapping[str, Any]) -> str:
        """Creates a record as a person in the vendor's UI; its id. Raises SandboxError when the vendor refuses."""

    @abc.abstractmethod
    def update(self, stream: str, id: str, fields: Mapping[str, Any]) -> None:
        """Changes some fields of a record as a person in the vendor's UI. Raises SandboxError."""

    @abc.abstractmethod
    def delete(self, stream: str, id: str) -> None:
        """Deletes a record as a person in the vendor's UI. Raises SandboxError when it is not there."""

    @abc.abstractmethod
    def seed_fields(self, stream: str, person: Person, rng: random.Random) -> Fields:
        """A seeded record's own fields, the vendor's names and types. Take chance only from `rng`."""

    @abc.abstractmethod
    def field_names(self, stream: str) -> frozenset[str]:
        """Every field the vendor knows for the stream; seed options are checked against it."""

    @abc.abstractmethod
    def error(self, status: int) -> Response:
        """The vendor's own answer of a fault: 429, 500 or 503."""

    @abc.abstractmethod
    def expire_tokens(self) -> None:
        """Makes every access token given out so far invalid (fault expire_token)."""

    @abc.abstractmethod
    def env(self, root: str) -> dict[str, str]:
        """The variables `sandbox --env` prints; `root` is the URL of /<system>."""

    # ---- what a subclass may override

    def reset(self) -> None:
        """Forgets records, tokens, quotas and jobs; randomness and ids start over. Override and call super."""
        for store in self.stores.values():
            store.clear()
        self.outbox.reset()
        self._restart()

    def dialect(self) -> Dialect | None:
        """How the vendor notifies subscribers of changes; None: it does not."""
        return None

    def restore(self, stream: str, id: str) -> None:
        """Takes a deletion back as a person in the vendor's UI. Raises SandboxError."""
        raise SandboxError(f"the {self.system} simulator restores no records", "system", 501)

    def merge(self, stream: str, survivor: str, merged: Sequence[str]) -> str:
        """Merges records into another as a person in the vendor's UI; the id that remains. Raises SandboxError."""
        raise SandboxError(f"the {self.system} simulator merges no records", "system", 501)

    def invalid_value(self, stream: str, field: str) -> Any:
        """A value of the field that no contract would accept, as legacy data holds it."""
        return "not an address at example" if "mail" in field.lower() else "\u0007"

    def seed_ties(self, stream: str) -> int:
        """Seeded rows share their stamp in runs of up to this many; 0: no two on purpose."""
        return 0

    def store_seeded(self, stream: str, row: SeedRow, fields: Fields) -> str:
        """Stores one seeded record, bypassing the rules a person meets (legacy data); its id."""
        id = self.new_id(stream)
        self.store(stream).insert(
            id, fields, created_at=row.created_at, updated_at=row.stamped_at, stored_at=row.stamped_at
        )
        return id

    def view(self, stream: str, record: Record) -> Mapping[str, Any]:
        """A record's fields as `GET records` shows them: flat, the vendor's names and types."""
        return record.fields

    # ---- what a subclass uses

    def store(self, stream: str) -> Store:
        """The store of a stream. Raises SandboxError (404) for an unknown one."""
        try:
            return self.stores[stream]
        except KeyError:
            raise SandboxError(f"{self.system} has no stream {stream!r}", "stream", 404) from None

    def on(self, habit: str) -> bool:
        """Whether a habit is switched on."""
        return self.habit[habit].on

    def value(self, habit: str) -> Any:
        """A habit's figure."""
        return self.habit[habit].value

    def changed(self, stream: str, id: str, op: str, values: Mapping[str, Any] | None = None, **merge: Any) -> None:
        """Tells the webhooks what was stored; see `Change` for `op`, `values` and what a merge says."""
        if self.outbox.webhooks:
            now = self.world.now_ms()
            self.outbox.take(
                Change(stream=stream, id=id, op=op, at=now, by_hand=self._by_hand, values=values or {}, **merge)
            )

    def unbuilt(self, call: Call, what: str | None = None) -> Response:
        """501 for what the simulator does not know, listed in `violations`."""
        reason = what or f"{call.method} {call.path} is not built"
        call.violation(reason)
        return JSONResponse({"error": reason, "field": "path"}, 501)

    # ---- control API

    def seed(self, stream: str, count: int, options: SeedOptions) -> list[str]:
        """Makes records (see INTERFACES, POST seed); their ids in the order stored."""
        self.store(stream)
        names = self.field_names(stream)
        for group, wanted in (("missing", options.missing), ("invalid", options.invalid)):
            for name in wanted:
                if name not in names:
                    raise SandboxError(f"{self.system}/{stream} has no field {name!r}", f"options.{group}.{name}")
        spoilt = {name: self.invalid_value(stream, name) for name in options.invalid}
        with uncollected():
            ids = self._seed(stream, count, options, spoilt)
            if len(ids) > LARGE_SEED:
                gc.freeze()  # or every later round of the collector would walk all of them
        return ids

    def _seed(self, stream: str, count: int, options: SeedOptions, spoilt: Mapping[str, Any]) -> list[str]:
        rows = seed_rows(
            count,
            options,
            people=self.people,
            rng=self.seed_rng,
            now=self.world.now_ms(),
            newest=self.store(stream).newest,
            ties=self.seed_ties(stream),
        )
        ids = []
        for row in rows:
            fields = self.seed_fields(stream, row.person, self.seed_rng)
            if row.field is not None and row.kind == "missing":
                fields.pop(row.field, None)
            elif row.field is not None:
                fields[row.field] = spoilt[row.field]
            ids.append(self.store_seeded(stream, row, fields))
        return ids

    def edit(self, stream: str, items: Sequence[tuple[str | None, Mapping[str, Any]]]) -> list[str]:
        """POST records: creates (id None) and updates, all or nothing; the ids."""
        self.store(stream)
        ids = []
        with self._person_at_work():
            for id, fields in items:
                if id is None:
                    ids.append(self.create(stream, fields))
                else:
                    self.update(stream, id, fields)
                    ids.append(id)
        return ids

    def discard(self, stream: str, ids: Sequence[str]) -> int:
        """DELETE records, all or nothing; how many."""
        self.store(stream)
        with self._person_at_work():
            for id in ids:
                self.delete(stream, id)
        return len(ids)

    def bring_back(self, stream: str, ids: Sequence[str]) -> int:
        """POST restore, all or nothing; how many."""
        self.store(stream)
        with self._person_at_work():
            for id in ids:
                self.restore(stream, id)
        return len(ids)

    def unite(self, stream: str, survivor: str, merged: Sequence[str]) -> str:
        """POST merge, all or nothing; the id that remains."""
        self.store(stream)
        with self._person_at_work():
            return self.merge(stream, survivor, merged)

    @contextlib.contextmanager
    def _person_at_work(self) -> Iterator[None]:
        self._by_hand = True
        try:
            with self.world.atomic(self):
                yield
        finally:
            self._by_hand = False
