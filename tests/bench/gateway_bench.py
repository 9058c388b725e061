"""`python -m tests.bench.gateway_bench [--seconds S] [--rates R ...]`: signed webhooks through the gateway's port.

One event a request, durability on. The floor beside it is the same load on a server that reads the body and answers,
with the same HTTP stack: what is left is what proof, inbox and commit cost. A row whose events are not all in the
inbox, each once and with its queue row, prints INVALID.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import requests

from sync_platform.home import Home
from sync_platform.state.database import open_state
from tests.bench.webhook_load import Answers, send_all, signed_requests
from tests.private_postgres import PrivateServer, free_port
from tests.unit.realtime.gateways import NEW, RunningGateway, Written

_FLOOR = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def take(request):
    await request.body()
    return Response()

app = Starlette(routes=[Route("/webhooks/{connection}", take, methods=["POST"])])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
"""


def measured(port: int, rate: float, seconds: float) -> Answers:
    """The answers to a steady load, after a second of warming up."""
    for share in (0.1, 1.0):
        count = max(1, int(rate * seconds * share))
        load = signed_requests(port, "hubspot", NEW, range(count))
        answers = asyncio.run(send_all(port, load, rate=rate))
    return answers


def row(what: str, rate: float, answers: Answers, invalid: str | None = None) -> str:
    """A line of the table."""
    done = len(answers.latencies) / answers.seconds
    shares = " | ".join(f"{answers.milliseconds(share):.1f}" for share in (0.5, 0.95, 0.99, 1.0))
    return f"| {what} | {rate:.0f} | {done:.0f} | {shares} | {invalid or 'all stored' if what != 'floor' else '-'} |"


def missing(url: str, before: int, sent: int) -> str | None:
    """What is wrong with the inbox after `sent` more events; None when all are there."""
    with psycopg.connect(url) as connection:
        stored = connection.execute("SELECT count(*) FROM sync.inbox").fetchone()
        queued = connection.execute("SELECT count(*) FROM sync.queue").fetchone()
    assert stored is not None
    assert queued is not None
    found = (stored[0] - before, queued[0] - 2 * before)
    return None if found == (sent, 2 * sent) else f"INVALID: {found[0]} of {sent} stored, {found[1]} queue rows"


def main() -> int:
    """Prints the table; 1 when a row is invalid."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gateway_bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each measurement")
    parser.add_argument("--rates", type=float, nargs="+", default=[100.0, 1_000.0, 1_500.0, 2_500.0])
    chosen = parser.parse_args()
    print(
        "| what | sent/s | answered/s | p50 ms | p95 ms | p99 ms | max ms | inbox |\n|---|---|---|---|---|---|---|---|"
    )
    failed, port = False, free_port()
    floor = subprocess.Popen([sys.executable, "-c", _FLOOR, str(port)])
    with tempfile.TemporaryDirectory() as folder, PrivateServer(durable=True) as server:
        open_state(Home(Path(folder) / "first"), url=server.url()).close()
        project = Written.at(Path(folder) / "project")
        with RunningGateway(project=project.root, home=Path(folder) / "home", database_url=server.url()) as gateway:
            requests.post(f"http://127.0.0.1:{port}/webhooks/x", timeout=10)
            before = 0
            for rate in chosen.rates:
                print(row("floor", rate, measured(port, rate, chosen.seconds)), flush=True)
                answers = measured(gateway.port, rate, chosen.seconds)
                sent = len(answers.latencies) + max(1, int(rate * chosen.seconds * 0.1))
                wrong = missing(server.url(), before, sent) if answers.statuses.keys() == {200} else "INVALID: refused"
                before, failed = before + sent, failed or wrong is not None
                print(row("gateway, 2 queue rows an event", rate, answers, wrong), flush=True)
                time.sleep(1.0)
    floor.terminate()
    floor.wait()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
