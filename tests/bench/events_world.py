"""One installation of the events bench: sandbox, project, gateway and workers as processes of their own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from sync_platform.home import Home
from sync_platform.sandbox.server import SandboxProcess, env_lines
from sync_platform.state.server import running_url
from tests.bench import events_project
from tests.bench.events_project import EDITED, Feed
from tests.bench.ours import Ours
from tests.private_postgres import PrivateServer, free_port

_DAEMON = """
import os, sys
from pathlib import Path
from sync_platform.state.dagster_home import enter_dagster
from sync_platform.state.database import open_state
enter_dagster(open_state())
program = str(Path(sys.executable).parent / "dagster-daemon")
os.execv(program, [program, "run", "-m", "sync_platform.definitions"])
"""
SECRET = "the-last-segment-of-the-address"


class InvalidRow(Exception):
    """A row whose figures mean nothing, and why."""


@dataclass
class World:
    """A running installation. `edits[n]` is the record that the n-th edit changed."""

    folder: Path
    sandbox: SandboxProcess = field(repr=False)
    server: PrivateServer = field(repr=False)
    feeds: Sequence[Feed]
    workers: int = 1
    concurrency: int = 2
    port: int = field(default_factory=free_port)
    records: list[str] = field(default_factory=list)
    edits: dict[int, str] = field(default_factory=dict)
    _running: dict[str, list[subprocess.Popen[bytes]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        variables = dict(line.split("=", 1) for line in env_lines(self.sandbox.port))
        self.target_url = self.server.url("warehouse")
        self.variables = variables | {"BENCH_TARGET_URL": self.target_url, "SALESFORCE_WEBHOOK_SECRET": SECRET}
        self.ours = Ours(self.folder / "project", self.variables)
        self.source = self.feeds[0].source

    @property
    def state_url(self) -> str:
        """The installation's own database."""
        url = running_url(Home(self.folder / "project" / "home"))
        if url is None:
            raise InvalidRow("the state's server does not run")
        return url

    # -- making it -------------------------------------------------------------------------------

    def prepare(self, count: int, *, load: bool = True) -> None:
        """Records at the source, and the first load of every sync, without HubSpot's limit of calls."""
        self.habit("private_app_limit", on=False)
        events_project.write_project(self.ours.folder, self.feeds)
        with psycopg.connect(self.server.create("warehouse"), autocommit=True) as db:
            for table in events_project.tables(self.feeds):
                db.execute(events_project.DDL.format(name=table).encode())
        system, stream = self.source.split("/")
        body = {"system": system, "stream": stream, "count": count, "options": {}}
        self.records = self.sandbox.control.post("seed", body)["ids"]
        for feed in self.feeds if load else ():
            done = self.ours.command("run", feed.name)
            if done.code:
                raise InvalidRow(f"the first load of {feed.name} ended with {done.code}: {done.output[-800:]}")
        if not load:
            self.ours.command("sql", "SELECT 1")  # starts the state

    def habit(self, name: str, *, on: bool) -> None:
        """Switches one of HubSpot's habits."""
        self.sandbox.control.post("habits", {"system": "hubspot", "name": name, "on": on})

    def limits(self, *, kept: bool) -> None:
        """HubSpot's limit of calls: enforced by the vendor and kept by us, or neither."""
        self.habit("private_app_limit", on=kept)
        events_project.pace(self.ours.folder, kept=kept)

    # -- processes -------------------------------------------------------------------------------

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Starts `sync-platform` with these arguments; its output goes to a file."""
        return self._start(command[0], [Path(sys.executable).parent / "sync-platform", *command])

    def _start(self, name: str, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as out:
            process = subprocess.Popen(
                command, env=self.ours.environment, cwd=self.ours.folder, stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, start_new_session=True,
            )  # fmt: skip
        self._running.setdefault(name, []).append(process)
        return process

    def stop(self, name: str) -> None:
        """Stops all processes of that command, as an operator would."""
        for process in self._running.pop(name, []):
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            with contextlib.suppress(ProcessLookupError):  # what it started and did not wait for
                os.killpg(process.pid, signal.SIGKILL)  # Dagster's code server lives on after a SIGTERM

    def gateway(self) -> None:
        """Starts the gateway, and lets the source's vendor send to it."""
        self.start("gateway", "--port", str(self.port))
        self._wait_for("the gateway", self._ready)
        system, stream = self.source.split("/")
        body: dict[str, Any] = {"system": system, "target_url": f"{self.url}/webhooks/{system}"}
        if system == "hubspot":
            body["subscriptions"] = [{"eventType": "contact.propertyChange", "propertyName": EDITED[self.source]}]
        else:
            body |= {"target_url": f"{self.url}/webhooks/{system}/{SECRET}", "messages": [{"object": stream}]}
        self.sandbox.control.post("webhooks", body)

    def worker(self) -> None:
        """Starts the workers and waits until they are registered."""
        before = self._registered()
        for _ in range(self.workers):
            self.start("worker", "--concurrency", str(self.concurrency))
        self._wait_for("the worker", lambda: self._registered() - before >= self.workers)

    def daemon(self) -> None:
        """Starts Dagster's daemon and waits until its sensors tick."""
        self._start("daemon", [sys.executable, "-c", _DAEMON])
        beats = "SELECT count(*) FROM dagster.daemon_heartbeats WHERE daemon_type = 'SENSOR'"
        self._wait_for("the daemon", lambda: self.rows(beats)[0][0])

    def _registered(self) -> int:
        return int(self.rows("SELECT count(*) FROM sync.workers")[0][0])

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                return True
        except OSError:
            return False

    def _wait_for(self, what: str, ready: Any) -> None:
        deadline = time.monotonic() + 60
        while not ready():
            if time.monotonic() > deadline:
                raise InvalidRow(f"{what} did not start: {self.told()}")
            time.sleep(0.1)

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"http://127.0.0.1:{self.port}"

    def pids(self, command: str) -> list[int]:
        """The running processes of a command."""
        return [process.pid for process in self._running.get(command, [])]

    # -- edits -----------------------------------------------------------------------------------

    def edit(self, count: int, *, rate: float | None = None) -> float:
        """Makes so many edits, each of the next record, as people would in the vendor's UI; the seconds it took.

        At `rate` edits a second, in at most 100 requests a second; without, as fast as the vendor takes them.
        """
        size = 100 if rate is None else max(1, round(rate / 100))
        field_name, first, begun = EDITED[self.source], len(self.edits), time.monotonic()
        client = http.client.HTTPConnection("127.0.0.1", self.sandbox.port, timeout=60)
        for start in range(first, first + count, size):
            if rate is not None:
                time.sleep(max(0.0, begun + (start - first) / rate - time.monotonic()))
            batch = []
            for number in range(start, min(start + size, first + count)):
                self.edits[number] = self.records[number % len(self.records)]
                batch.append({"id": self.edits[number], "fields": {field_name: value_of(number)}})
            client.request("POST", f"/__control__/records/{self.source}", json.dumps(batch))
            answer = client.getresponse()
            told = answer.read()
            if answer.status != 200:
                raise InvalidRow(f"an edit was refused: {told[:300]!r}")
        client.close()
        return time.monotonic() - begun

    def arrived(self, count: int, seconds: float = 120) -> None:
        """Waits until so many events are in the inbox."""
        deadline = time.monotonic() + seconds
        while (there := int(self.rows("SELECT count(*) FROM sync.inbox")[0][0])) < count:
            if time.monotonic() > deadline:
                raise InvalidRow(f"{there} of {count} events arrived in {seconds:.0f} s: {self.told()}")
            time.sleep(0.2)

    def quiet(self, seconds: float = 180) -> None:
        """Waits until every edit's event is stored and delivered."""
        deadline = time.monotonic() + seconds
        while True:
            sending = [one["waiting"] for one in self.sandbox.control.get("webhooks")["webhooks"]]
            waiting = int(self.rows("SELECT count(*) FROM sync.queue WHERE state = 'waiting'")[0][0])
            if not any(sending) and not waiting:
                return
            if time.monotonic() > deadline:
                raise InvalidRow(f"{waiting} events still wait after {seconds:.0f} s: {self.told()}")
            time.sleep(0.2)

    def warm(self, count: int | None = None) -> None:
        """One event for each of the first records (all by default), delivered: from then on they are known."""
        self.edit(len(self.records) if count is None else count)
        self.quiet()

    # -- looking ---------------------------------------------------------------------------------

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of the state."""
        with psycopg.connect(self.state_url) as state:
            return state.execute(query.encode(), parameters).fetchall()

    def mark(self) -> int:
        """The sandbox log's last number."""
        requests = self.sandbox.control.get(f"log?since={max(0, self._last - 1)}")["requests"]
        if requests:
            self._last = int(requests[-1]["seq"])
        return self._last

    _last: int = 0

    def told(self) -> str:
        """The ends of the logs."""
        logs = {path.stem: path.read_text(errors="replace")[-600:] for path in self.folder.glob("*.log")}
        return "; ".join(f"{name}: {text}" for name, text in logs.items())

    def close(self) -> None:
        """Stops everything of this installation."""
        for name in list(self._running):
            self.stop(name)
        if (self.folder / "project" / "home").exists():
            self.ours.command("down")


def value_of(number: int) -> str:
    """What the n-th edit writes."""
    return f"Company {number:07d}"


def number_of(value: object) -> int | None:
    """Which edit wrote this; None: none of ours."""
    head, _, tail = str(value).partition(" ")
    return int(tail) if head == "Company" and tail.isdigit() and len(tail) == 7 else None


@contextlib.contextmanager
def world(feeds: Sequence[Feed], *, workers: int = 1, concurrency: int = 2) -> Iterator[World]:
    """A fresh installation beside a fresh sandbox and a durable PostgreSQL as target; nothing is left of it."""
    folder = Path(tempfile.mkdtemp(prefix="bench-events-"))
    try:
        with SandboxProcess() as sandbox, PrivateServer(durable=True) as server:
            made = World(folder, sandbox, server, feeds, workers=workers, concurrency=concurrency)
            try:
                yield made
            finally:
                made.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
