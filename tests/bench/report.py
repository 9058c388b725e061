"""The table of ratios that the documentation shows, good or bad."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import psutil

from tests.bench.csv_bench import WORK as CSV_WORK
from tests.bench.database_bench import FULL, OURS
from tests.bench.large_bench import TENTH
from tests.bench.large_bench import WORK as LARGE
from tests.bench.measure import Series
from tests.bench.sides import POSTGRES, Side
from tests.bench.startup_bench import HELP, LOCATION


@dataclass(frozen=True, slots=True)
class Promise:
    """What was promised of a work, beside a peer or alone, and how it is told from ours and the peer's series."""

    work: str
    text: str
    kept: Callable[[Series, Series], bool]
    peer: str | None = None

    def held(self, ours: Series, peer: Series | None) -> bool | None:
        """Whether it was kept; None when it cannot be told."""
        if ours.invalid or (self.peer is not None and (peer is None or peer.invalid)):
            return None
        kept = self.kept(ours, peer or ours)
        return kept or (None if peer is not None and peer.stopped else False)


def _engine(series: Series) -> float:
    return series.seconds if series.engine is None else series.engine


_SLING, _INGESTR = "sling 1.4.11", "ingestr 0.x"
_PROMISES = (
    Promise("first load", "faster than sling", lambda ours, peer: ours.seconds < peer.seconds, _SLING),
    Promise("first load", "under 1.5 GB", lambda ours, _: ours.peak < 1.5 * 2**30),
    Promise("nothing changed", "under 2 s engine time", lambda ours, _: _engine(ours) < 2),
    Promise("1 % changed", "under 3 s engine time", lambda ours, _: _engine(ours) < 3),
    Promise("1 % changed", "engine time within sling's process", lambda o, p: _engine(o) <= p.seconds, _SLING),
    Promise("1 % changed", "engine time within ingestr's process", lambda o, p: _engine(o) <= p.seconds, _INGESTR),
    Promise(FULL, "5 times as fast as sling", lambda ours, peer: ours.seconds * 5 <= peer.seconds, _SLING),
    Promise(LARGE, "under 2 GB", lambda ours, _: ours.peak < 2 * 2**30),
    Promise(LARGE, "at least 80 % of the rows a second of a tenth of the rows, by the seconds of the steps",
            lambda ours, tenth: sum(tenth.steps[0].values()) * 10 >= 0.8 * sum(ours.steps[0].values()), TENTH),
    Promise(CSV_WORK, "10 times as fast as dlt", lambda ours, peer: ours.seconds * 10 <= peer.seconds, "dlt, dicts"),
    Promise(HELP, "under 0.5 s", lambda ours, _: ours.seconds < 0.5),
    Promise(LOCATION, "under 6 s", lambda ours, _: ours.seconds < 6),
)  # fmt: skip


def markdown(
    found: Sequence[Series], command: str, rows: int, records: int, load: float, route: tuple[Side, Side] | None
) -> str:
    """The tables, with the command that made them, the machine they were made on and how busy it was before."""
    memory = psutil.virtual_memory().total / 2**30
    source, target = route or (POSTGRES, POSTGRES)
    where = "on one server" if source is target else "on two servers of one machine"
    lines = [
        f"Made on {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC by `{command}`: {os.cpu_count()} cores, "
        f"{memory:.0f} GB, {platform.system()} {platform.machine()}, Python {platform.python_version()}; load average "
        f"of the minute before {load:.2f} (0 is an idle machine). {rows:,} rows of 10 columns, "
        f"{source.name} to {target.name} {where} with default durability; {records:,} records of CSV.",
        "",
        "| work | tool | seconds (median) | all runs | engine seconds | peak memory | times ours |",
        "|---|---|---|---|---|---|---|",
    ]
    for series in found:
        ours = next((s for s in found if s.work == series.work and s.tool == OURS), None)
        ratio = (
            f"{series.seconds / ours.seconds:.2f}" if ours is not None and not (series.invalid or ours.invalid) else ""
        )
        engine = "" if series.engine is None else f"{series.engine:.2f}"
        runs = ", ".join(f"{run.seconds:.2f}" for run in series.runs)
        seconds = f"INVALID: {_one_line(series.invalid)}" if series.invalid else f"{series.seconds:.2f}"
        seconds = f"stopped after {seconds}" if series.stopped else seconds
        lines.append(
            f"| {series.work} | {series.tool.replace('|', chr(92) + '|')} | {seconds} | {runs} | {engine} "
            f"| {series.peak / 2**20:.0f} MB | {ratio} |"
        )
    lines += _steps([series for series in found if series.steps])
    lines += ["", "| promise | kept |", "|---|---|"]
    for promise in _PROMISES:
        mine = next((s for s in found if s.work == promise.work and s.tool == OURS), None)
        if mine is not None:
            peer = next((s for s in found if s.work == promise.work and s.tool == promise.peer), None)
            kept = promise.held(mine, peer)
            told = "not measured" if kept is None else "yes" if kept else "no"
            lines.append(f"| {promise.work}: {promise.text} | {told} |")
    lines += [
        "",
        "*Engine seconds*: median wall clock of the whole process minus the median of runs on an empty table. *Times "
        "ours*: above "
        "1, the tool took longer than we did. Memory is the highest sum of resident memory over the process tree. A "
        "row is INVALID when the target's checksum, the links or the outcomes do not match the source. A peer that was "
        "stopped takes longer than it says; what it would have done next is left out.",
        "",
    ]
    return "\n".join(lines)


def _steps(series: Sequence[Series]) -> list[str]:
    """Where our own time goes: medians of what each run's report says, and of what is left of its wall clock."""
    if not series:
        return []
    names = list(series[0].steps[0])
    head = "".join(f" {name} |" for name in ("start and end", *names))
    lines = ["", f"| seconds by step of sync-platform |{head}", "|---|" + "---|" * (len(names) + 1)]
    for one in series:
        rest = median(run.seconds - sum(steps.values()) for run, steps in zip(one.runs, one.steps, strict=True))
        told = [median(steps.get(name, 0.0) for steps in one.steps) for name in names]
        of = one.work if one.tool == OURS else f"{one.work}: {one.tool}"
        lines.append(f"| {of} |" + "".join(f" {seconds:.2f} |" for seconds in (rest, *told)))
    return lines


def into(page: str, section: str, table: str) -> str:
    """The page with the table between the marks of that section, which are added at its end when it has none."""
    begin, end = f"<!-- bench {section}: written by tests/bench, not by hand -->", f"<!-- end of bench {section} -->"
    before, found, rest = page.partition(begin)
    after = rest.partition(end)[2]
    if not found:
        before, after = (f"{before.rstrip()}\n\n" if before.strip() else ""), "\n"
    return f"{before}{begin}\n\n{table.strip()}\n\n{end}{after}"


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:300]
