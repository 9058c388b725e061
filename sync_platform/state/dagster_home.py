"""Dagster's instance folder: its runs, events and schedules live in the state's PostgreSQL too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from sync_platform.home import unwritable
from sync_platform.state.database import Database

#: The variable that carries the database's URL, so that no file of Dagster's holds a password.
URL_VARIABLE: Final = "SYNC_DAGSTER_POSTGRES_URL"

_YAML: Final = f"""\
# Written by sync-platform on every start: changes made here are lost.
storage:
  postgres:
    postgres_url:
      env: {URL_VARIABLE}

run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config:
    max_concurrent_runs: 10
    dequeue_interval_seconds: 1

run_launcher:
  module: dagster.core.launcher
  class: DefaultRunLauncher

compute_logs:
  module: dagster.core.storage.local_compute_log_manager
  class: LocalComputeLogManager
  config:
    base_dir: "{{folder}}/compute_logs"

local_artifact_storage:
  module: dagster.core.storage.root
  class: LocalArtifactStorage
  config:
    base_dir: "{{folder}}"

run_monitoring:
  enabled: true
  start_timeout_seconds: 180
  cancel_timeout_seconds: 180

retention:
  schedule:
    purge_after_days: 30
  sensor:
    purge_after_days:
      skipped: 7
      failure: 30
      success: 30

telemetry:
  enabled: false
"""


def dagster_home(db: Database) -> Path:
    """The folder for `DAGSTER_HOME` (`$SYNC_HOME/dagster`), with its dagster.yaml written."""
    folder = db.home.root / "dagster"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(error, folder) from None
    text = _YAML.replace("{folder}", str(folder).replace("\\", "\\\\").replace('"', '\\"'))
    if db.home.kept("dagster/dagster.yaml") != text:
        db.home.keep("dagster/dagster.yaml", text)
    return folder


def dagster_environment(db: Database) -> dict[str, str]:
    """The variables every Dagster process needs. They hold a password: hand them on, never print them."""
    return {"DAGSTER_HOME": str(dagster_home(db)), URL_VARIABLE: db.sqlalchemy_url, "DAGSTER_DISABLE_TELEMETRY": "1"}


def enter_dagster(db: Database) -> Path:
    """Sets those variables in this process, so that `DagsterInstance.get()` works; returns the folder."""
    os.environ.update(dagster_environment(db))
    return Path(os.environ["DAGSTER_HOME"])
