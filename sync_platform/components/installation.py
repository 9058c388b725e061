"""The Dagster resource that gives the steps of one run their session."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import dagster as dg

from sync_platform.errors import SyncError
from sync_platform.project import Project
from sync_platform.run_tags import SYNC
from sync_platform.session import Session


def _on_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _silent(text: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who hears what the runs of this process do: `say` what a person must know, `progress` all the time."""

    say: Callable[[str], None] = _on_stderr
    progress: Callable[[str], None] = _silent


class Installation(dg.ConfigurableResource[Session]):
    """Opens the installation's state for a run and closes it, and the sync's lock, when the run ends."""

    errors: ClassVar[dict[str, SyncError]] = {}
    #: Sessions opened before Dagster knows their run, by its id: each holds its sync.
    opened: ClassVar[dict[str, Session]] = {}
    audience: ClassVar[Audience] = Audience()

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Session]:
        """The run's session. Runs that died while holding a sync are marked failed in Dagster, too.

        A run of a sync's own job holds the sync from its first step on: one that dies while it stages
        is then found by the next, as well.
        """
        run_id, run, instance, log = context.run_id, context.run, context.instance, context.log

        def say(text: str) -> None:
            self.audience.say(text)
            if log is not None:
                log.info(text)

        def fail_orphan(orphan: str) -> None:
            dead = instance.get_run_by_id(orphan) if instance else None
            if dead is not None and instance is not None and not dead.is_finished:
                instance.report_run_failed(dead, "The process of this run died; the next run took up its work.")

        session = self.opened.pop(run_id or "", None)
        if session is None:
            with remembered(run_id):
                session = Session.open(Project.current(), run_id=run_id, say=say)
        else:
            session.say = say
            for orphan in session.orphans:
                fail_orphan(orphan)
        session.progress, session.on_orphan = self.audience.progress, fail_orphan
        try:
            if run is not None and SYNC in run.tags:
                with remembered(run_id):
                    session.hold(run.tags[SYNC])
            yield session
        finally:
            session.failed = run_id in self.errors
            session.close()


@contextmanager
def remembered(run_id: str | None) -> Iterator[None]:
    """Keeps an error of ours for the command line."""
    try:
        yield
    except SyncError as error:
        if run_id is not None:
            Installation.errors[run_id] = error
        raise


@contextmanager
def told(session: Session) -> Iterator[None]:
    """Turns an error of ours into a Dagster failure with its sentence, and keeps it for the command line."""
    try:
        with remembered(session.run_id):
            yield
    except SyncError as error:
        raise dg.Failure(
            description=str(error),
            metadata={"code": error.code, "mend": error.mend or ""},
            allow_retries=False,
        ) from error
