"""`drift`: syncs that wait because a schema changed."""

from __future__ import annotations

import typer

from sync_platform.commands.invocation import Json, ProjectDir, SyncName, answering, project_of
from sync_platform.commands.output import table
from sync_platform.errors import ConfigError

drift = typer.Typer(help="Syncs that wait because a schema changed (drift: pause): list, accept.", no_args_is_help=True)


@drift.command("list")
def drift_list(project: ProjectDir = None, json: Json = False) -> None:
    """List the paused syncs and what changed."""
    with answering(json) as output:
        from sync_platform.ledger.shapes import paused
        from sync_platform.state.database import open_state

        names = [name for name, one in project_of(project).syncs.items() if one.spec.drift == "pause"]
        with open_state().connection() as connection:
            found = paused(connection, names)
        rows = [[one["sync"], str(one["since"]), "; ".join(one["differences"])] for one in found]
        output.show({"paused": found}, lambda: table("paused", ["sync", "since", "differences"], rows))


@drift.command("accept")
def drift_accept(sync: SyncName, project: ProjectDir = None, json: Json = False) -> None:
    """Go on with the schemas as they are; the next run takes up what waited."""
    with answering(json) as output:
        from sync_platform.engine.drift import accept
        from sync_platform.session import Session

        opened = project_of(project)
        spec = opened.sync(sync).spec
        with Session.open(opened) as session:
            told = accept(session, spec)
        if not told:
            raise ConfigError(f"{sync} is not paused", field="sync", value=sync, mend="see `sync-platform drift list`")
        output.show({"sync": sync, "accepted": told}, lambda: print("\n".join(["accepted:", *told])))
