"""The call budgets of all accounts, in the state: every process of the installation draws from one ledger.

The arithmetic is `connectors.quota`; `sync.take` does it inside PostgreSQL, so that a call costs one
statement. Time is PostgreSQL's, on which all machines agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sync_platform.connectors.quota import (
    BOOK_AHEAD,
    MAX_WAIT,
    RESERVE,
    Bucket,
    Priority,
    learned,
    penalized,
    spread,
    too_long,
)
from sync_platform.state.database import Connection, Database

_TAKE: Final = """
    SELECT granted, wait, rate, burst FROM sync.take(%(account)s, %(bucket)s, %(cost)s::float8, %(reserve)s::float8,
        %(ahead)s::float8, %(max_wait)s::float8, %(waited)s, %(at)s::float8)"""
_ENTER: Final = """
    INSERT INTO sync.quota (account, bucket) VALUES (%(account)s, %(bucket)s) ON CONFLICT DO NOTHING"""
_LOOK: Final = """
    SELECT tat, rate, burst, blocked_until, extract(epoch FROM clock_timestamp())::float8 FROM sync.quota
    WHERE account = %(account)s AND bucket = %(bucket)s FOR UPDATE"""
_WRITE: Final = """
    UPDATE sync.quota SET tat = %(tat)s, rate = %(rate)s, burst = %(burst)s, blocked_until = %(blocked_until)s,
        learned_at = clock_timestamp() WHERE account = %(account)s AND bucket = %(bucket)s"""


OFTEN_SECONDS: Final = 1.0


class PostgresQuota:
    """The `Quota` of one account, shared by all processes of the installation.

    `clock` (seconds since the epoch) replaces PostgreSQL's clock and `sleep` the waiting, for tests.
    """

    def __init__(
        self,
        db: Database,
        account: str,
        *,
        priority: Priority = Priority.BATCH,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        max_wait: float = MAX_WAIT,
    ) -> None:
        self._db = db
        self._account = account
        self._priority = priority
        self._clock = clock
        self._sleep = sleep
        self._max_wait = max_wait
        self._told: dict[str, tuple[tuple[float | None, float | None], float]] = {}  # the last answer taken over, when
        self._seen: dict[str, tuple[float, float]] = {}  # rate and burst as the last `acquire` found them

    def __repr__(self) -> str:
        return f"PostgresQuota({self._account!r}, priority={self._priority.value!r})"

    def at(self, priority: Priority) -> PostgresQuota:
        """The same budget, asked with another priority."""
        return PostgresQuota(
            self._db, self._account, priority=priority, clock=self._clock, sleep=self._sleep, max_wait=self._max_wait
        )

    def acquire(self, bucket: str, cost: float = 1.0) -> float:
        """Waits until `cost` calls may be made from `bucket`; returns the seconds waited.

        Raises RateLimitError instead of waiting longer than `max_wait`, AccessError when the state is away.
        """
        waited = 0.0
        while True:
            granted, wait = self._take(bucket, cost, waited > 0)
            if not granted and waited + wait > self._max_wait:
                raise too_long(bucket, wait)
            pause = wait if granted else wait + spread(wait)
            if pause > 0:
                self._sleep(pause)
                waited += pause
            if granted:
                return waited

    def learn(self, bucket: str, *, limit: float | None, per_seconds: float | None, remaining: float | None) -> None:
        """Takes over what the vendor's answer said about its limit; an answer that says nothing new costs nothing.

        While much of a limit is left, how much is taken over once a second: others' calls are seen soon enough.
        """
        told = (limit, per_seconds)
        plenty = limit is not None and remaining is not None and remaining > limit / 10
        before = self._told.get(bucket)
        if plenty and before is not None and before[0] == told and time.monotonic() - before[1] < OFTEN_SECONDS:
            return
        self._told[bucket] = (told, time.monotonic())
        if bucket in self._seen:
            rate, burst = self._seen[bucket]
            same = learned(
                Bucket(rate=rate, burst=burst), 0.0, limit=limit, per_seconds=per_seconds, remaining=remaining
            )
            if same == Bucket(rate=rate, burst=burst):
                return
        self._change(
            bucket, lambda old, now: learned(old, now, limit=limit, per_seconds=per_seconds, remaining=remaining)
        )

    def penalize(self, bucket: str, seconds: float) -> None:
        """The vendor said wait: nobody of this installation calls for that long."""
        self._change(bucket, lambda old, now: penalized(old, now, seconds))

    def peek(self, bucket: str) -> Bucket:
        """The bucket as it stands, for display and tests."""
        with self._db.connection() as own:
            found = self._look(own, bucket)
        return found[0] if found else Bucket()

    def _take(self, bucket: str, cost: float, waited: bool) -> tuple[bool, float]:
        row = self._db.statement(
            _TAKE,
            {
                "account": self._account,
                "bucket": bucket,
                "cost": cost,
                "reserve": RESERVE[self._priority],
                "ahead": BOOK_AHEAD[self._priority],
                "max_wait": self._max_wait,
                "waited": waited,
                "at": self._clock() if self._clock else None,
            },
        )
        assert row is not None  # a function's answer has one row
        granted, wait, rate, burst = row
        self._seen[bucket] = (rate, burst)
        return bool(granted), float(wait)

    def _change(self, bucket: str, change: Callable[[Bucket, float], Bucket]) -> None:
        names = {"account": self._account, "bucket": bucket}
        with self._db.connection() as own:
            own.execute("SET LOCAL synchronous_commit = off")
            found = self._look(own, bucket)
            if found is None:
                own.execute(_ENTER, names)
                found = self._look(own, bucket)
            assert found is not None  # entered just now, and never deleted
            old, now = found
            new = change(old, now)
            if new != old:
                own.execute(
                    _WRITE,
                    names | {"tat": new.tat, "rate": new.rate, "burst": new.burst, "blocked_until": new.blocked_until},
                )
        self._seen[bucket] = (new.rate, new.burst)

    def _look(self, own: Connection, bucket: str) -> tuple[Bucket, float] | None:
        row = own.execute(_LOOK, {"account": self._account, "bucket": bucket}).fetchone()
        if row is None:
            return None
        tat, rate, burst, blocked_until, now = row
        found = Bucket(tat=tat, rate=rate, burst=burst, blocked_until=blocked_until)
        return found, self._clock() if self._clock else float(now)
