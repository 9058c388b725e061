"""When each edit's event was received and when it was written, and whether everything that must be true is true.

`received` is the inbox's own stamp. `written` is the arrival of the applied write in the simulated vendor's log,
counted to the end of that millisecond; in PostgreSQL it is what a trigger noted (before the commit).
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles

import psycopg

from tests.bench.events_project import EDITED, Feed
from tests.bench.events_world import InvalidRow, World, number_of, value_of

_MILLISECOND = dt.timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """In milliseconds."""

    p50: float
    p95: float
    p99: float
    most: float
    count: int

    def __str__(self) -> str:
        return f"p50 {self.p50:.1f}, p95 {self.p95:.1f}, p99 {self.p99:.1f}, max {self.most:.0f} ms of {self.count:,}"


def percentiles(seconds: Sequence[float]) -> Percentiles:
    """Of a sample; raises InvalidRow for less than two."""
    if len(seconds) < 2:
        raise InvalidRow("nothing was measured")
    cuts = quantiles(sorted(seconds), n=100, method="inclusive")
    p50, p95, p99, most = (1000 * value for value in (cuts[49], cuts[94], cuts[98], max(seconds)))
    return Percentiles(p50=p50, p95=p95, p99=p99, most=most, count=len(seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of a world's edits: the first one's number, and the log's mark before it."""

    first: int
    mark: int
    outcome: int

    @classmethod
    def begin(cls, world: World) -> Span:
        """From here on."""
        [(newest,)] = world.rows("SELECT coalesce(max(id), 0) FROM sync.outcomes")
        return cls(first=len(world.edits), mark=world.mark(), outcome=int(newest))


def received(world: World, span: Span) -> dict[int, dt.datetime]:
    """Edit -> when its event came. InvalidRow unless every edit has exactly one."""
    name, field = world.source.split("/")[0], EDITED[world.source]
    rows = world.rows(
        "SELECT fields ->> %s, received_at FROM sync.inbox WHERE connection = %s AND kind = 'updated'", field, name
    )
    found: dict[int, dt.datetime] = {}
    for value, at in rows:
        number = number_of(value)
        if number is None or number < span.first:
            continue
        if number in found:
            raise InvalidRow(f"edit {number} has two events")
        found[number] = at
    missing = [number for number in world.edits if number >= span.first and number not in found]
    if missing:
        raise InvalidRow(f"{len(missing)} of {len(world.edits) - span.first} edits have no event, e.g. {missing[0]}")
    return found


def written(world: World, feed: Feed, span: Span) -> dict[int, dt.datetime]:
    """Edit -> when its value, or a newer one of its record, was first written by this sync."""
    found = _in_warehouse(world, feed, span) if feed.target.startswith("warehouse/") else _in_log(world, feed, span)
    later: dict[str, dt.datetime] = {}  # an edit that a newer one overtook was done when that one was
    for number in sorted((n for n in world.edits if n >= span.first), reverse=True):
        record = world.edits[number]
        if number in found:
            later[record] = found[number]
        elif record in later:
            found[number] = later[record]
        else:
            raise InvalidRow(f"{feed.name} never wrote edit {number}")
    return found


def _in_warehouse(world: World, feed: Feed, span: Span) -> dict[int, dt.datetime]:
    with psycopg.connect(world.target_url) as db:
        rows = db.execute(
            "SELECT value, at FROM writes WHERE target = %s ORDER BY id", [feed.target.partition("/")[2]]
        ).fetchall()
    return _first((number_of(value), at) for value, at in rows if (number_of(value) or 0) >= span.first)


def _in_log(world: World, feed: Feed, span: Span) -> dict[int, dt.datetime]:
    """The log tells which record was written when; the outcomes tell, in the same order, what."""
    system, stream = feed.target.split("/")
    outcomes: dict[str, list[int]] = defaultdict(list)
    for target, value, ours in world.rows(
        """SELECT target_id, fields -> %s ->> 1, sync = %s FROM sync.outcomes
           WHERE id > %s AND status = 'applied' AND sync = ANY(%s) ORDER BY id""",
        feed.shown, feed.name, span.outcome, [one.name for one in world.feeds if one.target == feed.target],
    ):  # fmt: skip
        number = number_of(value) if ours else None
        outcomes[target].append(-1 if number is None else number)
    at: dict[str, list[dt.datetime]] = defaultdict(list)
    for request in world.sandbox.control.get(f"log?since={span.mark}&system={system}")["requests"]:
        for effect in request["records"]:
            if effect["applied"] and effect["op"] != "noop" and effect["stream"] == stream:
                at[effect["id"]].append(dt.datetime.fromisoformat(request["time"]) + _MILLISECOND)
    wrong = [one for one in outcomes.keys() | at.keys() if len(outcomes[one]) != len(at[one])]
    if wrong:
        one = wrong[0]
        raise InvalidRow(
            f"{len(wrong)} records of {feed.target} were written more or less often than outcomes say, e.g. {one}: "
            f"{len(at[one])} writes, {len(outcomes[one])} outcomes"
        )
    pairs = [pair for one in outcomes for pair in zip(outcomes[one], at[one], strict=True)]
    return _first((number, moment) for number, moment in pairs if number >= 0)


def _first(pairs: object) -> dict[int, dt.datetime]:
    found: dict[int, dt.datetime] = {}
    for number, moment in pairs:  # type: ignore[attr-defined]
        if number is not None and (number not in found or moment < found[number]):
            found[number] = moment
    return found


def latencies(begun: Mapping[int, dt.datetime], ended: Mapping[int, dt.datetime]) -> list[float]:
    """Seconds from one to the other, edit by edit."""
    return [(ended[number] - at).total_seconds() for number, at in begun.items()]


def check(world: World, span: Span) -> None:
    """Every final value is right and every count complete; InvalidRow otherwise."""
    newest = {record: number for number, record in sorted(world.edits.items())}
    for feed in world.feeds:
        _check_values(world, feed, newest)
    unfinished = world.rows("SELECT count(*) FROM sync.queue WHERE state <> 'done'")[0][0]
    if unfinished:
        raise InvalidRow(f"{unfinished} events are not done")
    bad = world.rows(
        "SELECT count(*), min(status || ': ' || coalesce(reason, '')) FROM sync.outcomes "
        "WHERE id > %s AND status NOT IN ('applied', 'noop')", span.outcome,
    )[0]  # fmt: skip
    if bad[0]:
        raise InvalidRow(f"{bad[0]} outcomes are not applied, e.g. {bad[1]}")
    broken = world.sandbox.control.get("violations")["violations"]
    if broken:
        raise InvalidRow(f"the vendors would have refused {len(broken)} requests, e.g. {broken[0]}")


def _check_values(world: World, feed: Feed, newest: Mapping[str, int]) -> None:
    links = dict(world.rows("SELECT source_key, target_id FROM sync.links WHERE sync = %s", feed.name))
    held = _values(world, feed)
    wrong = [
        (record, held.get(links.get(record, "")), value_of(number))
        for record, number in newest.items()
        if held.get(links.get(record, "")) != value_of(number)
    ]
    if wrong:
        record, found, wanted = wrong[0]
        raise InvalidRow(f"{feed.name}: {len(wrong)} final values are wrong, e.g. {record}: {found!r}, not {wanted!r}")


def _values(world: World, feed: Feed) -> dict[str, str]:
    if feed.target.startswith("warehouse/"):
        table = feed.target.partition("/")[2]
        with psycopg.connect(world.target_url) as db:
            return dict(db.execute(f"SELECT id::text, {feed.shown} FROM {table}".encode()).fetchall())
    records = world.sandbox.control.get(f"records/{feed.target}")["records"]
    return {one["id"]: one["fields"].get(feed.shown) for one in records}


def refusals(world: World, span: Span) -> int:
    """How many requests were answered 429."""
    requests = world.sandbox.control.get(f"log?since={span.mark}")["requests"]
    return sum(request["status"] == 429 for request in requests)
