"""When a sync runs next, from its `frequency`."""

from __future__ import annotations

import datetime as dt

from dagster._utils.schedules import schedule_execution_time_iterator

#: A realtime sync also runs as a batch this often, which finds whatever an event missed.
SAFETY_SCHEDULE = "*/15 * * * *"


def cron_of(frequency: str) -> str | None:
    """The cron line of a frequency; None for on_demand."""
    if frequency == "on_demand":
        return None
    return SAFETY_SCHEDULE if frequency == "realtime" else frequency


def next_tick(frequency: str, timezone: str, now: dt.datetime) -> dt.datetime | None:
    """The next scheduled run after `now`, in UTC; None for on_demand."""
    cron = cron_of(frequency)
    if cron is None:
        return None
    ticks = schedule_execution_time_iterator(now.timestamp(), cron, timezone, ascending=True)
    for tick in ticks:
        if tick > now:
            return tick.astimezone(dt.UTC)
    return None


def longest_gap(frequency: str, timezone: str, now: dt.datetime) -> dt.timedelta:
    """How old staged data may be before the `freshness` check fails: two intervals, one day on demand."""
    first = next_tick(frequency, timezone, now)
    if first is None:
        return dt.timedelta(days=1)
    second = next_tick(frequency, timezone, first)
    return 2 * (second - first) if second else dt.timedelta(days=1)
