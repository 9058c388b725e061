"""Work begun before it is asked for: its result, its error, and its end when nobody wants it any more."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from sync_platform.meanwhile import Begun, Stopped


def test_the_result_is_there_when_it_is_asked_for() -> None:
    assert Begun(lambda go_on: 7, "counting").result() == 7


def test_what_the_work_raised_is_raised_where_it_is_asked_for() -> None:
    def broken(go_on: Callable[[], None]) -> None:
        raise ConnectionError("gone")

    begun = Begun(broken, "reading")
    with pytest.raises(ConnectionError, match="gone"):
        begun.result()


def test_stopping_ends_the_work_where_it_asks_whether_to_go_on_and_waits_for_it() -> None:
    rounds = threading.Semaphore(0)

    def forever(go_on: Callable[[], None]) -> None:
        while True:
            rounds.release()
            go_on()

    before = threading.active_count()
    begun = Begun(forever, "reading")
    assert rounds.acquire(timeout=5)
    begun.stop()
    assert threading.active_count() == before
    with pytest.raises(Stopped):
        begun.result()


def test_stopping_work_that_is_done_changes_nothing() -> None:
    begun = Begun(lambda go_on: "done", "reading")
    begun.result()
    begun.stop()
    assert begun.result() == "done"
