"""Which of the rows at hand are wanted in the target: a change set for a handful of records.

The batch lane asks staging (see `changeset`); the warm lane has the rows already, those of its events and those
that share a dedupe key with one of them. The conditions are the same SQL in both.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from sync_platform.engine.changeset import best_sql, key_fields, text_key_sql
from sync_platform.engine.filters import Filter
from sync_platform.model import DELETED, KEY

if TYPE_CHECKING:
    import duckdb

    from sync_platform.engine.spec import SyncSpec

_LEFT = {KEY: pl.String, "_why": pl.String, "_dedupe_key": pl.String}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """`wanted`: the rows for the target with `_dedupe_key` and `_changed`; `left`: `_key`, `_why`, `_dedupe_key`."""

    wanted: pl.DataFrame
    left: pl.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A sync's conditions, parsed once. `where` is the Source's own filter: rows outside are no rows of it."""

    filter: Filter | None
    where: Filter | None
    timezone: str
    dedupe_key: str | None
    best: str
    fields: frozenset[str]  # the source fields that the conditions read

    @classmethod
    def of(cls, spec: SyncSpec, schema: pa.Schema, where: str | None = None) -> Judge:
        """The conditions of a sync over rows of this schema; ConfigError for one that does not fit it."""
        names = schema.names
        inside = Filter.parse(spec.filter, schema) if spec.filter else None
        within = Filter.parse(where, schema) if where else None
        read = {name for one in (inside, within) if one for name in one.fields}
        if spec.dedupe:
            read |= set(names if spec.dedupe.keep == "most_complete" else key_fields(spec.dedupe.by, names))
        return cls(
            fields=frozenset(read),
            filter=inside,
            where=within,
            timezone=spec.timezone,
            dedupe_key=text_key_sql(spec.dedupe.by, names, "dedupe key") if spec.dedupe else None,
            best=best_sql(spec.dedupe.keep if spec.dedupe else "newest", names),
        )

    def mark(self, con: duckdb.DuckDBPyConnection, rows: pl.DataFrame, now: dt.datetime) -> pl.DataFrame:
        """The rows with `_dedupe_key` (text, null for none) and `_inside`: not deleted, inside the filter."""
        if not self.filter and not self.where and self.dedupe_key is None:
            return rows.with_columns(
                pl.lit(None, dtype=pl.String).alias("_dedupe_key"), (~pl.col(DELETED)).alias("_inside")
            )
        con.register("_judged", rows.to_arrow())
        key = self.dedupe_key or "CAST(NULL AS VARCHAR)"
        return con.execute(f"SELECT *, {key} AS _dedupe_key, {self._inside(now)} AS _inside FROM _judged").pl()

    def judge(self, con: duckdb.DuckDBPyConnection, marked: pl.DataFrame) -> Judged:
        """Sorts marked rows; of those inside the filter that share a dedupe key only the best is wanted."""
        inside = marked.filter("_inside") if not marked["_inside"].all() else marked
        losers = self._losers(con, inside)
        left = pl.DataFrame(schema=_LEFT)
        if inside.height < marked.height:
            why = pl.when(DELETED).then(pl.lit("deleted")).otherwise(pl.lit("filter"))
            left = marked.filter(~pl.col("_inside")).select(KEY, why.alias("_why"), "_dedupe_key")
        if losers:
            lost = inside.filter(pl.col(KEY).is_in(losers))
            left = pl.concat([left, lost.select(KEY, pl.lit("duplicate").alias("_why"), "_dedupe_key")])
            inside = inside.filter(~pl.col(KEY).is_in(losers))
        return Judged(wanted=inside.with_columns(_changed=pl.lit(True)).drop("_inside"), left=left)

    def _inside(self, now: dt.datetime) -> str:
        conditions = [f"NOT coalesce({DELETED}, FALSE)"]
        conditions += [f"(({one.duckdb(now, self.timezone)}) IS TRUE)" for one in (self.filter, self.where) if one]
        return "(" + " AND ".join(conditions) + ")"

    def _losers(self, con: duckdb.DuckDBPyConnection, inside: pl.DataFrame) -> list[str]:
        keys = inside.get_column("_dedupe_key").drop_nulls()
        if keys.n_unique() == keys.len():
            return []
        con.register("_inside", inside.to_arrow())
        found = con.execute(
            f"WITH groups AS (SELECT _dedupe_key, {self.best} AS winner FROM _inside WHERE _dedupe_key IS NOT NULL "
            f"GROUP BY 1) SELECT i.{KEY} FROM _inside i JOIN groups g USING (_dedupe_key) WHERE i.{KEY} <> g.winner"
        ).fetchall()
        return [str(row[0]) for row in found]
