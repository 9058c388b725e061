"""The date words people write in filters, as instants: the start of that day or period.

`YESTERDAY` is the start of yesterday in a time zone, not the whole day: `X > YESTERDAY` holds for
everything since then. Weeks start on Monday.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sync_platform.errors import ConfigError


def _month(day: dt.date, months: int) -> dt.date:
    """The first day of the month that many months away."""
    index = day.year * 12 + day.month - 1 + months
    return dt.date(index // 12, index % 12 + 1, 1)


def _quarter(day: dt.date, quarters: int) -> dt.date:
    return _month(day, quarters * 3 - (day.month - 1) % 3)


def _week(day: dt.date, weeks: int) -> dt.date:
    return day + dt.timedelta(days=weeks * 7 - day.weekday())


_WORDS: Final[dict[str, Callable[[dt.date], dt.date]]] = {
    "TODAY": lambda d: d,
    "YESTERDAY": lambda d: d - dt.timedelta(days=1),
    "TOMORROW": lambda d: d + dt.timedelta(days=1),
    "THIS_WEEK": lambda d: _week(d, 0),
    "LAST_WEEK": lambda d: _week(d, -1),
    "NEXT_WEEK": lambda d: _week(d, 1),
    "THIS_MONTH": lambda d: _month(d, 0),
    "LAST_MONTH": lambda d: _month(d, -1),
    "NEXT_MONTH": lambda d: _month(d, 1),
    "THIS_QUARTER": lambda d: _quarter(d, 0),
    "LAST_QUARTER": lambda d: _quarter(d, -1),
    "NEXT_QUARTER": lambda d: _quarter(d, 1),
    "THIS_YEAR": lambda d: dt.date(d.year, 1, 1),
    "LAST_YEAR": lambda d: dt.date(d.year - 1, 1, 1),
    "NEXT_YEAR": lambda d: dt.date(d.year + 1, 1, 1),
}
_COUNTED: Final[dict[str, Callable[[dt.date, int], dt.date]]] = {
    "LAST_N_DAYS": lambda d, n: d - dt.timedelta(days=n),
    "NEXT_N_DAYS": lambda d, n: d + dt.timedelta(days=n),
    "LAST_N_WEEKS": lambda d, n: _week(d, -n),
    "NEXT_N_WEEKS": lambda d, n: _week(d, n),
    "LAST_N_MONTHS": lambda d, n: _month(d, -n),
    "NEXT_N_MONTHS": lambda d, n: _month(d, n),
}

NOW: Final = "NOW"
#: Words that stand alone, and those written with a number: `LAST_N_DAYS:7`.
PLAIN: Final = frozenset(_WORDS) | {NOW}
COUNTED: Final = frozenset(_COUNTED)


def zone(name: str) -> ZoneInfo:
    """The time zone of that IANA name; ConfigError when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"there is no time zone {name!r}",
            field="timezone",
            value=name,
            mend="use an IANA name such as Europe/Berlin or UTC",
        ) from None


def instant(word: str, count: int, now: dt.datetime, tz: ZoneInfo, days: int = 0) -> dt.datetime:
    """The UTC instant a word stands for, `days` calendar days later, seen at `now`."""
    if word == NOW:
        local = now.astimezone(tz)
        shifted = dt.datetime.combine(local.date() + dt.timedelta(days=days), local.timetz())
        return (shifted if days else now).astimezone(dt.UTC)
    return start_of(day(word, count, now, tz) + dt.timedelta(days=days), tz)


def day(word: str, count: int, now: dt.datetime, tz: ZoneInfo) -> dt.date:
    """The calendar day a word stands for, in the zone (`NOW`: today)."""
    today = now.astimezone(tz).date()
    try:
        if word in _COUNTED:
            return _COUNTED[word](today, count)
        return today if word == NOW else _WORDS[word](today)
    except (OverflowError, ValueError):
        raise ConfigError(
            f"{word}:{count} lies outside the calendar", field="filter", value=f"{word}:{count}", mend="use fewer days"
        ) from None


def start_of(date: dt.date, tz: ZoneInfo) -> dt.datetime:
    """The first instant of a local day, in UTC.

    Where clocks skip midnight the day starts at the first hour that exists; where midnight
    happens twice, at the first of them.
    """
    return dt.datetime.combine(date, dt.time(0), tz).astimezone(dt.UTC)


def parse_time(text: str, tz: ZoneInfo) -> dt.datetime | None:
    """The UTC instant an ISO-8601 date or time names; one without offset is local. None if it is neither."""
    if not re.match(r"^\d{4}-\d{2}-\d{2}", text):
        return None
    try:
        read = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return (read if read.tzinfo else read.replace(tzinfo=tz)).astimezone(dt.UTC)
