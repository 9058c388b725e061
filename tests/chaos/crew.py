"""A gateway and workers of a world, some of which are killed: what the chaos tests of the warm lane share."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.forked_commands import started
from tests.forks import Fork
from tests.private_postgres import free_port
from tests.world import World

SECRET = "the-last-segment"


@dataclass
class Crew:
    """The processes of the warm lane of one world."""

    world: World
    logs: Path
    port: int = field(default_factory=free_port)
    database_url: str = ""
    killed: int = 0
    _running: dict[str, list[Fork]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, *command: str, **more: str) -> Fork:
        """Starts a command of ours; its output goes to a file."""
        self.logs.mkdir(parents=True, exist_ok=True)
        environment = self.world.environment(SALESFORCE_WEBHOOK_SECRET=SECRET, **more)
        with (self.logs / f"{command[0]}.log").open("ab") as out:
            process = started(command, environment, self.world.project, out, out)
        with self._lock:
            self._running.setdefault(command[0], []).append(process)
        return process

    def gateway(self) -> None:
        """Starts the gateway and waits until it is ready."""
        self.start("gateway", "--port", str(self.port))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError((self.logs / "gateway.log").read_text())

    def listen(self, **options: Any) -> None:
        """Lets the simulated Salesforce send its outbound messages about leads to the gateway."""
        url = f"http://127.0.0.1:{self.port}/webhooks/salesforce/{SECRET}"
        body = {"system": "salesforce", "target_url": url, "options": options, "messages": [{"object": "Lead"}]}
        self.world.control.post("webhooks", body)

    def kill(self, name: str, chance: random.Random) -> None:
        """kill -9 of one of these processes, and another one in its place."""
        with self._lock:
            alive = [one for one in self._running.get(name, []) if one.poll() is None]
        if alive:
            victim = chance.choice(alive)
            os.killpg(victim.pid, signal.SIGKILL)
            victim.wait()
            self.killed += 1
        self.start(name)

    @contextmanager
    def killing(self, name: str, every: float, seed: int = 1) -> Iterator[None]:
        """Kills one of these processes every few seconds for the length of the block."""
        over, chance = threading.Event(), random.Random(seed)

        def killer() -> None:
            while not over.wait(every * chance.uniform(0.7, 1.3)):
                self.kill(name, chance)

        thread = threading.Thread(target=killer)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def waiting(self) -> int:
        """How many queue rows are not done."""
        with psycopg.connect(self.database_url or self.world.database_url) as state:
            row = state.execute("SELECT count(*) FROM sync.queue WHERE state = 'waiting'").fetchone()
        assert row is not None
        return int(row[0])

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of the state."""
        with psycopg.connect(self.database_url or self.world.database_url) as state:
            return state.execute(query.encode(), parameters).fetchall()

    def quiet(self, seconds: float = 120) -> None:
        """Waits until every sent event is stored and delivered."""
        deadline = time.monotonic() + seconds
        calm = 0
        while calm < 3:
            assert time.monotonic() < deadline, self.told()
            sending = [one["waiting"] for one in self.world.control.get("webhooks")["webhooks"]]
            calm = calm + 1 if not any(sending) and self.waiting() == 0 else 0
            time.sleep(0.3)

    def told(self) -> str:
        """The ends of the logs, for a failing test."""
        logs = {path.name: path.read_text(errors="replace")[-3000:] for path in self.logs.glob("*.log")}
        return f"{self.waiting()} waiting\n" + "\n".join(f"== {name}\n{text}" for name, text in logs.items())

    def stop(self) -> None:
        """Ends everything that was started."""
        running = [one for group in self._running.values() for one in group if one.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.world.control.call("DELETE", "webhooks", {"system": "salesforce"})
