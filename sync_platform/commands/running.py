"""`plan`, `run` and `apply`: the sync's Dagster job, in this process, so that the run is in the UI."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sync_platform.errors import AccessError, SyncError
from sync_platform.run_tags import REPOSITORY

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from sync_platform.project import Project
    from sync_platform.state.database import Database


_TURN: Final = 0.0005  # seconds after which a thread that wants Python's lock asks for it (Python's own: 0.005)


@dataclass
class Run:
    """One finished run of a sync's job."""

    run_id: str
    error: SyncError | None


def own_process_group() -> None:
    """Puts an unattended run in a process group of its own, so that killing the group kills all of it.

    At a terminal the group stays, or Ctrl-C would not reach the run.
    """
    if not os.isatty(0) and os.getpgrp() != os.getpid() and os.getsid(0) != os.getpid():
        os.setpgid(0, 0)


def instance_of(database: Database) -> DagsterInstance:
    """The Dagster instance of the installation, on its own PostgreSQL."""
    from dagster import DagsterInstance

    from sync_platform.state.dagster_home import enter_dagster

    enter_dagster(database)
    instance = DagsterInstance.get()
    # Its storage otherwise connects anew for every statement, some 150 times a run. Zero: no statement timeout.
    instance.optimize_for_webserver(statement_timeout=0, pool_recycle=3600, max_overflow=20)
    return instance


def execute(
    project: Project, sync: str, *, steps: Sequence[str] | None = None, tags: dict[str, str] | None = None
) -> Run:
    """Runs the sync's job, or some of its steps ("desired", "plan", "delivered"; the staging comes first)."""
    _prepare_process()
    project.sync(sync)
    try:
        return _execute(project, sync, steps, tags)
    except _storage_errors() as error:  # found out only when there is an error: the source need not wait for it
        reason = getattr(error, "orig", None) or error.__cause__ or error  # Dagster says only that it gave up
        raise AccessError(
            f"the state's PostgreSQL cannot be used: {str(getattr(reason, 'orig', reason)).strip()}",
            mend="start it (`sync-platform up`), free space where it lies, or check SYNC_DATABASE_URL",
        ) from error


def _storage_errors() -> tuple[type[Exception], ...]:
    """What Dagster's storage raises when it cannot use PostgreSQL."""
    import sqlalchemy.exc
    from dagster_postgres.utils import DagsterPostgresException

    return sqlalchemy.exc.OperationalError, DagsterPostgresException


def _prepare_process() -> None:
    """How a run's process works best; called before numpy and polars are imported.

    What it imports, builds and allocates stays until it ends: looking through it, and giving memory back between two
    parts to fault it in again, costs a first load much. While Dagster is imported, the thread that loads the source
    waits less for its turn. Nothing here multiplies matrices: threads for that would only look for work.
    """
    gc.set_threshold(1_000_000, 50, 50)
    sys.setswitchinterval(_TURN)
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _execute(project: Project, sync: str, steps: Sequence[str] | None, tags: dict[str, str] | None) -> Run:
    import dagster as dg

    from sync_platform.commands.progress import Progress
    from sync_platform.components.installation import Audience, Installation
    from sync_platform.state.database import open_state

    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    run_id = str(uuid.uuid4())
    with Progress() as progress, contextlib.ExitStack() as open_:
        Installation.audience = Audience(say=progress.say, progress=progress.step)
        if steps is None or "desired" in steps:
            open_.enter_context(_reading(project, sync, run_id, tags or {}))
        from sync_platform.definitions import load  # here, as it takes the time that the source is read in

        instance = open_.enter_context(instance_of(open_state()))
        job = load(project).resolve_job_def(sync)
        selection = _selection(job, sync, steps)
        result = job.execute_in_process(
            instance=instance,
            run_id=run_id,
            raise_on_error=False,
            tags={**REPOSITORY, **(tags or {})},
            asset_selection=selection,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        error = Installation.errors.get(result.run_id)
        if not result.success and error is None:
            error = _unexpected(result, dg)
        return Run(result.run_id, error)


@contextlib.contextmanager
def _reading(project: Project, sync: str, run_id: str, tags: dict[str, str]) -> Iterator[None]:
    """While Dagster is made ready, the source is read already, by the run's own session, which holds the sync."""
    from sync_platform.components.installation import Installation
    from sync_platform.components.source import begin_load
    from sync_platform.session import Session
    from sync_platform.staging.landing import import_whole

    project.load_environment()
    project.importable()
    session = Session.open(project, run_id=run_id, say=Installation.audience.say)
    session.progress = Installation.audience.progress
    try:
        session.hold(sync)
        Installation.opened[run_id] = session
        spec = project.sync(sync).spec
        if spec.drift != "pause":  # a sync that waits when a schema changes looks before anything is loaded
            with contextlib.suppress(SyncError):  # the step that needs the source says what is wrong with it
                begin_load(session, spec.source, project.stream_options(spec.source), tags)
        import_whole()  # before Dagster's imports go on: two threads inside one package would wait for each other
        yield
    except BaseException:
        session.failed = True
        raise
    finally:  # does nothing where the run came to its end
        Installation.opened.pop(run_id, None)
        session.close()


def _selection(job: Any, sync: str, steps: Sequence[str] | None) -> list[Any] | None:
    import dagster as dg

    if steps is None:
        return None
    keys = [dg.AssetKey([sync, step]) for step in steps]
    if "desired" in steps:
        keys += [key for key in job.asset_layer.executable_asset_keys if key.path[0] == "staging"]
    return keys


def _unexpected(result: Any, dg: Any) -> SyncError:
    """A step failed with an error that is not ours: a bug, told with its first line."""
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error:
            info = event.step_failure_data.error
            while info.cause:
                info = info.cause
            error = SyncError(f"step {event.step_key} failed unexpectedly: {info.to_string().strip()}")
            error.code = "bug"
            return error
    return SyncError("the run failed without saying why", mend="see the run in the UI")
