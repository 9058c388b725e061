"""The engine's meaning in plain Python: slow, obvious, and written without looking at the engine.

Laws compare the engine with it. Nothing here imports sync_platform.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

Row = dict[str, Any]


@functools.cache
def first_instant_of(day: dt.date, zone: str) -> dt.datetime:
    """The first UTC minute whose local date is that day, found by looking at every minute."""
    tz = ZoneInfo(zone)
    at = dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC) - dt.timedelta(hours=26)
    while at.astimezone(tz).date() < day:
        at += dt.timedelta(minutes=1)
    return at


def start_of_day(now: dt.datetime, zone: str, days: int) -> dt.datetime:
    """The start of the day that many days from today, where the zone's calendar says today."""
    return first_instant_of(now.astimezone(ZoneInfo(zone)).date() + dt.timedelta(days=days), zone)


def greater(left: Any, right: Any) -> bool | None:
    """SQL's `>`: unknown when a side is null."""
    return None if left is None or right is None else left > right


def equal(left: Any, right: Any) -> bool | None:
    """SQL's `=`."""
    return None if left is None or right is None else left == right


def sql_and(left: bool | None, right: bool | None) -> bool | None:
    """SQL's AND."""
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def sql_or(left: bool | None, right: bool | None) -> bool | None:
    """SQL's OR."""
    if left is True or right is True:
        return True
    return None if left is None or right is None else False


def sql_not(value: bool | None) -> bool | None:
    """SQL's NOT."""
    return None if value is None else not value


Predicate = Callable[[Row, dt.datetime], "bool | None"]


@dataclass
class Staged:
    """A staged stream: rows by key, each with `_seq`, `_cursor`, `_deleted`."""

    rows: dict[str, Row] = field(default_factory=dict)
    seq: int = 0

    def put(self, key: str, cursor: int, **values: Any) -> None:
        """A row arrives or changes."""
        self.seq += 1
        self.rows[key] = {**values, "_key": key, "_seq": self.seq, "_cursor": cursor, "_deleted": False}

    def delete(self, key: str) -> None:
        """A row is gone at the source."""
        if key in self.rows and not self.rows[key]["_deleted"]:
            self.seq += 1
            self.rows[key] = {**self.rows[key], "_deleted": True, "_seq": self.seq}


def email_key(row: Row) -> str | None:
    """The dedupe key `lower(trim(Email))`; an empty one is none."""
    return (row["Email"] or "").strip(" ").lower() or None


def wanted(
    rows: Iterable[Row],
    inside: Predicate | None,
    now: dt.datetime,
    dedupe: str | None,
    vendor_fields: tuple[str, ...],
) -> set[str]:
    """The keys that belong in the target."""
    alive = [r for r in rows if not r["_deleted"] and (inside is None or inside(r, now) is True)]
    if dedupe is None:
        return {r["_key"] for r in alive}
    chosen: dict[str, Row] = {}
    result = set()
    for row in alive:
        key = email_key(row)
        if key is None:
            result.add(row["_key"])
            continue
        other = chosen.get(key)
        if other is None or _better(row, other, dedupe, vendor_fields):
            chosen[key] = row
    return result | {r["_key"] for r in chosen.values()}


def _better(row: Row, other: Row, keep: str, fields: tuple[str, ...]) -> bool:
    def newest(r: Row) -> tuple[Any, ...]:
        return (r["_cursor"], r["_key"])

    if keep == "oldest":
        return newest(row) < newest(other)
    if keep == "newest":
        return newest(row) > newest(other)

    def filled(r: Row) -> int:
        return sum(r[f] is not None for f in fields)

    return (filled(row), *newest(row)) > (filled(other), *newest(other))


def planned(
    desired: Mapping[str, Row], links: Mapping[str, str], target: Mapping[str, Row], *, mode: str, empty_is_null: bool
) -> dict[str, tuple[str, dict[str, Any]]]:
    """For every desired key what has to be done (create | update | skip) and with which fields."""

    def told(value: Any) -> Any:
        return None if empty_is_null and value == "" else value

    answer: dict[str, tuple[str, dict[str, Any]]] = {}
    for key, row in desired.items():
        there = target.get(links.get(key, ""))
        if there is None:
            verb = "skip" if mode == "update" else "create"
            answer[key] = (verb, {n: v for n, v in row.items() if told(v) is not None} if verb == "create" else {})
            continue
        if mode == "insert":
            answer[key] = ("skip", {})
            continue
        unlike = {n: v for n, v in row.items() if told(v) != told(there.get(n))}
        if mode == "fill_empty":
            unlike = {n: v for n, v in unlike.items() if told(there.get(n)) is None}
        answer[key] = ("update", unlike) if unlike else ("skip", {})
    return answer
