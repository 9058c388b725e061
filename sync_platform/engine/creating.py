"""Parts of a plan that are nothing but creates: most of a first load, and not worth what a comparison costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import polars as pl

from sync_platform.ledger.match_decisions import has_decisions
from sync_platform.model import Op

if TYPE_CHECKING:
    from pathlib import Path

    from sync_platform.engine.reconcile import Rules
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session


class Planned(Protocol):
    """The target side while a plan is made; `vacant`: it holds no record at all, and none was ever linked."""

    session: Session
    spec: SyncSpec
    vacant: bool


def creates_everything(target: Planned, rules: Rules) -> bool:
    """Whether every desired record is sure to be created: the target holds nothing, and nobody is to be asked.

    Then a part of changes is its desired part (`as_creates`): law: `changes_of` would say the same.
    """
    return (
        target.vacant
        and rules.mode != "update"
        and not rules.first_sync_hold
        and not rules.empty_is_null
        and target.spec.matching is None
        and not has_decisions(target.session.database, target.spec)
    )


def fields_of(path: Path) -> tuple[str, ...]:
    """The target fields of a desired part."""
    return tuple(name for name in pl.read_parquet_schema(path) if not name.startswith("_"))


def without_names(changes: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """A part of nothing but creates without `_fields`, which then are the fields that have a value.

    A database takes such a part as a whole; ten names a row would be as much to write and to read as the values.
    """
    if rules.empty_is_null or not (changes["_op"] == str(Op.CREATE)).all():
        return changes
    return changes.with_columns(_fields=pl.lit(None, dtype=pl.List(pl.String)))
