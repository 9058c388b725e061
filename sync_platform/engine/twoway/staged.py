"""One side of a two-way sync as staging holds it, with what events brought since laid over."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from sync_platform.errors import ConfigError
from sync_platform.ledger.plans import PART_ROWS
from sync_platform.model import DELETED, KEY, SEQ
from sync_platform.staging.lake import quoted
from sync_platform.staging.overlay import newer_than_staging
from sync_platform.staging.tables import columns, table_name

if TYPE_CHECKING:
    import duckdb

    from sync_platform.engine.spec import Endpoint
    from sync_platform.state.database import Database


@dataclass
class StagedSide:
    """The newest known rows of one stream; every frame has the vendor's columns and staging's own."""

    con: duckdb.DuckDBPyConnection
    place: Endpoint
    schema: pa.Schema
    newer: pa.Table | None
    _sql: str = field(repr=False)

    @classmethod
    def open(cls, con: duckdb.DuckDBPyConnection, database: Database, place: Endpoint, name: str) -> StagedSide:
        """The side of that name (a table name of our own); ConfigError when the stream was never staged."""
        schema = columns(con, place.connection, place.object)
        if schema is None:
            raise ConfigError(
                f"{place} was never staged",
                field=name,
                value=str(place),
                mend="run the sync, which loads both of its sides",
            )
        newer = newer_than_staging(con, database, place.connection, place.object)
        table = table_name(place.connection, place.object)
        sql = f"(SELECT * FROM {table})"
        if newer is not None:
            con.register(f"newer_{name}", newer)
            sql = (
                f"(SELECT * FROM {table} ANTI JOIN newer_{name} USING ({KEY}) "
                f"UNION ALL BY NAME SELECT * FROM newer_{name})"
            )
        return cls(con=con, place=place, schema=schema, newer=newer, _sql=sql)

    @property
    def newer_keys(self) -> list[str]:
        """The records that events brought and staging does not have yet."""
        return [] if self.newer is None else list(self.newer[KEY].to_pylist())

    def rows(self, keys: Collection[str]) -> pl.DataFrame:
        """These records, the deleted ones too."""
        return self._where(f"{KEY} IN (SELECT id FROM _ids)", keys)

    def moved(self, since: int, more: Collection[str], *, everything: bool = False) -> Iterator[pl.DataFrame]:
        """The records past a position, and `more`; all of them with `everything`. So many at a time, by key."""
        condition, ids, after = self._past(since, everything), {*more, *self.newer_keys}, ""
        while True:
            page = self._where(f"({condition}) AND {KEY} > '{after}'", ids, most=PART_ROWS)
            if page.height:
                yield page
                after = str(page[KEY][-1]).replace("'", "''")
            if page.height < PART_ROWS:
                return

    def telling(self, since: int, merged_ids: str | None, *, everything: bool = False) -> pl.DataFrame:
        """Of `moved` what may tell of a merge: deleted records, and survivors with the ids they list (`merged_ids`)."""
        listed = merged_ids if merged_ids in self.schema.names else None
        tells = DELETED if listed is None else f"({DELETED} OR {quoted(listed)} IS NOT NULL)"
        columns = [KEY, DELETED, *([] if listed is None else [quoted(listed)])]
        condition = f"({self._past(since, everything)}) AND {tells}"
        return self._where(condition, self.newer_keys, columns=", ".join(columns))

    def _past(self, since: int, everything: bool) -> str:
        return "TRUE" if everything else f"{SEQ} > {since} OR {KEY} IN (SELECT id FROM _ids)"

    def having(self, name: str, values: Sequence[str | None]) -> pl.DataFrame:
        """The living records whose field is one of these texts, spaces around and case ignored."""
        wanted = {value.strip().lower() for value in values if value}
        if not wanted or name not in self.schema.names:
            return self._where("FALSE", ())
        folded = f"lower(trim(CAST({quoted(name)} AS VARCHAR)))"
        return self._where(f"NOT {DELETED} AND {folded} IN (SELECT id FROM _ids)", wanted)

    def some(self, most: int) -> pl.DataFrame:
        """The newest living records, at most so many."""
        return self.con.execute(
            f"SELECT * FROM {self._sql} WHERE NOT {DELETED} ORDER BY {SEQ} DESC, {KEY} LIMIT {int(most)}"
        ).pl()

    def _where(
        self, condition: str, ids: Collection[str], *, columns: str = "*", most: int | None = None
    ) -> pl.DataFrame:
        self.con.register("_ids", pl.DataFrame({"id": sorted(ids)}, schema={"id": pl.String}).to_arrow())
        limit = "" if most is None else f" LIMIT {most}"
        found = self.con.execute(f"SELECT {columns} FROM {self._sql} WHERE {condition} ORDER BY {KEY}{limit}").pl()
        self.con.unregister("_ids")
        return found
