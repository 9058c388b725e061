"""The rows of a two-way plan on their way into its parts, so many at a time."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from sync_platform.engine.twoway.changes import Decided
from sync_platform.engine.twoway.holding import REPEATED, Holding, hold, match_values
from sync_platform.engine.twoway.pairing import Pairing
from sync_platform.engine.twoway.parts import frame_of, letters_frame
from sync_platform.model import Op

if TYPE_CHECKING:
    from sync_platform.ledger.plans import PlanFiles

#: Records that are decided at a time, as rows of Python: some 4 KB each.
AT_ONCE: Final = 10_000


@dataclass
class PlannedRows:
    """Writes the parts `changes` (target side, with what needs no call), `back` (source side) and `invalid`."""

    files: PlanFiles
    pairing: Pairing
    match: Sequence[str]
    _number: int = 0
    _seen: dict[str, array[int]] = field(default_factory=lambda: {"changes": array("Q"), "back": array("Q")})

    def write(self, decided: Decided, place: Holding) -> None:
        """Writes rows as further parts, held where a person must decide (see `holding`)."""
        for kind, rows in (("changes", decided.target), ("back", decided.source)):
            on = self._on(kind)
            told = (match_values(row, on) for row in rows if row["_op"] == Op.CREATE)
            self._seen[kind].extend(_hash(values) for values in told if values is not None)
        hold(place, decided, self.pairing)
        forward = [*decided.target, *decided.still, *decided.conflicts]
        self.files.write("changes", self._number, frame_of(forward, self.pairing.forward.fields))
        self.files.write("back", self._number, frame_of(decided.source, self.pairing.back.fields))
        if decided.letters:
            self.files.write("invalid", self._number, letters_frame(decided.letters))
        self._number += 1

    def finish(self, place: Holding) -> None:
        """Sees to it that there is a part of each kind, and holds creates that share their match values."""
        if not self._number:
            self.write(Decided(), place)
        for kind, seen in self._seen.items():
            values, times = np.unique(np.frombuffer(seen, dtype=np.uint64), return_counts=True)
            if (times > 1).any():
                self._hold_repeated(kind, {int(value) for value in values[times > 1]})

    def _on(self, kind: str) -> Sequence[str]:
        return self.match if kind == "changes" else self.pairing.reversed.match

    def _hold_repeated(self, kind: str, suspects: set[int]) -> None:
        """Two records of one part were held when it was written; those of different parts meet here."""
        on, met = self._on(kind), Counter[tuple[str, ...]]()
        columns = ["_op", "_target_id", *(f"new:{name}" for name in on)]
        for part in self.files.chosen(kind, _MADE, *columns):
            made = (match_values(row, on) for row in part.iter_rows(named=True))
            met.update(values for values in made if values is not None and _hash(values) in suspects)
        for number, part in enumerate(self.files.parts(kind)):
            told = [match_values(row, on) for row in part.select(columns).iter_rows(named=True)]
            twice = pl.Series([values is not None and met[values] > 1 for values in told], dtype=pl.Boolean)
            held = twice & (part["_op"] == str(Op.CREATE))
            if held.any():
                self.files.write(kind, number, part.with_columns(
                    _op=pl.when(held).then(pl.lit(str(Op.HOLD))).otherwise(pl.col("_op")),
                    _reason=pl.when(held).then(pl.lit(REPEATED)).otherwise(pl.col("_reason")),
                ))  # fmt: skip


#: Rows that make a record, held or not.
_MADE: Final = pl.col("_target_id").is_null() & pl.col("_op").is_in([str(Op.CREATE), str(Op.HOLD)])


def _hash(values: Sequence[str]) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(values).encode(), digest_size=8).digest())
