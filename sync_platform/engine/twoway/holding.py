"""Which rows of a two-way plan wait for a person: a first sync's creates, and records that look like somebody's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from sync_platform.engine.planning import FIRST_SYNC
from sync_platform.engine.twoway.changes import Decided, Row
from sync_platform.engine.twoway.pairing import Pairing
from sync_platform.engine.twoway.parts import frame_of
from sync_platform.ledger.links import links_of
from sync_platform.ledger.match_decisions import has_decisions, plan_was_applied
from sync_platform.matching.holding import LATER, UNDECIDED, candidates, with_decisions
from sync_platform.model import KEY, Op

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.engine.twoway.foreseen import Foreseen
    from sync_platform.engine.twoway.noted import Noted
    from sync_platform.matching.classes import Known
    from sync_platform.session import Session

HELD_FIRST: Final = f"{FIRST_SYNC}: waiting for the match plan"
REPEATED: Final = "another record to be written has the same match values"


@dataclass
class Holding:
    """The place of a plan, as `matching.holding` asks about it. `con` is of the lake; None where events are handled.

    `foreseen` are the plan's links; `alike` the target records that an unlinked source record may be, with that one's
    key: a plan's parts meet there.
    """

    session: Session
    spec: SyncSpec
    folded: set[str]
    con: Any = None
    compare: str = "target"
    foreseen: Foreseen | None = None
    known: Known | None = None
    alike: Noted | None = None

    def __post_init__(self) -> None:
        if self.con is None:
            self.compare = "live"

    def linked(self, keys: Sequence[str]) -> pl.DataFrame:
        """`_key` of those that are linked."""
        if self.foreseen is None:
            return links_of(self.session.database, self.spec, keys).select(KEY)
        return pl.DataFrame({KEY: list(self.foreseen.links(keys))}, schema={KEY: pl.String})

    @property
    def undecided(self) -> bool:
        """Whether it is a first sync whose match plan nobody applied yet."""
        return self.spec.first_sync == "match" and not plan_was_applied(self.session.database, self.spec)


def hold(place: Holding, every: Decided, pairing: Pairing) -> None:
    """Turns rows of both sides into holds, in place: creates, and what was decided not to be the same record."""
    first = place.undecided
    _hold_creates(place.spec, every, pairing, first=first)
    spec = place.spec
    if first or (spec.matching is None and not has_decisions(place.session.database, spec)):
        return
    rows = [row for row in (*every.target, *every.still) if row[KEY]]
    changes = frame_of(rows, pairing.forward.fields)
    links = place.linked(changes[KEY].unique().to_list())
    told = with_decisions(place, changes, links)
    held = told.filter((pl.col("_op") == str(Op.HOLD)) & (changes["_op"] != str(Op.HOLD)))
    reasons = dict(held.select(KEY, "_reason").iter_rows())
    for row in (*every.target, *every.still, *every.source):
        if row[KEY] in reasons:
            _wait(row, reasons[row[KEY]])
    _hold_look_alikes(place, every, candidates(place, changes, links))


def _hold_look_alikes(place: Holding, every: Decided, pairs: pl.DataFrame) -> None:
    """Target records that may be an unlinked source record: no source record is made of them meanwhile."""
    alike = {target: key for key, target in pairs.iter_rows() if target}
    creates = [row for row in every.source if row["_op"] == Op.CREATE and row["_replaces"] is None]
    if place.alike is not None:
        place.alike.add(alike)
        alike = place.alike.among([row["_partner"] for row in creates])
    for row in creates:
        if row["_partner"] in alike:
            _wait(row, f"{UNDECIDED}: it may be {alike[row['_partner']]}")
        elif place.spec.matching is not None and place.compare == "live":
            _wait(row, LATER)


def _hold_creates(spec: SyncSpec, every: Decided, pairing: Pairing, *, first: bool) -> None:
    """Creates of a first sync nobody decided about, and those that share their match values with another create."""
    sides: tuple[tuple[list[Row], Sequence[str]], ...] = (
        (every.target, spec.match), (every.source, pairing.reversed.match)
    )  # fmt: skip
    for rows, on in sides:
        creates = [row for row in rows if row["_op"] == Op.CREATE]
        values = Counter(match_values(row, on) for row in creates)
        for row in creates:
            told = match_values(row, on)
            if first and row["_replaces"] is None:
                _wait(row, HELD_FIRST)
            elif told is not None and values[told] > 1:
                _wait(row, REPEATED)


def _wait(row: Row, reason: str) -> None:
    row |= {"_op": str(Op.HOLD), "_reason": reason}


def match_values(row: Row, on: Sequence[str]) -> tuple[str, ...] | None:
    """What a row gives the match fields, spaces around and case ignored; None when one of them is empty."""
    told = tuple(str(row.get(f"new:{name}") or "").strip().casefold() for name in on)
    return told if told and all(told) else None
