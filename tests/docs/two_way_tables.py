"""The truth tables of docs/two-way.md as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "two-way.md"


def _tables(text: str) -> dict[str, list[list[str]]]:
    """The rows of the first table under each heading, cells as they are written."""
    found: dict[str, list[list[str]]] = {}
    heading, done = "", False
    for line in text.splitlines():
        if line.startswith("#"):
            heading, done = line.lstrip("# ").strip(), False
        elif line.startswith("|") and not done:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not set(cells[0]) <= set("-: "):
                found.setdefault(heading, []).append(cells)
        elif heading in found:
            done = True
    return {name: rows[1:] for name, rows in found.items()}


@dataclass(frozen=True, slots=True)
class FieldCase:
    """One field of one record: what both sides were changed to, and what they hold after a run."""

    rule: str
    source: str | None
    target: str | None
    last: str
    source_then: str | None
    target_then: str | None
    outcome: str


@dataclass(frozen=True, slots=True)
class DeleteCase:
    """One record deleted on a side."""

    side: str
    edited: bool
    on_delete: str
    conflicts: str
    then: str
    outcome: str


def _value(cell: str) -> str | None:
    return {"null": None, "''": ""}.get(cell, cell)


def field_cases() -> list[FieldCase]:
    """Every row of every conflict rule's table."""
    cases = []
    for heading, rows in _tables(PAGE.read_text()).items():
        if heading.startswith("conflicts: "):
            for one, other, last, then, then_there, outcome in rows:
                values = [_value(cell) for cell in (one, other, then, then_there)]
                rule = heading.removeprefix("conflicts: ")
                cases.append(FieldCase(rule, values[0], values[1], last, values[2], values[3], outcome))
    return cases


def delete_cases() -> list[DeleteCase]:
    """Every row of the table of deletions."""
    rows = _tables(PAGE.read_text())["Deletions"]
    return [DeleteCase(side, other == "edited", what, rule, then, out) for side, other, what, rule, then, out in rows]
