"""The tools people use today, each installed by the bench into a virtual environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.bench.measure import Measured, run

PACKAGES = {
    "sling": ["sling-linux-amd64==1.4.11"],
    "ingestr": ["ingestr<1.0"],
    "dlt": ["dlt[postgres,duckdb,sql_database]>=1.31,<1.32", "pyarrow", "psycopg2-binary", "numpy"],
}

_DLT = """
import os, sys, dlt
from dlt.sources.sql_database import sql_table
pipeline = dlt.pipeline("bench", pipelines_dir=os.environ["DLT_DIR"], dataset_name="public",
                        destination=dlt.destinations.postgres(os.environ["DST"]))
table = sql_table(os.environ["SRC"], table="customers", backend="pyarrow", chunk_size=50000,
                  incremental=dlt.sources.incremental("updated_at"))
table.apply_hints(primary_key="id", write_disposition="merge")
pipeline.run(table, table_name="customers")
"""
_DLT_CSV = """
import csv, os, dlt
def leads():
    with open(os.environ["CSV"], newline="", encoding="utf-8") as lines:
        yield from csv.DictReader(lines)
pipeline = dlt.pipeline("csv", pipelines_dir=os.environ["DLT_DIR"], dataset_name="staging",
                        destination=dlt.destinations.duckdb(os.environ["DUCKDB"]))
pipeline.run(dlt.resource(leads, name="Lead", primary_key="Id", write_disposition="merge"))
"""


#: Seconds after which a peer is stopped.
PATIENCE = 180.0


def cache() -> Path:
    """Where the peers are installed: `SYNC_BENCH_CACHE`, else below the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sync-platform-bench"
    return Path(os.environ.get("SYNC_BENCH_CACHE") or default)


def uv() -> str:
    """What makes the environments."""
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    assert found is not None, "install uv (`make setup` does)"
    return found


def environment_of(tool: str) -> Path:
    """The `bin` folder of a tool's own environment, made on first use."""
    home = cache() / tool
    wanted = "\n".join(PACKAGES[tool])
    stamp = home / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([uv(), "venv", "-q", "--python", sys.executable, home], check=True)
        python = home / "bin" / "python"
        subprocess.run(
            [uv(), "pip", "install", "-q", "--compile-bytecode", "--python", python, *PACKAGES[tool]], check=True
        )
        stamp.write_text(wanted)
    return home / "bin"


def _environment(**more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | more


def sling(source: str, target: str, work: Path) -> Measured:
    """sling, incremental with key and update key."""
    return _sling(source, target, work, "--update-key", "updated_at")


def sling_by_key(source: str, target: str, work: Path) -> Measured:
    """sling, incremental with key alone: every row is read and merged."""
    return _sling(source, target, work)


def _sling(source: str, target: str, work: Path, *more: str) -> Measured:
    binary = next(environment_of("sling").parent.rglob("sling_linux_amd64/bin/sling-linux-amd64"))
    return run(
        [binary, "run", "--src-conn", "SRC", "--src-stream", _sling_table(source), "--tgt-conn", "DST",
         "--tgt-object", _sling_table(target), "--mode", "incremental", "--primary-key", "id", *more],
        env=_environment(
            SRC=_sling_url(source), DST=_sling_url(target), SLING_HOME_DIR=str(work),
            SLING_DISABLE_TELEMETRY="TRUE",
        ),
        cwd=work, timeout=PATIENCE,
    )  # fmt: skip


def _sling_url(url: str) -> str:
    return url if url.startswith("mysql:") else url + "?sslmode=disable"


def _sling_table(url: str) -> str:
    return f"{url.rpartition('/')[2]}.customers" if url.startswith("mysql:") else "public.customers"


def ingestr(source: str, target: str, work: Path) -> Measured:
    """ingestr 0.x, merge with key and cursor."""
    return _ingestr(source, target, work, "--incremental-key", "updated_at")


def ingestr_by_key(source: str, target: str, work: Path) -> Measured:
    """ingestr 0.x, merge with key alone: every row is read and merged."""
    return _ingestr(source, target, work)


def _ingestr(source: str, target: str, work: Path, *more: str) -> Measured:
    return run(
        [environment_of("ingestr") / "ingestr", "ingest", "--source-uri", source, "--source-table", "public.customers",
         "--dest-uri", target, "--dest-table", "public.customers", "--incremental-strategy", "merge",
         *more, "--primary-key", "id", "--yes", "--progress", "log"],
        env=_environment(DISABLE_TELEMETRY="true", INGESTR_DISABLE_TELEMETRY="true"),
        cwd=work, timeout=PATIENCE,
    )  # fmt: skip


def dlt(source: str, target: str, work: Path) -> Measured:
    """Plain dlt: sql_table with the Arrow backend, merge."""
    return run(
        [environment_of("dlt") / "python", "-c", _DLT],
        env=_environment(
            SRC=source.replace("postgresql:", "postgresql+psycopg2:"),
            DST=target,
            DLT_DIR=str(work / "dlt"),
            RUNTIME__DLTHUB_TELEMETRY="false",
        ),
        cwd=work,
        timeout=PATIENCE,
    )


def copy_pipe(source: str, target: str, work: Path) -> Measured:
    """The limit: one binary COPY piped into another; it can only do a first load."""
    return run(
        "set -o pipefail; psql \"$SRC\" -qc 'COPY customers TO STDOUT (FORMAT binary)' "
        "| psql \"$DST\" -qc 'COPY customers FROM STDIN (FORMAT binary)'",
        env=_environment(SRC=source, DST=target),
        cwd=work,
        timeout=PATIENCE,
    )


def dlt_csv(csv: Path, duckdb: Path, work: Path) -> Measured:
    """Plain dlt: a resource that yields the CSV's dicts into a DuckDB file."""
    return run(
        [environment_of("dlt") / "python", "-c", _DLT_CSV],
        env=_environment(
            CSV=str(csv), DUCKDB=str(duckdb), DLT_DIR=str(work / "dlt"), RUNTIME__DLTHUB_TELEMETRY="false"
        ),
        cwd=work,
        timeout=PATIENCE,
    )
