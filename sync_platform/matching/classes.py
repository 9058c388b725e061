"""Sorts the source records that are not linked yet: exact, likely, ambiguous, unmatched.

A pair is *exact* when the match fields are equal, as they are or normalised, for these two records alone, and no name
contradicts. Of what remains it is *likely* when it scores high, agrees in more than one field, and neither record
resembles another as well. Everything that resembles something is *ambiguous*, the rest *unmatched*. Each record is
part of one exact or likely pair at most.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import polars as pl

from sync_platform.engine.conversion import as_text
from sync_platform.engine.matching import TARGET_ID
from sync_platform.engine.spec import Matching
from sync_platform.matching.blocking import candidate_pairs
from sync_platform.matching.forms import fields_of, with_forms
from sync_platform.matching.scoring import score
from sync_platform.model import KEY

EXACT, LIKELY, AMBIGUOUS, UNMATCHED = "exact", "likely", "ambiguous", "unmatched"
CLASSES: Final = (EXACT, LIKELY, AMBIGUOUS, UNMATCHED)
#: Candidates that are shown for one record.
MOST_SHOWN: Final = 5
_ROUNDS: Final = 5
_PAIR: Final = {KEY: pl.String, TARGET_ID: pl.String}


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What makes records alike: the sync's match fields (`folded` ones regardless of case) and its `matching`."""

    on: tuple[str, ...]
    folded: frozenset[str]
    matching: Matching

    @property
    def fields(self) -> tuple[str, ...]:
        """Every target field that is compared."""
        return tuple(dict.fromkeys([*self.on, *(field.name for field in self.matching.fields)]))


class Known:
    """Records of one side with the forms in which they are compared, made once for however many comparisons."""

    def __init__(self, records: pl.DataFrame, likeness: Likeness) -> None:
        self.records, self._likeness = records, likeness

    @cached_property
    def forms(self) -> pl.DataFrame:
        """With the forms of the compared fields (`forms.with_forms`)."""
        return with_forms(self.records, self._likeness.matching.fields)

    @cached_property
    def keys(self) -> pl.DataFrame:
        """With the forms of the match fields."""
        return with_forms(self.records, fields_of(self._likeness.on))


def classify(
    source: pl.DataFrame, target: pl.DataFrame, likeness: Likeness, rejected: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The class of every source record: `_key`, `_target_id`, `class`, `score`, `evidence`, one row per candidate.

    `source` (`_key`) and `target` (`_target_id`) hold the records that are not linked, with the compared fields.
    `rejected`: pairs (`_key`, `_target_id`) that somebody said are not the same.
    """
    keyed, scored = _scored(Known(source, likeness), Known(target, likeness), likeness)
    if rejected is not None and rejected.height:
        scored = scored.join(rejected.select(KEY, TARGET_ID), on=[KEY, TARGET_ID], how="anti")
    told = scored.join(keyed.with_columns(_keyed=pl.lit(True)), on=[KEY, TARGET_ID], how="left").with_columns(
        pl.col("_keyed").fill_null(False)
    )
    exact = _alone(told.filter("_keyed")).filter(~pl.col("_contradicts"))
    rest = _without(told, exact)
    possible = rest.filter((pl.col("_score") >= likeness.matching.possible) | pl.col("_suspect") | pl.col("_keyed"))
    likely, possible = _likely(possible, likeness.matching)
    ambiguous = possible.sort("_score", TARGET_ID, descending=[True, False]).group_by(KEY, maintain_order=True)
    parts = [
        _shaped(exact, EXACT), _shaped(likely, LIKELY), _shaped(ambiguous.head(MOST_SHOWN), AMBIGUOUS)
    ]  # fmt: skip
    found = pl.concat(parts)
    alone = source.select(pl.col(KEY)).join(found, on=KEY, how="anti").select(
        KEY, _target_id=pl.lit(None, dtype=pl.String), **{"class": pl.lit(UNMATCHED)},
        score=pl.lit(None, dtype=pl.Float64), evidence=pl.lit(None, dtype=pl.String),
    )  # fmt: skip
    return pl.concat([found, alone])


def alike(source: pl.DataFrame, target: pl.DataFrame | Known, likeness: Likeness) -> pl.DataFrame:
    """Every pair that may be the same: `_key`, `_target_id`, `_score`, `_evidence`, `_contradicts`, `_agrees`."""
    known = target if isinstance(target, Known) else Known(target, likeness)
    keyed, scored = _scored(Known(source, likeness), known, likeness)
    worth = (pl.col("_score") >= likeness.matching.possible) | pl.col("_suspect")
    return pl.concat([scored.filter(worth), scored.join(keyed, on=[KEY, TARGET_ID], how="semi")]).unique(
        [KEY, TARGET_ID], maintain_order=True
    )


def _scored(source: Known, target: Known, likeness: Likeness) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The pairs with equal match fields, and every pair worth a look with its score."""
    fields = likeness.matching.fields
    keyed = _key_pairs(source, target, likeness)
    parts = [score(keyed, source.forms, target.forms, fields)]
    for pairs in candidate_pairs(source.forms, target.forms, fields):
        scored = score(pairs, source.forms, target.forms, fields)
        parts.append(scored.filter((pl.col("_score") >= likeness.matching.possible) | pl.col("_suspect")))
    return keyed, pl.concat(parts).unique([KEY, TARGET_ID], maintain_order=True)


def _key_pairs(source: Known, target: Known, likeness: Likeness) -> pl.DataFrame:
    """The pairs whose match fields are equal, as they are or normalised: `_key`, `_target_id`."""
    on, sides = likeness.on, ((source, KEY), (target, TARGET_ID))
    if not on or not set(on) <= set(source.records.columns) & set(target.records.columns):
        return pl.DataFrame(schema=_PAIR)
    plain = [_plain(side.records, on, likeness.folded, id) for side, id in sides]
    names = [f"f{number}" for number in range(len(on))]
    forms = [side.keys.select(id, *names) for side, id in sides]
    found = [
        one.drop_nulls().join(other.drop_nulls(), on=names).select(KEY, TARGET_ID) for one, other in (plain, forms)
    ]
    return pl.concat(found).unique().sort(KEY, TARGET_ID)


def _plain(frame: pl.DataFrame, on: Sequence[str], folded: Collection[str], id: str) -> pl.DataFrame:
    """`id` and the match values as the plan compares them: surrounding spaces ignored, case where the target does."""
    made = []
    for number, name in enumerate(on):
        text = as_text(pl.col(name), frame.schema[name]).str.strip_chars()
        text = text.str.to_lowercase() if name in folded else text
        made.append(pl.when(text != "").then(text).alias(f"f{number}"))
    return frame.select(id, *made)


def _alone(pairs: pl.DataFrame) -> pl.DataFrame:
    """The pairs both of whose records are in no other one."""
    return pairs.filter(pl.col(KEY).is_unique() & pl.col(TARGET_ID).is_unique())


def _without(pairs: pl.DataFrame, taken: pl.DataFrame) -> pl.DataFrame:
    return pairs.join(taken, on=KEY, how="anti").join(taken, on=TARGET_ID, how="anti")


def _likely(possible: pl.DataFrame, matching: Matching) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The likely pairs and what is left; every pair taken may leave another one without a rival."""
    enough = 2 if len(matching.fields) > 1 else 1
    chosen = [possible.clear()]
    for _ in range(_ROUNDS):
        sound = _alone(possible.filter(~pl.col("_contradicts")))
        found = sound.filter((pl.col("_score") >= matching.likely) & (pl.col("_agrees") >= enough) & pl.col("_firm"))
        if found.is_empty():
            break
        chosen.append(found)
        possible = _without(possible, found)
    return pl.concat(chosen), possible


def _shaped(pairs: pl.DataFrame, name: str) -> pl.DataFrame:
    return pairs.select(
        KEY, TARGET_ID, pl.lit(name).alias("class"), score=pl.col("_score"), evidence=pl.col("_evidence")
    )
