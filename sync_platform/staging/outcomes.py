"""Outcomes of bulk deliveries, in the lake: one table per sync, typed like its target.

PostgreSQL holds the outcomes of small batches row by row; a million rows belong in Parquet. The `sql`
door and `log` show both as one.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any

import polars as pl

from sync_platform.errors import AccessError
from sync_platform.staging.lake import literal
from sync_platform.staging.merge import APPENDED

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from sync_platform.staging.lake import Lake

SCHEMA = "_outcomes"


def write_lake_outcomes(
    lake: Lake, sync: str, settled: pl.DataFrame, rows: pl.DataFrame, *, run_id: str, plan_id: str, part: str
) -> None:
    """Appends one part's outcomes with every old and new value; a part that is there already is replaced.

    `settled` has the columns of `ledger.settle.SETTLED`; `rows` the plan's `old:` and `new:` columns.
    """
    values = [name for name in rows.columns if name.startswith(("old:", "new:"))]
    told = rows.select(pl.col("_key").alias("source_key"), *values)
    outcomes = settled.select("source_key", "target_id", "op", "status", "reason")
    alike = told["source_key"].equals(outcomes["source_key"])
    frame = (
        pl.concat([outcomes, told.drop("source_key")], how="horizontal")
        if alike
        else outcomes.join(told, on="source_key", how="left")
    ).with_columns(
        time=pl.lit(dt.datetime.now(dt.UTC)), run_id=pl.lit(run_id), plan_id=pl.lit(plan_id), part=pl.lit(part)
    )
    file = lake.db.home.lake / SCHEMA / sync / f"{APPENDED}{uuid.uuid4()}.parquet"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(file, compression="lz4")
    except (OSError, pl.exceptions.ComputeError) as error:
        raise AccessError(f"{file} cannot be written: {error}", mend="free some space, then run again") from error
    with lake.errors(), lake.changing, lake.connect() as con:
        con.begin()
        if not _register(con, sync, file, (plan_id, part)):
            file.unlink()
        con.commit()


def _register(con: duckdb.DuckDBPyConnection, sync: str, file: Path, part: tuple[str, str]) -> bool:
    """Makes a file part of the sync's table, in the open transaction; False when its rows had to be copied."""
    table, source = f'lake."{SCHEMA}"."{sync}"', f"read_parquet({literal(str(file))})"
    con.execute(f'CREATE SCHEMA IF NOT EXISTS lake."{SCHEMA}"')
    con.execute(f"CREATE TABLE IF NOT EXISTS {table} AS SELECT * FROM {source} WITH NO DATA")
    present = dict(con.execute(f"SELECT name, type FROM pragma_table_info('{table}')").fetchall())
    given = dict(con.execute(f"SELECT column_name, column_type FROM (DESCRIBE FROM {source})").fetchall())
    for name in given.keys() - present.keys():
        con.execute(f'ALTER TABLE {table} ADD COLUMN "{name}" {given[name]}')
    if con.execute(f"SELECT 1 FROM {table} WHERE plan_id = ? AND part = ? LIMIT 1", part).fetchone():
        con.execute(f"DELETE FROM {table} WHERE plan_id = ? AND part = ?", part)
    if any(kind != present.get(name, kind) for name, kind in given.items()):  # the target's types changed since
        con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM {source}")
        return False
    con.execute(
        f"CALL ducklake_add_data_files('lake', {literal(sync)}, {literal(str(file))}, schema => {literal(SCHEMA)},"
        " allow_missing => true)"
    )
    return True


def lake_outcomes_of(con: duckdb.DuckDBPyConnection, sync: str, key: str) -> list[dict[str, Any]]:
    """The bulk outcomes of one record, oldest first: time, run_id, op, status, reason, fields {f: [old, new]}."""
    known = con.execute(
        "SELECT 1 FROM duckdb_tables() WHERE database_name = 'lake' AND schema_name = ? AND table_name = ?",
        [SCHEMA, sync],
    ).fetchone()
    if not known:
        return []
    rows = (
        con.execute(f'SELECT * FROM lake."{SCHEMA}"."{sync}" WHERE source_key = ? ORDER BY time', [key]).pl().to_dicts()
    )
    for row in rows:
        names = [name[4:] for name in row if name.startswith("new:")]
        row["fields"] = {n: [row.get(f"old:{n}"), row.get(f"new:{n}")] for n in names}
    return rows
