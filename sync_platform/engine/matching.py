"""Which target record each desired record is: by link, then by natural key; doubt is for a person."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import polars as pl

from sync_platform.engine.conversion import as_text
from sync_platform.engine.expressions import did_you_mean
from sync_platform.errors import ConfigError, ContractError
from sync_platform.model import KEY

TARGET_ID: Final = "_target_id"
_ON: Final = "_on:"
_TAKEN: Final = pl.List(pl.String)


def match(
    desired: pl.DataFrame,
    links: pl.DataFrame,
    targets: pl.DataFrame,
    on: Sequence[str],
    folded: Collection[str] = (),
) -> pl.DataFrame:
    """The desired rows with `_target_id`, `_matched`, `_candidates` and `_rivals`, in their order.

    `links`: `_key`, `_target_id`. `targets`: `_target_id`, the match fields, and optionally `_key`, the source
    record that owns it and is still desired (such a target is nobody else's). `_matched` is link, key (all
    fields of `on` equal, surrounding spaces ignored, case too for `folded` ones; an empty one never
    matches), none, or ambiguous: several target records fit (`_candidates`), or other records of this frame
    claim the same one (`_rivals`). Raises ContractError for null or repeated keys.
    """
    refuse_bad_keys(desired, KEY, "desired records")
    linked = _linked(desired, links)
    loose = linked.filter(pl.col(TARGET_ID).is_null())
    found = _candidates(loose, linked, targets, tuple(on), frozenset(folded))
    matched = (
        linked.join(found, on=KEY, how="left", maintain_order="left")
        if found.height
        else linked.with_columns(pl.lit(None, dtype=_TAKEN).alias("_candidates"))
    )
    several = pl.col("_candidates").list.len() > 1
    by_key = pl.col(TARGET_ID).is_null() & (pl.col("_candidates").list.len() == 1)
    matched = matched.with_columns(
        _matched=pl.when(pl.col(TARGET_ID).is_not_null())
        .then(pl.lit("link"))
        .when(by_key)
        .then(pl.lit("key"))
        .when(several)
        .then(pl.lit("ambiguous"))
        .otherwise(pl.lit("none")),
        _target_id=pl.when(by_key).then(pl.col("_candidates").list.first()).otherwise(pl.col(TARGET_ID)),
    )
    matched = _hold_rivals(matched)
    return matched.with_columns(pl.col("_candidates").fill_null([]), pl.col("_rivals").fill_null([])).select(
        *desired.columns, TARGET_ID, "_matched", "_candidates", "_rivals"
    )


def refuse_bad_keys(frame: pl.DataFrame, column: str, what: str) -> None:
    """Raises ContractError when a key column holds nulls or a value twice."""
    keys = frame.get_column(column)
    if keys.null_count():
        raise ContractError(
            f"{keys.null_count()} {what} have no {column}",
            field=column,
            mend="every record needs a key; the stream's key fields must never be empty",
        )
    if repeats(keys):
        twice = keys.filter(keys.is_duplicated()).unique().sort()
        raise ContractError(
            f"{twice.len()} keys of the {what} occur more than once, e.g. {twice[0]}",
            field=column,
            value=twice[0],
            mend="the stream's key must be unique",
        )


def repeats(values: pl.Series) -> bool:
    """Whether a series holds a value twice; the cheap test on hashes first."""
    return values.hash().n_unique() != values.len() and values.n_unique() != values.len()


def _linked(desired: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    known = links.select(pl.col(KEY).cast(pl.String), pl.col(TARGET_ID).cast(pl.String)).drop_nulls()
    if not known.height:
        return desired.with_columns(pl.lit(None, dtype=pl.String).alias(TARGET_ID))
    refuse_bad_keys(known, KEY, "links")
    return desired.join(known, on=KEY, how="left", maintain_order="left")


def _candidates(
    loose: pl.DataFrame, linked: pl.DataFrame, targets: pl.DataFrame, on: tuple[str, ...], folded: frozenset[str]
) -> pl.DataFrame:
    """`_key`, `_candidates`: the free target records with the same match values, sorted."""
    nothing = pl.DataFrame(schema={KEY: pl.String, "_candidates": _TAKEN})
    if not on or not loose.height or not targets.height:
        return nothing
    for name, frame, where in [(n, f, w) for n in on for f, w in ((loose, "mapping"), (targets, "target"))]:
        if name not in frame.columns:
            if where == "mapping":  # the source did not answer it: nothing to match by
                return nothing
            raise ConfigError(
                f"records are matched by {name}, which the {where} does not hold",
                field="match",
                value=name,
                mend=did_you_mean(name, [c for c in frame.columns if not c.startswith("_")]),
            )
    owner = pl.col("_owner") if KEY in targets.columns else pl.lit(None, dtype=pl.String)
    values = _match_values(targets, on, folded)
    known = targets.select(
        pl.col(TARGET_ID), *([pl.col(KEY).alias("_owner")] if KEY in targets.columns else []), *values
    ).drop_nulls([TARGET_ID, *(f"{_ON}{n}" for n in on)])
    taken = linked.select(TARGET_ID).drop_nulls()
    free = known.join(taken, on=TARGET_ID, how="anti")
    wanted = loose.select(KEY, *_match_values(loose, on, folded)).drop_nulls()
    pairs = wanted.join(free, on=[f"{_ON}{n}" for n in on]).filter(owner.is_null() | (owner == pl.col(KEY)))
    return pairs.group_by(KEY).agg(pl.col(TARGET_ID).unique().sort().alias("_candidates"))


def _match_values(frame: pl.DataFrame, on: Sequence[str], folded: Collection[str]) -> list[pl.Expr]:
    made = []
    for name in on:
        text = as_text(pl.col(name), frame.schema[name]).str.strip_chars()
        text = text.str.to_lowercase() if name in folded else text
        made.append(pl.when(text != "").then(text).alias(f"{_ON}{name}"))
    return made


def _hold_rivals(matched: pl.DataFrame) -> pl.DataFrame:
    """Rows of which several are the same target record become ambiguous, each told the others."""
    claimed = matched.select(KEY, TARGET_ID).drop_nulls(TARGET_ID)
    if not repeats(claimed[TARGET_ID]):
        return matched.with_columns(pl.lit(None, dtype=_TAKEN).alias("_rivals"))
    shared = claimed.filter(pl.col(TARGET_ID).is_duplicated())
    groups = shared.group_by(TARGET_ID).agg(pl.col(KEY).sort().alias("_all"))
    rivals = shared.join(groups, on=TARGET_ID).select(
        KEY, pl.col("_all").list.set_difference(pl.concat_list(pl.col(KEY))).list.sort().alias("_rivals")
    )
    clash = pl.col("_rivals").is_not_null()
    return matched.join(rivals, on=KEY, how="left", maintain_order="left").with_columns(
        _matched=pl.when(clash).then(pl.lit("ambiguous")).otherwise(pl.col("_matched")),
        _candidates=pl.when(clash).then(pl.concat_list(pl.col(TARGET_ID))).otherwise(pl.col("_candidates")),
        _target_id=pl.when(clash).then(pl.lit(None, dtype=pl.String)).otherwise(pl.col(TARGET_ID)),
    )
