"""What the commands of every family share: their common options, the project, and how they fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sync_platform.commands.output import Output
from sync_platform.errors import ConfigError, SyncError

if TYPE_CHECKING:
    from sync_platform.project import Project

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
ProjectDir = Annotated[Path | None, typer.Option("--project", help="Another project's folder.", show_default=False)]
PUBLIC_URL = "SYNC_PUBLIC_URL"
Full = Annotated[
    bool,
    typer.Option("--full", help="Read the sources completely: what changed or went without a trace is found."),
]
SyncName = Annotated[str, typer.Argument(metavar="SYNC", help="The sync's name.")]


@contextmanager
def answering(json: bool) -> Iterator[Output]:
    """An Output whose block's errors become a sentence and an exit code."""
    output = Output(json)
    try:
        yield output
    except SyncError as error:
        output.fail(error)


def project_of(folder: Path | None) -> Project:
    """The project of that folder, else the current one, with the variables of its `.env`."""
    from sync_platform.project import PROJECT_VARIABLE, Project

    if folder is not None:
        if not folder.is_dir():
            raise ConfigError(f"{folder} is not a folder", field="--project", value=str(folder))
        os.environ[PROJECT_VARIABLE] = str(folder.resolve())
    project = Project.current()
    project.load_environment()
    return project


def public_address(given: str | None) -> str | None:
    """Where vendors reach the gateway: as given, else as the environment or the loaded project's `.env` says."""
    return given or os.environ.get(PUBLIC_URL) or None
