"""A shop on PostgreSQL whose log is followed, a ledger it is synced into, and the processes between them."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.forked_commands import Answer, started
from tests.forks import Fork
from tests.private_postgres import PrivateServer
from tests.project_files import lay_out
from tests.world import World

SETTINGS = {"wal_level": "logical", "wal_sender_timeout": "10s"}
SYNC = "orders_to_bills"
_FILES = {
    "resources/systems.py": """
        from dagster import EnvVar

        from sync_platform.connectors.postgres import Postgres

        shop = Postgres(url=EnvVar("SHOP_URL"), capture=True)
        ledger = Postgres(url=EnvVar("LEDGER_URL"))
        """,
    f"assets/{SYNC}/defs.yaml": """
        type: sync_platform.Sync
        attributes:
          source: {connection: shop, object: orders}
          target: {connection: ledger, object: bills, match: [shop, number]}
          mode: mirror
          first_sync: create
          frequency: realtime
          guards: {max_deletes: 100000}
          mapping: {shop: shop, number: number, total: total, note: note}
        """,
}
ORDERS = """
    CREATE TABLE orders (shop uuid NOT NULL, number int NOT NULL, total numeric(12,2), note text,
        updated_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (shop, number));
    CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;
    CREATE TRIGGER touched BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touched();
"""
BILLS = """
    CREATE TABLE bills (shop uuid, number int, total numeric(12,2), note text, PRIMARY KEY (shop, number))
"""
SHOP = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"


@dataclass
class Running:
    """One installation and the processes that a user starts in it."""

    world: World
    logs: Path
    _running: list[Fork] = field(default_factory=list)

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of the state."""
        with psycopg.connect(self.world.database_url) as state:
            return state.execute(query.encode(), parameters).fetchall()

    def start(self, *command: str, **more: str) -> Fork:
        """Starts a command of ours; its output goes to a file."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{command[0]}.log").open("ab") as out:
            process = started(command, self.world.environment(**more), self.world.project, out, out)
        self._running.append(process)
        return process

    def capture(self, *, follows: int = 1, **more: str) -> Fork:
        """Starts a capture process and waits until it follows so many connections, or ended."""
        log = self.logs / "capture.log"

        def times() -> int:
            return log.read_text(errors="replace").count(": following ") if log.exists() else 0

        before = times()
        process = self.start("capture", **more)
        self.until(lambda: times() >= before + follows or process.poll() is not None, "it follows")
        return process

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Waits for a condition."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not in {seconds} s\n{self.told()}"
            time.sleep(0.05)

    def waiting(self) -> int:
        """How many events are not delivered."""
        return int(self.rows("SELECT count(*) FROM sync.queue WHERE state = 'waiting'")[0][0])

    def owes(self) -> list[tuple[Any, ...]]:
        """The streams that owe a full compare, and why."""
        return self.rows("SELECT stream, reason FROM sync.owed_reads ORDER BY 1")

    def told(self) -> str:
        """The ends of the logs."""
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-4000:]}" for path in self.logs.glob("*"))

    def kill(self, process: Fork) -> None:
        """kill -9."""
        process.kill()

    def stop(self, *processes: Fork) -> None:
        """Ends processes (all by default) as an operator does."""
        ending = [one for one in (processes or self._running) if one.poll() is None]
        for process in ending:
            process.terminate()
        for process in ending:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill(process)


@dataclass
class Captured(Running):
    """An installation whose `shop` is on a server of its own, so that it can be restarted."""

    server: PrivateServer = field(kw_only=True)
    shop: str = field(kw_only=True)
    ledger: str = field(kw_only=True)

    def prepare(self, rows: int = 0, files: Mapping[str, str] | None = None) -> None:
        """The project, and orders numbered from 1."""
        self.world.project = self.logs.parent / "project"
        lay_out(self.world.project, {**_FILES, **(files or {})})
        self.world.extra = {"SHOP_URL": self.shop, "LEDGER_URL": self.ledger}
        self.sell(ORDERS)
        with psycopg.connect(self.ledger, autocommit=True) as db:
            db.execute(BILLS)
        if rows:
            self.sell(f"INSERT INTO orders SELECT '{SHOP}', n, n * 1.01, 'first' FROM generate_series(1, {rows}) n")

    def sell(self, *statements: str) -> None:
        """Statements at the shop, each a transaction; again while the server restarts."""
        for statement in statements:
            with psycopg.connect(self.shop, autocommit=True) as db:
                db.execute(statement.encode())

    def orders(self) -> list[tuple[Any, ...]]:
        """What the shop has."""
        with psycopg.connect(self.shop) as db:
            return db.execute("SELECT shop, number, total, note FROM orders ORDER BY 1, 2").fetchall()

    def bills(self) -> list[tuple[Any, ...]]:
        """What the ledger has."""
        with psycopg.connect(self.ledger) as db:
            return db.execute("SELECT shop, number, total, note FROM bills ORDER BY 1, 2").fetchall()

    def run(self) -> Answer:
        """One run of the sync, which pays what its stream owes."""
        done = self.world.run(SYNC)
        assert done.code == 0, done.out[-2000:] + done.err[-3000:]
        return done

    def agreed(self, seconds: float = 60) -> None:
        """Waits until the ledger holds what the shop has, and nothing waits."""
        self.until(lambda: self.orders() == self.bills() and not self.waiting(), "the ledger agrees", seconds)

    def slots(self) -> list[tuple[Any, ...]]:
        """The replication slots of the shop's server in this database."""
        with psycopg.connect(self.server.url()) as db:
            return db.execute(
                "SELECT slot_name, active FROM pg_replication_slots WHERE database = %s", (self.shop.rsplit("/", 1)[1],)
            ).fetchall()


@contextmanager
def captured(world: World, server: PrivateServer, logs: Path) -> Iterator[Captured]:
    """An installation with empty databases; nothing is left of it, no slot either."""
    shop, ledger = (f"{kind}_{uuid.uuid4().hex[:8]}" for kind in ("shop", "ledger"))
    state = world.database_url.rsplit("/", 1)[0]
    with psycopg.connect(world.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {ledger}".encode())
    made = Captured(world, logs, server=server, shop=server.create(shop), ledger=f"{state}/{ledger}")
    try:
        yield made
    finally:
        made.stop()
        with psycopg.connect(server.url(), autocommit=True) as admin:
            for _ in range(100):
                left = admin.execute(
                    "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = %s", (shop,)
                ).fetchall()
                for slot, pid in left:
                    if pid is None:
                        admin.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
                if not left:
                    break
                time.sleep(0.1)
        server.drop(shop)
        with psycopg.connect(world.database_url, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {ledger} WITH (FORCE)".encode())
