"""How far a table was read, so that no row is lost to a late commit and none is read twice for nothing.

A row's `updated_at` is usually the *start* of the transaction that wrote it, but the row appears when
that transaction commits. A read that remembers only the newest `updated_at` it saw loses every row that
commits later with an older one. Two facts of PostgreSQL close that gap without reading rows again:

- **The lower bound.** Nothing that commits after a snapshot can be older than the oldest transaction
  open at that time, so the next read starts there (less `lag_seconds`, for clocks of applications).
  `pg_stat_activity` shows those starts to members of `pg_read_all_stats`. Without that right, on a
  replica, and for cursors that are no instants, the bound is the newest value of the last read whose
  snapshot was taken before every transaction still running now (`Mark`).
- **The row filter.** A row version written by a transaction that had ended before the last snapshot was
  seen then. `age(xmin)` tells, so the overlap below the newest value costs an index scan and no rows.

https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.compute as pc

from sync_platform.connectors.postgres.session import Session, identifier, literal
from sync_platform.connectors.sql import Column, Table
from sync_platform.model import Position

_OPEN_SINCE: Final = """
SELECT CASE WHEN pg_has_role('pg_read_all_stats', 'usage') AND NOT pg_is_in_recovery() THEN
  least(clock_timestamp(), (SELECT min(xact_start) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
        AND (datname IS NULL OR datname = current_database())
        AND backend_type NOT IN ('walsender', 'autovacuum worker')),
        (SELECT min(prepared) FROM pg_prepared_xacts))::text END AS open_since
"""
_SNAPSHOT: Final = """
SELECT txid_snapshot_xmin(txid_current_snapshot()) AS xmin, txid_snapshot_xmax(txid_current_snapshot()) AS xmax,
       (SELECT system_identifier::text FROM pg_control_system()) || '/' || current_database() AS server,
       (clock_timestamp() AT TIME ZONE 'UTC')::text AS clock
"""
_MARKS: Final = 8
_XIDS: Final = 2**32
_STALE: Final = 50_000_000  # transactions after which an unchanged watermark is renewed all the same
_REPEATED_HOUR: Final = "interval '1 hour'"  # when clocks go back, local times are older than before
_FARTHEST_EAST: Final = dt.timedelta(hours=14)  # how far a local clock is ahead of UTC at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a read's snapshot can see, in transaction numbers, and since when transactions were open."""

    server: str
    xmin: int
    xmax: int
    clock: str  # the server's, UTC
    open_since: str | None  # None: not visible to us

    @classmethod
    def begin(cls, session: Session) -> Snapshot:
        """Starts the read-only transaction; asks for open transactions *before* the snapshot is taken."""
        session.begin(read_only=False)
        since = session.rows(_OPEN_SINCE, "looking for open transactions").column("open_since")[0].as_py()
        session.begin(read_only=True)
        told = session.rows(_SNAPSHOT, "taking a snapshot").to_pylist()[0]
        return cls(server=told["server"], xmin=told["xmin"], xmax=told["xmax"], clock=told["clock"], open_since=since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The newest cursor value seen by a read, and the first transaction number it could not see."""

    xmax: int
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """Where the next incremental read begins. Times are texts PostgreSQL reads, in UTC."""

    server: str
    xmin: int
    cursor: str | None  # the lower bound; None: no safe one yet
    seen: str | None  # the newest value seen
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A read under way: after which row it stands, where it began, and the snapshot it began in."""

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


def from_now(session: Session, table: Table) -> Position:
    """The position behind everything that a read beginning now would see; it leaves a transaction open."""
    snapshot = Snapshot.begin(session)
    column = table.columns[table.cursor] if table.cursor else None
    seen = snapshot.clock if column is not None and _is_instant(column) else None
    return position_of(finished(table, Progress(began=None, snapshot=snapshot, seen=seen), empty=True))


def finished(table: Table, progress: Progress, *, empty: bool) -> Watermark:
    """The watermark of a read that went to its end, `empty` when it brought no row.

    A read that found nothing leaves the watermark as it was: no less true, and nothing new to store.
    """
    snapshot, began = progress.snapshot, progress.began
    if empty and began is not None and began.cursor is not None and not progress.after:
        recent = began.server == snapshot.server and snapshot.xmax - began.xmin < _STALE
        if recent:
            return began
    marks = began.marks if began is not None and began.server == snapshot.server else ()
    seen = newest(progress.seen, began.seen if began else None)
    if seen is not None:
        marks = (*marks, Mark(xmax=snapshot.xmax, seen=seen))
    safe = [mark for mark in marks if mark.xmax <= snapshot.xmin]
    kept = (*safe[-1:], *(mark for mark in marks if mark.xmax > snapshot.xmin))
    result = Watermark(
        server=snapshot.server,
        xmin=snapshot.xmin,
        cursor=None,
        seen=seen,
        marks=(*kept[:1], *kept[1:][-_MARKS:]),
    )
    if table.cursor is None or seen is None:
        return result
    column = table.columns[table.cursor]
    bound = safe[-1].seen if safe else None
    if _is_instant(column) and snapshot.open_since is not None:
        bound = min(_instant(seen), _instant(snapshot.open_since)).isoformat()
    return replace(result, cursor=None if bound is None else _less_lag(column, bound, table.options.lag_seconds))


def newest(first: str | None, second: str | None) -> str | None:
    """The later of two cursor values, numbers or times."""
    if first is None or second is None:
        return first or second
    if first.lstrip("-").isdigit():
        return str(max(int(first), int(second)))
    return max(_instant(first), _instant(second)).isoformat()


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


def conditions(table: Table, watermark: Watermark, snapshot: Snapshot) -> list[str]:
    """SQL conditions that hold for every row that may have changed since a watermark."""
    found: list[str] = []
    if table.cursor is not None and watermark.cursor is not None:
        column = table.columns[table.cursor]
        name = identifier(column.name)
        bound = f"{name} >= {_bound(table, column, watermark.cursor)}"
        found.append(bound if column.not_null else f"({bound} OR {name} IS NULL)")
    same = watermark.server == snapshot.server and snapshot.xmax >= watermark.xmin
    if table.row_versions and same and snapshot.xmax - watermark.xmin < _XIDS // 4 and watermark.xmin >= 3:
        found.append(f"age(xmin) <= age('{watermark.xmin % _XIDS}'::xid)")
    return found


def _bound(table: Table, column: Column, value: str) -> str:
    if column.type == "timestamptz" or not column.type.startswith("timestamp"):
        return f"{literal(value)}::{column.type}"
    if table.options.timezone:
        return f"({literal(value)}::timestamptz AT TIME ZONE {literal(table.options.timezone)} - {_REPEATED_HOUR})"
    return f"({literal(value.removesuffix('+00:00'))}::timestamp - {_REPEATED_HOUR})"


def _is_instant(column: Column) -> bool:
    """Whether the cursor's values are points in time that can be compared with a clock."""
    return pa.types.is_timestamp(column.arrow) and column.arrow.tz is not None


def _instant(text: str) -> dt.datetime:
    value = dt.datetime.fromisoformat(text)
    return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


def _less_lag(column: Column, bound: str, lag_seconds: float) -> str:
    if not pa.types.is_timestamp(column.arrow):
        return bound
    try:
        return (_instant(bound) - dt.timedelta(seconds=lag_seconds)).isoformat()
    except OverflowError:
        return bound
