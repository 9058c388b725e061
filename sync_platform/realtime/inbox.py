"""The inbox: every event is stored once, with one queue row for each sync that reads its stream.

Storing is one statement, hence one transaction and one round trip, however many events it brings: an event
that is there already vanishes, each new one gets its queue rows, and who listens on `sync_inbox` is told.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, LiteralString, TypeAlias

import orjson
import psycopg

from sync_platform.errors import ContractError
from sync_platform.model import Event
from sync_platform.state.arrays import text_array

#: Which syncs read a stream: (connection, stream in small letters) -> their names.
Routes: TypeAlias = Mapping[tuple[str, str], Sequence[str]]

#: Before a sync's name in `Routes`: the stream is the target of a two-way sync. Its queue rows have this before their
#: key, since two systems may give the same key to two records.
TARGET_SIDE: Final = "target:"
#: What a worker listens on; told once per transaction that queued something.
CHANNEL: Final = "sync_inbox"
#: Longest event id, stream or key, in bytes: far above any vendor's, below what an index takes.
LONGEST: Final = 500
KINDS: Final = frozenset({"created", "updated", "deleted", "merged"})

# Numbers are drawn in the order of arrival, but rows are inserted in the order of their ids: two gateways that
# store the same events at once then wait for each other instead of locking each other out.
_STORE: Final[LiteralString] = """
WITH given AS MATERIALIZED (
    SELECT nextval('sync.inbox_seq_seq') AS seq, g.* FROM unnest(
        %(connection)s::text[], %(event)s::text[], %(stream)s::text[], %(key)s::text[], %(kind)s::text[],
        %(occurred)s::timestamptz[], %(fields)s::text[], %(waited)s::float8[]) WITH ORDINALITY
        AS g(connection, event_id, stream, key, kind, occurred_at, fields, waited, nth)
), stored AS (
    INSERT INTO sync.inbox (seq, connection, event_id, stream, key, kind, occurred_at, fields, received_at)
    OVERRIDING SYSTEM VALUE
    SELECT seq, connection, event_id, stream, key, kind, occurred_at, fields::jsonb,
           clock_timestamp() - make_interval(secs => waited)
    FROM given ORDER BY connection, event_id, seq
    ON CONFLICT (connection, event_id) DO NOTHING
    RETURNING seq, key
), queued AS (
    INSERT INTO sync.queue (sync, seq, key)
    SELECT r.sync, s.seq, r.side || s.key
    FROM unnest(%(routed)s::bigint[], %(sync)s::text[], %(side)s::text[]) AS r(nth, sync, side)
    JOIN given g USING (nth) JOIN stored s USING (seq)
    RETURNING seq
)
SELECT ARRAY(SELECT g.nth FROM given g JOIN stored USING (seq) ORDER BY g.nth),
       CASE WHEN EXISTS (SELECT FROM queued) THEN pg_notify('sync_inbox', '') END
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An event on its way into the inbox. `received`: when it came, on the clock of `time.perf_counter`."""

    connection: str
    event: Event
    syncs: Sequence[str] = ()
    received: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of some events: new ones, and those that had been stored before."""

    stored: int
    doubled: int


def storable(event: Event) -> Event:
    """The event as PostgreSQL can hold it; ContractError when its id, stream, key or kind cannot be held.

    A field whose text holds a NUL is left out: absent, it is read back from the source like any other.
    """
    for name, value in (("id", event.id), ("stream", event.stream), ("key", event.key)):
        if not value or "\0" in value or len(value.encode()) > LONGEST:
            raise ContractError(f"an event's {name} is empty, holds a NUL or is longer than {LONGEST} bytes")
    if event.kind not in KINDS:
        raise ContractError(f"an event's kind is {event.kind!r}; wanted: {', '.join(sorted(KINDS))}")
    if not event.fields or b"\\u0000" not in _json(
        event.fields
    ):  # one cheap look, which may also find an escaped backslash
        return event
    return replace(event, fields={name: value for name, value in event.fields.items() if not _holds_nul((name, value))})


def syncs_of(routes: Routes, connection: str, stream: str) -> Sequence[str]:
    """The syncs that read a stream."""
    return routes.get((connection, stream.lower()), ())


def store(connection: psycopg.Connection[Any], name: str, events: Sequence[Event], routes: Routes) -> Stored:
    """Stores events of the connection `name` in one round trip; the transaction is the caller's."""
    arrivals = [
        Arrival(connection=name, event=storable(each), syncs=syncs_of(routes, name, each.stream)) for each in events
    ]
    if not arrivals:
        return Stored(stored=0, doubled=0)
    new = len(new_ones(connection.execute(_STORE, parameters(arrivals)).fetchone()))
    return Stored(stored=new, doubled=len(arrivals) - new)


async def store_arrivals(connection: psycopg.AsyncConnection[Any], arrivals: Sequence[Arrival]) -> frozenset[int]:
    """Stores arrivals of any connections in one round trip; returns the places of those that were new."""
    done = await connection.execute(_STORE, parameters(arrivals))
    return new_ones(await done.fetchone())


def new_ones(row: Sequence[Any] | None) -> frozenset[int]:
    """The places (from 0) of the events that were new, from the statement's answer."""
    return frozenset(nth - 1 for nth in row[0]) if row is not None else frozenset()


def parameters(arrivals: Sequence[Arrival]) -> dict[str, str]:
    """The statement's parameters, as PostgreSQL spells arrays: that psycopg does it value by value is what costs most
    of an event's processor time on its way into the inbox."""
    events = [each.event for each in arrivals]
    now = time.perf_counter()
    routed = [(nth, sync) for nth, each in enumerate(arrivals, 1) for sync in each.syncs]
    return {
        "connection": text_array([each.connection for each in arrivals]),
        "event": text_array([each.id for each in events]),
        "stream": text_array([each.stream for each in events]),
        "key": text_array([each.key for each in events]),
        "kind": text_array([each.kind for each in events]),
        "occurred": text_array([each.occurred_at.isoformat() for each in events]),
        "fields": text_array([_json(each.fields).decode() if each.fields else "{}" for each in events]),
        "waited": text_array([repr(0.0 if each.received is None else now - each.received) for each in arrivals]),
        "routed": text_array([str(nth) for nth, _ in routed]),
        "sync": text_array([sync.removeprefix(TARGET_SIDE) for _, sync in routed]),
        "side": text_array([TARGET_SIDE if sync.startswith(TARGET_SIDE) else "" for _, sync in routed]),
    }


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, Mapping):
        return _holds_nul(tuple(value.items()))
    return isinstance(value, list | tuple) and any(_holds_nul(each) for each in value)


def _json(fields: Mapping[str, Any]) -> bytes:
    return orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS)
