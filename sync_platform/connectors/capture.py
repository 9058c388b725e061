"""Change capture: what a database's own log tells about committed changes, in the order of their commits.

A connector that can follow its log (PostgreSQL's logical replication, MariaDB's row binlog) or is notified of changes
(PostgreSQL's LISTEN) is `Captures`. The
platform stores the events of whole transactions together with the position behind them, in one transaction of
the state, and only then confirms the position to the database: a death anywhere repeats events, which vanish by
their ids, and loses none. An event is a hint (ADR 11): the row itself is read back when it is delivered.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sync_platform.errors import TransientError
from sync_platform.model import Event


class PositionLostError(TransientError):
    """The log no longer reaches back to the stored position (slot dropped, binlog purged).

    Whoever follows starts anew, and the streams owe a full compare: that finds what was missed, deletes too.
    """

    code = "position_lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Changes of whole transactions, oldest first, and the position behind them.

    An event's id is the place of its change in the log, the same however often it is read. A row changed several
    times may be told once. `emptied`: streams that were truncated; `altered`: streams whose columns changed.
    """

    events: Sequence[Event]
    position: str
    committed_at: dt.datetime | None = None  # of the newest transaction, on the database's clock
    emptied: frozenset[str] = frozenset()
    altered: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """How far the confirmed position is behind the end of the log, and how much the database keeps for us."""

    size: int | None  # bytes
    limit: int | None = None  # bytes after which the database gives the position up; None: it never does
    warn: int | None = None  # bytes after which people must hear of it


class Feed(Protocol):
    """One open stream of changes. Used by one thread."""

    @property
    def start(self) -> str:
        """The position it began at: every change committed behind it will be told."""

    def next(self, seconds: float) -> Told | None:
        """What was committed since the last call; None when nothing came for so long.

        Raises AccessError or TransientError when the connection is lost: open another feed at the stored position.
        """

    def confirm(self, position: str) -> None:
        """The position is stored: the database may forget what is before it."""

    def behind(self) -> Behind:
        """How far it is behind."""

    def close(self) -> None:
        """Ends the connection; what the database keeps for us (a slot) stays."""


@runtime_checkable
class TellsKept(Protocol):
    """A connector that can say how much its database keeps for us while nobody follows it."""

    def kept(self) -> Behind | None:
        """How far the position is behind; None when the database keeps nothing for us."""


@runtime_checkable
class Captures(Protocol):
    """A connector that can follow its database's log, when its setting `capture` says so."""

    def capture_problems(self, streams: Sequence[str]) -> list[str]:
        """Why these streams cannot be followed (settings, rights, a table without a key), each with its mend."""

    def follow(self, streams: Sequence[str], since: str | None) -> Feed:
        """The changes of these streams from a stored position on; without one, from now on.

        Raises PositionLostError when the log no longer reaches back so far, ConfigError for what
        `capture_problems` tells.
        """

    def forget(self) -> None:
        """Drops what the database keeps for us (slot, publication); nothing happens when there is nothing."""


def captures(connector: object) -> bool:
    """Whether a connection is to be followed: its connector can be, and `capture` (or `notify`) is set."""
    wanted = getattr(connector, "capture", False) is True or bool(getattr(connector, "notify", ""))
    return isinstance(connector, Captures) and wanted
