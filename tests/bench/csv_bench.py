"""A Bulk CSV of the simulated Salesforce into staging, against dlt yielding its lines as dicts.

Both move the same fields. The peer is given the CSV as a local file; ours asks the simulator for it, and its
time includes that.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.bench import peers
from tests.bench.measure import Series, run
from tests.bench.ours import Ours
from tests.private_postgres import free_port
from tests.project_files import lay_out

WORK = "Bulk CSV into staging"
_FIELDS = (
    "Id", "FirstName", "LastName", "Email", "Company", "Status", "Phone", "CreatedDate", "LastModifiedDate",
    "SystemModstamp",
)  # fmt: skip
_QUERY = f"SELECT {', '.join(_FIELDS)} FROM Lead"
_PAGE = 50_000
_RESOURCES = '''\
"""The simulated Salesforce of the bench."""

from dagster import EnvVar

from sync_platform.connectors.salesforce import Salesforce

salesforce = Salesforce(
    base_url=EnvVar("SALESFORCE_BASE_URL"),
    client_id=EnvVar("SALESFORCE_CLIENT_ID"),
    client_secret=EnvVar("SALESFORCE_CLIENT_SECRET"),
)
'''


@contextmanager
def sandbox(records: int) -> Iterator[dict[str, str]]:
    """A sandbox with that many leads; the variables that point to it."""
    port, program = free_port(), Path(sys.executable).parent / "sync-platform"
    told = subprocess.run(
        [program, "sandbox", "--env", "--port", str(port)], capture_output=True, text=True, check=True
    )
    variables = dict(line.split("=", 1) for line in told.stdout.split() if "=" in line)
    server = subprocess.Popen(
        [program, "sandbox", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    control = f"http://127.0.0.1:{port}/__control__"
    try:
        for _ in range(300):
            try:
                requests.get(f"{control}/health", timeout=5)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        seed = {"system": "salesforce", "stream": "Lead", "count": records, "options": {}}
        requests.post(f"{control}/seed", json=seed, timeout=600).raise_for_status()
        yield variables
    finally:
        server.terminate()
        server.wait(30)


def download(variables: dict[str, str], csv: Path) -> int:
    """The leads as Bulk API 2.0 gives them, into one file; how many lines of data.

    https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/bulk_api_2_0.htm
    """
    base = variables["SALESFORCE_BASE_URL"]
    login = {
        "grant_type": "client_credentials",
        "client_id": variables["SALESFORCE_CLIENT_ID"],
        "client_secret": variables["SALESFORCE_CLIENT_SECRET"],
    }
    with requests.Session() as session:
        token = session.post(f"{base}/services/oauth2/token", data=login, timeout=60).json()
        session.headers["Authorization"] = f"Bearer {token['access_token']}"
        jobs = f"{token['instance_url']}/services/data/v64.0/jobs/query"
        made = session.post(jobs, json={"operation": "query", "query": _QUERY}, timeout=60)
        made.raise_for_status()
        job = f"{jobs}/{made.json()['id']}"
        while session.get(job, timeout=60).json()["state"] != "JobComplete":
            time.sleep(0.2)
        locator, lines = "", 0
        with csv.open("w", encoding="utf-8", newline="") as out:
            while locator != "null":
                page = session.get(
                    f"{job}/results",
                    params={"maxRecords": _PAGE} | ({"locator": locator} if locator else {}),
                    timeout=600,
                )
                page.raise_for_status()
                page.encoding = "utf-8"
                head, _, body = page.text.partition("\n")
                out.write(body if locator else f"{head}\n{body}")
                lines += int(page.headers["Sforce-NumberOfRecords"])
                locator = page.headers.get("Sforce-Locator", "null")
    return lines


def bench(records: int, rounds: int) -> list[Series]:
    """Both sides in turn, `rounds` times, each into an empty place."""
    peers.environment_of("dlt")
    mine, theirs = Series(tool="sync-platform", work=WORK, runs=[]), Series(tool="dlt, dicts", work=WORK, runs=[])
    with sandbox(records) as variables:
        work = Path(tempfile.mkdtemp(prefix="bench-csv-"))
        try:
            csv = work / "leads.csv"
            if download(variables, csv) != records:
                theirs.invalid = f"the CSV does not hold {records} leads"
            for number in range(rounds):
                _theirs(theirs, csv, work / f"dlt{number}", records)
                _mine(mine, Ours(work / f"ours{number}", variables), records)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return [mine, theirs]


def _theirs(series: Series, csv: Path, work: Path, records: int) -> None:
    work.mkdir()
    measured = peers.dlt_csv(csv, work / "peer.duckdb", work)
    count = run(
        [peers.environment_of("dlt") / "python", "-c",
         f"import duckdb; print(duckdb.connect({str(work / 'peer.duckdb')!r}).sql('FROM staging.lead').count('*'))"],
        env=dict(os.environ), cwd=work,
    )  # fmt: skip
    series.runs.append(measured)
    if measured.code or str(records) not in count.output:
        series.invalid = f"exit {measured.code}, found {count.output.strip()[-200:]}"
    print(f"  {series.tool:14} {measured.seconds:7.2f} s  {series.invalid or ''}", flush=True)


def _mine(series: Series, ours: Ours, records: int) -> None:
    lay_out(ours.folder, {"resources/systems.py": _RESOURCES})
    ours.command("sql", "SELECT 1")  # starts the state, so that the next one is a plain load
    try:
        measured = ours.stage("salesforce", "Lead", _FIELDS)
        found = ours.sql("SELECT count(*) AS n, count(DISTINCT Id) AS ids FROM staging.salesforce.Lead")
    finally:
        ours.command("down")
    series.runs.append(measured)
    if measured.code or found != [{"n": records, "ids": records}]:
        series.invalid = f"exit {measured.code}, found {json.dumps(found)}: {measured.output.strip()[-300:]}"
    print(f"  {series.tool:14} {measured.seconds:7.2f} s  {series.invalid or ''}", flush=True)
