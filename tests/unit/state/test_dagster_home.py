"""Dagster's instance folder."""

from __future__ import annotations

from psycopg.conninfo import conninfo_to_dict

from sync_platform.state.dagster_home import URL_VARIABLE, dagster_environment, dagster_home
from sync_platform.state.database import Database
from tests.unit.state import processes

USE = """
from sync_platform.state.dagster_home import enter_dagster
from sync_platform.state.database import open_state
database = open_state()
enter_dagster(database)
from dagster import DagsterInstance
with DagsterInstance.get() as instance:
    print(len(instance.get_runs()), instance.telemetry_enabled, type(instance.run_storage).__name__)
with database.connection() as connection:
    print(*connection.execute("SELECT to_regclass('dagster.runs'), to_regclass('public.runs')").fetchone())
    connection.execute("SELECT * FROM sync.outcomes")
"""


def test_no_file_of_dagsters_holds_the_password(fresh_state: Database) -> None:
    folder = dagster_home(fresh_state)
    password = str(conninfo_to_dict(fresh_state.url)["password"])
    text = (folder / "dagster.yaml").read_text()
    assert password not in text
    assert URL_VARIABLE in text
    assert password in dagster_environment(fresh_state)[URL_VARIABLE]


def test_dagster_keeps_its_runs_in_the_state_and_beside_our_tables(fresh_state: Database) -> None:
    printed = processes.finish(processes.start(USE, processes.of(fresh_state)))
    assert printed.splitlines() == ["0 False PostgresRunStorage", "dagster.runs None"]


def test_writing_it_again_changes_nothing(fresh_state: Database) -> None:
    file = dagster_home(fresh_state) / "dagster.yaml"
    before = file.stat().st_mtime_ns
    dagster_home(fresh_state)
    assert file.stat().st_mtime_ns == before
