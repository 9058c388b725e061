"""Webhooks under way: queues, attempts, repeats.

A simulator tells its `Outbox` of every `Change`; the vendor's `Dialect` makes `Notice`s of it, says how they are
written down, which answer acknowledges them and when a failed one is tried again. Everything that waits does so on
the sandbox clock; what is due goes out at once, in the server's event loop, while the simulator answers others.

The invariant of the counts: made + duplicated = dropped + acknowledged + failed + waiting.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from sync_platform.sandbox.http_post import Answer, Exchange, Poster
from sync_platform.sandbox.kit_notices import Change, Counts, Delivery, Dialect, Flow, Notice, Options

#: With `reorder`, one notice in four is held back by up to this much.
HOLD_MS: Final = 50
#: Deliveries that `GET deliveries` still shows.
REMEMBERED: Final = 20_000
#: A request is given this long in any case, in real seconds: its answer may be here in a millisecond, and whoever
#: advances the clock by an hour does not mean that it took one.
GRACE_SECONDS: Final = 0.2
#: The clock is looked at this often while something waits, in real seconds: others than `POST clock` may move it ...
LOOK_SECONDS: Final = 1.0
#: ... and this often at most while it stands still.
STILL_SECONDS: Final = 0.05


class Flight(NamedTuple):
    """A request that waits for its answer."""

    deadline: int  # ms of the sandbox clock
    patient_until: float  # seconds of the event loop
    sent_at: int
    notices: list[Notice]


class Webhook:
    """One subscriber: where to, what of, and what is on its way. `selection` belongs to the dialect."""

    def __init__(self, url: str, secret: str, options: Options, selection: Any, *, name: str | None = None) -> None:
        self.name = url if name is None else name
        self.url = url
        self.secret = secret
        self.options = options
        self.selection = selection
        self.poster = Poster(url)
        self.clear()

    def clear(self) -> None:
        """Nothing on its way, nothing counted."""
        self.counts = Counts()
        self.ready: dict[str, deque[Notice]] = {}
        self.later: list[tuple[int, int, Notice]] = []
        self.flying: dict[Exchange, Flight] = {}

    @property
    def waiting(self) -> int:
        """Notices neither acknowledged nor given up."""
        flying = sum(len(flight.notices) for flight in self.flying.values())
        return sum(map(len, self.ready.values())) + len(self.later) + flying


class Place(Protocol):
    """What an outbox needs to know of its world. `deliveries` numbers them, across systems and resets."""

    seed: int
    deliveries: Iterator[int]

    def now_ms(self) -> int:
        """The sandbox clock."""


class Outbox:
    """The webhooks of one system and what they are still to be told."""

    def __init__(self, world: Place, system: str, dialect: Dialect | None) -> None:
        self._world = world
        self._system = system
        self.dialect = dialect
        self.webhooks: dict[str, Webhook] = {}
        self.changes: list[Change] = []  # of the request under way; World.atomic takes back what it undoes
        self.deliveries: deque[Delivery] = deque(maxlen=REMEMBERED)
        self._order = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flushing = False
        self._timer: asyncio.Handle | None = None
        self._rings_at = 0.0  # uvloop's handle of what is due at once does not tell it
        self._rang_at = -1
        self._restart()

    def _restart(self) -> None:
        self._chance = random.Random(f"{self._world.seed}/{self._system}/webhooks")
        self._jitter = random.Random(f"{self._world.seed}/{self._system}/retries")  # failures come in no fixed order
        if self.dialect is not None:
            self.dialect.restart()

    # ---- set-up

    def add(self, webhook: Webhook) -> None:
        """Adds a webhook; one of the same name is replaced. Only in the server's event loop."""
        self.remove(webhook.name)
        self._loop = asyncio.get_running_loop()
        self.webhooks[webhook.name] = webhook

    def remove(self, name: str | None = None) -> int:
        """Removes one webhook or all; how many. What was still to be sent is forgotten."""
        names = [known for known in self.webhooks if name in (None, known)]
        for known in names:
            self._drop(self.webhooks.pop(known))
        return len(names)

    def reset(self) -> None:
        """Forgets what is on its way and what was counted; the webhooks stay."""
        self._restart()
        self.changes.clear()
        self.deliveries.clear()
        for webhook in self.webhooks.values():
            self._drop(webhook)

    def _drop(self, webhook: Webhook) -> None:
        flying = list(webhook.flying)
        webhook.clear()  # first, so that what is abandoned finds nothing to settle
        for exchange in flying:
            exchange.abandon("withdrawn")
        webhook.poster.close()

    def to_json(self, webhook: Webhook) -> dict[str, Any]:
        """A webhook as `GET webhooks` shows it."""
        assert self.dialect is not None
        return {
            "system": self._system, "target_url": webhook.url, "secret": webhook.secret,
            "options": asdict(webhook.options), **self.dialect.shown(webhook), **asdict(webhook.counts),
            "waiting": webhook.waiting, "in_flight": len(webhook.flying),
        }  # fmt: skip

    # ---- what goes in

    def take(self, change: Change) -> None:
        """Remembers a change until the request that makes it is over."""
        self.changes.append(change)
        if not self._flushing and self._loop is not None:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        changes, self.changes = self.changes, []
        assert self.dialect is not None
        for webhook in self.webhooks.values():
            for change in changes:
                for notice in self.dialect.notices(webhook, change):
                    self._queue(webhook, notice)
            self._pump(webhook)
        self._arm()

    def _queue(self, webhook: Webhook, notice: Notice) -> None:
        options, counts, chance = webhook.options, webhook.counts, self._chance
        counts.made += 1
        if options.drop_rate and chance.random() < options.drop_rate:
            counts.dropped += 1
            return
        twin = None
        if options.duplicate_rate and chance.random() < options.duplicate_rate:
            if chance.random() < 0.5:
                notice.again = True
            else:
                twin = notice.copy()
                counts.duplicated += 1
        for item in (notice, twin):
            if item is None:
                continue
            wait = options.delay_ms
            if options.reorder and chance.random() < 0.25:
                wait += chance.randint(1, HOLD_MS)
            if wait:
                self._postpone(webhook, item, self._world.now_ms() + wait)
            else:
                webhook.ready.setdefault(item.lane, deque()).append(item)

    def _postpone(self, webhook: Webhook, notice: Notice, due: int) -> None:
        heapq.heappush(webhook.later, (due, next(self._order), notice))

    # ---- what goes out

    def tick(self) -> None:
        """Sends what is due, and gives up on requests that took too long."""
        now = self._world.now_ms()
        for webhook in self.webhooks.values():
            while webhook.later and webhook.later[0][0] <= now:
                notice = heapq.heappop(webhook.later)[2]
                webhook.ready.setdefault(notice.lane, deque()).append(notice)
            for exchange, flight in list(webhook.flying.items()):
                if flight.deadline <= now and flight.patient_until <= self._real():
                    exchange.abandon("no answer in time")
            self._pump(webhook)
        self._arm()

    def _pump(self, webhook: Webhook) -> None:
        assert self.dialect is not None
        flow = self.dialect.flow(webhook)
        while webhook.ready and len(webhook.flying) < flow.concurrent:
            lane, waiting = next(iter(webhook.ready.items()))
            del webhook.ready[lane]
            notices = [waiting.popleft() for _ in range(min(flow.batch, len(waiting)))]
            if waiting:
                webhook.ready[lane] = waiting  # behind the other lanes
            if webhook.options.reorder:
                self._chance.shuffle(notices)
            self._send(webhook, notices, flow)

    def _send(self, webhook: Webhook, notices: list[Notice], flow: Flow) -> None:
        assert self.dialect is not None
        now = self._world.now_ms()
        headers, body = self.dialect.request(webhook, notices)
        exchange = webhook.poster.post(headers, body, lambda answer: self._settle(webhook, exchange, answer))
        webhook.flying[exchange] = Flight(now + flow.timeout_ms, self._real() + GRACE_SECONDS, now, notices)
        webhook.counts.requests += 1
        webhook.counts.sent += len(notices)

    def _real(self) -> float:
        assert self._loop is not None
        return self._loop.time()

    def _settle(self, webhook: Webhook, exchange: Exchange, answer: Answer) -> None:
        assert self.dialect is not None
        flight = webhook.flying.pop(exchange, None)
        if flight is None:
            return  # withdrawn
        notices = flight.notices
        accepted = answer.status is not None and self.dialect.accepted(answer)
        told = tuple((notice.id, notice.attempt) for notice in notices)
        seq, name, at = next(self._world.deliveries), self._system, flight.sent_at
        self.deliveries.append(Delivery(seq, name, webhook.url, at, told, answer.status, accepted, answer.error))
        if accepted:
            self._acknowledge(webhook, notices)
        else:
            self._fail(webhook, notices)
        # Not at once: a request whose connection is refused would otherwise call itself ever deeper.
        assert self._loop is not None
        self._loop.call_soon(partial(self._go_on, webhook))

    def _go_on(self, webhook: Webhook) -> None:
        if self.webhooks.get(webhook.name) is webhook:
            self._pump(webhook)
            self._arm()

    def _acknowledge(self, webhook: Webhook, notices: Sequence[Notice]) -> None:
        webhook.counts.acknowledged += len(notices)
        for notice in notices:
            if notice.again:
                webhook.counts.duplicated += 1
                webhook.ready.setdefault(notice.lane, deque()).append(notice.copy())

    def _fail(self, webhook: Webhook, notices: Sequence[Notice]) -> None:
        assert self.dialect is not None
        webhook.counts.refused += 1
        now = self._world.now_ms()
        for notice in notices:
            due = self.dialect.retry_at(notice, now, self._jitter)
            if due is None:
                webhook.counts.failed += 1
            else:
                notice.attempt += 1
                self._postpone(webhook, notice, due)

    def _arm(self) -> None:
        """Sees to it that `tick` runs when the next thing is due, however few requests come in."""
        dues = [webhook.later[0][0] for webhook in self.webhooks.values() if webhook.later]
        dues += [flight.deadline for webhook in self.webhooks.values() for flight in webhook.flying.values()]
        if not dues or self._loop is None:
            return
        now = self._world.now_ms()
        wait = min(max(0.001, (min(dues) - now) / 1000), LOOK_SECONDS)
        if now == self._rang_at:
            wait = max(wait, STILL_SECONDS)
        at = self._loop.time() + wait
        if self._timer is not None:
            if self._rings_at <= at:
                return
            self._timer.cancel()
        self._timer, self._rings_at = self._loop.call_at(at, self._ring), at

    def _ring(self) -> None:
        self._timer = None
        self._rang_at = self._world.now_ms()
        self.tick()
