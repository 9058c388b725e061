"""A feed of a binlog as the tests open and read it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pymysql

from sync_platform.connectors.capture import Feed, Told
from sync_platform.connectors.mysql import MySQL
from sync_platform.model import Event

Connect = Callable[..., MySQL]
Person = pymysql.cursors.Cursor
TABLE = "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(50), note TEXT)"


@contextmanager
def following(connector: MySQL, *streams: str, since: str | None = None) -> Iterator[Feed]:
    feed = connector.follow(streams or ("t",), since)
    try:
        yield feed
    finally:
        feed.close()


def told(feed: Feed, count: int, *, seconds: float = 10) -> list[Event]:
    """At least so many events, or what came in the time."""
    found: list[Event] = []
    deadline = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        one = feed.next(0.5)
        found += list(one.events) if one else []
    return found


def until(feed: Feed, holds: Callable[[Told], bool], seconds: float = 10) -> Told:
    """The first news that this holds for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        one = feed.next(0.5)
        if one is not None and holds(one):
            return one
    raise AssertionError("it was never told")


def said(events: Sequence[Event]) -> list[tuple[str, str]]:
    return [(event.kind, event.key) for event in events]
