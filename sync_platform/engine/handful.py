"""The plan of a few linked records, row by row: what `reconcile.plan` answers, without its frames.

Building and running expressions costs the same for five rows as for fifty thousand, some ten milliseconds, which
is most of what an event may take. Whatever is not the plain case (no link yet, gone in the target, several
records on one target, values of another type, other modes) is left to `reconcile.plan`. A property test holds
both to the same answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Protocol

import polars as pl

from sync_platform.engine.matching import TARGET_ID
from sync_platform.engine.reconcile import Rules, desired_hash
from sync_platform.model import CURSOR, KEY, READ_AT, Op

#: Modes in which a linked record is updated when it differs and left alone when it does not.
MODES: Final = frozenset({"upsert", "update", "mirror", "archive"})
#: Types whose values compare in Python as they do in polars (a float's NaN does not).
_PLAIN: Final = (pl.String, pl.Boolean, pl.Int64, pl.Int32, pl.Date, pl.Datetime, pl.Decimal)


class Linked(Protocol):
    """What a link tells: the target record and the hash of what was last written to it."""

    @property
    def target_id(self) -> str:
        """The target record."""

    @property
    def base(self) -> int | None:
        """The hash."""


def plan_linked(
    desired: pl.DataFrame, current: pl.DataFrame, links: Mapping[str, Linked], rules: Rules
) -> tuple[list[dict[str, Any]], pl.DataFrame]:
    """The changes of the plain cases as rows (see `planning`), and the desired records that are none.

    `current`: `_target_id` and target fields of the linked records, just read.
    """
    fields = [name for name in rules.fields if name in desired.columns]
    if rules.mode not in MODES or not all(_comparable(name, desired, current) for name in fields):
        return [], desired
    here = {row[TARGET_ID]: row for row in current.iter_rows(named=True)}
    sharing = Counter(links[key].target_id for key in desired[KEY] if key in links)
    plain = [
        key in links and links[key].target_id in here and sharing[links[key].target_id] == 1 for key in desired[KEY]
    ]
    if not any(plain):
        return [], desired
    hashes = desired_hash(desired, fields).to_list()
    rows = [
        change_of(row, here[links[row[KEY]].target_id], links[row[KEY]], fields, hashed, rules)
        for row, hashed, mine in zip(desired.iter_rows(named=True), hashes, plain, strict=True)
        if mine
    ]
    return rows, desired.filter(~pl.Series(plain)) if not all(plain) else desired.clear()


def _comparable(name: str, desired: pl.DataFrame, current: pl.DataFrame) -> bool:
    return comparable(desired.schema[name], current.schema.get(name))


def comparable(wanted: pl.DataType, found: pl.DataType | None) -> bool:
    """Whether values of these types compare in Python as they do in polars."""
    return wanted == found and isinstance(wanted, _PLAIN)


def change_of(
    row: Mapping[str, Any],
    now: Mapping[str, Any],
    link: Linked,
    fields: list[str],
    hashed: int,
    rules: Rules,
) -> dict[str, Any]:
    """The update or skip of one linked record that the target holds as `now`; `hashed`: see `desired_hash`."""
    differing = [name for name in fields if _normal(row[name], name, rules) != _normal(now[name], name, rules)]
    base = hashed - 2**64 if hashed >= 2**63 else hashed
    return {
        "_op": str(Op.UPDATE if differing else Op.SKIP),
        KEY: row[KEY],
        TARGET_ID: link.target_id,
        "_reason": None if differing else "unchanged",
        CURSOR: row.get(CURSOR),
        READ_AT: row.get(READ_AT),
        "_dedupe_key": row.get("_dedupe_key"),
        "_changed": row.get("_changed"),
        "_fields": differing,
        **{f"new:{name}": row[name] for name in fields},
        **{f"old:{name}": now[name] for name in fields},
        "_base": base,
        "_replaces": link.target_id,
        "_relink": link.base != base,
    }


def _normal(value: Any, name: str, rules: Rules) -> Any:
    """A value as it is compared (see `reconcile`)."""
    if not isinstance(value, str):
        return value
    if name in rules.folded:
        value = value.lower()
    return None if value == "" and rules.empty_is_null else value
