"""How sure it is that two records are the same, and why: Fellegi and Sunter's weights, in bits.

Every field speaks for or against the pair: what is rare says more than what is common, as counted in the records at
hand. The weights are fixed rather than estimated, so that a score moves with the rarity of its values alone, and so
that the evidence can be read.
https://en.wikipedia.org/wiki/Record_linkage#Probabilistic_record_linkage
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import polars as pl

from sync_platform.engine.matching import TARGET_ID
from sync_platform.engine.spec import MatchField
from sync_platform.matching.forms import LINE_DIGITS
from sync_platform.model import KEY

#: Small data are taken for part of a world of so many records: three rows do not make a name rare.
LEAST_POPULATION: Final = 10_000
#: What equal values say at most, by kind: a name or a town does not identify anybody, however rare it is here.
MOST: Final = {"email": 60.0, "phone": 60.0, "name": 9.0, "text": 6.0}
#: What values say that are nearly equal, and that differ. A different name all but rules a pair out.
CLOSE: Final = {"email": 7.0, "phone": 3.0, "name": 4.0, "text": 2.0}
DIFFERENT: Final = {"email": -3.0, "phone": -3.5, "name": -15.0, "text": -2.5}
NICKNAME: Final = 4.5
#: From which similarity (Jaro-Winkler) names and texts are nearly equal; one edit is near for every kind.
NEAR: Final = 0.9
#: From how many letters on one edit is a typing error rather than another name.
SPELT: Final = 4


def score(
    pairs: pl.DataFrame, source: pl.DataFrame, target: pl.DataFrame, fields: Sequence[MatchField]
) -> pl.DataFrame:
    """The pairs with `_score` (0..1), `_evidence`, `_contradicts`, `_agrees`, `_suspect` and `_firm`.

    `source` and `target` have `forms`. `_contradicts`: a name differs; `_agrees`: how many fields are equal or
    nearly so; `_suspect`: whatever the score, too much is shared for a coincidence (the e-mail, or a telephone and a
    name): a relative, or the same person under another name. `_firm`: an address or telephone is the same, or no name
    is spelt differently; an address resembles another because the names do.
    """
    forms = [f"f{number}" for number in range(len(fields))]
    names = [f"names{number}" for number, field in enumerate(fields) if field.kind == "name"]
    here = source.select(KEY, pl.col(*forms, *names).name.prefix("s_"))
    there = target.select(TARGET_ID, pl.col(*forms, *names).name.prefix("t_"))
    joined = pairs.select(KEY, TARGET_ID).join(here, on=KEY, how="left", maintain_order="left")
    joined = joined.join(there, on=TARGET_ID, how="left", maintain_order="left")
    joined = _uncrossed(joined, fields)
    population = max(source.height, target.height, LEAST_POPULATION)
    told = [_level(joined, number, field).alias(f"level{number}") for number, field in enumerate(fields)]
    levels = joined.with_columns(told)
    weights = [
        _weight(levels, number, field, _common(source, target, number), population).alias(f"bits{number}")
        for number, field in enumerate(fields)
    ]
    weighed = levels.with_columns(weights)
    bits = pl.sum_horizontal([f"bits{number}" for number in range(len(fields))]) - math.log2(population)
    near = pl.Series(["equal", "close", "nickname"]).implode()
    agrees = [pl.col(f"level{number}").is_in(near) for number in range(len(fields))]
    by_kind = {kind: [agrees[n] for n, field in enumerate(fields) if field.kind == kind] for kind in MOST}
    differs = [pl.col(f"level{n}") == "different" for n, field in enumerate(fields) if field.kind == "name"]
    same = [pl.col(f"level{n}") == "equal" for n, field in enumerate(fields) if field.kind in ("email", "phone")]
    misspelt = [pl.col(f"level{n}") == "close" for n, field in enumerate(fields) if field.kind == "name"]
    related = _any(by_kind["email"]) | (_any(by_kind["phone"]) & (_any(by_kind["name"]) | pl.lit(not differs)))
    return weighed.select(
        KEY,
        TARGET_ID,
        _score=(1 / (1 + (-bits * 0.6931471805599453).exp())).round(4),
        _evidence=pl.concat_str([_told(n, field) for n, field in enumerate(fields)], separator="; ", ignore_nulls=True),
        _contradicts=_any(differs),
        _agrees=pl.sum_horizontal([one.cast(pl.Int32) for one in agrees]),
        _suspect=related,
        _firm=_any(same) | ~_any(misspelt),
    )


def _any(conditions: Sequence[pl.Expr]) -> pl.Expr:
    return pl.any_horizontal([one.fill_null(False) for one in conditions]) if conditions else pl.lit(False)


def _uncrossed(joined: pl.DataFrame, fields: Sequence[MatchField]) -> pl.DataFrame:
    """First and last name stand in each other's field now and then: exchanged where that fits better."""
    names = [number for number, field in enumerate(fields) if field.kind == "name"]
    if len(names) != 2:
        return joined.with_columns(_crossed=pl.lit(False))
    one, other = names
    straight = _similar(joined, f"s_f{one}", f"t_f{one}") + _similar(joined, f"s_f{other}", f"t_f{other}")
    across = [_similar(joined, f"s_f{one}", f"t_f{other}"), _similar(joined, f"s_f{other}", f"t_f{one}")]
    found = pl.DataFrame({"straight": straight, "first": across[0], "second": across[1]})
    better = (pl.col("first") + pl.col("second") > pl.col("straight") + 0.3) & (
        pl.max_horizontal("first", "second") >= NEAR
    )
    marked = joined.with_columns(found.select(better.fill_null(False).alias("_crossed"))["_crossed"])
    exchanged = [
        pl.when("_crossed")
        .then(pl.col(f"t_{part}{there}"))
        .otherwise(pl.col(f"t_{part}{here}"))
        .alias(f"t_{part}{here}")
        for here, there in ((one, other), (other, one))
        for part in ("f", "names")
    ]
    return marked.with_columns(exchanged)


def _similar(frame: pl.DataFrame, one: str, other: str) -> pl.Series:
    """Jaro-Winkler similarity of two columns (0..1; null where one is null), each distinct pair worked out once."""
    from rapidfuzz.distance import JaroWinkler
    from rapidfuzz.process import cpdist

    texts = frame.select(pl.col(one).alias("a"), pl.col(other).alias("b"))
    distinct = texts.drop_nulls().unique(maintain_order=True)
    likeness = cpdist(distinct["a"].to_list(), distinct["b"].to_list(), scorer=JaroWinkler.normalized_similarity)
    known = distinct.with_columns(pl.Series("_likeness", likeness, dtype=pl.Float64))
    return texts.join(known, on=["a", "b"], how="left", maintain_order="left")["_likeness"]


def _edits(frame: pl.DataFrame, one: str, other: str) -> pl.Series:
    """Damerau-Levenshtein edits between two columns, worked out for distinct pairs; null where one is null."""
    from rapidfuzz.distance import OSA
    from rapidfuzz.process import cpdist

    texts = frame.select(pl.col(one).alias("a"), pl.col(other).alias("b"))
    distinct = texts.drop_nulls().unique(maintain_order=True)
    edits = cpdist(distinct["a"].to_list(), distinct["b"].to_list(), scorer=OSA.distance, score_cutoff=2)
    known = distinct.with_columns(pl.Series("_edits", edits, dtype=pl.Int64))
    return texts.join(known, on=["a", "b"], how="left", maintain_order="left")["_edits"]


def _level(joined: pl.DataFrame, number: int, field: MatchField) -> pl.Series:
    """equal, nickname, close, different, or null where one side has no value."""
    one, other = pl.col(f"s_f{number}"), pl.col(f"t_f{number}")
    same = one == other
    if field.kind == "phone":
        same = same | (
            (one.str.tail(LINE_DIGITS) == other.str.tail(LINE_DIGITS)) & (one.str.len_chars() >= LINE_DIGITS)
        )
    if field.kind in ("email", "phone"):
        near = _edits(joined, f"s_f{number}", f"t_f{number}") <= 1
    else:
        likeness = _similar(joined, f"s_f{number}", f"t_f{number}")
        typed = (_edits(joined, f"s_f{number}", f"t_f{number}") <= 1) & _long(joined, number)
        near = (likeness >= NEAR) | typed
    cases: list[tuple[pl.Expr, str]] = [(same, "equal")]
    if field.kind == "name":
        called = pl.col(f"t_names{number}").list.contains(one) | pl.col(f"s_names{number}").list.contains(other)
        cases += [(called, "nickname"), (_initial(one, other), "close")]
    cases += [(pl.col("_near"), "close"), (one.is_not_null() & other.is_not_null(), "different")]
    level: pl.Expr = pl.lit(None, dtype=pl.String)
    for condition, name in reversed(cases):
        level = pl.when(condition).then(pl.lit(name)).otherwise(level)
    return joined.with_columns(near.alias("_near")).select(level.alias("_level"))["_level"]


def _long(joined: pl.DataFrame, number: int) -> pl.Series:
    lengths = [pl.col(f"{side}_f{number}").str.len_chars() for side in ("s", "t")]
    return joined.select((pl.max_horizontal(lengths) >= SPELT).alias("_long"))["_long"]


def _initial(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """One of them is but the initial of the other."""
    short = (one.str.len_chars() == 1) | (other.str.len_chars() == 1)
    return short & (one.str.head(1) == other.str.head(1))


def _common(source: pl.DataFrame, target: pl.DataFrame, number: int) -> pl.DataFrame:
    """How many records of the side with more of them share each value: `_value`, `_count`."""
    counts = [
        frame.select(pl.col(f"f{number}").alias("_value")).drop_nulls().group_by("_value").len("_count")
        for frame in (source, target)
    ]
    return pl.concat(counts).group_by("_value").agg(pl.col("_count").max())


def _weight(levels: pl.DataFrame, number: int, field: MatchField, common: pl.DataFrame, population: int) -> pl.Series:
    """The bits a field adds to each pair."""
    counted = levels.select(f"level{number}", pl.col(f"s_f{number}").alias("_value")).join(
        common, on="_value", how="left", maintain_order="left"
    )
    rare = (0.9 * population / pl.col("_count").cast(pl.Float64)).log(2).clip(0.0, MOST[field.kind])
    level = pl.col(f"level{number}")
    bits = (
        pl.when(level == "equal").then(rare)
        .when(level == "nickname").then(pl.min_horizontal(rare, pl.lit(NICKNAME)))
        .when(level == "close").then(pl.lit(CLOSE[field.kind]))
        .when(level == "different").then(pl.lit(DIFFERENT[field.kind]))
        .otherwise(pl.lit(0.0))
    )  # fmt: skip
    return counted.select(bits.alias("_bits"))["_bits"]


def _told(number: int, field: MatchField) -> pl.Expr:
    """What a field says, in words; nothing where one side has no value."""
    level, one, other = pl.col(f"level{number}"), pl.col(f"s_f{number}"), pl.col(f"t_f{number}")
    both = pl.concat_str(pl.lit(" ("), one, pl.lit(" / "), other, pl.lit(")"))
    crossed = pl.when(pl.col("_crossed")).then(pl.lit(" crosswise")).otherwise(pl.lit(""))
    extra = crossed if field.kind == "name" else pl.lit("")
    said = pl.concat_str(pl.lit(f"{field.name} "), level, extra)
    return pl.when(level.is_null()).then(None).when(level == "equal").then(said).otherwise(pl.concat_str(said, both))
