"""The section "Events" of the performance page: one line for each row, replaced when it is measured again."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

BEGIN, END = "<!-- events bench: begin -->", "<!-- events bench: end -->"
_HEAD = "| row | what | measured | bar | kept | when, how |"
_RULE = "|---|---|---|---|---|---|"
_NOTE = (
    "*Received* is the inbox's stamp, taken when the webhook came in; *written* is the arrival of the applied write in "
    "the simulated vendor's log (to the end of its millisecond), or what a trigger in PostgreSQL noted. Percentiles "
    "are over single events. Sandbox, gateway, worker and both PostgreSQL servers (durable) share the machine; "
    "webhooks are the simulators' own, signed as the vendor signs. A row is INVALID unless every edit has one event, "
    "every final value is right, every event is done and no request broke a vendor's rule. *Not shown*: the bar was "
    "missed while others used more than a tenth of the machine; such figures say how it went, not how fast this is. "
    "The command of each line is `python -m tests.bench events` with the options shown."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line. `kept`: whether its bar was (None: none, or invalid); `others`: their share of the machine.

    A bar that was missed on a machine that others used more than a tenth of is neither kept nor missed.
    """

    name: str
    what: str
    measured: str
    bar: str = ""
    kept: bool | None = None
    others: float = 0.0

    def line(self, options: str) -> str:
        """The line of the table."""
        memory = psutil.virtual_memory().total / 2**30
        machine = f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.machine()}"
        missed = "**no**" if self.others <= 0.1 else "not shown"
        kept = "" if self.kept is None else "yes" if self.kept else missed
        how = f"{dt.date.today():%Y-%m-%d}, `{options}`, {machine}, Python {platform.python_version()}"
        cells = (self.name, self.what, self.measured, self.bar, kept, how)
        return "| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in cells) + " |"


def merged(old: str, rows: Sequence[Row], options: str) -> str:
    """The section with these rows in place of those of the same name."""
    kept = [line for line in old.splitlines() if line.startswith("| ") and line not in (_HEAD, _RULE)]
    lines = {line.split("|")[1].strip(): line for line in kept}
    lines |= {row.name: row.line(options) for row in rows}
    return "\n".join([BEGIN, "", _HEAD, _RULE, *(lines[name] for name in sorted(lines)), "", _NOTE, "", END])


def write(page: Path, rows: Sequence[Row], options: str) -> None:
    """Puts the rows into the page's section, which is made when it is not there."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n## Events\n\n{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN, 1)
    old, after = rest.split(END, 1)
    page.write_text(before + merged(old, rows, options) + after, encoding="utf-8")
