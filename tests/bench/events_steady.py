"""A steady stream of edits, and what one update costs without us: the rows that tell percentiles."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.events_machine import Spent, Usage
from tests.bench.events_project import Feed
from tests.bench.events_times import Percentiles, Span, check, latencies, percentiles, received, refusals, written
from tests.bench.events_world import InvalidRow, World, value_of, world

FAST = "p50 < 25 ms, p99 < 100 ms"
_BARE = """
import json, sys, time
from sync_platform.connectors.quota import Priority
from sync_platform.model import Change, Op
from sync_platform.project import Project
from sync_platform.session import Session
connection, stream, target, field, value, times = sys.argv[1:]
with Session.open(Project.current()) as session:
    session.priority = Priority.REALTIME
    connector, took = session.connector(connection), []
    for number in range(int(times)):
        told = value if number == int(times) - 1 else f"{value} {number}"  # a value it has already is no write
        change = Change(op=Op.UPDATE, key="bare", token=f"bare{number}", target_id=target, fields={field: told})
        begun = time.perf_counter()
        [outcome] = connector.write(stream, [change])
        took.append(time.perf_counter() - begun)
        assert outcome.status == "applied", outcome
print(json.dumps(took[20:]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long and how wide a run is."""

    seconds: int = 60
    workers: int = 1
    concurrency: int = 2
    backlog: int = 50_000
    profile: Path | None = None

    def on_worker(self, world: World) -> None:
        """Samples the workers with py-spy from now on, when asked to."""
        for pid in world.pids("worker") if self.profile is not None else ():
            self.profile.mkdir(parents=True, exist_ok=True)
            name = f"{world.feeds[0].name}_{pid}.raw"
            subprocess.Popen(
                ["py-spy", "record", "-p", str(pid), "-f", "raw", "-o", self.profile / name, "-r", "100", "-d",
                 str(self.seconds)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip


def bare_round_trip(world: World, feed: Feed, times: int = 220) -> float:
    """The median seconds of one update of one record through the connector, with nobody else at work."""
    connection, stream = feed.target.split("/")
    [(target,)] = world.rows("SELECT target_id FROM sync.links WHERE sync = %s LIMIT 1", feed.name)
    world.limits(kept=False)
    command = [sys.executable, "-c", _BARE, connection, stream, target, feed.shown, value_of(0), str(times)]
    done = subprocess.run(
        command, env=world.ours.environment, cwd=world.ours.folder, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise InvalidRow(f"the bare round trip failed: {done.stderr[-400:]}")
    return median(json.loads(done.stdout.splitlines()[-1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """What a steady row found."""

    total: Percentiles
    bare: float
    refused: int
    spent: Spent

    @property
    def fast(self) -> bool:
        """Whether `FAST` is kept."""
        return self.total.p50 < 25 and self.total.p99 < 100

    def __str__(self) -> str:
        bare = 1000 * self.bare
        refused = f", {self.refused} x 429" if self.refused else ""
        over = f"bare round trip {bare:.1f} ms, p50 over it {self.total.p50 - bare:.1f} ms"
        return f"{self.total}; {over}{refused}; {self.spent}"


def steady(feed: Feed, rate: int, options: Options, *, limits: bool = True) -> Steady:
    """Edits at a rate, each of another record than in the ten seconds before, all records known to the worker."""
    with world([feed], workers=options.workers, concurrency=options.concurrency) as made:
        made.prepare(min(10, options.seconds) * rate)
        made.gateway()
        made.worker()
        made.warm()
        made.stop("worker")
        made.limits(kept=limits)
        made.worker()
        options.on_worker(made)
        made.warm(rate)
        span, before = Span.begin(made), Usage.now(made)
        took = made.edit(rate * options.seconds, rate=rate)
        made.quiet()
        spent = Usage.now(made).since(before, rate * options.seconds)
        if took > options.seconds * 1.05:
            raise InvalidRow(f"the edits took {took:.1f} s, not {options.seconds}")
        check(made, span)
        found = latencies(received(made, span), written(made, feed, span))
        refused = refusals(made, span)
        made.stop("worker")
        return Steady(total=percentiles(found), bare=bare_round_trip(made, feed), refused=refused, spent=spent)
