"""Creates that met a record with the same match values: somebody made it after the plan had looked.

The target's unique constraint kept them from being doubled and told which record it is. What becomes of them follows
the mode, as it would have in the plan: the record is updated, left alone, or planned again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from sync_platform.ledger.links import owners_of
from sync_platform.model import Op, Status

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.state.database import Database

LEFT_ALONE = "already in the target; mode insert changes nothing"


def met(answered: pl.DataFrame) -> pl.Series:
    """Which creates met a record, as a mask over what a target answered (`_status`, `_target_id`)."""
    mask = (pl.col("_status") == str(Status.REFUSED)) & pl.col("_target_id").is_not_null()
    return answered.select(mask.fill_null(False).alias("met"))["met"]


def verdicts(database: Database, spec: SyncSpec, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Of the creates that met a record, those decided without a write (`_status`, `_why`), and updates of the others.

    A record that another source record owns, or that two creates met, is nobody's to take: those are held.
    """
    owners = owners_of(database, spec, rows["_target_id"].to_list()).select("_target_id", _owner="_key")
    known = rows.join(owners.unique("_target_id"), on="_target_id", how="left", maintain_order="left")
    owned = pl.col("_owner").is_not_null() & (pl.col("_owner") != pl.col("_key"))
    linked = pl.concat_str(pl.col("_why"), pl.lit(", which is linked to "), pl.col("_owner"))
    held = owned | ~pl.col("_target_id").is_first_distinct() | pl.lit(spec.mode == "fill_empty")
    judged = known.with_columns(
        _status=pl.when(held).then(pl.lit(str(Status.REFUSED)))
        .when(pl.lit(spec.mode == "insert")).then(pl.lit(str(Status.NOOP))),
        _why=pl.when(owned).then(linked).when(held).then(pl.col("_why"))
        .when(pl.lit(spec.mode == "insert")).then(pl.lit(LEFT_ALONE)),
    ).drop("_owner")  # fmt: skip
    decided = judged.filter(pl.col("_status").is_not_null())
    updates = judged.filter(pl.col("_status").is_null())
    if updates["_fields"].has_nulls():  # as parts of creates are planned: every field that has a value
        names = [name.removeprefix("new:") for name in updates.columns if name.startswith("new:")]
        given = [pl.when(pl.col(f"new:{name}").is_not_null()).then(pl.lit(name)) for name in names]
        updates = updates.with_columns(_fields=pl.concat_list(given).list.drop_nulls())
    return decided, updates.with_columns(_op=pl.lit(str(Op.UPDATE))).drop("_status", "_why")
