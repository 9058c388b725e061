"""A staging lake in memory, filled from the reference model."""

from __future__ import annotations

import datetime as dt
from typing import Any

import duckdb
import polars as pl

from tests.properties.reference import Staged

LEADS = {
    "Id": pl.String,
    "Email": pl.String,
    "Stage": pl.String,
    "OwnerId": pl.String,
    "Modified": pl.Datetime("us", "UTC"),
    "_key": pl.String,
    "_hash": pl.UInt64,
    "_seq": pl.Int64,
    "_deleted": pl.Boolean,
    "_cursor": pl.Int64,
    "_read_at": pl.Int64,
}
USERS = {"Id": pl.String, "Name": pl.String, **{n: t for n, t in LEADS.items() if n.startswith("_")}}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def microseconds(at: dt.datetime) -> int:
    """A time as staging keeps cursors."""
    return int((at - EPOCH) / dt.timedelta(microseconds=1))


def connect() -> duckdb.DuckDBPyConnection:
    """A connection with an empty lake attached."""
    con = duckdb.connect()
    con.execute("ATTACH ':memory:' AS lake")
    con.execute("CREATE SCHEMA lake.crm")
    return con


def stage(con: duckdb.DuckDBPyConnection, name: str, staged: Staged, schema: dict[str, Any]) -> None:
    """Makes `lake.crm.<name>` hold the staged rows."""
    rows = [{"_hash": 0, "_read_at": 0, "Id": key, **row} for key, row in staged.rows.items()]
    frame = pl.DataFrame(rows, schema=schema, orient="row") if rows else pl.DataFrame(schema=schema)
    con.register("_rows", frame.to_arrow())
    con.execute(f'CREATE OR REPLACE TABLE lake.crm."{name}" AS SELECT * FROM _rows')
    con.unregister("_rows")
