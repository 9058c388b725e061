"""Our side of the benches: a temporary project, and `sync-platform` started on it as a person would."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from sync_platform.home import Home
from sync_platform.state.server import running_url
from tests.bench.customers import COLUMNS
from tests.bench.measure import Measured, run
from tests.bench.peers import cache, uv
from tests.bench.sides import Side
from tests.project_files import lay_out

_REPOSITORY = Path(__file__).parents[2]
_RESOURCES = '''\
"""The two databases of the bench."""

from dagster import EnvVar

{imports}

source = {source}(url=EnvVar("BENCH_SOURCE_URL"))
target = {target}(url=EnvVar("BENCH_TARGET_URL"))
'''
_CHECKS = '''\
"""What a customer must be."""

import pandera.polars as pa


class Customer(pa.DataFrameModel):
    """A customer with an address and a known status."""

    email: str = pa.Field(str_contains="@")
    status: str = pa.Field(isin=["new", "open", "won", "lost", "changed"])
'''
_SOURCE = """\
type: sync_platform.Source
attributes:
  connection: source
  streams:
    - object: customers
    - object: nobody
"""
_SYNC = """\
type: sync_platform.Sync
attributes:
  source: {{connection: source, object: {table}}}
  target: {{connection: target, object: {table}, match: [id]}}
  mode: upsert
  first_sync: create
  mapping:
{mapping}
  contract: checks.customers.Customer
  frequency: on_demand
"""
_STAGE = """
import gc, json, sys
gc.set_threshold(100_000, 50, 50)  # as sync-platform's own commands begin ...
from pathlib import Path
from sync_platform.project import Project
from sync_platform.session import Session
from sync_platform.staging.load import stage
with Session.open(Project.current()) as session:
    fields = json.loads(sys.argv[3])
    print(stage(session.lake, session.connector(sys.argv[1]), sys.argv[1], sys.argv[2], fields=fields).rows_read)
gc.freeze()  # ... and end
"""


@functools.cache
def installed() -> Path:
    """The `bin` folder of an environment that holds what users install, as each peer has one of its own.

    The development environment has more: pandera, for one, imports hypothesis wherever it finds it.
    """
    home = cache() / "sync-platform"
    subprocess.run(
        [uv(), "sync", "--quiet", "--frozen", "--no-dev", "--compile-bytecode", "--python", sys.executable],
        cwd=_REPOSITORY, env=os.environ | {"UV_PROJECT_ENVIRONMENT": str(home)}, check=True,
    )  # fmt: skip
    return home / "bin"


@dataclass(frozen=True, slots=True)
class Ours:
    """One installation: a project folder, a home, and the variables its connections take."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of every command of this installation."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SYNC_") and k != "PYTHONDONTWRITEBYTECODE"}
        home = {"SYNC_HOME": str(self.folder / "home"), "SYNC_PROJECT": str(self.folder)}
        return kept | home | {"PYTHONPATH": str(_REPOSITORY)} | dict(self.variables)

    def command(self, *arguments: str) -> Measured:
        """`sync-platform` with these arguments, as a process of its own."""
        return run([installed() / "sync-platform", *arguments], env=self.environment, cwd=self.folder)

    def sql(self, query: str) -> list[dict[str, Any]]:
        """What `sync-platform sql` answers."""
        measured = run(
            [installed() / "sync-platform", "sql", query, "--json"],
            env=self.environment,
            cwd=self.folder,
        )
        try:
            return list(json.loads(measured.output[measured.output.index("[") :]))
        except ValueError:
            return []

    def stage(self, connection: str, stream: str, fields: Sequence[str]) -> Measured:
        """These fields of one stream read into staging, nothing else."""
        command = [installed() / "python", "-c", _STAGE, connection, stream, json.dumps(list(fields))]
        return run(command, env=self.environment, cwd=self.folder)


def write_project(folder: Path, route: tuple[Side, Side]) -> None:
    """A project with a sync of the full table and one of an empty table."""
    resources = _RESOURCES.format(
        imports="\n".join(sorted({f"from sync_platform.connectors.{side.connector}" for side in route})),
        source=route[0].connector.rpartition(" ")[2],
        target=route[1].connector.rpartition(" ")[2],
    )
    files = {
        "resources/systems.py": resources,
        "checks/customers.py": _CHECKS,
        "assets/source/defs.yaml": _SOURCE,
    }
    mapping = "\n".join(f"    {name}: {name}" for name in COLUMNS)
    for table in ("customers", "nobody"):
        files[f"assets/copy_{table}/defs.yaml"] = _SYNC.format(table=table, mapping=mapping)
    lay_out(folder, files)


def steps_of(ours: Ours) -> dict[str, float]:
    """Seconds by step of the last run of `copy_customers`, from its report."""
    found = ours.sql("SELECT report FROM sync.reports WHERE sync = 'copy_customers' ORDER BY finished_at DESC LIMIT 1")
    report = found[0]["report"] if found else {}
    told = json.loads(report) if isinstance(report, str) else report
    return {step: float(seconds) for step, seconds in told.get("performance", {}).get("seconds_by_step", {}).items()}


def steps_of_plan(ours: Ours) -> dict[str, float]:
    """Seconds by step of the last `plan`, which has no report: of its load, and of the steps as Dagster noted them."""
    url = running_url(Home(Path(ours.environment["SYNC_HOME"])))
    assert url is not None, "the plan left the state running"
    with psycopg.connect(url) as connection:
        load = connection.execute(
            """SELECT extract(epoch FROM finished_at - started_at)::float8 FROM sync.loads
               ORDER BY started_at DESC LIMIT 1"""
        ).fetchone()
        steps = connection.execute(
            """SELECT substring(step_key FROM '__(desired|plan)$'),
                      extract(epoch FROM max(timestamp) - min(timestamp))::float8
               FROM dagster.event_logs
               WHERE dagster_event_type IN ('STEP_START', 'STEP_SUCCESS')
                 AND run_id = (SELECT run_id FROM dagster.event_logs ORDER BY id DESC LIMIT 1)
               GROUP BY 1"""
        ).fetchall()
    known = dict(steps)
    assert load is not None
    return {"extract": load[0], "transform": known["desired"], "plan": known["plan"]}


def wrong_with(ours: Ours, measured: Measured, *, rows: int, changed: int) -> str | None:
    """Why a finished run of `copy_customers` does not count: links and outcomes must match what was done."""
    if measured.code != 0:
        return f"exit {measured.code}: {measured.output.strip()[-300:]}"
    found = ours.sql(
        "SELECT (SELECT count(*) FROM sync.links WHERE sync = 'copy_customers') AS links, "
        "(SELECT count(*) FROM sync.outcomes WHERE sync = 'copy_customers' AND status = 'applied') AS outcomes"
    )
    wanted = {"links": rows, "outcomes": changed}
    return None if found and found[0] == wanted else f"links and outcomes are {found}, wanted {wanted}"
