"""How commands answer: one JSON document on stdout under `--json`, else text for people."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

from sync_platform.errors import SyncError

#: Wider than any row, so that a table's own width can be asked for.
_ANY_WIDTH = 1 << 20


class Output:
    """Where a command's answer goes. `json` is the command's `--json`."""

    def __init__(self, json: bool) -> None:
        self.json = json

    def show(self, value: Any, text: Callable[[], None]) -> None:
        """Prints `value` as JSON, or calls `text` to print it for people."""
        if not self.json:
            text()
            return
        import orjson

        sys.stdout.buffer.write(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
        sys.stdout.buffer.write(b"\n")
        sys.stdout.flush()

    def say(self, message: str) -> None:
        """A line about progress: always stderr, so that stdout stays the answer."""
        print(message, file=sys.stderr, flush=True)

    def fail(self, error: SyncError) -> NoReturn:
        """Prints the error and ends the process with its exit code."""
        if self.json:
            self.show({"error": error.to_json()}, lambda: None)
        else:
            print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code)


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Prints a table, or one block per row where the table would not fit the window: no value is ever cut off."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    shown = Table(title=title or None, title_justify="left")
    for column in columns:
        shown.add_column(column)
    told = [["" if cell is None else str(cell) for cell in row] for row in rows]
    for row in told:
        shown.add_row(*row)
    whole = console.measure(shown, options=console.options.update(max_width=_ANY_WIDTH)).maximum
    if not told or whole <= console.width:
        console.print(shown)
    else:
        _blocks(title, columns, told)


def _blocks(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """One block per row, one line per value."""
    width = max(map(len, columns))
    if title:
        print(title)
    for row in rows:
        print()
        for column, cell in zip(columns, row, strict=True):
            print(f"  {column:<{width}}  {cell}".rstrip())
