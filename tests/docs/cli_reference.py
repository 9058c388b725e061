"""`docs/cli.md`, made from the command line itself: `python -m tests.docs.cli_reference` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from sync_platform.cli import app

FILE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"

HEAD = """\
# The command line

<!-- Made by `make docs-write` from sync_platform/cli.py: change it there. -->

Every command takes `--json`: stdout is then one JSON document, and everything else goes to stderr; its shapes are in
[interfaces.md](interfaces.md). `sync-platform --project DIR COMMAND` works on another project than the one of the
current folder.

| exit code | means |
|---|---|
| 0 | done |
| 1 | finished, but with failed, held or refused records |
| 2 | found wrong before anything was sent: configuration, usage, an altered plan file |
| 3 | a system refused us or could not be reached |
| 4 | blocked by a guard |
| 70 | a bug |
"""


def reference() -> str:
    """The text of docs/cli.md."""
    sections = [_section(" ".join(path), command) for path, command in commands(typer.main.get_command(app))]
    return "\n".join([HEAD, *sections])


def commands(group: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every command with its path, e.g. `("dead", "list")`."""
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, command in sorted(group.commands.items()):
        inner = getattr(command, "commands", None)
        if not inner or command.invoke_without_command:  # a group that does something by itself is a command, too
            found.append(((*path, name), command))
        found += commands(command, (*path, name)) if inner else []
    return found


def _section(name: str, command: Any) -> str:
    own = [one for one in command.params if one.opts != ["--json"]]
    arguments = [_metavar(one) for one in own if one.param_type_name == "argument"]
    lines = [f"## `{' '.join(['sync-platform', name, *arguments])}`", "", _sentence(command.help), ""]
    rows = [f"| {_label(one)} | {_sentence(one.help)}{_default(one)} |" for one in own if one.help]
    if rows:
        lines += ["| | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _metavar(one: Any) -> str:
    shown = one.metavar or one.name.upper()
    return shown if one.required else f"[{shown}]"


def _label(one: Any) -> str:
    if one.param_type_name == "argument":
        return f"`{_metavar(one)}`"
    label = f"`{one.opts[0]}`" if one.is_flag else f"`{one.opts[0]} {one.metavar or one.name.upper()}`"
    return label + (f" or `{one.envvar}` in the environment" if one.envvar else "")


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _default(one: Any) -> str:
    if one.required:
        return " Required." if one.param_type_name == "option" else ""
    return f" Default: {one.default}." if one.default not in (None, False) else ""


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
