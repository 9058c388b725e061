"""How often something may happen: a token bucket, and a voice that does not repeat itself."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Bucket:
    """`rate` a second on average, as many at once; `clock` gives seconds that only grow."""

    rate: float
    clock: Callable[[], float]
    _left: float | None = None
    _at: float = 0.0

    def wait(self) -> int:
        """0 when one more may pass now (and is counted), else whole seconds until it may."""
        now, most = self.clock(), max(1.0, self.rate)
        left = most if self._left is None else min(most, self._left + (now - self._at) * self.rate)
        self._at = now
        if left >= 1.0:
            self._left = left - 1.0
            return 0
        self._left = left
        return math.ceil((1.0 - left) / self.rate)


@dataclass(kw_only=True)
class Voice:
    """Logs the first of a kind at once, then at most one line in `seconds`, with how many were kept quiet."""

    log: logging.Logger
    clock: Callable[[], float]
    seconds: float = 10.0
    _told: dict[tuple[str, ...], float] = field(default_factory=dict)
    _quiet: dict[tuple[str, ...], int] = field(default_factory=dict)

    def warn(self, kind: tuple[str, ...], text: str) -> None:
        """Says `text`, unless that kind was told of moments ago."""
        now, last = self.clock(), self._told.get(kind)
        if last is not None and now - last < self.seconds:
            self._quiet[kind] = self._quiet.get(kind, 0) + 1
            return
        quiet = self._quiet.pop(kind, 0)
        self._told[kind] = now
        self.log.warning("%s%s", text, f" ({quiet} more like it before)" if quiet else "")
