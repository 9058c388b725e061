"""A call budget as arithmetic (GCRA), and a budget kept in memory for work without shared state.

The pure functions `take`, `paced`, `learned` and `penalized` map a `Bucket` to a new one; whoever
stores the bucket (a dict here, a Postgres row in `state.quota`) runs them under its own lock.

GCRA keeps one number per bucket: `tat`, the *theoretical arrival time* of the next call if calls
came exactly `1 / rate` seconds apart. A call may run up to `burst` calls ahead of that line.

Priorities: realtime may use the whole burst and books the next free slot even when it lies ahead;
batch leaves a quarter of the burst and books at most one call ahead; backfill leaves half of the
burst and books nothing. Alone, each of them still gets the full rate.
"""

from __future__ import annotations

import enum
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from sync_platform.errors import RateLimitError

#: Longest wait `acquire` accepts; beyond it the caller gets a RateLimitError saying when to come back.
MAX_WAIT: Final = 600.0
#: A limit over a longer window than this is a budget to spend as needed, not a pace to keep.
LONGEST_PACED_WINDOW: Final = 600.0
_BURST_SHARE: Final = 0.02
_SAFETY: Final = 0.97


class Priority(enum.StrEnum):
    """Who goes first when calls are scarce."""

    REALTIME = "realtime"
    BATCH = "batch"
    BACKFILL = "backfill"


#: The part of the burst a priority leaves to those above it.
RESERVE: Final = {Priority.REALTIME: 0.0, Priority.BATCH: 0.25, Priority.BACKFILL: 0.5}
#: How many of its own calls ahead a priority may book a slot and sleep until it comes.
BOOK_AHEAD: Final = {Priority.REALTIME: float("inf"), Priority.BATCH: 1.0, Priority.BACKFILL: 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """The state of one limit of one account. Times are seconds since the epoch.

    `rate` is calls per second; 0 means no limit is known and every call is granted.
    """

    tat: float = 0.0
    rate: float = 0.0
    burst: float = 1.0
    blocked_until: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The answer of `take`.

    Granted: store `bucket`, sleep `wait` seconds (0 mostly) and make the call.
    Not granted: `bucket` is unchanged; sleep `wait` seconds and ask again.
    """

    bucket: Bucket
    granted: bool
    wait: float


def take(bucket: Bucket, now: float, *, cost: float = 1.0, priority: Priority = Priority.BATCH) -> Grant:
    """Whether `cost` calls may be made now, and if not, in how many seconds to ask again."""
    if now < bucket.blocked_until:
        return Grant(bucket=bucket, granted=False, wait=bucket.blocked_until - now)
    if bucket.rate <= 0:
        return Grant(bucket=bucket, granted=True, wait=0.0)
    burst = max(bucket.burst * (1.0 - RESERVE[priority]), cost, 1.0)
    after = max(bucket.tat, now) + cost / bucket.rate
    wait = max(0.0, after - burst / bucket.rate - now)
    if wait <= BOOK_AHEAD[priority] * cost / bucket.rate and wait <= MAX_WAIT:
        return Grant(bucket=replace(bucket, tat=after), granted=True, wait=wait)
    return Grant(bucket=bucket, granted=False, wait=wait)


def paced(bucket: Bucket, now: float, *, limit: float, per_seconds: float) -> Bucket:
    """The bucket under a limit of `limit` calls in any window of `per_seconds`.

    A window may hold the burst plus what the rate adds, so the burst is kept small (2 % of the
    limit, at least 1) and taken off the rate: no window ever sees more than `limit` calls, and a
    steady caller uses 95 % of it or more. A window beyond `LONGEST_PACED_WINDOW` (a daily budget) gets its whole
    limit as burst. What was already called under the old rate stays owed.
    """
    if per_seconds > LONGEST_PACED_WINDOW:
        burst, rate = max(1.0, limit), limit / per_seconds
    else:
        burst = max(1.0, float(int(limit * _BURST_SHARE)))
        rate = _SAFETY * (limit - burst + 1.0) / per_seconds
    if rate <= 0 or (rate == bucket.rate and burst == bucket.burst):
        return bucket
    owed = max(0.0, bucket.tat - now) * bucket.rate
    return replace(bucket, rate=rate, burst=burst, tat=now + owed / rate if owed else bucket.tat)


def learned(
    bucket: Bucket, now: float, *, limit: float | None, per_seconds: float | None, remaining: float | None
) -> Bucket:
    """The bucket after a vendor's answer told its limit and how much of it is left.

    Fewer calls `remaining` than the burst means someone else calls too: we slow down by the difference.
    """
    if limit is not None and per_seconds is not None and limit > 0 and per_seconds > 0:
        bucket = paced(bucket, now, limit=limit, per_seconds=per_seconds)
    if remaining is not None and bucket.rate > 0 and remaining < bucket.burst:
        bucket = replace(bucket, tat=max(bucket.tat, now + (bucket.burst - max(0.0, remaining)) / bucket.rate))
    return bucket


def penalized(bucket: Bucket, now: float, seconds: float) -> Bucket:
    """The bucket after the vendor said to wait: nobody calls for `seconds` (an earlier, longer wait stays)."""
    return replace(bucket, blocked_until=max(bucket.blocked_until, now + max(0.0, seconds)))


def room(bucket: Bucket, now: float) -> float:
    """How many calls could be made this moment (infinite when no limit is known)."""
    if now < bucket.blocked_until:
        return 0.0
    if bucket.rate <= 0:
        return float("inf")
    return max(0.0, bucket.burst - max(0.0, bucket.tat - now) * bucket.rate)


class MemoryQuota:
    """A `Quota` of this process only: the threads of one process share it.

    `at(priority)` is the same budget seen with another priority.
    """

    def __init__(
        self,
        *,
        priority: Priority = Priority.BATCH,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        max_wait: float = MAX_WAIT,
    ) -> None:
        self._priority = priority
        self._clock = clock
        self._sleep = sleep
        self._max_wait = max_wait
        self._buckets: dict[str, Bucket] = {}
        self._lock = threading.Lock()

    def at(self, priority: Priority) -> MemoryQuota:
        """The same buckets, asked with another priority."""
        other = MemoryQuota(priority=priority, clock=self._clock, sleep=self._sleep, max_wait=self._max_wait)
        other._buckets, other._lock = self._buckets, self._lock
        return other

    def acquire(self, bucket: str, cost: float = 1.0) -> float:
        """Waits until `cost` calls may be made from `bucket`; returns the seconds waited.

        Raises RateLimitError instead of waiting longer than `max_wait`.
        """
        waited = 0.0
        while True:
            with self._lock:
                grant = take(self._buckets.get(bucket, Bucket()), self._clock(), cost=cost, priority=self._priority)
                self._buckets[bucket] = grant.bucket
            if not grant.granted and waited + grant.wait > self._max_wait:
                raise too_long(bucket, grant.wait)
            pause = grant.wait if grant.granted else grant.wait + spread(grant.wait)
            if pause > 0:
                self._sleep(pause)
                waited += pause
            if grant.granted:
                return waited

    def learn(self, bucket: str, *, limit: float | None, per_seconds: float | None, remaining: float | None) -> None:
        """Takes over what the vendor's answer said about its limit."""
        with self._lock:
            self._buckets[bucket] = learned(
                self._buckets.get(bucket, Bucket()),
                self._clock(),
                limit=limit,
                per_seconds=per_seconds,
                remaining=remaining,
            )

    def penalize(self, bucket: str, seconds: float) -> None:
        """The vendor said wait: nobody of this process calls for that long."""
        with self._lock:
            self._buckets[bucket] = penalized(self._buckets.get(bucket, Bucket()), self._clock(), seconds)

    def peek(self, bucket: str) -> Bucket:
        """The bucket as it stands, for display and tests."""
        with self._lock:
            return self._buckets.get(bucket, Bucket())


def spread(wait: float) -> float:
    """A small random addition to a wait, so that those who wait for one slot do not all ask at once."""
    return random.uniform(0.0, min(0.05, 0.03 * wait + 0.001))


def too_long(bucket: str, wait: float) -> RateLimitError:
    """The error of a budget that has no room for longer than anyone should sleep."""
    return RateLimitError(
        f"the call budget {bucket!r} has no room for {wait:.0f} s",
        retry_after=wait,
        mend="run again later, or raise the account's limit at the vendor",
    )
