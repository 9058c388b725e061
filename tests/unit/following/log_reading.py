"""A server's settings for following its log, and what a feed tells, waited for."""

from __future__ import annotations

import time

from sync_platform.connectors.capture import Feed, Told

SETTINGS = {"wal_level": "logical", "max_replication_slots": "6", "max_wal_senders": "8", "wal_sender_timeout": "4s"}


def told(feed: Feed, events: int, seconds: float = 20.0) -> list[Told]:
    """Answers until so many events were told."""
    found: list[Told] = []
    deadline = time.monotonic() + seconds
    while sum(len(one.events) for one in found) < events:
        assert time.monotonic() < deadline, found
        answer = feed.next(0.5)
        if answer is not None:
            found.append(answer)
    return found


def changes(feed: Feed, events: int) -> list[tuple[str, str, str]]:
    return [(e.stream, e.key, e.kind) for one in told(feed, events) for e in one.events]
