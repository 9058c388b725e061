"""What is looked at again just before a part is written: events since the plan, and the target's records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from sync_platform.engine.lookups import target_rows
from sync_platform.engine.rowwise import SUPERSEDED
from sync_platform.model import Op, Status, Stream

if TYPE_CHECKING:
    from sync_platform.connectors.connector import Connector
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.ledger.plans import Plan
    from sync_platform.state.database import Database


def superseded(database: Database, spec: SyncSpec, plan: Plan, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of which an event delivered a newer version since the plan, and the others."""
    with database.reading() as connection:
        told = connection.execute(
            """SELECT DISTINCT l.source_key, l.target_id, l.version_cursor, l.version_read_at
               FROM sync.queue q JOIN sync.links l ON l.sync = q.sync AND l.source_key = q.key
               WHERE q.sync = %s AND q.finished_at >= %s AND l.version_cursor IS NOT NULL""",
            (spec.name, plan.evaluated_at),
        ).fetchall()
    if not told:
        return rows.clear(), rows
    names = {"_key": pl.String, "_linked_id": pl.String, "_v": pl.Int64, "_r": pl.Int64}
    known = pl.DataFrame(told, schema=names, orient="row")
    joined = rows.join(known, on="_key", how="left", maintain_order="left")
    newer = (pl.col("_v") > pl.col("_cursor")) | (
        (pl.col("_v") == pl.col("_cursor")) & (pl.col("_r").fill_null(0) > pl.col("_read_at").fill_null(0))
    )
    joined = joined.with_columns(newer.fill_null(False).alias("_newer"))
    done = joined.filter("_newer").with_columns(
        _target_id=pl.coalesce("_target_id", "_linked_id"),
        _status=pl.lit(str(Status.NOOP)),
        _why=pl.lit(SUPERSEDED),
    )
    extra = ["_linked_id", "_v", "_r", "_newer"]
    return done.drop(extra), joined.filter(~pl.col("_newer")).drop(extra)


def recheck(
    connector: Connector, stream: Stream, fields: Sequence[str], op: Op, rows: pl.DataFrame, *, exact: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows decided without a write (`_status`, `_why`) and rows to write, whose old values are what was found.

    `exact`: a record that is not as it was planned is refused.
    """
    undecided = rows.with_columns(_status=pl.lit(None, dtype=pl.String), _why=pl.lit(None, dtype=pl.String))
    if op is Op.CREATE or rows.is_empty():
        return undecided.clear(), rows
    now = target_rows(connector, stream, rows["_target_id"].to_list(), fields)
    now = now.rename({name: f"now:{name}" for name in now.columns if name != "_target_id"})
    seen = undecided.join(now.with_columns(_there=pl.lit(True)), on="_target_id", how="left", maintain_order="left")
    sent = [name for name in fields if f"now:{name}" in seen.columns]
    unlike = pl.any_horizontal(
        *[pl.col("_fields").list.contains(n) & pl.col(f"now:{n}").ne_missing(pl.col(f"new:{n}")) for n in sent],
        pl.lit(False),
    )
    moved = pl.any_horizontal(
        *[pl.col(f"now:{n}").ne_missing(pl.col(f"old:{n}")) for n in sent],
        pl.lit(False),
    )
    gone = pl.col("_there").is_null()
    gone_status = Status.REFUSED if op is Op.UPDATE else Status.NOOP
    seen = seen.with_columns(
        _status=pl.when(gone).then(pl.lit(str(gone_status)))
        .when(pl.lit(op is Op.UPDATE) & ~unlike).then(pl.lit(str(Status.NOOP)))
        .when(pl.lit(op is Op.UPDATE and exact) & moved).then(pl.lit(str(Status.REFUSED)))
    )  # fmt: skip
    seen = seen.with_columns(
        _why=pl.when(gone).then(pl.lit("the target record is gone"))
        .when(pl.col("_status") == str(Status.NOOP)).then(pl.lit("the target has these values already"))
        .when(pl.col("_status") == str(Status.REFUSED)).then(pl.lit("the target record changed since the plan"))
    )  # fmt: skip
    truth = [
        pl.when(pl.col("_there")).then(pl.col(f"now:{n}")).otherwise(pl.col(f"old:{n}")).alias(f"old:{n}") for n in sent
    ]
    seen = seen.with_columns(truth).select(undecided.columns)
    decided = seen.filter(pl.col("_status").is_not_null())
    return decided, seen.filter(pl.col("_status").is_null()).drop("_status", "_why")
