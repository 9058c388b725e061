"""What a plan must remember of many records while it is made, kept by DuckDB rather than in this process's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    import duckdb


class Noted:
    """Ids with a note each, for as long as the connection lasts. `name` tells several of them apart."""

    def __init__(self, con: duckdb.DuckDBPyConnection, name: str) -> None:
        self._con, self._table = con, f"noted_{name}"
        con.execute(f"CREATE OR REPLACE TEMP TABLE {self._table} (id VARCHAR, note VARCHAR)")

    def add(self, notes: Mapping[str, str]) -> None:
        """Notes some more; an id that has a note keeps its first one."""
        if notes:
            self._ask(f"INSERT INTO {self._table} SELECT id, note FROM asked", list(notes), list(notes.values()))

    def among(self, ids: Sequence[str]) -> dict[str, str]:
        """Those of these ids that were noted, each with its note."""
        if not ids:
            return {}
        query = f"SELECT DISTINCT ON (id) id, n.note FROM {self._table} n SEMI JOIN asked USING (id) ORDER BY n.rowid"
        return dict(self._ask(query, list(ids), [None] * len(ids)))

    def _ask(self, query: str, ids: list[str], notes: Sequence[str | None]) -> list[tuple[str, str]]:
        frame = pl.DataFrame({"id": ids, "note": notes}, schema={"id": pl.String, "note": pl.String})
        self._con.register("asked", frame.to_arrow())
        found = self._con.execute(query).fetchall()
        self._con.unregister("asked")
        return found
