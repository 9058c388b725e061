"""Faults that tests ask for, and which request meets one."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

#: kind -> seconds when the request for the fault does not say (0: the kind has no duration)
KINDS: Final[dict[str, float]] = {
    "429": 0.0,
    "500": 0.0,
    "503": 0.0,
    "timeout": 60.0,  # real seconds of silence, then the connection is closed; nothing stored
    "disconnect_before": 0.0,
    "disconnect_after": 0.0,
    "hold_before": 0.0,
    "hold_after": 0.0,
    "expire_token": 0.0,
    "partial": 0.0,
    "slow": 5.0,  # real seconds before the answer; stored
    "stale_index": 10.0,  # sandbox seconds a search lags
}
#: Kinds that only the simulator can act out: it takes them where they matter (`Call.fault`).
HANDLED_BY_SIMULATOR: Final = frozenset({"partial", "stale_index"})


@dataclass(slots=True)
class Fault:
    """One fault. `times` counts down; None with a `rate` means for as long as it stands."""

    system: str
    kind: str
    match: str  # part of "METHOD /path"; empty: every request
    times: int | None
    rate: float | None
    seconds: float
    hits: int = 0

    def to_json(self) -> dict[str, Any]:
        """The fault as `GET faults` shows it; `times` is what is left."""
        return {
            "system": self.system,
            "kind": self.kind,
            "match": self.match,
            "times": self.times,
            "rate": self.rate,
            "seconds": self.seconds,
            "hits": self.hits,
        }


class FaultBoard:
    """The faults in force, in the order they were set."""

    def __init__(self) -> None:
        self._faults: dict[tuple[str, str, str], Fault] = {}

    def put(self, fault: Fault) -> None:
        """Sets a fault, replacing the one of the same (system, kind, match); times or rate 0 removes it."""
        key = (fault.system, fault.kind, fault.match)
        self._faults.pop(key, None)
        if fault.times != 0 and fault.rate != 0:
            self._faults[key] = fault

    def list(self) -> list[Fault]:
        """Every fault set, used-up ones with their hits too."""
        return list(self._faults.values())

    def clear(self, system: str | None) -> None:
        """Forgets a system's faults, or all."""
        self._faults = {k: f for k, f in self._faults.items() if system is not None and f.system != system}

    def take(self, system: str, method: str, path: str, kinds: Collection[str], chance: random.Random) -> Fault | None:
        """The first fault of these kinds that this request meets; counts the hit."""
        line = f"{method} {path}"
        for fault in self._faults.values():
            if fault.system != system or fault.kind not in kinds or fault.match not in line:
                continue
            if fault.times == 0 or (fault.rate is not None and chance.random() >= fault.rate):
                continue
            if fault.times is not None:
                fault.times -= 1
            fault.hits += 1
            return fault
        return None
