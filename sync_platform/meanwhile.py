"""What a process does in threads of its own while it would wait: imports, and work whose result is wanted later."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


def meanwhile(work: Callable[[], object]) -> threading.Thread:
    """Does something in a thread, which it returns, so that it need not be done later; a failure is that of later."""

    def run() -> None:
        with contextlib.suppress(Exception):
            work()

    thread = threading.Thread(target=run, name="meanwhile")  # waited for at exit
    thread.start()
    return thread


class Stopped(Exception):
    """Work that was begun is not wanted any more."""


class Begun(Generic[T]):
    """Work begun in a thread. It is given a function to call now and then, which raises Stopped when it shall end."""

    def __init__(self, work: Callable[[Callable[[], None]], T], name: str) -> None:
        self._stopping = threading.Event()
        self._done: list[T] = []
        self._broke: BaseException | None = None

        def run() -> None:
            try:
                self._done.append(work(self._go_on))
            except BaseException as error:
                self._broke = error

        self._thread = threading.Thread(target=run, name=name)
        self._thread.start()

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise Stopped

    def result(self) -> T:
        """What the work came to; waits for it, and raises what it raised."""
        self._thread.join()
        if self._broke is not None:
            raise self._broke
        return self._done[0]

    def stop(self) -> None:
        """Asks the work to end and waits until it has; nothing to do for work that is done."""
        self._stopping.set()
        self._thread.join()
