"""Events: from a vendor's webhook to the write at the target, with the processes a user starts.

Rows: `a` HubSpot to Salesforce; `b` either to PostgreSQL; `c` Salesforce to HubSpot, with and without its limit of
calls; `d` what one gateway takes, and how fast a backlog drains; `e` one event for twenty syncs; `f` the same event
by a run. Every steady row also tells the bare round trip to its target.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from tests.bench import events_project, events_report
from tests.bench.events_machine import Usage
from tests.bench.events_project import Feed
from tests.bench.events_report import Row
from tests.bench.events_steady import FAST, Options, steady
from tests.bench.events_times import Span, check, latencies, percentiles, received, refusals, written
from tests.bench.events_world import InvalidRow, World, world

_ROOT = Path(__file__).parents[2]
TITLES = {
    "a": "a. HubSpot → Salesforce",
    "b1": "b1. HubSpot → PostgreSQL",
    "b2": "b2. Salesforce → PostgreSQL",
    "b3": "b3. HubSpot → PostgreSQL, fast",
    "c1": "c1. Salesforce → HubSpot, limit off",
    "c2": "c2. Salesforce → HubSpot, limit on",
    "d1": "d1. One gateway",
    "d2": "d2. Backlog",
    "d3": "d3. Backlog of records never seen",
    "e": "e. One event, twenty syncs",
    "f": "f. The same event by a run",
}
#: Calls that HubSpot takes of a private app in ten seconds.
QUOTA = 190
LOAD_CONNECTIONS = 32


def _a(options: Options) -> Iterator[Row]:
    found = steady(events_project.HUBSPOT_TO_SALESFORCE, 100, options)
    yield Row(
        name=TITLES["a"],
        what="100 events/s, all limits and habits on; mapping, dedupe, contract, diff, intents, outcomes",
        measured=str(found), bar=FAST, kept=found.fast, others=found.spent.others,
    )  # fmt: skip


def _b1(options: Options, feed: Feed = events_project.HUBSPOT_TO_WAREHOUSE) -> Iterator[Row]:
    found = steady(feed, 100, options)
    yield Row(
        name=TITLES["b1" if feed is events_project.HUBSPOT_TO_WAREHOUSE else "b2"],
        what="100 events/s, all limits and habits on", measured=str(found),
        bar=FAST, kept=found.fast, others=found.spent.others,
    )  # fmt: skip


def _b2(options: Options) -> Iterator[Row]:
    yield from _b1(options, events_project.SALESFORCE_TO_WAREHOUSE)


def _b3(options: Options) -> Iterator[Row]:
    found = steady(events_project.HUBSPOT_TO_WAREHOUSE, 1000, options)
    yield Row(
        name=TITLES["b3"], what="1,000 events/s, all limits and habits on", measured=str(found),
        bar="p99 < 250 ms", kept=found.total.p99 < 250, others=found.spent.others,
    )  # fmt: skip


def _c1(options: Options) -> Iterator[Row]:
    found = steady(events_project.SALESFORCE_TO_HUBSPOT, 100, options, limits=False)
    yield Row(
        name=TITLES["c1"],
        what="100 events/s, HubSpot's habit `private_app_limit` OFF (190 calls per 10 s otherwise)",
        measured=str(found), bar=FAST, kept=found.fast, others=found.spent.others,
    )  # fmt: skip


def _c2(options: Options) -> Iterator[Row]:
    """As many events at once as need 400 calls of 100 records: a read and a write."""
    feed, count = events_project.SALESFORCE_TO_HUBSPOT, min(20_000, options.backlog)
    with world([feed], workers=options.workers, concurrency=options.concurrency) as made:
        made.prepare(count)
        made.limits(kept=True)
        made.gateway()
        span = Span.begin(made)
        made.edit(count)
        made.arrived(count)
        time.sleep(10)  # the vendor's window is empty
        before = Usage.now(made)
        made.worker()
        options.on_worker(made)
        made.quiet(600)
        spent = Usage.now(made).since(before, count)
        check(made, span)
        calls = made.sandbox.control.get(f"log?since={span.mark}&system=hubspot")["requests"]
        moments = sorted(_seconds(request["time"]) for request in calls)
        refused = refusals(made, span)
        received(made, span)
        written(made, feed, span)
    needed = 2 * math.ceil(count / 100)
    least = (needed - 1) // QUOTA * 10.0
    took = moments[-1] - moments[0]
    ratio = took / least if least else math.inf
    yield Row(
        name=TITLES["c2"],
        what=f"{count:,} events at once, all limits on. Least time: {needed} calls (read and write, 100 records each) "
        f"at {QUOTA} per 10 s = {least:.0f} s",
        measured=f"{took:.1f} s for {len(calls)} calls, {ratio:.2f} x the least time, {refused} x 429; "
        f"{spent}", bar="1.2 x, 0 x 429", kept=ratio <= 1.2 and not refused, others=spent.others,
    )  # fmt: skip


def _seconds(moment: str) -> float:
    return dt.datetime.fromisoformat(moment).timestamp()


def _d1(options: Options) -> Iterator[Row]:
    """One gateway, no worker: every request is one event, and every event must be stored with its queue row."""
    with world([events_project.HUBSPOT_TO_WAREHOUSE]) as made:
        made.prepare(1_000, load=False)
        made.gateway()
        made.sandbox.control.call("DELETE", "webhooks", {"system": "hubspot"})
        told = _load(made, 2_000)  # warm
        count = round(min(2_000 / told["seconds"], 5_000) * options.seconds)
        before, usage = _stored(made), Usage.now(made)
        told = _load(made, count)
        after, spent = _stored(made), Usage.now(made).since(usage, count)
    statuses = dict(told["statuses"])
    if set(statuses) != {"200"}:
        raise InvalidRow(f"answers were {statuses}")
    if after != (before[0] + count, before[1] + count):
        raise InvalidRow(f"{count} events were acknowledged, but inbox and queue hold {after} after {before}")
    rate = count / told["seconds"]
    yield Row(
        name=TITLES["d1"], what=f"{count:,} signed requests of one event each, {LOAD_CONNECTIONS} connections, "
        "each answered after its commit; every event stored and queued",
        bar="1,500 events/s", kept=rate >= 1500, others=spent.others,
        measured=f"{rate:,.0f} events/s, answers p50 {1000 * told['p50']:.1f}, p99 {1000 * told['p99']:.1f} ms; "
        + str(spent),
    )  # fmt: skip


def _stored(made: World) -> tuple[int, int]:
    [(inbox, queue)] = made.rows("SELECT (SELECT count(*) FROM sync.inbox), (SELECT count(*) FROM sync.queue)")
    return int(inbox), int(queue)


def _load(made: World, count: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.events_load", f"{made.url}/webhooks/hubspot", str(count),
         str(LOAD_CONNECTIONS)],
        env=made.ours.environment, cwd=_ROOT, input=json.dumps(made.records), capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    if done.returncode:
        raise InvalidRow(f"the load process failed: {done.stderr[-400:]}")
    return dict(json.loads(done.stdout))


def _d2(options: Options) -> Iterator[Row]:
    """The same records twice: unknown to the worker (each is read back), then known (the events' values suffice)."""
    feed, count = events_project.HUBSPOT_TO_WAREHOUSE, options.backlog
    with world([feed], workers=options.workers, concurrency=options.concurrency) as made:
        made.prepare(count)
        made.gateway()
        for number, (name, what) in enumerate((
            (TITLES["d3"], "each record read back from HubSpot, limit of calls OFF"),
            (TITLES["d2"], "all limits on, every record known"),
        )):  # fmt: skip
            if number:
                made.limits(kept=True)
            span = Span.begin(made)
            made.edit(count)
            made.arrived(count * (number + 1))
            before = Usage.now(made)
            made.worker()
            options.on_worker(made)
            made.quiet(300)
            spent = Usage.now(made).since(before, count)
            made.stop("worker")
            check(made, span)
            received(made, span)
            moments = sorted(written(made, feed, span).values())
            took = (moments[-1] - moments[0]).total_seconds()
            rate = count / took
            yield Row(
                name=name, what=f"{count:,} events of as many records wait for a worker of {options.concurrency} "
                f"threads, PostgreSQL target; {what}",
                measured=f"{rate:,.0f} events/s ({took:.1f} s); {spent}",
                bar="2,000 events/s" if number else "", kept=rate >= 2000 if number else None, others=spent.others,
            )  # fmt: skip


def _e(options: Options) -> Iterator[Row]:
    feeds = events_project.twenty()
    with world(feeds, workers=options.workers, concurrency=options.concurrency) as made:
        made.prepare(20, load=False)
        made.gateway()
        made.worker()
        made.warm()
        made.warm()
        made.stop("worker")
        made.limits(kept=True)
        made.worker()
        options.on_worker(made)
        made.warm(10)
        time.sleep(10)
        span, before = Span.begin(made), Usage.now(made)
        made.edit(options.seconds, rate=1)
        made.quiet()
        spent = Usage.now(made).since(before, options.seconds)
        check(made, span)
        begun = received(made, span)
        ended = [written(made, feed, span) for feed in feeds]
        last = {number: max(one[number] for one in ended) for number in begun}
        found = percentiles(latencies(begun, last))
        refused = refusals(made, span)
    yield Row(
        name=TITLES["e"],
        what="1 event/s of HubSpot to 6 syncs into Salesforce, 3 into HubSpot, 11 into PostgreSQL, all limits on: "
        "until the last write", measured=f"{found}, {refused} x 429; {spent}",
        bar="p99 < 1 s", kept=found.p99 < 1000, others=spent.others,
    )  # fmt: skip


def _f(options: Options) -> Iterator[Row]:
    """No worker: a tick of Dagster's daemon sees what waits and requests a run, which delivers it."""
    feed, took, lag = events_project.HUBSPOT_TO_SALESFORCE, [], 1
    feed = replace(feed, rules=f"{feed.rules}  max_lag: {lag}\n")
    with world([feed]) as made:
        made.prepare(1_000)
        made.limits(kept=True)
        made.gateway()
        made.daemon()
        before = Usage.now(made)
        for number in range(3):
            span = Span.begin(made)
            made.edit(1)
            made.arrived(number + 1)
            made.quiet()
            took += latencies(received(made, span), written(made, feed, span))
        spent = Usage.now(made).since(before, 3)
    yield Row(
        name=TITLES["f"],
        what=f"no worker: a tick of Dagster's daemon (every 5 s) sees an event older than {lag} s (30 s by default), a "
        "run is queued, starts and delivers it; HubSpot → Salesforce, 1,000 records, 3 times",
        measured=f"median {median(took):.1f} s, longest {max(took):.1f} s; {spent}",
    )  # fmt: skip


ROWS: dict[str, Callable[[Options], Iterator[Row]]] = {
    "a": _a, "b1": _b1, "b2": _b2, "b3": _b3, "c1": _c1, "c2": _c2, "d1": _d1, "d2": _d2, "e": _e, "f": _f,
}  # fmt: skip


def bench(only: Sequence[str], options: Options) -> list[Row]:
    """The chosen rows; one that cannot be trusted says INVALID and why."""
    found: list[Row] = []
    for name in only:
        begun = time.monotonic()
        try:
            for row in ROWS[name](options):
                found.append(row)
                print(f"  {row.name}: {row.measured} ({time.monotonic() - begun:.0f} s)", flush=True)
        except (InvalidRow, psycopg.Error, OSError, subprocess.TimeoutExpired) as error:
            found.append(Row(name=TITLES[name], what="", measured=f"INVALID: {error}"[:600]))
            print(f"  {TITLES[name]}: INVALID: {error}", flush=True)
    return found


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this bench."""
    parser.add_argument("--only", help=f"rows of the events bench, some of: {','.join(ROWS)}")
    parser.add_argument("--seconds", type=int, default=60, help="length of each steady row of the events bench")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the events bench")
    parser.add_argument("--concurrency", type=int, default=2, help="threads of each worker of the events bench")
    parser.add_argument("--backlog", type=int, default=50_000, help="waiting events of the events bench")
    parser.add_argument("--profile", type=Path, help="folder for py-spy's profiles of the worker (py-spy on the path)")


def run(chosen: argparse.Namespace) -> int:
    """The whole bench; 1 when a row is invalid."""
    only = chosen.only.split(",") if chosen.only else list(ROWS)
    unknown = set(only) - set(ROWS)
    if unknown:
        raise SystemExit(f"unknown row {', '.join(sorted(unknown))}; known are: {', '.join(ROWS)}")
    rows = bench(
        only,
        Options(
            seconds=chosen.seconds, workers=chosen.workers, concurrency=chosen.concurrency, backlog=chosen.backlog,
            profile=chosen.profile,
        ),
    )  # fmt: skip
    told = f"--seconds {chosen.seconds} --workers {chosen.workers} --concurrency {chosen.concurrency}"
    print(events_report.merged("", rows, told))
    if chosen.out is not None:
        events_report.write(chosen.out, rows, told)
    return 1 if any(row.measured.startswith("INVALID") for row in rows) else 0
