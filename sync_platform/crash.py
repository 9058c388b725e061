"""Named points at which a test may kill this process with SIGKILL.

`SYNC_CRASH_AT=<point>[:n]` kills at the n-th passing (first by default). Unset, `crash_point` is a
function that returns at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

POINTS = (
    "before_intent",
    "after_intent",
    "request_sent",
    "answer_received",
    "outcome_written",
    "position_written",
    "between_batches",
    "token_refreshed",
    "staging_loaded",
    "plan_written",
    "event_verified",
    "event_stored",
    "event_claimed",
)


def _pass(point: str) -> None:
    """No crash point is armed."""


def _armed(wanted: str, nth: int) -> Callable[[str], None]:
    left = nth

    def kill_at(point: str) -> None:
        nonlocal left
        if point != wanted:
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return kill_at


def arm(setting: str | None) -> Callable[[str], None]:
    """The function for a value of `SYNC_CRASH_AT`; an unknown point is an error, not a silent no-op."""
    if not setting:
        return _pass
    point, _, nth = setting.partition(":")
    if point not in POINTS:
        from sync_platform.errors import ConfigError

        raise ConfigError(
            f"SYNC_CRASH_AT names an unknown crash point {point!r}",
            field="SYNC_CRASH_AT",
            value=setting,
            mend="use one of: " + ", ".join(POINTS),
        )
    return _armed(point, int(nth or 1))


_kill: Callable[[str], None] | None = None


def crash_point(point: str) -> None:
    """Pass a named point: nothing happens unless `SYNC_CRASH_AT` names it."""
    global _kill
    if _kill is None:
        _kill = arm(os.environ.get("SYNC_CRASH_AT"))
    _kill(point)
