"""Outcomes of bulk deliveries, in the lake: one table per sync, typed like its target.

PostgreSQL holds the outcomes of small batches row by row; a million rows belong in Parquet. The `sql`
door and `log` show both as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
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
    frame = (
        settled.select("source_key", "target_id", "op", "status", "reason")
        .join(rows.select(pl.col("_key").alias("source_key"), *values), on="source_key", how="left")
        .with_columns(run_id=pl.lit(run_id), plan_id=pl.lit(plan_id), part=pl.lit(part))
    )
    with lake.connect() as con:
        table = f'lake."{SCHEMA}"."{sync}"'
        con.register("_outcome_rows", frame.to_arrow())
        con.begin()
        con.execute(f'CREATE SCHEMA IF NOT EXISTS lake."{SCHEMA}"')
        con.execute(f"CREATE TABLE IF NOT EXISTS {table} AS SELECT now() AS time, * FROM _outcome_rows WITH NO DATA")
        present = {row[0] for row in con.execute(f"SELECT name FROM pragma_table_info('{table}')").fetchall()}
        for name, kind in con.execute("SELECT column_name, column_type FROM (DESCRIBE _outcome_rows)").fetchall():
            if name not in present:
                con.execute(f'ALTER TABLE {table} ADD COLUMN "{name}" {kind}')
        con.execute(f"DELETE FROM {table} WHERE plan_id = ? AND part = ?", [plan_id, part])
        con.execute(f"INSERT INTO {table} BY NAME SELECT now() AS time, * FROM _outcome_rows")
        con.commit()
        con.unregister("_outcome_rows")


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
