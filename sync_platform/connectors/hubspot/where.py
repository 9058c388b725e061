"""A Source's own filter, evaluated on the rows HubSpot answered.

It is not pushed into the search: a search reads a late index, whose row may match while the record no
longer does (or the reverse), and a full read by search could not prove that a record is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from sync_platform.connectors.hubspot.streams import KEY
from sync_platform.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """A SQL predicate over staged columns (DuckDB's dialect), and the columns it reads."""

    sql: str
    columns: tuple[str, ...]

    @classmethod
    def parse(cls, sql: str, known: Mapping[str, object]) -> Where:
        """Raises ConfigError for SQL that is no predicate or names a property that does not exist."""
        import sqlglot
        from sqlglot import exp

        try:
            tree = sqlglot.parse_one(f"SELECT 1 FROM t WHERE {sql}", read="duckdb")
        except sqlglot.errors.SqlglotError as error:
            raise ConfigError(f"the filter is not SQL: {error}", field="filter", value=sql) from error
        by_folded = {name.lower(): name for name in known}
        columns: dict[str, None] = {}
        for column in tree.find_all(exp.Column):
            name = by_folded.get(column.name.lower())
            if name is None:
                raise ConfigError(
                    f"the filter names {column.name!r}, which HubSpot has no property of",
                    field="filter",
                    value=sql,
                    mend="use the property's internal name",
                )
            columns[name] = None
        return cls(sql=sql, columns=tuple(columns))

    def matching(self, table: pa.Table) -> frozenset[str]:
        """The ids of the rows that match. Raises ConfigError when the predicate cannot be evaluated."""
        import duckdb

        missing = [name for name in self.columns if name not in table.column_names]
        if missing:
            raise ConfigError(
                f"the filter reads {', '.join(missing)}, which HubSpot does not show to this connection",
                field="filter",
                value=self.sql,
                mend="grant the app permission to see it, or leave it out of the filter",
            )
        with duckdb.connect(":memory:") as session:
            session.execute("SET TimeZone = 'UTC'")
            session.register("answered", table)
            try:
                rows = session.execute(f"SELECT {KEY} FROM answered WHERE {self.sql}").fetchall()
            except duckdb.Error as error:
                raise ConfigError(f"the filter cannot be evaluated: {error}", field="filter", value=self.sql) from error
        return frozenset(str(row[0]) for row in rows)
