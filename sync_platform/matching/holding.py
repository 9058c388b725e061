"""What a plan makes of records that are not linked: decided ones go ahead, look-alikes wait for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import polars as pl

from sync_platform.engine.matching import TARGET_ID
from sync_platform.ledger.links import owners_of
from sync_platform.ledger.match_decisions import DECISIONS, decisions_of, has_decisions
from sync_platform.model import KEY, Op
from sync_platform.staging.tables import exists

if TYPE_CHECKING:
    import duckdb

    from sync_platform.engine.spec import SyncSpec
    from sync_platform.matching.classes import Known
    from sync_platform.session import Session

UNDECIDED: Final = "the match plan leaves it undecided"
_REJECTED: Final = "the match fields are equal, but it was decided that they are not the same"
LATER: Final = "new: the next run compares it with the target's unlinked records"


class Compared(Protocol):
    """The target side while a plan is made. `compare` is "live" where it is not staged and nothing can be compared.

    `known` are the staged target records once they were read: once a plan, however many parts it has.
    """

    session: Session
    spec: SyncSpec
    folded: set[str]
    compare: str
    con: Any  # of the lake
    known: Known | None


def with_decisions(target: Compared, changes: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """The changes with holds for what people rejected or left undecided and for what looks like somebody's record.

    `links`: `_key` of the records that are linked; those are left alone. A sync without `matching` and without
    applied decisions is left alone, too.
    """
    spec = target.spec
    matters = pl.col("_op").is_in([str(Op.CREATE), str(Op.UPDATE), str(Op.SKIP)])
    fresh = changes.filter(matters).join(links.select(KEY), on=KEY, how="anti")
    if fresh.is_empty():
        return changes
    decided = _decided(target, fresh)
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
    return _because(creates.join(waiting, on=KEY, how="semi"), UNDECIDED)


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


def _look_alikes(target: Compared, changes: pl.DataFrame, fresh: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    """Creates that look like a target record which is nobody's yet."""
    creates = _created(fresh, decided)
    if target.compare == "live":
        return _because(creates, LATER)
    free = _free_pairs(target, changes, creates, decided)
    best = free.sort("_score", TARGET_ID, descending=[True, False]).unique(KEY, keep="first", maintain_order=True)
    return _because(best, _told(target.spec, "it looks like "))


def candidates(target: Compared, changes: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """The pairs of an unlinked source record and the target record it may be, which nobody decided: keys and ids.

    Of a two-way sync's plan: such a target record must not become a source record of its own. `changes` and `links` as
    for `with_decisions`.
    """
    matters = pl.col("_op").is_in([str(Op.CREATE), str(Op.HOLD)])
    fresh = changes.filter(matters).join(links.select(KEY), on=KEY, how="anti")
    decided = _decided(target, fresh)
    pairs = decided.filter(pl.col("decision") == "undecided").select(KEY, TARGET_ID)
    if target.spec.matching is None or target.compare == "live":
        return pairs
    chosen = decided.filter(pl.col("decision") == "create")
    free = _free_pairs(target, changes, fresh.join(chosen, on=KEY, how="anti"), decided)
    return pl.concat([pairs, free.select(KEY, TARGET_ID)]).unique()


def _decided(target: Compared, fresh: pl.DataFrame) -> pl.DataFrame:
    database = target.session.database
    if fresh.is_empty() or not has_decisions(database, target.spec):
        return pl.DataFrame(schema=DECISIONS)
    return decisions_of(database, target.spec, fresh[KEY].to_list())


def _created(fresh: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    chosen = decided.filter(pl.col("decision").is_in(["create", "undecided"]))
    return fresh.filter(pl.col("_op") == str(Op.CREATE)).join(chosen, on=KEY, how="anti")


def _free_pairs(target: Compared, changes: pl.DataFrame, creates: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    """The pairs of these creates and target records that are nobody's: `_key`, `_target_id`, `_score`, `_evidence`."""
    from sync_platform.matching.classes import Known, Likeness, alike

    spec = target.spec
    assert spec.matching is not None
    likeness = Likeness(on=spec.match, folded=frozenset(target.folded), matching=spec.matching)
    if creates.is_empty():
        return pl.DataFrame(schema={KEY: pl.String, TARGET_ID: pl.String, "_score": pl.Float64, "_evidence": pl.String})
    if target.known is None:
        target.known = Known(staged_target(target.con, spec, likeness.fields), likeness)
    pairs = alike(_side(creates, KEY, "new:", likeness.fields), target.known, likeness)
    taken = [*owners_of(target.session.database, spec, pairs[TARGET_ID].to_list())[TARGET_ID], *changes[TARGET_ID]]
    refused = decided.filter(pl.col("decision") == "reject")
    return pairs.filter(~pl.col(TARGET_ID).is_in(taken)).join(refused, on=[KEY, TARGET_ID], how="anti")


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
