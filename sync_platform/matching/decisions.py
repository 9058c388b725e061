"""The file in which people decide who is who: `matches.csv` beside the sync's `defs.yaml`.

One row for each candidate, sorted by class and key, so that a new version shows what changed. A row's `decision` is
accept (these are the same), reject (these are not), create (the source record is new), or undecided.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from sync_platform.errors import ConfigError
from sync_platform.matching.classes import AMBIGUOUS, CLASSES, EXACT, LIKELY, UNMATCHED

if TYPE_CHECKING:
    from collections.abc import Collection

    from sync_platform.project import DeclaredSync, Project

ACCEPT, REJECT, CREATE, UNDECIDED = "accept", "reject", "create", "undecided"
DECISIONS: Final = (ACCEPT, REJECT, CREATE, UNDECIDED)
COLUMNS: Final = ("source_key", "target_id", "class", "score", "decision", "evidence", "source", "target")
MATCHES: Final = {name: pl.Float64 if name == "score" else pl.String for name in COLUMNS}
_PAIR: Final = ["source_key", "target_id"]
#: What `--accept CLASS` decides.
ACCEPTED: Final = {EXACT: ACCEPT, LIKELY: ACCEPT, UNMATCHED: CREATE}


@dataclass(frozen=True, slots=True)
class MatchFile:
    """The decisions of one sync as they stand in its file."""

    path: Path

    @classmethod
    def of(cls, project: Project, declared: DeclaredSync) -> MatchFile:
        """The file beside the `defs.yaml` that declares the sync."""
        folder = (project.root / declared.place.file).parent
        name = declared.spec.name
        return cls(folder / ("matches.csv" if folder.name == name else f"{name}.matches.csv"))

    def read(self) -> pl.DataFrame:
        """The rows of the file (`MATCHES`); none when it does not exist. ConfigError, with the line, for wrong ones."""
        if not self.path.is_file():
            return pl.DataFrame(schema=MATCHES)
        text = self.path.read_text(encoding="utf-8-sig")
        rows = csv.DictReader(io.StringIO(text))
        missing = [name for name in ("source_key", "target_id", "decision") if name not in (rows.fieldnames or ())]
        if missing:
            raise self._wrong(1, missing[0], None, f"the column {missing[0]} is missing")
        found = [self._row(number, row) for number, row in enumerate(rows, 2)]
        self._refuse_contradictions(found)
        return pl.DataFrame(found, schema=MATCHES, orient="row")

    def _row(self, line: int, row: dict[str, str | None]) -> tuple[str | float | None, ...]:
        told = {name: (row.get(name) or "").strip() or None for name in COLUMNS}
        decision = told["decision"] = (told["decision"] or UNDECIDED).lower()
        if decision not in DECISIONS:
            raise self._wrong(line, "decision", decision, f"write one of {', '.join(DECISIONS)}")
        if told["source_key"] is None:
            raise self._wrong(line, "source_key", None, "every row names a source record")
        if decision in (ACCEPT, REJECT) and told["target_id"] is None:
            raise self._wrong(line, "target_id", None, f"name the target record you {decision}, or write create")
        try:
            score = float(told["score"]) if told["score"] else None
        except ValueError:
            raise self._wrong(
                line, "score", told["score"], "a score is a number, and nobody needs to change it"
            ) from None
        return tuple(score if name == "score" else told[name] for name in COLUMNS)

    def _refuse_contradictions(self, rows: list[tuple[str | float | None, ...]]) -> None:
        """One target record for a source record, and one source record for a target record."""
        seen: dict[tuple[str, str], int] = {}
        for line, row in enumerate(rows, 2):
            key, target, decision = str(row[0]), str(row[1]), row[4]
            sides = {ACCEPT: (("source", key), ("target", target)), CREATE: (("source", key),)}.get(str(decision), ())
            for side in sides:
                if side in seen:
                    mend = f"it is decided in line {seen[side]} already; keep one of them"
                    raise self._wrong(line, f"{side[0]}_{'key' if side[0] == 'source' else 'id'}", side[1], mend)
                seen[side] = line

    def _wrong(self, line: int, field: str, value: str | None, mend: str) -> ConfigError:
        return ConfigError(
            f"{self.path.name} cannot be applied", file=str(self.path), line=line, field=field, value=value, mend=mend
        )

    def write(self, rows: pl.DataFrame) -> None:
        """Writes the rows (`MATCHES`) in their order; the file is whole or not there."""
        lines = io.StringIO()
        out = csv.writer(lines, lineterminator="\n")
        out.writerow(COLUMNS)
        out.writerows(["" if cell is None else cell for cell in row] for row in rows.select(COLUMNS).iter_rows())
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text(lines.getvalue(), encoding="utf-8")
        os.replace(beside, self.path)


def merged(proposed: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """What is proposed now (`MATCHES`) with the decisions made before, in the file's order.

    A decided row stays as long as its source record needs one; `create` goes with the record, whatever it looks like.
    """
    kept = before.filter(pl.col("decision") != UNDECIDED).join(proposed, on="source_key", how="semi")
    said = kept.select(*_PAIR, _said="decision")
    told = proposed.join(said, on=_PAIR, how="left", nulls_equal=True).with_columns(
        decision=pl.coalesce("_said", "decision")
    )
    gone = kept.join(proposed, on=_PAIR, how="anti", nulls_equal=True)
    whole = pl.concat([told.select(COLUMNS), gone.select(COLUMNS)])
    decided = whole.filter(pl.col("decision").is_in([ACCEPT, CREATE])).select("source_key")
    # whoever is decided is not proposed to anybody any more
    idle = (pl.col("decision") == UNDECIDED) & pl.col("source_key").is_in(decided["source_key"].to_list())
    order = pl.col("class").replace_strict(list(CLASSES), range(len(CLASSES)), default=len(CLASSES))
    return whole.filter(~idle).sort(order, "source_key", "score", "target_id", descending=[False, False, True, False])


def accepted(rows: pl.DataFrame, classes: Collection[str]) -> pl.DataFrame:
    """The rows with what is undecided in these classes decided: the pairs accepted, the unmatched created."""
    wrong = [name for name in classes if name not in ACCEPTED]
    if wrong:
        told = "an ambiguous record is decided in the file" if wrong[0] == AMBIGUOUS else "there is no such class"
        raise ConfigError(
            f"{wrong[0]!r} cannot be accepted as a whole: {told}",
            field="--accept", value=wrong[0], mend=f"name some of {', '.join(ACCEPTED)}",
        )  # fmt: skip
    chosen = pl.col("class").is_in(list(classes)) & (pl.col("decision") == UNDECIDED)
    said = pl.col("class").replace_strict(ACCEPTED, default=UNDECIDED, return_dtype=pl.String)
    return rows.with_columns(decision=pl.when(chosen).then(said).otherwise("decision"))


def counts(rows: pl.DataFrame, column: str, names: Collection[str]) -> dict[str, int]:
    """How many source records there are of each class or decision."""
    distinct = rows.select("source_key", column).unique()
    found = Counter(distinct[column].to_list())
    return {name: found.get(name, 0) for name in names}
