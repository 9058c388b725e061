"""One database to another through the whole engine, against the tools people use today."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import peers
from tests.bench.measure import Measured, Series
from tests.bench.ours import Ours, steps_of, write_project, wrong_with
from tests.bench.sides import POSTGRES, Side

FULL = "full compare, nothing changed"
WORKS = ("first load", "nothing changed", "1 % changed", FULL)
PEERS: dict[str, Callable[[str, str, Path], Measured]] = {
    "sling 1.4.11": peers.sling,
    "ingestr 0.x": peers.ingestr,
    "dlt, Arrow": peers.dlt,
    "COPY | COPY": peers.copy_pipe,
}
OURS = "sync-platform"


@dataclass(slots=True)
class _Bench:
    route: tuple[Side, Side]
    server: Any  # of the targets
    source: str
    rows: int
    series: dict[tuple[str, str], Series]

    def note(self, tool: str, work: str, measured: Measured, wrong: str | None, empty: float | None = None) -> None:
        kept = self.series.setdefault((tool, work), Series(tool=tool, work=work, runs=[]))
        kept.runs.append(measured)
        kept.invalid = kept.invalid or wrong
        kept.empty += [] if empty is None else [empty]
        print(
            f"  {tool:14} {work:16} {measured.seconds:7.2f} s {measured.peak / 2**20:7.0f} MB  {wrong or ''}",
            flush=True,
        )

    def wrong(self, measured: Measured, target: str) -> str | None:
        """Why what a peer did does not count."""
        return f"exit {measured.code}: {measured.output.strip()[-300:]}" if measured.code else self.compare(target)

    def compare(self, target: str) -> str | None:
        wanted, found = self.route[0].checksum(self.source), self.route[1].checksum(target)
        return None if wanted == found else f"target holds {found}, source {wanted}"


def run(rows: int, rounds: int, tools: Sequence[str] | None, route: tuple[Side, Side]) -> list[Series]:
    """Every tool in turn, `rounds` times, each into a target of its own; both ends on one durable server if they can.

    Between databases of two kinds only sling is asked.
    """
    known = [OURS, *PEERS] if route == (POSTGRES, POSTGRES) else [OURS, "sling 1.4.11"]
    chosen = [name for name in known if tools is None or any(t in name for t in tools)]
    for name in ("sling", "ingestr", "dlt"):
        if any(name in tool for tool in chosen):
            peers.environment_of(name)
    with contextlib.ExitStack() as running:
        first = running.enter_context(route[0].server())
        second = first if route[0] is route[1] else running.enter_context(route[1].server())
        source = first.create("source")
        route[0].make_source(source, rows)
        bench = _Bench(route=route, server=second, source=source, rows=rows, series={})
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}, {rows:,} rows", flush=True)
            _round(bench, chosen[number % len(chosen) :] + chosen[: number % len(chosen)], number)
        return list(bench.series.values())


def _round(bench: _Bench, chosen: Sequence[str], number: int) -> None:
    work = Path(tempfile.mkdtemp(prefix="bench-"))
    targets = {name: bench.server.create(f"target_{i}") for i, name in enumerate(chosen)}
    ours = Ours(work / "project", {"BENCH_SOURCE_URL": bench.source, "BENCH_TARGET_URL": targets.get(OURS, "")})
    try:
        for url in targets.values():
            bench.route[1].make_target(url)
        if OURS in chosen:
            write_project(ours.folder, bench.route)
            ours.command("run", "copy_nobody")  # starts the state, so that the next one is a plain run
        applied = bench.rows
        going = list(chosen)
        for step in WORKS:
            changed = bench.route[0].change(bench.source, 100, number) if step == "1 % changed" else 0
            applied += changed
            for name in list(going):
                folder = work / f"peer_{chosen.index(name)}"
                folder.mkdir(exist_ok=True)
                if name == OURS:
                    _ours(bench, ours, targets[name], step, applied)
                elif tool := _tool(name, step):
                    measured = tool(bench.source, targets[name], folder)
                    if measured.stopped:  # what it was to do next needs what it did not do
                        going.remove(name)
                    bench.note(name, step, measured, None if measured.stopped else bench.wrong(measured, targets[name]))
    finally:
        if OURS in chosen:
            ours.command("down")
        shutil.rmtree(work, ignore_errors=True)
        for i, _ in enumerate(chosen):
            bench.server.drop(f"target_{i}")


def _tool(name: str, step: str) -> Callable[[str, str, Path], Measured] | None:
    """How a peer does that work; None when it cannot."""
    if step == FULL:
        return {"sling 1.4.11": peers.sling_by_key, "ingestr 0.x": peers.ingestr_by_key}.get(name)
    return PEERS[name] if name != "COPY | COPY" or step == "first load" else None


def _ours(bench: _Bench, ours: Ours, target: str, step: str, applied: int) -> None:
    empty = ours.command("run", "copy_nobody")
    measured = ours.command("run", "copy_customers", *(["--full"] if step == FULL else []))
    failed = f"the run on an empty table: exit {empty.code}: {empty.output.strip()[-300:]}" if empty.code else None
    wrong = failed or wrong_with(ours, measured, rows=bench.rows, changed=applied) or bench.compare(target)
    bench.note(OURS, step, measured, wrong, empty=empty.seconds)
    bench.series[OURS, step].steps.append(steps_of(ours))
