"""Change capture: from a commit in PostgreSQL or MariaDB to the row in PostgreSQL, by the processes a user starts.

Rows: `g1` how long a change takes at a steady rate; `g2` how many changes a second are kept up with; `g3` and `g4` the
same from MariaDB. A change is an insert of a row that carries the moment it was made on the server's clock; a trigger
notes when it was written at the target (durable; for PostgreSQL the same server). Sender, capture, worker, state and
those servers share the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg

from sync_platform.home import Home
from sync_platform.state.server import running_pid, running_url
from tests.bench import events_report
from tests.bench.capture_shops import SHOPS, Shop, postgres_sum
from tests.bench.events_report import Row
from tests.bench.events_times import Percentiles, percentiles
from tests.bench.events_world import InvalidRow
from tests.bench.ours import Ours
from tests.private_postgres import PrivateServer
from tests.project_files import lay_out

TITLES = {
    "g1": "g1. PostgreSQL CDC → PostgreSQL",
    "g2": "g2. PostgreSQL CDC → PostgreSQL, kept up with",
    "g3": "g3. MariaDB CDC → PostgreSQL",
    "g4": "g4. MariaDB CDC → PostgreSQL, kept up with",
}
P99_MS = 300.0
BAR = 5_000
#: Connections that make MariaDB's single rows.
PEOPLE = 8
SYNC = "orders_to_bills"
_FILES = {
    "resources/systems.py": """
        from dagster import EnvVar

        from sync_platform.connectors.mysql import MySQL
        from sync_platform.connectors.postgres import Postgres

        shop = {shop}(url=EnvVar("BENCH_SHOP_URL"), capture=True)
        ledger = Postgres(url=EnvVar("BENCH_LEDGER_URL"))
        """,
    f"assets/{SYNC}/defs.yaml": """
        type: sync_platform.Sync
        attributes:
          source: {connection: shop, object: orders}
          target: {connection: ledger, object: bills, match: [id]}
          first_sync: create
          frequency: realtime
          mapping: {id: id, customer: lower(customer), total: total, note: note, made_at: made_at}
        """,
}
_LEDGER = """
    CREATE TABLE bills (id bigint PRIMARY KEY, customer text, total numeric(12,2), note text, made_at timestamptz,
        written_at timestamptz);
    CREATE FUNCTION written() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.written_at := clock_timestamp(); RETURN NEW; END $$;
    CREATE TRIGGER written BEFORE INSERT OR UPDATE ON bills FOR EACH ROW EXECUTE FUNCTION written();
"""


@dataclass
class CaptureWorld:
    """One installation, the shop, and a server with the ledger."""

    folder: Path
    server: PrivateServer
    shop: Shop
    workers: int
    concurrency: int
    _running: dict[str, list[subprocess.Popen[bytes]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = self.server.create("ledger")
        self.ours = Ours(self.folder / "project", {"BENCH_SHOP_URL": self.shop.url, "BENCH_LEDGER_URL": self.ledger})
        resources = _FILES["resources/systems.py"].format(shop=self.shop.connection)
        lay_out(self.ours.folder, _FILES | {"resources/systems.py": resources})
        with psycopg.connect(self.ledger, autocommit=True) as db:
            db.execute(_LEDGER)

    def prepare(self) -> None:
        """Followed, compared once (with nothing in it), and a worker that has delivered something."""
        self.ours.command("sql", "SELECT 1")
        self.start("capture")
        self.until(lambda: "following orders" in self.told("capture"), "capture follows")
        done = self.ours.command("run", SYNC)
        if done.code:
            raise InvalidRow(f"the first run ended with {done.code}: {done.output[-800:]}")

    def work(self) -> None:
        """Starts the workers."""
        for _ in range(self.workers):
            self.start("worker", "--concurrency", str(self.concurrency))
        self.until(lambda: self.rows("SELECT count(*) FROM sync.workers")[0][0] >= self.workers, "the worker")

    def start(self, *command: str) -> None:
        """Starts a command; its output goes to a file."""
        with (self.folder / f"{command[0]}.log").open("ab") as out:
            process = subprocess.Popen(
                [Path(sys.executable).parent / "sync-platform", *command], env=self.ours.environment,
                cwd=self.ours.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self._running.setdefault(command[0], []).append(process)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the state."""
        url = running_url(Home(self.ours.folder / "home"))
        if url is None:
            raise InvalidRow("the state's server does not run")
        with psycopg.connect(url) as state:
            return state.execute(query.encode()).fetchall()

    def count(self) -> int:
        """The rows of the ledger."""
        with psycopg.connect(self.ledger) as db:
            row = db.execute("SELECT count(*) FROM bills").fetchone()
        return int(row[0]) if row else 0

    def until(self, ready: Callable[[], Any], what: str, seconds: float = 180) -> None:
        """Waits."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                raise InvalidRow(f"{what}: not within {seconds:.0f} s: {self.told('capture')} {self.told('worker')}")
            time.sleep(0.1)

    def told(self, name: str) -> str:
        """The end of a log."""
        log = self.folder / f"{name}.log"
        return log.read_text(errors="replace")[-1500:] if log.exists() else ""

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU so far, by kind of process, and of the whole machine."""
        pid = running_pid(Home(self.ours.folder / "home"))
        found = {name: sum(_of(one.pid) for one in group) for name, group in self._running.items()}
        found["state"] = _of(pid) if pid is not None else 0.0
        found["databases"] = sum(map(_of, (self.server.pid, *self.shop.pids)))
        times = psutil.cpu_times()
        found["machine"] = sum(times) - times.guest - times.guest_nice - times.idle - times.iowait
        return found

    def check(self, count: int) -> None:
        """Every change arrived once and as it is, or the row is invalid."""
        one, other = self.shop.sum(), postgres_sum(self.ledger, "bills")
        if one != other or one[0] != count:
            raise InvalidRow(f"the shop has {one}, the ledger {other}, wanted {count}")
        [(waiting,)] = self.rows("SELECT count(*) FROM sync.queue WHERE state <> 'done'")
        if waiting:
            raise InvalidRow(f"{waiting} events are not done")

    def close(self) -> None:
        """Stops everything."""
        for group in self._running.values():
            for process in group:
                process.terminate()
            for process in group:
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if (self.ours.folder / "home").exists():
            self.ours.command("down")


def _of(pid: int) -> float:
    """Seconds of CPU of a process and all its children, the ended ones too."""
    total = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                used = one.cpu_times()
                total += used.user + used.system + used.children_user + used.children_system
    return total


@contextlib.contextmanager
def capture_world(system: str, workers: int, concurrency: int) -> Iterator[CaptureWorld]:
    """A fresh installation beside durable servers; nothing is left of it."""
    folder = Path(tempfile.mkdtemp(prefix="bench-capture-"))
    try:
        settings = {"wal_level": "logical", "max_wal_size": "4GB"}
        with PrivateServer(durable=True, settings=settings) as server, SHOPS[system](server) as shop:
            made = CaptureWorld(folder, server, shop, workers, concurrency)
            try:
                yield made
            finally:
                made.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def send(shop: Shop, first: int, count: int, rate: int, rows: int) -> float:
    """Inserts so many rows at a rate, `rows` in a transaction; the seconds it took."""
    begun = time.monotonic()
    with shop.person() as make:
        for start in range(first, first + count, rows):
            time.sleep(max(0.0, begun + (start - first) / rate - time.monotonic()))
            make(start, min(start + rows, first + count) - 1)
    return time.monotonic() - begun


def send_singly(shop: Shop, first: int, count: int, rate: int, people: int) -> float:
    """Inserts so many rows at a rate, each a transaction, by so many people at a time; the seconds it took."""
    begun = time.monotonic()

    def one(number: int) -> None:
        with shop.person() as make:
            for place in range(number, count, people):
                time.sleep(max(0.0, begun + place / rate - time.monotonic()))
                make(first + place, first + place)

    with ThreadPoolExecutor(people) as crew:
        for done in [crew.submit(one, number) for number in range(people)]:
            done.result()
    return time.monotonic() - begun


def latencies(world: CaptureWorld, first: int) -> Percentiles:
    """From the moment a row was made to the moment it was written."""
    with psycopg.connect(world.ledger) as db:
        rows = db.execute(
            "SELECT extract(epoch FROM written_at - made_at)::float8 FROM bills WHERE id >= %s", (first,)
        ).fetchall()
    return percentiles([float(row[0]) for row in rows])


def spent(before: dict[str, float], after: dict[str, float], count: int) -> tuple[str, float]:
    """CPU a change by process, and the share of the machine that others used meanwhile."""
    used = {name: after[name] - before.get(name, 0.0) for name in after}
    machine = used.pop("machine")
    told = ", ".join(f"{name} {1000 * seconds / count:.2f} ms" for name, seconds in used.items())
    return f"CPU a change: {told}", max(0.0, machine - sum(used.values())) / max(machine, 1e-9)


def steady(
    name: str, system: str, people: int, seconds: int, workers: int, concurrency: int, rate: int = 500
) -> Iterator[Row]:
    """Changes at a rate, each a transaction of its own; only PostgreSQL's have a bar."""
    barred = system == "PostgreSQL"
    with capture_world(system, workers, concurrency) as world:
        world.prepare()
        world.work()
        warm = rate * 3
        send_singly(world.shop, 1, warm, rate, people)
        world.until(lambda: world.count() == warm, "the first changes arrive")
        before, count = world.cpu(), rate * seconds
        took = send_singly(world.shop, warm + 1, count, rate, people)
        world.until(lambda: world.count() == warm + count, "all changes arrive")
        told, others = spent(before, world.cpu(), count)
        if took > seconds * 1.05:
            raise InvalidRow(f"the changes took {took:.1f} s to make, not {seconds}")
        found = latencies(world, warm + 1)
        by = f", by {people} connections" if people > 1 else ""
        world.until(lambda: not world.rows("SELECT 1 FROM sync.queue WHERE state <> 'done' LIMIT 1"), "all are done")
        world.check(warm + count)
        yield Row(
            name=TITLES[name],
            what=f"{rate} inserts a second, each a transaction{by}; insert in source to row in target",
            measured=f"{found}; {told}; others used {others:.0%} of what the machine did",
            bar=f"p99 < {P99_MS:.0f} ms" if barred else "", kept=found.p99 < P99_MS if barred else None, others=others,
        )  # fmt: skip


def kept_up(name: str, system: str, seconds: int, workers: int, concurrency: int, rate: int = BAR) -> Iterator[Row]:
    """Changes at the rate of PostgreSQL's bar, and until when the last one was written."""
    barred = system == "PostgreSQL"
    with capture_world(system, workers, concurrency) as world:
        world.prepare()
        world.work()
        send(world.shop, 1, 500, 500, 1)
        world.until(lambda: world.count() == 500, "the first changes arrive")
        before, count, begun = world.cpu(), rate * seconds, time.monotonic()
        took = send(world.shop, 501, count, rate, rate // 100)
        world.until(lambda: world.count() == 500 + count, "all changes arrive", 300)
        whole = time.monotonic() - begun
        told, others = spent(before, world.cpu(), count)
        world.until(lambda: not world.rows("SELECT 1 FROM sync.queue WHERE state <> 'done' LIMIT 1"), "all are done")
        found = latencies(world, 501)
        world.check(500 + count)
        yield Row(
            name=TITLES[name],
            what=f"{count:,} inserts at {rate:,} a second ({took:.1f} s), {rate // 100} a transaction",
            measured=f"{count / whole:,.0f} changes/s until the last was written ({whole:.1f} s); {found}; {told}; "
            f"others used {others:.0%} of what the machine did",
            bar=f"{BAR:,} changes/s" if barred else "", kept=count / whole >= 0.95 * BAR if barred else None,
            others=others,
        )  # fmt: skip


_ROWS: dict[str, Callable[[int, int, int], Iterator[Row]]] = {
    "g1": partial(steady, "g1", "PostgreSQL", 1),
    "g2": partial(kept_up, "g2", "PostgreSQL"),
    # a commit there waits for the disk twice (redo log and binlog): one connection makes no 500 of them a second
    "g3": partial(steady, "g3", "MariaDB", PEOPLE),
    "g4": partial(kept_up, "g4", "MariaDB"),
}


def run(chosen: argparse.Namespace) -> int:
    """Measures the rows of `--only` (all by default), prints them and writes them into `--out`."""
    names = chosen.only.split(",") if chosen.only else list(_ROWS)
    found: list[Row] = []
    for name in names:
        try:
            found += _ROWS[name](chosen.seconds, chosen.workers, chosen.concurrency)
        except InvalidRow as error:
            found.append(Row(name=TITLES[name], what="", measured=f"INVALID: {error}"))
    told = f"capture --seconds {chosen.seconds} --workers {chosen.workers} --concurrency {chosen.concurrency}"
    print(events_report.merged("", found, told))
    if chosen.out is not None:
        events_report.write(chosen.out, found, told)
    return 1 if any(row.measured.startswith("INVALID") for row in found) else 0
