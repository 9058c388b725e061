"""The call budget's arithmetic, and the budget in memory."""

from __future__ import annotations

import random
import threading
from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_server import Clock

from sync_platform.connectors.quota import (
    Bucket,
    MemoryQuota,
    Priority,
    learned,
    paced,
    penalized,
    room,
    take,
)
from sync_platform.errors import RateLimitError

START = 1_790_000_000.0


def spend(bucket: Bucket, now: float, until: float, priority: Priority = Priority.BATCH) -> tuple[Bucket, list[float]]:
    """Takes a call as soon as one is granted, until a time; the moments of the calls."""
    calls: list[float] = []
    while now < until:
        grant = take(bucket, now, priority=priority)
        bucket = grant.bucket
        if grant.granted:
            now += grant.wait
            calls.append(now)
        else:
            now += grant.wait + 1e-6
    return bucket, calls


@given(
    limit=st.integers(1, 500),
    window=st.floats(0.5, 60),
    idle=st.floats(0, 100),
    priority=st.sampled_from(list(Priority)),
)
@settings(max_examples=60, deadline=None)
def test_no_window_ever_holds_more_calls_than_the_limit(
    limit: int, window: float, idle: float, priority: Priority
) -> None:
    bucket = paced(Bucket(tat=START), START, limit=limit, per_seconds=window)
    _, calls = spend(bucket, START + idle, START + idle + 3 * window, priority)
    for index, first in enumerate(calls):
        assert bisect_right(calls, first + window) - index <= limit


@pytest.mark.parametrize(("limit", "window"), [(5, 1.0), (100, 10.0), (190, 10.0), (40, 1.0), (1000, 60.0)])
@pytest.mark.parametrize("priority", list(Priority))
def test_a_steady_caller_uses_95_percent_of_the_limit(limit: int, window: float, priority: Priority) -> None:
    _, calls = spend(paced(Bucket(), START, limit=limit, per_seconds=window), START, START + 20 * window, priority)
    assert len(calls) >= 0.95 * 20 * limit


def test_a_bucket_without_a_known_limit_grants_everything() -> None:
    assert take(Bucket(), START, cost=1000.0).granted
    assert room(Bucket(), START) == float("inf")


def test_realtime_gets_through_at_once_while_batch_is_saturated() -> None:
    bucket, _ = spend(paced(Bucket(), START, limit=400, per_seconds=10.0), START, START + 5)
    grant = take(bucket, START + 5, priority=Priority.REALTIME)
    assert grant.granted
    assert grant.wait == 0.0


def test_realtime_books_the_next_slot_where_there_is_no_burst_to_reserve() -> None:
    bucket = paced(Bucket(), START, limit=5, per_seconds=1.0)
    bucket = take(bucket, START).bucket
    grant = take(bucket, START, priority=Priority.REALTIME)
    assert grant.granted
    assert 0 < grant.wait <= 0.25
    assert not take(grant.bucket, START, priority=Priority.BATCH).granted


def test_backfill_leaves_room_that_batch_may_use() -> None:
    bucket = paced(Bucket(), START, limit=500, per_seconds=10.0)  # a burst of ten
    while (grant := take(bucket, START, priority=Priority.BACKFILL)).granted:
        bucket = grant.bucket
    assert take(bucket, START, priority=Priority.BATCH).wait == 0.0
    assert take(bucket, START, priority=Priority.BATCH).granted


def test_a_penalty_holds_every_priority_back_and_a_shorter_one_does_not_cut_it() -> None:
    bucket = penalized(penalized(Bucket(), START, 30.0), START, 5.0)
    for priority in Priority:
        grant = take(bucket, START + 10, priority=priority)
        assert not grant.granted
        assert grant.wait == pytest.approx(20.0)
    assert take(bucket, START + 30).granted


def test_few_remaining_calls_slow_us_down() -> None:
    bucket = learned(Bucket(), START, limit=500, per_seconds=10.0, remaining=0)
    assert not take(bucket, START, priority=Priority.BACKFILL).granted
    assert room(bucket, START) == pytest.approx(0.0)
    assert room(learned(Bucket(), START, limit=500, per_seconds=10.0, remaining=400), START) == 10.0


def test_a_daily_budget_may_be_spent_as_needed() -> None:
    bucket = learned(Bucket(), START, limit=15_000, per_seconds=86_400.0, remaining=15_000)
    for _ in range(5_000):
        grant = take(bucket, START)
        assert grant.granted
        assert grant.wait == 0.0
        bucket = grant.bucket


def test_a_changed_limit_keeps_what_is_owed() -> None:
    slow = paced(Bucket(), START, limit=500, per_seconds=10.0)
    for _ in range(5):
        slow = take(slow, START).bucket
    assert room(paced(slow, START, limit=1000, per_seconds=10.0), START) == pytest.approx(20 - 5)


def test_a_wait_longer_than_anyone_should_sleep_is_an_error_that_says_when() -> None:
    clock = Clock()
    quota = MemoryQuota(clock=clock, sleep=clock.sleep)
    quota.penalize("daily", 7200.0)
    with pytest.raises(RateLimitError) as caught:
        quota.acquire("daily")
    assert caught.value.retry_after == pytest.approx(7200.0)
    assert clock.slept == []


def test_threads_share_one_budget_in_memory() -> None:
    clock = Clock()
    lock = threading.Lock()
    calls: list[float] = []

    def sleep(seconds: float) -> None:
        with lock:
            clock.now += seconds

    quota = MemoryQuota(clock=clock, sleep=sleep)
    quota.learn("search", limit=100, per_seconds=10.0, remaining=None)

    def work() -> None:
        for _ in range(50):
            quota.acquire("search")
            calls.append(clock.now)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 200
    assert clock.now - 1_790_000_000.0 >= (200 - 100) / 10.0


def test_another_priority_sees_the_same_budget() -> None:
    clock = Clock()
    quota = MemoryQuota(clock=clock, sleep=clock.sleep)
    quota.learn("search", limit=5, per_seconds=1.0, remaining=None)
    quota.acquire("search")
    assert quota.at(Priority.REALTIME).acquire("search") > 0.0


@pytest.mark.parametrize("priority", Priority)
def test_a_caller_alone_uses_nearly_the_whole_limit_whatever_is_added_to_its_waits(priority: Priority) -> None:
    for seed in range(50):
        random.seed(seed)
        clock = Clock()
        quota = MemoryQuota(clock=clock, sleep=clock.sleep, priority=priority)
        quota.learn("calls", limit=10, per_seconds=1.0, remaining=None)
        begun, calls = clock.now, 0
        while clock.now < begun + 20:
            quota.acquire("calls")
            clock.sleep(0.001)  # the call itself
            calls += 1
        assert calls >= 0.955 * 200
