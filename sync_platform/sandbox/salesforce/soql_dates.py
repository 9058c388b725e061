"""Date literals of SOQL: each is a range of days in the running user's time zone.

SOQL and SOSL Reference, "Date Formats and Date Literals": `=` means inside the range, `>` after its
end, `<` before its start, `>=` from its start on, `<=` up to its end.
"""

from __future__ import annotations

import datetime as dt
from typing import Final
from zoneinfo import ZoneInfo

_UNITS: Final = ("day", "week", "month", "quarter", "year")


def _start_of(day: dt.date, unit: str) -> dt.date:
    if unit == "week":
        return day - dt.timedelta(days=(day.weekday() + 1) % 7)  # weeks start on Sunday (locale en_US)
    if unit == "month":
        return day.replace(day=1)
    if unit == "quarter":
        return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
    if unit == "year":
        return day.replace(month=1, day=1)
    return day


def _shift(start: dt.date, unit: str, n: int) -> dt.date:
    """The start of the period `n` periods later."""
    if unit in ("day", "week"):
        return start + dt.timedelta(days=n * (7 if unit == "week" else 1))
    months = {"month": 1, "quarter": 3, "year": 12}[unit] * n
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    return start.replace(year=year, month=month + 1)


def date_range(word: str, n: int | None, today: dt.date) -> tuple[dt.date, dt.date]:
    """First day and the day after the last one of a date literal (lower case)."""
    days = {
        "yesterday": (-1, 0),
        "today": (0, 1),
        "tomorrow": (1, 2),
        "last_90_days": (-90, 1),
        "next_90_days": (1, 91),
    }
    if word in days:
        first, after = days[word]
        return today + dt.timedelta(days=first), today + dt.timedelta(days=after)
    unit = next(u for u in _UNITS if u in word)
    start = _start_of(today, unit)
    count = n or 0
    if word.startswith("n_"):  # N_DAYS_AGO:n
        first_day = _shift(start, unit, -count)
        return first_day, _shift(first_day, unit, 1)
    if "_n_" in word:
        if word.startswith("next"):  # starts after the current period
            return _shift(start, unit, 1), _shift(start, unit, 1 + count)
        # LAST_N_DAYS includes today, the other LAST_N_* end before the current period
        return _shift(start, unit, -count), _shift(start, unit, 1) if unit == "day" else start
    first_day = _shift(start, unit, {"last": -1, "this": 0, "next": 1}[word.split("_")[0]])
    return first_day, _shift(first_day, unit, 1)


def instant(day: dt.date, zone: ZoneInfo) -> int:
    """Midnight of a day in a zone, in ms since the epoch."""
    return int(dt.datetime.combine(day, dt.time(), zone).timestamp() * 1000)


def parse_datetime(text: str) -> int:
    """A datetime literal in ms since the epoch. Raises ValueError."""
    head, tail = text[:-1] if text.endswith("Z") else text, ""
    if not text.endswith("Z"):
        tail = text[-6:] if text[-3] == ":" else text[-5:]
        head = text[: -len(tail)]
        tail = tail if ":" in tail else f"{tail[:3]}:{tail[3:]}"
    seconds, _, fraction = head.partition(".")
    moment = dt.datetime.fromisoformat(seconds + (tail or "+00:00"))
    return int(moment.timestamp()) * 1000 + int((fraction + "000")[:3])
