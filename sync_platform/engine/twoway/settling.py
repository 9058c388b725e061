"""Outcomes of a two-way sync's rows: what one-way syncs settle, and the bases of what both sides agree on now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from sync_platform.engine.spec import Side
from sync_platform.engine.twoway.changes import RECORD, Row, target_of
from sync_platform.engine.twoway.values import told
from sync_platform.ledger.bases import BasePatch, move_bases
from sync_platform.ledger.conflicts import found_conflicts, settle_conflicts
from sync_platform.ledger.settle import settle
from sync_platform.model import Op, Record, Status

if TYPE_CHECKING:
    import psycopg

    from sync_platform.engine.spec import SyncSpec

_DONE = frozenset({str(Status.APPLIED), str(Status.NOOP)})
_REMOVED = frozenset({str(Op.DELETE), str(Op.ARCHIVE)})


def settle_side(
    connection: psycopg.Connection[Any],
    spec: SyncSpec,
    side: Side,
    settled: pl.DataFrame,
    rows: Mapping[str, Row],
    *,
    run_id: str,
    plan_id: str,
    lane: str = "batch",
    answers: Mapping[str, Record] | None = None,
    outcomes: bool = True,
) -> pl.DataFrame:
    """Settles rows of one side in the caller's transaction; returns them as the ledger knows them.

    `settled` has the columns of `ledger.settle.SETTLED` with `source_key` the row's `_key` and `target_id` the record
    that was written; `rows` are the planned rows by `_key`; `answers` what the vendor said a record holds now.
    """
    if settled.is_empty():
        return settled
    shaped = _seen_from_source(settled, rows) if side == "source" else settled
    settle(
        connection, spec, shaped, run_id=run_id, plan_id=plan_id, lane=lane, record_outcomes=outcomes, side=side
    )  # fmt: skip
    patches: list[BasePatch] = []
    agreed: list[tuple[str, str]] = []
    freed: list[str] = []
    for at, done in enumerate(shaped.iter_rows(named=True)):
        row = rows.get(settled["source_key"][at])
        if row is None or done["status"] not in _DONE:
            continue
        if row["_key"] != done["source_key"]:
            freed.append(row["_key"])
        if done["op"] in _REMOVED or row["_op"] == Op.CREATE:
            agreed += [(row["_key"], RECORD), (_old_key(row, done), RECORD)]
        if row["_bases"] is None or done["target_id"] is None:
            continue
        bases = orjson.loads(row["_bases"])
        _hear(bases[side], row, (answers or {}).get(row["_key"]))
        agreed += [(done["source_key"], name) for name in bases["pairs"]]
        patches.append(
            BasePatch(
                key=done["source_key"], target_id=done["target_id"], source=bases["source"], target=bases["target"],
                cursor=done["version_cursor"], read_at=done["version_read_at"],
            )
        )  # fmt: skip
    move_bases(connection, spec, patches)
    settle_conflicts(connection, spec.name, agreed)
    _free(connection, spec, freed)
    return shaped


def settle_conflict_rows(connection: psycopg.Connection[Any], spec: SyncSpec, rows: Sequence[Row]) -> None:
    """Notes planned conflicts for a person, in the caller's transaction."""
    found = []
    for row in rows:
        held = orjson.loads(row["_held"])
        found.append(
            {
                "key": row["_key"], "target_id": row["_target_id"], "field": row["_field"], "reason": row["_reason"],
                "base": held["base"], "source": held["source"], "target": held["target"],
            }
        )  # fmt: skip
    found_conflicts(connection, spec.name, found)


def _seen_from_source(settled: pl.DataFrame, rows: Mapping[str, Row]) -> pl.DataFrame:
    """Rows of the source side as the ledger keeps them: by source record, with the target record beside it."""
    keys, ids = [], []
    for key, written in settled.select("source_key", "target_id").iter_rows():
        row = rows[key]
        made = target_of(key) is not None and written is not None
        keys.append(written if made else key)
        ids.append(row["_partner"])
    return settled.with_columns(
        pl.Series("source_key", keys, dtype=pl.String), pl.Series("target_id", ids, dtype=pl.String)
    )


def _old_key(row: Row, done: Mapping[str, Any]) -> str:
    """The source record that a record made anew stands for."""
    return str(row["_replaces"]) if row["_side"] == "source" and row["_replaces"] else str(done["source_key"])


def _hear(base: dict[str, Any], row: Row, record: Record | None) -> None:
    """Puts what the vendor answered in place of what was sent: it may keep a text in another form."""
    for name in row["_fields"] or () if record else ():
        if name in base and isinstance(base[name], str) and record is not None and isinstance(record.get(name), str):
            base[name] = told(record[name], empty_is_null=True)


def _free(connection: psycopg.Connection[Any], spec: SyncSpec, keys: Sequence[str]) -> None:
    """A record made at the source has a key now: what waited under its former name is done."""
    if not keys:
        return
    connection.execute("DELETE FROM sync.held WHERE sync = %s AND source_key = ANY(%s)", (spec.name, list(keys)))
    connection.execute(
        """UPDATE sync.dead_letters SET state = 'settled', last_at = now()
           WHERE sync = %s AND source_key = ANY(%s) AND state IN ('open', 'retry')""",
        (spec.name, list(keys)),
    )
