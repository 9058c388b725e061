"""Which pairs are worth comparing: those that share at least one blocking key.

Comparing everyone with everyone would be a hundred million pairs for two times ten thousand records. Keys that
too many records share (a common name at a big company) are left out: other keys bring those pairs together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import polars as pl

from sync_platform.engine.matching import TARGET_ID
from sync_platform.engine.spec import MatchField
from sync_platform.matching.forms import LINE_DIGITS
from sync_platform.model import KEY

#: Source records at a time, and the records of one side that may share a key: together they bound the memory.
SLICE: Final = 5_000
MOST_SHARING: Final = 25
_SHORT: Final = 5  # a local part shorter than this says nothing


class _Block(NamedTuple):
    """A key: `head` (one value or a list of them), with `tail` when there is one."""

    head: pl.Expr
    tail: pl.Expr | None = None


def candidate_pairs(source: pl.DataFrame, target: pl.DataFrame, fields: Sequence[MatchField]) -> Iterator[pl.DataFrame]:
    """Frames of distinct pairs `_key`, `_target_id`, for a slice of the source at a time. Both have `forms`."""
    blocks = _blocks(fields)
    there = [_few(_keyed(target, block, TARGET_ID)) for _, block in blocks]
    for part in source.iter_slices(SLICE):
        found = [_joined(_keyed(part, block, KEY), keyed) for (block, _), keyed in zip(blocks, there, strict=True)]
        yield pl.concat(found).unique().sort(KEY, TARGET_ID)


def _keyed(frame: pl.DataFrame, block: _Block, id: str) -> pl.DataFrame:
    """`id` and `_block`, one row for each key of each record."""
    tail = pl.lit("") if block.tail is None else block.tail
    keyed = frame.select(id, block.head.alias("_head"), tail.alias("_tail"))
    if keyed.schema["_head"] == pl.List(pl.String):
        keyed = keyed.explode("_head", empty_as_null=True)
    whole = pl.concat_str("_head", pl.lit("|"), "_tail")
    return keyed.select(id, whole.alias("_block")).drop_nulls("_block").unique()


def _few(keyed: pl.DataFrame) -> pl.DataFrame:
    """Without the keys that too many records share."""
    return keyed.filter(pl.len().over("_block") <= MOST_SHARING)


def _joined(here: pl.DataFrame, there: pl.DataFrame) -> pl.DataFrame:
    return here.join(there, on="_block").select(KEY, TARGET_ID)


def _blocks(fields: Sequence[MatchField]) -> list[tuple[_Block, _Block]]:
    """The keys of the source and those of the target they meet."""
    names = [number for number, field in enumerate(fields) if field.kind == "name"]
    texts = [number for number, field in enumerate(fields) if field.kind == "text"]
    same = [block for number, field in enumerate(fields) for block in _of_field(number, field)]
    same += [_Block(pl.col(f"names{one}"), _head(other, 2)) for one in names for other in names if other != one]
    same += [_Block(_head(one, 3), pl.col(f"f{text}")) for one in names for text in texts]
    if len(names) == 1 or not fields[1:]:
        same += [_Block(_head(number, _SHORT)) for number, field in enumerate(fields) if field.kind in ("name", "text")]
    crossed = [
        (_Block(_head(one, 3), _head(other, 3)), _Block(_head(other, 3), _head(one, 3)))
        for one in names
        for other in names
        if other > one
    ]
    return [*((block, block) for block in same), *crossed]


def _of_field(number: int, field: MatchField) -> list[_Block]:
    form = pl.col(f"f{number}")
    if field.kind == "phone":
        return [_Block(form.str.tail(LINE_DIGITS))]
    if field.kind == "email":
        local = form.str.split("@").list.first()
        return [_Block(form), _Block(pl.when(local.str.len_chars() >= _SHORT).then(local))]
    return []


def _head(number: int, letters: int) -> pl.Expr:
    return pl.col(f"f{number}").str.head(letters)
