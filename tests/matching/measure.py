"""How well people are matched: precision and recall of each class, printed and written into docs/matching.md.

python -m tests.matching.measure [--count 10000] [--seed 7] [--write]
"""

from __future__ import annotations

import argparse
import re
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from sync_platform.engine.spec import Matching
from sync_platform.matching.classes import CLASSES, UNMATCHED, Likeness, classify
from sync_platform.matching.forms import fields_of
from tests.matching.people import FIELDS, Person, World, people

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "matching.md"
LIKENESS: Final = Likeness(on=("email",), folded=frozenset({"email"}), matching=Matching(fields=fields_of(FIELDS)))
_BLOCK: Final = re.compile(r"(<!-- measured: begin -->\n).*?(<!-- measured: end -->)", re.S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One class: its source records and pairs, and how many of the pairs are right.

    Recall is the share of the people in both systems that are rightly in this class; of the unmatched it is the share
    of the people who are in the source alone.
    """

    name: str
    records: int
    pairs: int
    right: int
    recall: float

    @property
    def precision(self) -> float:
        """The share of the pairs (of the unmatched: of the records) that are right; 1 when there are none."""
        return self.right / self.pairs if self.pairs else 1.0


def frame(rows: list[Person], id: str) -> pl.DataFrame:
    """Rows with their index as the id, and who they are in `_person`."""
    named = [
        {id: str(at), "_person": row.person, **{f: getattr(row, f) for f in FIELDS}} for at, row in enumerate(rows)
    ]
    return pl.DataFrame(named, schema={id: pl.String, "_person": pl.Int64, **dict.fromkeys(FIELDS, pl.String)})


def measured(world: World, found: pl.DataFrame) -> list[Measured]:
    """Each class of a match plan (`_key`, `_target_id`, `class`; ids are indices) held against the truth."""
    source = frame(world.source, "_key").select("_key", _who="_person")
    target = frame(world.target, "_target_id").select("_target_id", _whom="_person")
    told = found.join(source, on="_key").join(target, on="_target_id", how="left")
    known = world.known()
    both = {row.person for row in world.source} & known
    return [_of_class(name, told.filter(pl.col("class") == name), both, len(world.source)) for name in CLASSES]


def _of_class(name: str, rows: pl.DataFrame, both: set[int], everyone: int) -> Measured:
    if name == UNMATCHED:
        right, of = rows.filter(~pl.col("_who").is_in(list(both))), everyone - len(both)
    else:
        right, of = rows.filter(pl.col("_who") == pl.col("_whom")), len(both)
    return Measured(
        name=name,
        records=rows["_key"].n_unique(),
        pairs=rows.height,
        right=right.height,
        recall=right["_who"].n_unique() / of if of else 1.0,
    )


def classified(world: World) -> pl.DataFrame:
    """The match plan of a world."""
    return classify(frame(world.source, "_key"), frame(world.target, "_target_id"), LIKENESS)


def table(classes: list[Measured]) -> str:
    """The classes as a Markdown table."""
    head = "| class | records | candidates | precision | recall |\n|---|---:|---:|---:|---:|\n"
    return head + "".join(
        f"| {one.name} | {one.records:,} | {one.pairs:,} | {one.precision:.4f} | {one.recall:.4f} |\n"
        for one in classes
    )


def main() -> None:
    """Measures, prints, and with `--write` puts the figures into the page."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--write", action="store_true")
    given = arguments.parse_args()
    world = people(given.count, given.seed)
    begun = time.monotonic()
    found = classified(world)
    took = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    text = (
        f"{given.count:,} records here, {given.count:,} there, seed {given.seed}:\n\n"
        f"{table(measured(world, found))}\n"
        f"Sorted in {took:.1f} s, {peak:,.0f} MB at most (the whole process).\n"
    )
    print(text)
    if given.write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(_BLOCK.sub(lambda block: block[1] + text + block[2], page), encoding="utf-8")


if __name__ == "__main__":
    main()
