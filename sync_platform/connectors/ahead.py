"""The next rows are fetched while those before them are being used."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_END: Final = object()
_LOOK: Final = 0.1  # seconds after which a full queue is asked whether anybody still reads it


def ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """The items in their order, up to `depth` of them taken by a thread of their own before they are asked for.

    What ends the iteration, be it an error, arrives after the items before it. Whoever stops early
    waits for the item that is just being taken: afterwards nothing touches the source any more.
    """
    with contextlib.closing(Ahead(items, depth)) as taken:
        yield from taken


class Ahead(Iterator[T], Generic[T]):
    """What `ahead` gives, taken from now on instead of from the first time it is asked; `close` it in the end."""

    def __init__(self, items: Iterator[T], depth: int) -> None:
        self._items = items
        self._waiting: queue.Queue[object] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._ended = False
        self._broke: list[BaseException] = []
        self._taker = threading.Thread(target=self._take, name="reading ahead", daemon=True)
        self._taker.start()

    def __next__(self) -> T:
        item = _END if self._ended else self._waiting.get()
        if item is not _END:
            return item  # type: ignore[return-value]  # everything but the end is an item
        self._ended = True
        if self._broke:
            raise self._broke.pop()
        raise StopIteration

    def close(self) -> None:
        """Takes nothing any more; the items taken so far are dropped."""
        self._stopped.set()
        self._taker.join()
        close = getattr(self._items, "close", None)
        if close is not None:  # an iterator that holds something open, as a generator does
            close()

    def _offer(self, item: object) -> bool:
        while not self._stopped.is_set():
            try:
                self._waiting.put(item, timeout=_LOOK)
                return True
            except queue.Full:
                continue
        return False

    def _take(self) -> None:
        try:
            for item in self._items:
                if not self._offer(item):
                    return
        except BaseException as error:
            self._broke.append(error)
        self._offer(_END)
