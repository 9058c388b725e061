"""How far a table was read, so that no row is lost to a late commit.

A row's `updated_at` is the start of the *statement* that wrote it, but the row appears when its transaction
commits. A read that remembers only the newest value it saw loses every row that commits later with an older
one. MySQL's rows do not show which transaction wrote them, so the next read overlaps the last one:

- **Times.** No row that commits after a snapshot is older than the oldest transaction or statement that ran
  when it was taken. `information_schema.INNODB_TRX` and `PROCESSLIST` show how old that is, to users with the
  PROCESS privilege; the next read starts that much before the newest value seen, less `lag_seconds` for clocks
  of applications. Without that privilege `lag_seconds` alone must cover the longest transaction.
- **Numbers.** A version number has no age. The next read starts at the newest number of the last read whose
  snapshot is older than everything that runs now (`Mark`); without the privilege, older than `lag_seconds`.

The rows of the overlap come again; staging drops those it knows. Bounds are inclusive, so ties are read.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.compute as pc

from sync_platform.connectors.mysql.catalog import StoredColumn, StoredTable
from sync_platform.connectors.mysql.decoding import local_text
from sync_platform.connectors.mysql.session import Session, identifier, literal
from sync_platform.errors import AuthError
from sync_platform.model import Position

_CLOCK: Final = "SELECT utc_timestamp(6) AS clock"
#: Our own transaction among them proves that we may see the others. Both stamps are of the server's own zone.
_RUNNING: Final = """
SELECT sum(trx_mysql_thread_id = connection_id()) AS own,
       timestampdiff(SECOND, min(CASE WHEN trx_mysql_thread_id <> connection_id() THEN trx_started END),
                     max(CASE WHEN trx_mysql_thread_id = connection_id() THEN trx_started END)) AS age,
       (SELECT max(TIME) FROM information_schema.PROCESSLIST
        WHERE COMMAND IN ('Query', 'Execute') AND ID <> connection_id()) AS statement_age
FROM information_schema.INNODB_TRX
"""
_CACHED: Final = 0.15  # seconds: InnoDB shows the same transactions for a tenth of a second
_MARKS: Final = 8
_REPEATED_HOUR: Final = dt.timedelta(hours=1)  # when clocks go back, local times are older than before
_FARTHEST_EAST: Final = dt.timedelta(hours=14)  # how far a local clock is ahead of UTC at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The server's clock (UTC) before a read's snapshot was taken, and the age of the oldest work then running."""

    clock: str
    running_seconds: int | None  # None: not visible to us

    @classmethod
    def begin(cls, session: Session) -> Snapshot:
        """Starts the read-only transaction; asks what runs *before* the snapshot is taken."""
        session.begin(read_only=True)
        clock = session.rows(_CLOCK, "asking for the time")[0]["clock"] or ""
        running = _running(session)
        session.begin(read_only=True)
        return cls(clock=clock, running_seconds=running)


def _running(session: Session) -> int | None:
    told = _asked(session)
    if told is not None and told["own"] in (None, "0"):
        time.sleep(_CACHED)
        told = _asked(session)
    if told is None or told["own"] in (None, "0"):
        return None
    ages = [int(age) for age in (told["age"], told["statement_age"]) if age is not None]
    return max(0, *ages) + 1 if ages else 0  # the stamps are whole seconds


def _asked(session: Session) -> dict[str, str | None] | None:
    try:
        return session.rows(_RUNNING, "looking for open transactions")[0]
    except AuthError:  # MySQL refuses to tell; MariaDB shows nothing
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The newest number seen by a read, and the server's clock before it."""

    clock: str
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """Where the next incremental read begins. Times are ISO texts: UTC, or local where the column has no zone."""

    cursor: str | None  # the lower bound; None: no safe one yet
    seen: str | None  # the newest value seen
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A read under way: after which row it stands (as the server printed it), where it began, and its snapshot."""

    began: Watermark | None
    snapshot: Snapshot
    seen: str | None = None
    after: tuple[str, ...] = ()

    def position(self) -> Position:
        """The position that resumes after `after`."""
        return Position({"progress": _json(asdict(self))})


def _json(told: Mapping[str, Any]) -> dict[str, Any]:
    """The same with lists for tuples, as it comes back from a JSON column."""
    return cast("dict[str, Any]", json.loads(json.dumps(told)))


def parse(position: Position | None) -> Watermark | Progress | None:
    """What a stored position says; None for a first read."""
    if position is None or not position.value:
        return None
    if "progress" in position.value:
        told: Mapping[str, Any] = position.value["progress"]
        return Progress(
            began=_watermark(told["began"]) if told["began"] else None,
            snapshot=Snapshot(**told["snapshot"]),
            seen=told["seen"],
            after=tuple(told["after"]),
        )
    return _watermark(position.value["read"])


def _watermark(told: Mapping[str, Any]) -> Watermark:
    return Watermark(**{**told, "marks": tuple(Mark(**mark) for mark in told["marks"])})


def position_of(watermark: Watermark) -> Position:
    """The position of a finished read."""
    return Position({"read": _json(asdict(watermark))})


def finished(table: StoredTable, progress: Progress, *, empty: bool) -> Watermark:
    """The watermark of a read that went to its end, `empty` when it brought no row.

    A read that found nothing leaves the watermark as it was: no less true, and nothing new to store.
    """
    snapshot, began = progress.snapshot, progress.began
    if empty and began is not None and began.cursor is not None and not progress.after:
        return began
    seen = newest(progress.seen, began.seen if began else None)
    if table.cursor is None or seen is None:
        return Watermark(cursor=None, seen=seen)
    lag = dt.timedelta(seconds=table.options.lag_seconds)
    running = dt.timedelta(seconds=snapshot.running_seconds or 0)
    if table.columns[table.cursor].type in ("datetime", "timestamp"):
        try:
            bound = (dt.datetime.fromisoformat(seen) - running - lag).isoformat()
        except OverflowError:
            bound = seen
        return Watermark(cursor=bound, seen=seen)
    oldest = _instant(snapshot.clock) - (running if snapshot.running_seconds is not None else lag)
    marks = (*(began.marks if began else ()), Mark(clock=snapshot.clock, seen=seen))
    safe = [mark for mark in marks[:-1] if _instant(mark.clock) < oldest]
    kept = (*safe[-1:], *(mark for mark in marks if mark not in safe))
    return Watermark(cursor=safe[-1].seen if safe else None, seen=seen, marks=(*kept[:1], *kept[1:][-_MARKS:]))


def advanced(progress: Progress, column: StoredColumn, values: pa.Array | pa.ChunkedArray) -> Progress:
    """The progress with the greatest of these cursor values taken into account."""
    return replace(progress, seen=newest(progress.seen, newest_in(values, progress.snapshot)))


def newest(first: str | None, second: str | None) -> str | None:
    """The later of two cursor values, numbers or times."""
    if first is None or second is None:
        return first or second
    if first.lstrip("-").isdigit():
        return str(max(int(first), int(second)))
    return max(dt.datetime.fromisoformat(first), dt.datetime.fromisoformat(second)).isoformat()


def newest_in(values: pa.Array | pa.ChunkedArray, snapshot: Snapshot) -> str | None:
    """The greatest cursor value of a column, as text.

    Times in the future (a wrong clock, a placeholder like year 9999) do not count: as a lower bound they
    would hide every later change.
    """
    if pa.types.is_timestamp(values.type):
        now = _instant(snapshot.clock)
        limit = now if values.type.tz is not None else now.replace(tzinfo=None) + _FARTHEST_EAST
        values = values.filter(pc.less_equal(values, pa.scalar(limit, values.type)))
    top = pc.max(values).as_py()
    return top.isoformat() if isinstance(top, dt.datetime) else None if top is None else str(top)


def conditions(table: StoredTable, watermark: Watermark) -> list[str]:
    """SQL conditions that hold for every row that may have changed since a watermark."""
    if table.cursor is None or watermark.cursor is None:
        return []
    column = table.columns[table.cursor]
    name = identifier(column.name)
    bound = f"{name} >= {_bound(table, column, watermark.cursor)}"
    return [bound if column.not_null else f"({bound} OR {name} IS NULL)"]


def _bound(table: StoredTable, column: StoredColumn, value: str) -> str:
    if column.type == "timestamp":
        return literal(local_text(dt.datetime.fromisoformat(value), None))
    if column.type != "datetime":
        return str(int(value))
    moment = dt.datetime.fromisoformat(value)
    if moment.tzinfo is not None:
        moment = dt.datetime.fromisoformat(local_text(moment, table.options.timezone))
    return literal((max(moment, dt.datetime.min + _REPEATED_HOUR) - _REPEATED_HOUR).isoformat(sep=" "))


def _instant(text: str) -> dt.datetime:
    value = dt.datetime.fromisoformat(text)
    return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
