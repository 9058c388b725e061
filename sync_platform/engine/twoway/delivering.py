"""The second half of a two-way run: both sides are written, and each outcome moves the bases it settles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import polars as pl

from sync_platform.engine.spec import Side
from sync_platform.engine.twoway.changes import Row
from sync_platform.engine.twoway.delivery import SideDelivery
from sync_platform.engine.twoway.foreseen import follow_planned
from sync_platform.engine.twoway.settling import settle_conflict_rows, settle_side
from sync_platform.engine.twoway.terms import pairing_of
from sync_platform.ledger.plans import Plan, PlanFiles
from sync_platform.model import Op, Status

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session

ORDER = (Op.DELETE, Op.ARCHIVE, Op.UPDATE, Op.CREATE)
SIDES: tuple[tuple[Side, str], ...] = (("target", "changes"), ("source", "back"))


def write_both(session: Session, spec: SyncSpec, plan: Plan, files: PlanFiles, exact: bool) -> Iterator[pl.DataFrame]:
    """Follows a plan's merges and delivers its rows to both sides; yields every batch as it was settled."""
    follow_planned(session, spec, plan.plan_id, files)
    found = pairing_of(session, spec)
    for side, kind in SIDES:
        delivery = SideDelivery(session, spec, found, side, plan.plan_id, exact)
        for op in ORDER:
            for part in files.chosen(kind, pl.col("_op") == str(op)):
                yield from delivery.deliver(op, part.to_dicts())


def settle_rest(session: Session, spec: SyncSpec, plan: Plan, files: PlanFiles) -> Iterator[pl.DataFrame]:
    """Rows that need no call: what both sides agree on already, holds and conflicts."""
    from sync_platform.engine.deliver import without_call

    still = (pl.col("_op") == str(Op.SKIP)) & pl.col("_relink")
    for part in files.chosen("changes", still):
        _settle(session, spec, plan, "target", without_call(part, Status.NOOP), part.to_dicts(), outcomes=False)
    for side, kind in SIDES:
        for part in files.chosen(kind, pl.col("_op") == str(Op.HOLD)):
            yield _settle(session, spec, plan, side, without_call(part, Status.HELD), part.to_dicts())
    for part in files.chosen("changes", pl.col("_op") == str(Op.CONFLICT)):
        rows = part.to_dicts()
        with session.database.connection() as connection:
            settle_conflict_rows(connection, spec, rows)
        once = part.unique("_key", keep="first", maintain_order=True)
        yield _settle(session, spec, plan, "target", without_call(once, Status.HELD), rows)


def _settle(
    session: Session,
    spec: SyncSpec,
    plan: Plan,
    side: Side,
    settled: pl.DataFrame,
    rows: Sequence[Row],
    *,
    outcomes: bool = True,
) -> pl.DataFrame:
    with session.database.connection() as connection:
        return settle_side(
            connection, spec, side, settled, {row["_key"]: row for row in rows},
            run_id=session.run_id, plan_id=plan.plan_id, outcomes=outcomes,
        )  # fmt: skip
