"""A staged table in a dozen lines: what the laws hold against the truth."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sync_platform.model import DELETED, Page, Stream


def key_of(stream: Stream, row: dict[str, Any]) -> str:
    """A row's key as staging writes it."""
    parts = [row[name] for name in stream.key]
    return str(parts[0]) if len(parts) == 1 else json.dumps([str(part) for part in parts])


class Staged:
    """Rows by key: of one load the highest cursor wins, then the latest page; absent columns stay."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.rows: dict[str, dict[str, Any]] = {}

    def load(self, pages: Iterable[Page]) -> list[Page]:
        """Takes over one read; its pages."""
        kept, best = [], dict[str, tuple[Any, dict[str, Any]]]()
        for page in pages:
            kept.append(page)
            for row in page.table.to_pylist():
                key, rank = key_of(self.stream, row), self._rank(row)
                if key not in best or rank >= best[key][0]:
                    best[key] = (rank, row)
        for key, (_, row) in best.items():
            if row.get(DELETED):
                self.rows.pop(key, None)
            else:
                self.rows[key] = {**self.rows.get(key, {}), **row}
        if kept and kept[-1].complete:
            self.rows = {key: row for key, row in self.rows.items() if key in best}
        return kept

    def _rank(self, row: dict[str, Any]) -> Any:
        value = row.get(self.stream.cursor.field) if self.stream.cursor is not None else None
        return (value is not None, value if value is not None else 0)

    def differences(self, truth: dict[str, dict[str, Any]], field: str) -> list[str]:
        """Where the staged rows and the truth disagree on who exists and on one field."""
        missing = [f"{key} is missing" for key in truth.keys() - self.rows.keys()]
        extra = [f"{key} is gone, but staged" for key in self.rows.keys() - truth.keys()]
        stale = [
            f"{key}: {field} is {truth[key].get(field)!r}, staged {self.rows[key].get(field)!r}"
            for key in truth.keys() & self.rows.keys()
            if truth[key].get(field) != self.rows[key].get(field)
        ]
        return sorted(missing + extra + stale)


def keys_in(stream: Stream, pages: Iterable[Page]) -> list[str]:
    """The keys of every live row, in the order read."""
    return [key_of(stream, row) for page in pages for row in page.table.to_pylist() if not row.get(DELETED)]
