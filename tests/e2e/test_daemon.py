"""What the daemon does by its own ticks: delivers events nobody works on, and tells people what is wrong.

No command is called between an event and its write; the sandbox's log is the judge.
"""

from __future__ import annotations

import datetime as dt
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sync_platform.commands.scaffold import write_project
from sync_platform.home import Home
from sync_platform.realtime import queue
from sync_platform.state import server
from sync_platform.state.database import Database, open_state
from tests.e2e.installed import REPOSITORY, Installed, stop_schedules
from tests.private_postgres import free_port
from tests.webhook_sink import Sink
from tests.world import SYNC

pytestmark = pytest.mark.xdist_group("daemon")

PATIENCE = 180.0
#: From a webhook's arrival to the write, at the default `max_lag` of 30 seconds: it, one tick, one run's start.
WITHIN = dt.timedelta(seconds=60)

DRAIN = f"{SYNC}_drain"
TICKS = """query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor {
  sensorState { status ticks(limit: 50) { status skipReason runIds } } } } }"""


@dataclass
class Watched(Installed):
    """An installation of a project of its own that tells a webhook."""

    project: Path = Path()
    alert: str = ""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "SYNC_PROJECT": str(self.project), "SYNC_ALERT_OPS": self.alert}

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """The newest ticks of a sensor, newest first."""
        told = self.ask(TICKS, selector={**REPOSITORY, "sensorName": sensor})["sensorOrError"]["sensorState"]
        assert told["status"] == "RUNNING"
        found: list[dict[str, Any]] = told["ticks"]
        return found

    def skipped(self, sensor: str) -> list[str]:
        """Why a sensor's newest ticks requested nothing."""
        return [str(tick["skipReason"]) for tick in self.ticks(sensor) if tick["status"] == "SKIPPED"]


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink() as made:
        yield made


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, sink: Sink) -> Iterator[Watched]:
    """`up --sandbox` with the reference sync telling `ops`.

    No schedule ticks, no webhook is sent and no worker works, so that only sensors start anything.
    """
    folder = tmp_path_factory.mktemp("daemon")
    write_project(folder / "project")
    file = folder / "project" / "assets" / SYNC / "defs.yaml"
    text = file.read_text().replace("errors: {retries: 5}", "errors: {retries: 0, alert: [ops]}")
    assert "alert: [ops]" in text
    assert "max_lag" not in text, "it keeps the default"
    file.write_text(text)
    made = Watched(folder / "home", free_port(), free_port(), free_port(), project=folder / "project", alert=sink.url)
    try:
        made.start()
        stop_schedules(made)
        made.without_webhooks()
        (worker,) = (one["pid"] for one in made.services if one["name"] == "worker")
        os.kill(worker, signal.SIGTERM)
        yield made
    finally:
        made.cli("down")
        server.destroy(Home(made.home))


@pytest.fixture
def state(up: Watched) -> Iterator[Database]:
    """The state `up` runs on."""
    database = open_state(Home(up.home))
    yield database
    database.close()


def store(database: Database, key: str, *, waited: float = 0.0) -> None:
    """What the gateway stores of a webhook: the event, and what a sync has to do about it."""
    with database.connection() as connection:
        row = connection.execute(
            """INSERT INTO sync.inbox (connection, event_id, stream, key, kind, occurred_at, received_at)
               VALUES ('salesforce', %s, 'Lead', %s, 'updated', now(), now() - make_interval(secs => %s))
               RETURNING seq""",
            (uuid.uuid4().hex, key, waited),
        ).fetchone()
        assert row is not None
        connection.execute("INSERT INTO sync.queue (sync, seq, key) VALUES (%s, %s, %s)", (SYNC, row[0], key))


def inbox(database: Database) -> list[dt.datetime]:
    """When each event came."""
    with database.connection() as connection:
        return [row[0] for row in connection.execute("SELECT received_at FROM sync.inbox ORDER BY seq").fetchall()]


def eventually(so: Callable[[], Any], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not so():
        assert time.monotonic() < deadline, what()
        time.sleep(0.25)


def lead(up: Watched, company: str, email: str | None) -> str:
    fields = {"LastName": "Lovelace", "Company": company, "Status": "Open - Not Contacted"}
    made = up.control.post("records/salesforce/Lead", [{"fields": fields | ({"Email": email} if email else {})}])
    return str(made["ids"][0])


def post_webhooks(up: Watched) -> None:
    """Has Salesforce send its webhooks to the gateway again."""
    (told,) = (one for one in up.webhooks if one["system"] == "salesforce")
    up.control.post("webhooks", {"system": "salesforce", "target_url": told["target_url"]})


def test_a_webhook_nobody_works_on_is_written_within_a_minute_without_any_command(up: Watched, state: Database) -> None:
    post_webhooks(up)
    lead(up, "Analytical Engines", "ada@example.com")
    eventually(lambda: inbox(state), lambda: "the webhook did not arrive")
    up.without_webhooks()
    eventually(lambda: up.writes() == 1, lambda: up.ticks(f"{SYNC}_backlog"))
    (posted,) = inbox(state)
    written = max(dt.datetime.fromisoformat(one["time"]) for one in up.control.get("log?system=hubspot")["requests"]
                  if any(effect["applied"] for effect in one["records"]))  # fmt: skip
    assert dt.timedelta(seconds=30) < written - posted < WITHIN
    (contact,) = up.control.get("records/hubspot/contacts")["records"]
    assert (contact["fields"]["email"], contact["fields"]["company"]) == ("ada@example.com", "Analytical Engines")
    run = next(run for tick in up.ticks(f"{SYNC}_backlog") for run in tick["runIds"])
    eventually(lambda: up.run_status(run) == "SUCCESS", lambda: up.run_status(run))
    assert "backlog is" in " ".join(up.skipped(f"{SYNC}_backlog"))  # it waited for a worker first
    told = up.assets()[f"{SYNC}/delivered"]["assetMaterializations"][0]
    assert {"report", "report_markdown", "events", "latency_p99_ms"} <= {
        one["label"] for one in told["metadataEntries"]
    }
    eventually(lambda: up.skipped(f"{SYNC}_backlog")[0] == "no backlog", lambda: up.ticks(f"{SYNC}_backlog"))


def test_with_a_living_worker_the_ticks_say_that_it_works(up: Watched, state: Database) -> None:
    worker = str(uuid.uuid4())
    with state.connection() as connection:
        connection.execute("INSERT INTO sync.workers (worker_id, host, pid) VALUES (%s, 'here', 7)", (worker,))
    store(state, "00Q000000000001", waited=40)
    batch = queue.claim(state, worker, [SYNC], 10)
    assert batch is not None

    def said() -> bool:
        queue.renew(state, worker, [batch.plan_id])
        return up.skipped(f"{SYNC}_backlog")[:1] == ["a worker is alive and works on it: here (pid 7)"]

    eventually(said, lambda: up.ticks(f"{SYNC}_backlog"))
    with state.connection() as connection:
        queue.finish(connection, worker, SYNC, {"00Q000000000001": ("unchanged", None)})
        connection.execute("DELETE FROM sync.workers")


def test_failed_runs_and_a_stale_source_each_reach_the_webhook_once_per_change(
    up: Watched, state: Database, sink: Sink
) -> None:
    bad = [lead(up, f"Nowhere {n}", None) for n in range(12)]
    for _ in range(2):
        assert up.cli("run", SYNC, "--json").code == 4  # most records are invalid: the guard blocks
    with state.connection() as connection:
        connection.execute("UPDATE sync.loads SET started_at = now() - interval '1 hour'")
    failing, stale = f"{SYNC}: the last run failed", f"{SYNC}: not up to date"
    eventually(lambda: {failing, stale} <= set(sink.titles), lambda: sink.titles)
    up.control.delete("records/salesforce/Lead", bad)
    assert up.cli("run", SYNC, "--json").code == 0
    again, fresh = f"{SYNC}: runs succeed again", f"{SYNC}: up to date again"
    eventually(lambda: {again, fresh} <= set(sink.titles), lambda: sink.titles)
    quiet(up)
    assert [sink.titles.count(one) for one in (failing, stale, again, fresh)] == [1, 1, 1, 1]


def quiet(up: Watched) -> None:
    """Waits until both sensors looked once more and found nothing new."""
    names = ("alert_run_failures", "alert_freshness")
    nothing = "nothing changed since it was last told"
    eventually(
        lambda: all(up.skipped(name)[0] == nothing for name in names),
        lambda: [up.skipped(name)[:3] for name in names],
    )
