"""What a plan makes of records that are not linked: decided ones go ahead, look-alikes wait for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import polars as pl

from sync_platform.engine.matching import TARGET_ID
from sync_platform.ledger.links import owners_of
from sync_platform.ledger.match_decisions import DECISIONS, decisions_of, has_decisions
from sync_platform.model import KEY, Op
from sync_platform.staging.tables import exists

if TYPE_CHECKING:
    import duckdb

    from sync_platform.engine.planning import Target
    from sync_platform.engine.spec import SyncSpec

_UNDECIDED: Final = "the match plan leaves it undecided"
_REJECTED: Final = "the match fields are equal, but it was decided that they are not the same"
_LATER: Final = "new: the next run compares it with the target's unlinked records"


def with_decisions(target: Target, changes: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """The changes with holds for what people rejected or left undecided and for what looks like somebody's record.

    `links`: `_key` of the records that are linked; those are left alone. A sync without `matching` and without
    applied decisions is left alone, too.
    """
    spec, database = target.spec, target.session.database
    matters = pl.col("_op").is_in([str(Op.CREATE), str(Op.UPDATE), str(Op.SKIP)])
    fresh = changes.filter(matters).join(links.select(KEY), on=KEY, how="anti")
    if fresh.is_empty():
        return changes
    decided = pl.DataFrame(schema=DECISIONS)
    if has_decisions(database, spec):
        decided = decisions_of(database, spec, fresh[KEY].to_list())
    if decided.is_empty() and spec.matching is None:
        return changes
    held = [_rejected(fresh, decided), _undecided(fresh, decided), _clashing(fresh, decided)]
    if spec.matching is not None:
        held += [_contradicted(spec, fresh, decided), _look_alikes(target, changes, fresh, decided)]
    reasons = pl.concat(held).unique(KEY, keep="first", maintain_order=True)
    if reasons.is_empty():
        return changes
    joined = changes.join(reasons, on=KEY, how="left", maintain_order="left")
    affected = pl.col("_why_held").is_not_null()
    return joined.with_columns(
        _op=pl.when(affected).then(pl.lit(str(Op.HOLD))).otherwise(pl.col("_op")),
        _reason=pl.when(affected).then(pl.col("_why_held")).otherwise(pl.col("_reason")),
        _fields=pl.when(affected).then(pl.lit([], dtype=pl.List(pl.String))).otherwise(pl.col("_fields")),
    ).drop("_why_held")


def _because(keys: pl.DataFrame, reason: str | pl.Expr) -> pl.DataFrame:
    told = pl.lit(reason) if isinstance(reason, str) else reason
    return keys.select(KEY, told.alias("_why_held"))


def _rejected(fresh: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    """Records that have the match values of a target record they were said not to be."""
    refused = decided.filter(pl.col("decision") == "reject")
    return _because(fresh.join(refused, on=[KEY, TARGET_ID], how="semi"), _REJECTED)


def _undecided(fresh: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    """Creates of records that the match plan lists and nobody decided."""
    waiting = decided.filter(pl.col("decision") == "undecided")
    creates = fresh.filter(pl.col("_op") == str(Op.CREATE))
    return _because(creates.join(waiting, on=KEY, how="semi"), _UNDECIDED)


def _clashing(fresh: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    """Records to be created that have another's match values: the target could not tell the two apart."""
    created = decided.filter(pl.col("decision") == "create")
    found = fresh.filter(pl.col(TARGET_ID).is_not_null()).join(created, on=KEY, how="semi")
    why = pl.concat_str(
        pl.lit("it is to be created, but "), TARGET_ID,
        pl.lit(" has the same match values: change them in one of the two, or match by other fields"),
    )  # fmt: skip
    return _because(found, why)


def _contradicted(spec: SyncSpec, fresh: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    """Records found by their match values whose names say that they are somebody else (a shared mailbox)."""
    from sync_platform.matching.forms import with_forms
    from sync_platform.matching.scoring import score

    assert spec.matching is not None
    fields = spec.matching.fields
    accepted = decided.filter(pl.col("decision") == "accept")
    found = fresh.filter(pl.col(TARGET_ID).is_not_null()).join(accepted, on=[KEY, TARGET_ID], how="anti")
    if found.is_empty():
        return _because(found, "")
    here = with_forms(_side(found, KEY, "new:", [f.name for f in fields]), fields)
    there = with_forms(_side(found, TARGET_ID, "old:", [f.name for f in fields]).unique(TARGET_ID), fields)
    scored = score(found.select(KEY, TARGET_ID), here, there, fields).filter("_contradicts")
    return _because(scored, _told(spec, "it has the match values of "))


def _look_alikes(target: Target, changes: pl.DataFrame, fresh: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    """Creates that look like a target record which is nobody's yet."""
    spec = target.spec
    assert spec.matching is not None
    chosen = decided.filter(pl.col("decision").is_in(["create", "undecided"]))
    creates = fresh.filter(pl.col("_op") == str(Op.CREATE)).join(chosen, on=KEY, how="anti")
    if creates.is_empty():
        return _because(creates, "")
    if target.compare == "live":
        return _because(creates, _LATER)
    from sync_platform.matching.classes import Likeness, alike

    likeness = Likeness(on=spec.match, folded=frozenset(target.folded), matching=spec.matching)
    pairs = alike(
        _side(creates, KEY, "new:", likeness.fields), staged_target(target.con, spec, likeness.fields), likeness
    )
    taken = [*owners_of(target.session.database, spec, pairs[TARGET_ID].to_list())[TARGET_ID], *changes[TARGET_ID]]
    refused = decided.filter(pl.col("decision") == "reject")
    free = pairs.filter(~pl.col(TARGET_ID).is_in(taken)).join(refused, on=[KEY, TARGET_ID], how="anti")
    best = free.sort("_score", TARGET_ID, descending=[True, False]).unique(KEY, keep="first", maintain_order=True)
    return _because(best, _told(spec, "it looks like "))


def _told(spec: SyncSpec, how: str) -> pl.Expr:
    return pl.concat_str(
        pl.lit(how), TARGET_ID, pl.lit(" ("), "_score", pl.lit(": "), "_evidence",
        pl.lit(f"); decide with `sync-platform match {spec.name}`"),
    )  # fmt: skip


def _side(changes: pl.DataFrame, id: str, prefix: str, names: Sequence[str]) -> pl.DataFrame:
    """One side of the changes: its id and the fields under their own names."""
    known = [name for name in names if f"{prefix}{name}" in changes.columns]
    return changes.select(id, *[pl.col(f"{prefix}{name}").alias(name) for name in known])


def staged_target(con: duckdb.DuckDBPyConnection, spec: SyncSpec, fields: Sequence[str]) -> pl.DataFrame:
    """The staged target records: `_target_id` and those of the fields that are staged."""
    connection, name = spec.target.connection, spec.target.object
    if not exists(con, connection, name):
        return pl.DataFrame(schema={TARGET_ID: pl.String})
    table = f'lake."{connection}"."{name}"'
    present = {row[0] for row in con.execute(f"DESCRIBE {table}").fetchall()}
    columns = ", ".join(f'"{one}"' for one in fields if one in present)
    return con.execute(f"SELECT _key AS _target_id, {columns} FROM {table} WHERE NOT _deleted").pl()
