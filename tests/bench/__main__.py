"""`python -m tests.bench [database] [csv] [startup]`, another route, `large`, `events` or `capture`: writes tables."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from pathlib import Path

from tests.bench import capture_bench, csv_bench, database_bench, events_bench, large_bench, startup_bench
from tests.bench.measure import Series
from tests.bench.report import into, markdown
from tests.bench.sides import ROUTES

BENCHES = ("startup", "database", "csv")
KNOWN = ("startup", *ROUTES, "csv", "large")


def main() -> int:
    """Runs the chosen benches; 1 when a figure of ours is invalid."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "benches",
        nargs="*",
        default=BENCHES,
        metavar="BENCH",
        help=f"some of: {', '.join(KNOWN)}; or events, or capture",
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the database bench")
    parser.add_argument("--records", type=int, default=200_000, help="records of the CSV bench")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; the median counts")
    parser.add_argument("--tools", help="only these tools of the database bench, e.g. sync-platform,sling")
    parser.add_argument("--out", type=Path, help="page to write the table into, e.g. docs/performance.md")
    parser.add_argument("--section", help="the part of that page, when one bench is run in several commands")
    events_bench.arguments(parser)
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped and folders removed
    if list(chosen.benches) == ["events"]:  # a table of its own
        return events_bench.run(chosen)
    if list(chosen.benches) == ["capture"]:  # rows of the same table
        return capture_bench.run(chosen)
    unknown = set(chosen.benches) - set(KNOWN)
    if unknown:
        parser.error(f"unknown bench {', '.join(sorted(unknown))}; known are: {', '.join(KNOWN)}")
    load = os.getloadavg()[0]
    found: list[Series] = []
    if "startup" in chosen.benches:
        found += startup_bench.bench(chosen.rounds)
    routes = [name for name in chosen.benches if name in ROUTES]
    if len(routes) > 1:
        parser.error(f"each of {', '.join(routes)} has a table of its own: run one at a time")
    for name in routes:
        tools = chosen.tools.split(",") if chosen.tools else None
        found += database_bench.run(chosen.rows, chosen.rounds, tools, ROUTES[name])
    if "csv" in chosen.benches:
        found += csv_bench.bench(chosen.records, chosen.rounds)
    if "large" in chosen.benches:
        found += large_bench.bench(chosen.rows)
    command = f"python -m tests.bench {shlex.join(sys.argv[1:])}".strip()
    table = markdown(found, command, chosen.rows, chosen.records, load, ROUTES[routes[0]] if routes else None)
    print(table)
    if chosen.out is not None:
        page = chosen.out.read_text(encoding="utf-8") if chosen.out.exists() else ""
        section = chosen.section or " ".join(chosen.benches)
        chosen.out.write_text(into(page, section, table), encoding="utf-8")
    return 1 if any(series.invalid and series.tool == database_bench.OURS for series in found) else 0


sys.exit(main())
