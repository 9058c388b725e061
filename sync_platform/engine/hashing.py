"""A 64-bit hash of records that is the same on every machine and in every version.

It covers the non-null fields as name=value, so a field that is null or not there changes nothing. The
text of each record is read as little-endian 64-bit words; every word is mixed with its place
(splitmix64's finaliser), the words are summed and mixed once more with the length.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from sync_platform.engine.conversion import as_text
from sync_platform.engine.spelling import spelled

_Words = npt.NDArray[np.uint64]
_STEP: Final = 0x9E3779B97F4A7C15
_GOLDEN: Final = np.uint64(_STEP)
_ALL: Final = 2**64 - 1
_ROWS: Final = 8_192  # rows whose texts are put together at a time
_CACHED: Final = 32_768  # words mixed at a time: with what is made on the way they stay in the processor's cache
_UNEVEN: Final = 1.3  # up to so much padding, texts of one width are faster to hash than each at its own
_WIDE: Final = 128  # words of the widest text that is padded so
_PADS: Final = pl.Series("pad", ["\0" * n for n in range(8 * _WIDE + 1)])


def hash_rows(frame: pl.DataFrame, fields: Sequence[str]) -> pl.Series:
    """UInt64 hashes of the rows over `fields` (those the frame has), whatever their order."""
    names = sorted(name for name in fields if name in frame.columns)
    if not names or not frame.height:
        return pl.repeat(0, frame.height, dtype=pl.UInt64, eager=True)
    pieces = _pieces(frame, names)
    values = pl.DataFrame({str(at): one for at, one in enumerate(pieces) if isinstance(one, pl.Series)})
    constant = sum(len(one.encode()) for one in pieces if isinstance(one, str))
    sizes = values.select(pl.sum_horizontal(pl.all().str.len_bytes().cast(pl.Int64)) + constant).to_series()
    told = [pl.lit(one) if isinstance(one, str) else pl.col(str(at)) for at, one in enumerate(pieces)]
    parts = [_hash_block(values[at : at + _ROWS], sizes[at : at + _ROWS], told) for at in range(0, frame.height, _ROWS)]
    return pl.Series(np.concatenate(parts), dtype=pl.UInt64)


def hash_values(values: Mapping[str, str | bool | int | None]) -> int:
    """The hash of one row, as `hash_rows` gives it: for a few rows, which a frame costs more than their hash."""
    pairs = (f"{name}\x1f{_spelled(values[name])}\x1e" for name in sorted(values) if values[name] is not None)
    data = "".join(pairs).encode()
    if not values:
        return 0
    count = (len(data) + 7) // 8 + 1
    words = struct.unpack(f"<{count}Q", data.ljust(8 * count, b"\0"))
    total = sum(_mixed(word + _mixed((place * _STEP) & _ALL)) for place, word in enumerate(words, 1))
    return _mixed(total + len(data) * _STEP)


def _spelled(value: str | bool | int | None) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _mixed(word: int) -> int:
    word &= _ALL
    word = ((word ^ word >> 30) * 0xBF58476D1CE4E5B9) & _ALL
    word = ((word ^ word >> 27) * 0x94D049BB133111EB) & _ALL
    return word ^ word >> 31


def _pieces(frame: pl.DataFrame, names: Sequence[str]) -> list[str | pl.Series]:
    """Each field as name=value, nothing where it is null: constant texts, and values that are never null."""
    pieces: list[str | pl.Series] = []
    open_text = ""  # constant text since the last value
    for name in names:
        values = frame[name]
        finer = _finer(values)
        # a float that is not finite has no text
        if not values.null_count() and not values.dtype.is_float():
            pieces += [f"{open_text}{name}\x1f", *spelled(values), *finer]
            open_text = "\x1e"
            continue
        value = [as_text(pl.col(name), values.dtype), *map(pl.lit, finer)]
        pair = frame.select(pl.concat_str(pl.lit(f"{name}\x1f"), *value, pl.lit("\x1e")).fill_null("")).to_series()
        pieces += [open_text, pair] if open_text else [pair]
        open_text = ""
    return [*pieces, open_text] if open_text else pieces


def _finer(values: pl.Series) -> list[pl.Series]:
    """What times have beyond the milliseconds of their canonical text (`~456`, or ''), where any has more."""
    kind = values.dtype
    if not isinstance(kind, pl.Datetime) or kind.time_unit == "ms":
        return []
    rest = values.to_physical() % {"us": 1_000, "ns": 1_000_000}[kind.time_unit]
    if not (rest != 0).any():
        return []
    table = pl.DataFrame({"rest": rest.unique().drop_nulls()})
    texts = table.select(pl.when(pl.col("rest") != 0).then(pl.format("~{}", "rest")).otherwise(pl.lit(""))).to_series()
    return [rest.replace_strict(table["rest"], texts, default="", return_dtype=pl.String)]


def _hash_block(values: pl.DataFrame, sizes: pl.Series, told: Sequence[pl.Expr]) -> _Words:
    """The texts are put together once, padding included: how long each gets is known from its values."""
    lengths = sizes.to_numpy()
    counts = (lengths + 7) // 8 + 1  # one word more, so that an empty text has one as well
    widest = int(counts.max())
    alike = widest <= _WIDE and widest * len(counts) <= _UNEVEN * int(counts.sum())
    padding = _PADS.gather(widest * 8 - sizes if alike else (-sizes) % 8 + 8)
    text = values.with_columns(padding.alias("pad")).select(pl.concat_str(*told, pl.col("pad")).alias("text"))["text"]
    data = np.frombuffer(text.to_arrow().cast("large_binary").buffers()[2], dtype="<u8")
    with np.errstate(over="ignore"):
        keys = _mix(np.arange(1, widest + 1, dtype=np.uint64) * _GOLDEN)
        if alike:
            sums = _sums_alike(data[: widest * len(counts)].reshape(-1, widest), keys, counts)
        else:
            starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
            data = data[: int(counts.sum())]
            places = np.arange(len(data), dtype=np.int64) - np.repeat(starts, counts)
            sums = np.add.reduceat(_mix(data + keys[places]), starts)
        return _mix(sums + lengths.astype(np.uint64) * _GOLDEN)


def _sums_alike(data: _Words, keys: _Words, counts: npt.NDArray[np.int64]) -> _Words:
    """The sums of the mixed words of texts padded to one width, without what the padding added."""
    added = np.concatenate((np.cumsum(_mix(keys.copy())[::-1])[::-1], np.zeros(1, dtype=np.uint64)))
    sums = np.empty(len(data), dtype=np.uint64)
    few = max(_CACHED // len(keys), 1)
    for at in range(0, len(data), few):  # so few that all the words stay near the processor
        np.sum(_mix(data[at : at + few] + keys), axis=1, out=sums[at : at + few])
    sums -= added[counts]
    return sums


def _mix(words: _Words) -> _Words:
    """splitmix64's finaliser; changes the words themselves."""
    shifted = words >> np.uint64(30)
    words ^= shifted
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= np.right_shift(words, np.uint64(27), out=shifted)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= np.right_shift(words, np.uint64(31), out=shifted)
    return words
