"""The shared call budget: never more than the vendor allows, hardly less."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_platform.connectors.quota import BOOK_AHEAD, RESERVE, Bucket, Priority, take
from sync_platform.errors import RateLimitError
from sync_platform.state.database import Database
from sync_platform.state.quota import PostgresQuota
from tests.unit.state import processes

EPOCH = 1_900_000_000.0


Caller = Callable[[PostgresQuota, Callable[[float], None], Callable[[], float]], list[float]]


def run(state: Database, callers: list[tuple[Priority, Caller]]) -> list[list[float]]:
    """What each caller noted, every one in a process of its own, all in the same made-up time."""
    time = processes.MadeUpTime(len(callers), EPOCH)

    def work(number: int) -> tuple[int, list[float]]:
        priority, caller = callers[number]

        def sleep(seconds: float) -> None:
            time.sleep(number, seconds)

        quota = PostgresQuota(state, "crm", priority=priority, clock=time.clock, sleep=sleep)
        try:
            return number, caller(quota, sleep, time.clock)
        finally:
            time.leave(number)

    return [noted for _, noted in sorted(processes.at_once(len(callers), work))]


def busy(seconds: float) -> Caller:
    """A caller that calls as often as it may and notes when."""

    def caller(quota: PostgresQuota, sleep: Callable[[float], None], clock: Callable[[], float]) -> list[float]:
        calls = []
        while clock() < EPOCH + seconds:
            quota.acquire("calls")
            calls.append(clock())
            sleep(0.001)  # the call itself
        return calls

    return caller


def urgent(quota: PostgresQuota, sleep: Callable[[float], None], clock: Callable[[], float]) -> list[float]:
    """A caller that calls now and then and notes how long it had to wait."""
    waits = []
    for _ in range(40):
        sleep(0.25)
        waits.append(quota.acquire("calls"))
    return waits


def busiest(calls: list[float], window: float) -> int:
    """The most calls in any window of that length."""
    ordered, first, most = sorted(calls), 0, 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_a_bucket_without_a_known_limit_grants_everything(fresh_state: Database) -> None:
    quota = PostgresQuota(fresh_state, "crm", sleep=lambda _: pytest.fail("nothing to wait for"))
    assert [quota.acquire("calls") for _ in range(20)] == [0.0] * 20


SETTINGS = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
TIMES = st.floats(EPOCH - 5, EPOCH + 5, allow_nan=False)


@SETTINGS
@given(
    bucket=st.builds(
        Bucket, tat=TIMES, rate=st.sampled_from([0.0, 0.5, 9.7, 1000.0]), burst=st.floats(1, 500), blocked_until=TIMES
    ),
    cost=st.floats(0.1, 20),
    priority=st.sampled_from(list(Priority)),
)
def test_postgresql_calculates_as_python_does(state: Database, bucket: Bucket, cost: float, priority: Priority) -> None:
    with state.connection() as connection:
        connection.execute("DELETE FROM sync.quota")
        connection.execute(
            "INSERT INTO sync.quota (account, bucket, tat, rate, burst, blocked_until) "
            "VALUES ('a', 'b', %s, %s, %s, %s)",
            (bucket.tat, bucket.rate, bucket.burst, bucket.blocked_until),
        )
        row = connection.execute(
            "SELECT granted, wait FROM sync.take('a', 'b', %s, %s, %s, 600, false, %s)",
            (cost, RESERVE[priority], BOOK_AHEAD[priority], EPOCH),
        ).fetchone()
        after = connection.execute("SELECT tat FROM sync.quota").fetchone()
    wanted = take(bucket, EPOCH, cost=cost, priority=priority)
    assert row is not None
    assert after is not None
    assert (row[0], row[1]) == (wanted.granted, pytest.approx(wanted.wait, abs=1e-6))
    assert after[0] == pytest.approx(wanted.bucket.tat, abs=1e-6)


def test_eight_processes_keep_the_limit_and_use_it_and_none_starves(fresh_state: Database) -> None:
    PostgresQuota(fresh_state, "crm", clock=lambda: EPOCH).learn("calls", limit=100, per_seconds=10, remaining=None)
    counts = run(fresh_state, [(Priority.BATCH, busy(30))] * 8)
    every = [at for calls in counts for at in calls]
    assert busiest(every, 10) <= 100
    assert len([at for at in every if at < EPOCH + 30]) >= 0.95 * 300
    assert min(map(len, counts)) >= 0.5 * len(every) / 8


def test_one_caller_alone_uses_the_whole_limit(fresh_state: Database) -> None:
    PostgresQuota(fresh_state, "crm", clock=lambda: EPOCH).learn("calls", limit=10, per_seconds=1, remaining=None)
    for priority in Priority:
        [calls] = run(fresh_state, [(priority, busy(20))])
        assert busiest(calls, 1) <= 10
        assert len(calls) >= 0.95 * 200
        with fresh_state.connection() as connection:
            connection.execute("UPDATE sync.quota SET tat = 0")


def test_realtime_goes_first_and_the_others_use_the_rest(fresh_state: Database) -> None:
    PostgresQuota(fresh_state, "crm", clock=lambda: EPOCH).learn("calls", limit=1000, per_seconds=10, remaining=None)
    lower = [(Priority.BATCH, busy(10))] * 3 + [(Priority.BACKFILL, busy(10))] * 2
    waits, *background = run(fresh_state, [(Priority.REALTIME, urgent), *lower])
    calls = [at for some in background for at in some]
    assert max(waits) == 0.0, "a webhook waited behind a batch"
    assert busiest(calls, 10) <= 1000
    assert len(calls) + len(waits) >= 0.95 * 1000
    assert sum(map(len, background[:3])) > sum(map(len, background[3:]))


def test_processes_that_call_at_the_same_moment_never_exceed_the_limit(fresh_state: Database) -> None:
    """In real time, so that they really meet in PostgreSQL."""
    PostgresQuota(fresh_state, "crm").learn("calls", limit=200, per_seconds=1, remaining=None)

    def call(number: int) -> list[float]:
        quota = PostgresQuota(fresh_state, "crm", priority=Priority.REALTIME)
        calls = []
        for _ in range(60):
            quota.acquire("calls")
            calls.append(time.time())
        return calls

    calls = [at for some in processes.at_once(4, call) for at in some]
    assert len(calls) == 240
    assert max(calls) - min(calls) >= (240 - 4) / 200 * 0.97, "faster than the limit"


def test_backfill_leaves_more_room_than_batch(fresh_state: Database) -> None:
    left = {}
    for priority in Priority:
        quota = PostgresQuota(fresh_state, priority, priority=priority, clock=lambda: EPOCH, sleep=lambda _: None)
        quota.learn("daily", limit=1000, per_seconds=86_400, remaining=None)
        quota.acquire("daily", 499)
        left[priority] = all(granted(quota) for _ in range(250))
    assert left == {Priority.REALTIME: True, Priority.BATCH: True, Priority.BACKFILL: False}


def granted(quota: PostgresQuota) -> bool:
    """Whether a call is granted without a wait."""
    try:
        return quota.at(quota._priority).acquire("daily") == 0
    except RateLimitError:
        return False


def test_a_penalty_holds_for_every_process(fresh_state: Database) -> None:
    slept: list[float] = []
    one, two = (
        PostgresQuota(fresh_state, "crm", clock=lambda: EPOCH + sum(slept), sleep=slept.append) for _ in range(2)
    )
    one.penalize("calls", 30)
    one.penalize("calls", 5)
    assert 30 <= two.acquire("calls") < 31
    assert PostgresQuota(fresh_state, "another", clock=lambda: EPOCH).acquire("calls") == 0


def test_a_budget_with_no_room_for_long_says_when_to_come_back(fresh_state: Database) -> None:
    quota = PostgresQuota(fresh_state, "crm", clock=lambda: EPOCH, sleep=lambda _: pytest.fail("slept"))
    quota.penalize("calls", 3600)
    with pytest.raises(RateLimitError) as caught:
        quota.acquire("calls")
    assert caught.value.retry_after == pytest.approx(3600)


def test_fewer_calls_remaining_than_we_thought_slows_everybody(fresh_state: Database) -> None:
    slept: list[float] = []
    quota = PostgresQuota(fresh_state, "crm", clock=lambda: EPOCH, sleep=slept.append)
    quota.learn("calls", limit=1000, per_seconds=10, remaining=None)
    assert quota.acquire("calls") == 0
    quota.learn("calls", limit=1000, per_seconds=10, remaining=0)
    assert quota.at(Priority.REALTIME).acquire("calls") > 0


def test_an_answer_that_says_nothing_new_writes_nothing(fresh_state: Database) -> None:
    quota = PostgresQuota(fresh_state, "crm", sleep=lambda _: None)
    quota.learn("calls", limit=100, per_seconds=10, remaining=90)
    quota.acquire("calls")
    with fresh_state.connection() as connection:
        before = connection.execute("SELECT learned_at FROM sync.quota").fetchone()
    quota.learn("calls", limit=100, per_seconds=10, remaining=80)
    with fresh_state.connection() as connection:
        assert connection.execute("SELECT learned_at FROM sync.quota").fetchone() == before


def test_time_is_postgresqls_unless_given(fresh_state: Database) -> None:
    quota = PostgresQuota(fresh_state, "crm")
    quota.learn("calls", limit=10, per_seconds=1, remaining=None)
    quota.acquire("calls")
    with fresh_state.connection() as connection:
        row = connection.execute("SELECT abs(tat - extract(epoch FROM now())) < 60 FROM sync.quota").fetchone()
    assert row == (True,)
