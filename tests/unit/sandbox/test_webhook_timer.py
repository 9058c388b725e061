"""The timer of what is still to be sent, on uvloop, whose handle of what is due at once does not tell when it rings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from sync_platform.sandbox.kit_webhooks import Outbox


class _AtOnce:
    """A loop that takes everything for due at once: a plain `asyncio.Handle`, without `when`."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.handles: list[asyncio.Handle] = []

    def time(self) -> float:
        return 100.0

    def call_at(self, at: float, callback: Callable[[], Any]) -> asyncio.Handle:
        self.at.append(at)
        self.handles.append(asyncio.Handle(callback, (), self))  # type: ignore[arg-type]
        return self.handles[-1]

    def get_debug(self) -> bool:
        return False


def test_the_timer_is_set_once_and_again_only_for_what_is_due_earlier() -> None:
    place: Any = SimpleNamespace(seed=1, now_ms=lambda: 5_000)
    outbox, loop = Outbox(place, "hubspot", None), _AtOnce()
    webhook: Any = SimpleNamespace(later=[(5_900, 0)], flying={})
    outbox.webhooks["one"], outbox._loop = webhook, loop  # type: ignore[assignment]
    outbox._arm()
    outbox._arm()
    assert loop.at == [100.9]
    webhook.later = [(5_200, 0)]
    outbox._arm()
    assert loop.at == [100.9, 100.2]
    assert [handle.cancelled() for handle in loop.handles] == [True, False]
