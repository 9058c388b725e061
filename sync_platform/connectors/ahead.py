"""The next rows are fetched while those before them are being used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Final, TypeVar

T = TypeVar("T")

_END: Final = object()
_LOOK: Final = 0.1  # seconds after which a full queue is asked whether anybody still reads it


def ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """The items in their order, up to `depth` of them taken by a thread of their own before they are asked for.

    What ends the iteration, be it an error, arrives after the items before it. Whoever stops early
    waits for the item that is just being taken: afterwards nothing touches the source any more.
    """
    waiting: queue.Queue[object] = queue.Queue(depth)
    stopped = threading.Event()
    broke: list[BaseException] = []

    def offer(item: object) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=_LOOK)
                return True
            except queue.Full:
                continue
        return False

    def take() -> None:
        try:
            for item in items:
                if not offer(item):
                    return
        except BaseException as error:
            broke.append(error)
        offer(_END)

    taker = threading.Thread(target=take, name="reading ahead", daemon=True)
    taker.start()
    try:
        while (item := waiting.get()) is not _END:
            yield item  # type: ignore[misc]  # everything but the end is an item
    finally:
        stopped.set()
        taker.join()
    if broke:
        raise broke[0]
