"""`dead`: records set aside."""

from __future__ import annotations

from typing import Annotated

import typer

from sync_platform.commands.invocation import Json, answering
from sync_platform.commands.output import table
from sync_platform.errors import ConfigError

dead = typer.Typer(help="Records set aside: list them, try them again, give them up.", no_args_is_help=True)


@dead.command("list")
def dead_list(sync: Annotated[str | None, typer.Argument(help="Only this sync's.")] = None, json: Json = False) -> None:
    """List the dead letters that wait, with reason and resolution."""
    with answering(json) as output:
        from sync_platform.ledger.unsettled import open_dead_letters
        from sync_platform.state.database import open_state

        with open_state().connection() as connection:
            letters = open_dead_letters(connection, sync)
        columns = ["id", "sync", "key", "field", "reason", "resolution", "attempts", "state"]
        output.show(
            {"dead_letters": letters},
            lambda: table("dead letters", columns, [[letter[c] for c in columns] for letter in letters]),
        )


def _set_letters(state: str, sync: str | None, ids: list[int], json: bool) -> None:
    with answering(json) as output:
        from sync_platform.ledger.unsettled import set_dead_letters
        from sync_platform.state.database import open_state

        if sync is None and not ids:
            raise ConfigError("say which dead letters", field="sync", mend="name a sync, or give --id")
        with open_state().connection() as connection:
            count = set_dead_letters(connection, state, sync=sync, ids=ids)
        output.show({"changed": count, "state": state}, lambda: print(f"{count} dead letters: {state}"))


Ids = Annotated[list[int] | None, typer.Option("--id", help="Only this one (repeatable).")]
OneSync = Annotated[str | None, typer.Argument(help="All of this sync's.")]


@dead.command("retry")
def dead_retry(sync: OneSync = None, ids: Ids = None, json: Json = False) -> None:
    """Try dead letters again with the next run."""
    _set_letters("retry", sync, ids or [], json)


@dead.command("discard")
def dead_discard(sync: OneSync = None, ids: Ids = None, json: Json = False) -> None:
    """Give dead letters up; the record is planned again when its source changes."""
    _set_letters("discarded", sync, ids or [], json)
