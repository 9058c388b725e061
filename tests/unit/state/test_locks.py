"""Locks between processes."""

from __future__ import annotations

import os
import threading

import psycopg
import pytest

from sync_platform.errors import AccessError, TransientError
from sync_platform.state.database import Database
from sync_platform.state.locks import advisory_lock, held_by
from tests.unit.state import processes

HOLD = """
from sync_platform.state.database import open_state
from sync_platform.state.locks import advisory_lock
with advisory_lock(open_state(), "sync:a"):
    print("held", flush=True)
    input()
"""


def test_a_lock_is_held_by_one_and_named(state: Database) -> None:
    with advisory_lock(state, "one"):
        holder = held_by(state, "one")
        assert holder is not None
        assert holder.pid == os.getpid()
        with pytest.raises(TransientError, match=f"process {os.getpid()}"), advisory_lock(state, "one", timeout=0):
            pass
        with advisory_lock(state, "two", timeout=0):
            pass
    assert held_by(state, "one") is None


def test_a_lock_ends_with_the_process_that_holds_it(state: Database) -> None:
    other = processes.start(HOLD, processes.of(state))
    assert processes.line(other) == "held"
    holder = held_by(state, "sync:a")
    assert holder is not None
    assert holder.pid == other.pid
    waits: list[bool] = []
    got = threading.Event()

    def wait() -> None:
        with advisory_lock(state, "sync:a", on_wait=lambda: waits.append(True)):
            got.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not got.wait(0.2)
    other.kill()
    other.wait()
    assert got.wait(10)
    waiter.join()
    assert waits == [True]


def test_waiting_ends_after_the_timeout(state: Database) -> None:
    with (
        advisory_lock(state, "busy"),
        pytest.raises(TransientError, match=r"waited 0\.05 s") as caught,
        advisory_lock(state, "busy", timeout=0.05),
    ):
        pass
    assert caught.value.mend is not None


def test_a_lock_that_was_lost_is_reported(state: Database) -> None:
    with pytest.raises(AccessError, match="was lost"), advisory_lock(state, "fragile") as own, state.session() as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", (own.info.backend_pid,))


def test_an_error_inside_is_passed_on_as_it_is_and_the_lock_is_free(state: Database) -> None:
    with pytest.raises(psycopg.OperationalError, match="of somebody else's database"), advisory_lock(state, "mine"):
        raise psycopg.OperationalError("of somebody else's database")
    with advisory_lock(state, "mine", timeout=1):
        pass


def test_a_holder_may_run_statements_on_the_lock(state: Database) -> None:
    with advisory_lock(state, "mine") as own:
        assert own.execute("SELECT 1").fetchone() == (1,)
