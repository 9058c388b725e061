"""Rows taken ahead arrive in order, together with whatever ended them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from sync_platform.connectors.ahead import Ahead, ahead


def test_all_items_arrive_in_their_order() -> None:
    assert list(ahead(iter(range(1000)), 3)) == list(range(1000))


def test_items_are_taken_before_they_are_asked_for_but_not_more_than_allowed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    reading = ahead(items(), 4)
    assert next(reading) == 0
    deadline = time.monotonic() + 5
    while len(taken) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert len(taken) == 6  # the one given, four that wait, and one in hand
    reading.close()  # type: ignore[attr-defined]  # a generator


def test_an_error_arrives_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ConnectionError("gone")

    reading = ahead(items(), 5)
    assert [next(reading), next(reading)] == [1, 2]
    with pytest.raises(ConnectionError, match="gone"):
        next(reading)


def test_whoever_stops_early_leaves_no_thread_at_the_source() -> None:
    before = threading.active_count()
    reading = ahead(iter(range(1000)), 2)
    next(reading)
    reading.close()  # type: ignore[attr-defined]  # a generator
    assert threading.active_count() == before


def test_a_read_begun_early_is_taken_at_once_and_closing_it_closes_the_source() -> None:
    begun, closed = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        begun.set()
        try:
            yield from range(1000)
        finally:
            closed.set()

    reading = Ahead(items(), 2)
    assert begun.wait(5)
    assert [next(reading), next(reading)] == [0, 1]
    reading.close()
    assert closed.is_set()


def test_what_ended_a_read_ends_it_for_good() -> None:
    reading = Ahead(iter([1]), 2)
    assert list(reading) == [1]
    assert list(reading) == []
    reading.close()
