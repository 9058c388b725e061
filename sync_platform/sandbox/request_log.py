"""What the simulators were asked and what it did to their records: the judge of many tests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple


@lru_cache(maxsize=1 << 14)
def iso(ms: int) -> str:
    """Milliseconds since the epoch as `2026-01-31T23:59:59.123Z`."""
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Effect(NamedTuple):
    """What one request did to one record."""

    stream: str
    id: str | None
    op: str  # create | update | delete | noop
    applied: bool


@dataclass(slots=True)
class Entry:
    """One vendor request. `status` stays None until answered, and for ever if it never is."""

    seq: int
    time: str
    system: str
    method: str
    path: str  # below /<system>
    query: str  # as sent, percent-encoded
    status: int | None = None
    fault: str | None = None
    records: list[Effect] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The entry as `GET log` shows it."""
        return {
            "seq": self.seq,
            "time": self.time,
            "system": self.system,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "status": self.status,
            "fault": self.fault,
            "records": [effect._asdict() for effect in self.records],
        }


@dataclass(frozen=True, slots=True)
class Violation:
    """A request the vendor would refuse, or that is not built."""

    seq: int
    system: str
    path: str
    reason: str


class RequestLog:
    """Entries and violations. Sequence numbers only ever grow, across resets too."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.violations: list[Violation] = []
        self._seq = 0
        self._flying: dict[int, tuple[str, int]] = {}

    def open(self, *, at: int, system: str, method: str, path: str, query: str) -> Entry:
        """A new entry of a request that arrived at `at` (ms of the sandbox clock)."""
        self._seq += 1
        entry = Entry(self._seq, iso(at), system, method, path, query)
        self.entries.append(entry)
        self._flying[entry.seq] = (system, at)
        return entry

    def close(self, entry: Entry) -> None:
        """The request is over, answered or not."""
        self._flying.pop(entry.seq, None)

    def in_flight(self, system: str) -> dict[int, int]:
        """Requests of a system under way: seq -> when they began, ms of the sandbox clock."""
        return {seq: began for seq, (name, began) in self._flying.items() if name == system}

    def violate(self, entry: Entry, reason: str) -> None:
        """Lists a request as one the vendor would not take."""
        self.violations.append(Violation(entry.seq, entry.system, entry.path, reason))

    def since(self, seq: int, system: str | None) -> Iterable[Entry]:
        """Entries after `seq`, oldest first."""
        return (e for e in self.entries if e.seq > seq and system in (None, e.system))

    def clear(self, system: str | None) -> None:
        """Forgets a system's entries and violations, or all."""
        self.entries = [] if system is None else [e for e in self.entries if e.system != system]
        self.violations = [] if system is None else [v for v in self.violations if v.system != system]
