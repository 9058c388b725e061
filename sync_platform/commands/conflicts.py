"""`conflicts`: fields that both sides of a two-way sync changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_platform.commands.invocation import Json, answering
from sync_platform.commands.output import table
from sync_platform.errors import ConfigError

if TYPE_CHECKING:
    from sync_platform.ledger.conflicts import Take

conflicts = typer.Typer(
    help="Fields that both sides of a two-way sync changed: list, look, choose.", no_args_is_help=True
)
Number = Annotated[int, typer.Argument(help="The conflict's number, from `conflicts list`.")]


@conflicts.command("list")
def conflicts_list(
    sync: Annotated[str | None, typer.Argument(help="Only this sync's.")] = None, json: Json = False
) -> None:
    """List the conflicts that wait for a person or for the next run."""
    with answering(json) as output:
        from sync_platform.ledger.conflicts import list_conflicts
        from sync_platform.state.database import open_state

        with open_state().connection() as connection:
            found = list_conflicts(connection, sync)
        columns = ["id", "sync", "key", "target_id", "field", "source", "target", "state"]
        output.show(
            {"conflicts": found},
            lambda: table("conflicts", columns, [[str(one[name]) for name in columns] for one in found]),
        )


@conflicts.command("show")
def conflicts_show(number: Number, json: Json = False) -> None:
    """Show one conflict: what both sides hold, and what they last agreed on."""
    with answering(json) as output:
        from sync_platform.ledger.conflicts import show_conflict
        from sync_platform.state.database import open_state

        with open_state().connection() as connection:
            found = show_conflict(connection, number)
        output.show({"conflict": found}, lambda: _print(found))


@conflicts.command("resolve")
def conflicts_resolve(
    number: Number,
    take: Annotated[str, typer.Option("--take", help="The side whose values are kept: source or target.")],
    json: Json = False,
) -> None:
    """Choose a side; the next run writes it."""
    with answering(json) as output:
        from sync_platform.ledger.conflicts import resolve_conflict
        from sync_platform.state.database import open_state

        side = _side(take)
        with open_state().connection() as connection:
            found = resolve_conflict(connection, number, side)
        output.show({"conflict": found}, lambda: print(f"conflict {number}: the next run takes the {take}"))


def _side(take: str) -> Take:
    if take == "source":
        return "source"
    if take == "target":
        return "target"
    raise ConfigError(f"{take!r} is no side", field="take", value=take, mend="write --take source or --take target")


def _print(found: dict[str, Any]) -> None:
    print(f"{found['sync']}: {found['key']} and {found['target_id']}, {found['field']}: {found['reason']}")
    for name in ("base", "source", "target"):
        print(f"  {name:>6}: {found[name]}")
    print(f"  state: {found['state']}" + (f", {found['take']} is taken" if found["take"] else ""))
