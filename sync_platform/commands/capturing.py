"""`capture` follows the logs of databases until it is told to stop; `capture forget` gives up what they keep for us."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_platform.commands.invocation import Json, ProjectDir, answering, project_of
from sync_platform.errors import ConfigError

if TYPE_CHECKING:
    from sync_platform.project import Project
    from sync_platform.state.database import Database

capture = typer.Typer(invoke_without_command=True)


@capture.callback()
def follow(context: typer.Context, project: ProjectDir = None, json: Json = False) -> None:
    """Follow the logs of all connections with `capture=True` and store what changes; several may run, one works."""
    if context.invoked_subcommand is not None:
        return
    with answering(json):
        work(project_of(project))


@capture.command()
def forget(
    connection: Annotated[str, typer.Argument(metavar="CONNECTION", help="A name defined in resources/.")],
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Drop what a database keeps for us (slot, publication), so that its log cannot grow for nobody."""
    with answering(json) as output:
        done = forget_connection(project_of(project), connection)
        output.show(done, lambda: print(f"{connection}: nothing is kept for us any more"))


def work(project: Project) -> None:
    """Captures until SIGTERM or SIGINT; what was told is stored first."""
    from sync_platform.commands.working import Declared
    from sync_platform.realtime.capture import Capture, wanted_of
    from sync_platform.session import Session

    with contextlib.closing(Session.open(project)) as session:
        declared, lock = Declared(project.root), threading.Lock()

        def wanted(name: str) -> Any:
            with lock:
                return wanted_of(declared.now(), name, declared.routes)

        process = Capture(session, wanted)
        names = process.connections
        if not names:
            raise ConfigError(
                "no connection is to be followed",
                field="capture",
                mend="write capture=True in a connection of resources/, e.g. Postgres(url=…, capture=True)",
            )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: process.stop())
        print(f"capture {os.getpid()} follows {', '.join(names)}", flush=True)
        process.run()


def forget_connection(project: Project, name: str) -> dict[str, Any]:
    """Drops what the database keeps, then our position; TransientError while a capture follows the connection."""
    from sync_platform.connectors.capture import Captures
    from sync_platform.ledger import captures
    from sync_platform.session import Session
    from sync_platform.state.locks import advisory_lock

    with Session.open(project) as session:
        connector = session.connector(name)
        if not isinstance(connector, Captures):
            raise ConfigError(
                f"{name} is a {connector.system}, which keeps nothing for us", field="connection", value=name
            )
        with advisory_lock(session.database, f"capture:{name}", timeout=2.0):
            connector.forget()
            with session.database.connection() as own:
                known = captures.forget(own, name)
    return {"connection": name, "forgotten": known}


def standings(project: Project, database: Database) -> list[dict[str, Any]]:
    """One row per connection that is to be followed, or was."""
    from sync_platform.connectors.capture import captures as followable
    from sync_platform.ledger.captures import standings as known_of

    known = known_of(database)
    wanted = {name for name, one in project.connectors.items() if followable(one)}
    return [_row(name, known.get(name), name in wanted) for name in sorted(wanted | known.keys())]


def _row(name: str, one: Any, wanted: bool) -> dict[str, Any]:
    state = "stopped" if one is None or not one.alive else one.state
    reason = one.reason if one is not None else None
    if not wanted:
        state, reason = "forgotten", f"the log is kept for nobody: sync-platform capture forget {name}"
    return {
        "connection": name,
        "state": state,
        "reason": reason,
        "streams": list(one.streams) if one else [],
        "position": one.position if one else None,
        "stored": one.stored if one else 0,
        "told_at": _moment(one.told_at if one else None),
        "behind_bytes": one.behind if one else None,
        "limit_bytes": one.limit if one else None,
        "pid": one.pid if one and one.alive else None,
    }


def _moment(told: Any) -> str | None:
    return told.strftime("%Y-%m-%dT%H:%M:%SZ") if told is not None else None
