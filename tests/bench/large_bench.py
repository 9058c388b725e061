"""Ten times the rows: does a plan's memory stay, and its speed? PostgreSQL, staging, mapping, contract, plan."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.bench.database_bench import OURS
from tests.bench.measure import Series
from tests.bench.ours import Ours, steps_of_plan, write_project
from tests.bench.sides import POSTGRES, Side

WORK = "plan of a first load"
TENTH = f"{OURS}, a tenth of the rows"
ROUTE: tuple[Side, Side] = (POSTGRES, POSTGRES)


def bench(rows: int) -> list[Series]:
    """`plan` of a table of `rows` rows and of one with a tenth of them, each once."""
    return [_plan(rows, OURS), _plan(rows // 10, TENTH)]


def _plan(rows: int, tool: str) -> Series:
    print(f"{tool}: {rows:,} rows", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    with POSTGRES.server() as server:
        urls = {"BENCH_SOURCE_URL": server.create("source"), "BENCH_TARGET_URL": server.create("target")}
        POSTGRES.make_source(urls["BENCH_SOURCE_URL"], rows)
        POSTGRES.make_target(urls["BENCH_TARGET_URL"])
        ours = Ours(folder / "project", urls)
        write_project(ours.folder, ROUTE)
        try:
            ours.command("run", "copy_nobody")  # starts the state, so that the next one is a plain plan
            empty = ours.command("plan", "copy_nobody")
            measured = ours.command("plan", "copy_customers")
            steps = steps_of_plan(ours) if measured.code == 0 else {}
        finally:
            ours.command("down")
            shutil.rmtree(folder, ignore_errors=True)
    print(f"  {measured.seconds:.2f} s, {measured.peak / 2**20:.0f} MB", flush=True)
    wanted = f"{rows} create"
    wrong = None if measured.code == 0 and wanted in measured.output else f"no {wanted}: {measured.output[-300:]}"
    return Series(tool=tool, work=WORK, runs=[measured], invalid=wrong, empty=[empty.seconds], steps=[steps])
