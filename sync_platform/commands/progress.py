"""What a run is doing, on stderr: a line that changes at a terminal, and lines that stay for what one must know."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status


class Progress:
    """Tells how far a run is. Use as a context manager around the run."""

    def __init__(self) -> None:
        self._console: Console | None = None
        self._status: Status | None = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console

            self._console = Console(stderr=True, highlight=False)
            self._status = self._console.status("starting")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, text: str) -> None:
        """A line that stays, e.g. that another run is waited for."""
        if self._console is not None:
            self._console.print(text, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def step(self, text: str) -> None:
        """What is being done now; shown at a terminal only."""
        if self._status is not None:
            from rich.markup import escape

            self._status.update(escape(text))
