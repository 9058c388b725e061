"""A lake in memory: DuckDB without DuckLake's catalog, for tests that make hundreds of plans."""

from __future__ import annotations

import duckdb

from sync_platform.staging.lake import Lake


class MemoryLake(Lake):
    """As `Lake`, with the catalog `lake` in this process's memory; plan parts are files as ever."""

    def _open(self) -> duckdb.DuckDBPyConnection:
        con = duckdb.connect(config={"threads": 1})
        con.execute("SET GLOBAL TimeZone = 'UTC'")
        con.execute("ATTACH ':memory:' AS lake")
        return con
