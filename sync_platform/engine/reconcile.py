"""The plan: what has to be written so that the target holds what is desired, and nothing else.

Law of the house: applying a plan and planning again gives an empty plan.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import polars as pl

from sync_platform.engine.conversion import convert
from sync_platform.engine.hashing import hash_rows
from sync_platform.engine.matching import TARGET_ID, refuse_bad_keys
from sync_platform.engine.spec import Mode, OnLeave
from sync_platform.model import CURSOR, KEY, READ_AT, Op

GONE: Final = "_gone"
HASHED: Final = "_desired_hash"
#: How the reason ends of a record that left while another one goes on as its target record (`deliver` asks for it).
TAKEN_OVER: Final = "; its target record goes on"
_HERE: Final = "_here"
_WHY: Final = {
    "deleted": "deleted in the source",
    "filter": "no longer inside the filter",
    "duplicate": "another record speaks for it now",
}
_BITS: Final = 62
_CARRIED: Final = {CURSOR: pl.Int64, READ_AT: pl.Int64, "_dedupe_key": pl.String, "_changed": pl.Boolean}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How one sync writes.

    `fields` are the target fields it owns; `folded` those the target compares without regard to case.
    `empty_is_null`: the target keeps no difference between empty text and nothing.
    """

    mode: Mode
    fields: tuple[str, ...]
    first_sync_hold: bool = False
    on_target_delete: Literal["recreate", "hold", "ignore"] = "recreate"
    on_leave: OnLeave = "keep"
    empty_is_null: bool = False
    folded: frozenset[str] = frozenset()


def desired_hash(frame: pl.DataFrame, fields: Sequence[str]) -> pl.Series:
    """UInt64 hashes of the rows' non-null name=value pairs: the same on every machine and version."""
    return hash_rows(frame, fields)


def plan(matched: pl.DataFrame, current: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """The change of every matched row (see `matching.match`), in order; what needs nothing is a skip.

    `current`: `_target_id`, target fields, optionally `_gone`. A linked record that is not in it (or is
    `_gone`) no longer exists in the target; a field column that is not in it is unknown and sent when it
    has a value (with a column `_base` in `matched`, the hash last written, only when the record changed).
    `matched` may hold `_desired_hash` already (of the same fields, see `desired_hash`).
    Columns out: `_op`, `_key`, `_target_id`, `_reason`, `_cursor`, `_read_at`, `_desired_hash`, `_dedupe_key`,
    `_changed`, `_fields` (names to send), and `new:<f>`, `old:<f>` for each field. Raises ContractError for null
    or repeated keys.
    """
    refuse_bad_keys(matched, KEY, "matched records")
    refuse_bad_keys(current, TARGET_ID, "target records")
    fields = [name for name in rules.fields if name in matched.columns]
    told = _current(current, matched, fields)
    if HASHED not in matched.columns:
        matched = matched.with_columns(desired_hash(matched, fields).alias(HASHED))
    joined = (
        matched.join(told, on=TARGET_ID, how="left", maintain_order="left")
        if told.height
        else matched.with_columns(
            pl.lit(None, dtype=kind).alias(n) for n, kind in told.schema.items() if n != TARGET_ID
        )
    )
    joined = joined.with_columns(
        _here=pl.col(_HERE).fill_null(False),
        **{f"differs:{name}": _differs(name, current, matched, rules) for name in fields},
    )
    decided = joined.with_columns(_decide(joined, fields, rules))
    decided = decided.with_columns(
        pl.when(pl.col("_op") == str(Op.CREATE)).then(None).otherwise(pl.col(TARGET_ID)).alias(TARGET_ID)
    )
    sent = {
        name: ((pl.col("_op") == str(Op.UPDATE)) & pl.col(f"differs:{name}"))
        | ((pl.col("_op") == str(Op.CREATE)) & _normal(pl.col(name), name, matched.schema[name], rules).is_not_null())
        for name in fields
    }
    return _shaped(decided.with_columns(_names(decided, sent)), fields)


def plan_left(left: pl.DataFrame, current: pl.DataFrame, rules: Rules, taken: Collection[str] = ()) -> pl.DataFrame:
    """The changes for records that are not desired any more: `_key`, `_why`, `_changed`, `_target_id` (link or null).

    Only linked records are ever touched: what we did not write stays. Mirror deletes, archive archives, the
    other modes follow `on_leave`. A target record in `taken` is another desired record's and stays.
    Columns as `plan`.
    """
    refuse_bad_keys(left, KEY, "records that left")
    refuse_bad_keys(current, TARGET_ID, "target records")
    fields = [name for name in rules.fields if name in current.columns]
    told = current.select(
        TARGET_ID,
        _gone(current),
        *[pl.col(name).alias(f"old:{name}") for name in fields],
        *[pl.lit(None, dtype=current.schema[name]).alias(name) for name in fields],
        pl.lit(True).alias(_HERE),
    )
    op = {"mirror": Op.DELETE, "archive": Op.ARCHIVE}.get(rules.mode) or {
        "delete": Op.DELETE,
        "archive": Op.ARCHIVE,
        "keep": Op.SKIP,
    }[rules.on_leave]
    gone = pl.col(GONE).fill_null(False) | pl.col(_HERE).is_null()
    cases: list[_Case] = [
        (pl.col(TARGET_ID).is_null(), Op.SKIP, _left("; it was never written")),
        (pl.col(TARGET_ID).is_in(list(taken)), Op.SKIP, _left(TAKEN_OVER)),
        (gone, Op.SKIP, _left("; the target record is gone already")),
        (pl.lit(True), op, _left("; kept in the target" if op is Op.SKIP else "")),
    ]
    known = left.with_columns(pl.col(TARGET_ID).cast(pl.String)).join(
        told, on=TARGET_ID, how="left", maintain_order="left"
    )
    decided = known.with_columns(_choose(known, cases))
    empty = pl.lit([], dtype=pl.List(pl.String)).alias("_fields")
    return _shaped(decided.with_columns(pl.lit(None, dtype=pl.UInt64).alias(HASHED), empty), fields)


def _left(more: str) -> Callable[[], pl.Expr]:
    """Why a record left, and what that means."""
    why = pl.col("_why").replace_strict(_WHY, default="no longer desired", return_dtype=pl.String)
    return lambda: pl.concat_str(why, pl.lit(more))


def _gone(current: pl.DataFrame) -> pl.Expr:
    return pl.col(GONE) if GONE in current.columns else pl.lit(False).alias(GONE)


def _current(current: pl.DataFrame, matched: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
    """The target's rows as `old:<f>` in the types of the desired ones."""
    columns = [pl.col(TARGET_ID).cast(pl.String), _gone(current), pl.lit(True).alias(_HERE)]
    for name in fields:
        wanted = matched.schema[name]
        if name not in current.columns:
            columns.append(pl.lit(None, dtype=wanted).alias(f"old:{name}"))
            continue
        done = convert(pl.col(name), current.schema[name], wanted)
        columns.append(done.value.alias(f"old:{name}"))
        if done.failed is not None:  # a value of another kind: it certainly differs
            columns.append(done.failed.alias(f"odd:{name}"))
    return current.select(columns)


def _normal(value: pl.Expr, name: str, dtype: pl.DataType, rules: Rules) -> pl.Expr:
    """A value as it is compared."""
    if dtype != pl.String:
        return value
    if name in rules.folded:
        value = value.str.to_lowercase()
    return pl.when(value != "").then(value) if rules.empty_is_null else value


def _differs(name: str, current: pl.DataFrame, matched: pl.DataFrame, rules: Rules) -> pl.Expr:
    """Whether an update has to send this field."""
    dtype = matched.schema[name]
    new = _normal(pl.col(name), name, dtype, rules)
    old = _normal(pl.col(f"old:{name}"), name, dtype, rules)
    if name not in current.columns:
        if rules.mode == "fill_empty":
            return pl.lit(False)
        moved = (
            pl.col("_base").cast(pl.UInt64, wrap_numerical=True).ne_missing(pl.col(HASHED))
            if "_base" in matched.columns
            else pl.lit(True)
        )
        return new.is_not_null() & moved
    failed = convert(pl.col(name), current.schema[name], dtype).failed
    odd = pl.col(f"odd:{name}").fill_null(False) if failed is not None else pl.lit(False)
    if rules.mode == "fill_empty":
        return new.is_not_null() & old.is_null() & ~odd
    return new.ne_missing(old) | odd


def _decide(frame: pl.DataFrame, fields: Sequence[str], rules: Rules) -> list[pl.Series]:
    """`_op` and `_reason` of every row."""
    has_target = pl.col(TARGET_ID).is_not_null()
    gone = has_target & (~pl.col(_HERE) | pl.col(GONE).fill_null(False))
    ambiguous = pl.col("_matched") == "ambiguous"
    changed = pl.any_horizontal([pl.col(f"differs:{name}") for name in fields]) if fields else pl.lit(False)
    cases: list[_Case] = [
        (ambiguous & (pl.col("_rivals").list.len() > 0), Op.HOLD, _rivals),
        (ambiguous, Op.HOLD, _several),
    ]
    if rules.on_target_delete == "hold":
        cases.append((gone, Op.HOLD, "the target record was deleted there"))
    elif rules.on_target_delete == "ignore":
        cases.append((gone, Op.SKIP, "the target record was deleted there; left so"))
    elif rules.mode == "update":
        cases.append((gone, Op.SKIP, "the target record was deleted there; mode update creates nothing"))
    else:
        cases.append((gone, Op.CREATE, "the target record was deleted there: created again"))
    if rules.mode == "insert":
        cases.append((has_target, Op.SKIP, "already in the target; mode insert changes nothing"))
    cases += [(has_target & changed, Op.UPDATE, None), (has_target, Op.SKIP, "unchanged")]
    everything = pl.lit(True)
    if rules.mode == "update":
        cases.append((everything, Op.SKIP, "not in the target; mode update creates nothing"))
    elif rules.first_sync_hold:
        cases.append((everything, Op.HOLD, "first sync: waiting for the match plan"))
    else:
        cases.append((everything, Op.CREATE, None))
    return _choose(frame, cases)


#: A condition, what to do when it is the first that holds, and why (a sentence, or one made per row).
_Case: TypeAlias = tuple[pl.Expr, Op, "str | Callable[[], pl.Expr] | None"]


def _several() -> pl.Expr:
    return pl.concat_str(pl.lit("several target records match: "), pl.col("_candidates").list.join(", "))


def _rivals() -> pl.Expr:
    return pl.concat_str(
        pl.lit("the target record "),
        pl.col("_candidates").list.join(", "),
        pl.lit(" is also claimed by "),
        pl.col("_rivals").list.join(", "),
    )


def _choose(frame: pl.DataFrame, cases: Sequence[_Case]) -> list[pl.Series]:
    """The first case that holds for each row, as the columns `_op` and `_reason`."""
    number: pl.Expr = pl.lit(len(cases) - 1, dtype=pl.UInt8)
    for at in reversed(range(len(cases))):
        number = pl.when(cases[at][0]).then(pl.lit(at, dtype=pl.UInt8)).otherwise(number)
    chosen = frame.with_columns(number.alias("_case"))["_case"]
    op = pl.Series("_op", [str(case[1]) for case in cases]).gather(chosen)
    plain = [case[2] if isinstance(case[2], str) else None for case in cases]
    reason = pl.Series("_reason", plain, dtype=pl.String).gather(chosen)
    for at, case in enumerate(cases):
        if callable(case[2]) and (chosen == at).any():
            told = frame.select(case[2]().alias("told"))["told"]
            reason = reason.zip_with(chosen != at, told)
    return [op, reason.alias("_reason")]


def _names(frame: pl.DataFrame, flags: dict[str, pl.Expr]) -> pl.Series:
    """`_fields`: for every row the names whose flag holds. Rows share few combinations, so those are named once."""
    names = list(flags)
    parts = []
    for at in range(0, max(len(names), 1), _BITS):
        chunk = names[at : at + _BITS]
        bits = [flags[n].fill_null(False).cast(pl.UInt64) * (1 << i) for i, n in enumerate(chunk)]
        masks = frame.select((pl.sum_horizontal(bits) if bits else pl.lit(0, dtype=pl.UInt64)).alias("mask"))
        if masks.height != frame.height:
            masks = pl.DataFrame({"mask": pl.repeat(0, frame.height, dtype=pl.UInt64, eager=True)})
        kinds = masks["mask"].unique().sort()
        lists = [[n for i, n in enumerate(chunk) if mask >> i & 1] for mask in kinds.to_list()]
        named = pl.Series(lists, dtype=pl.List(pl.String))
        parts.append(named.gather(kinds.search_sorted(masks["mask"])))
    out = parts[0]
    for more in parts[1:]:
        out = pl.select(pl.concat_list(out, more)).to_series()
    return out.alias("_fields")


def _shaped(decided: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
    """The columns of a plan, in order."""
    missing = [pl.lit(None, dtype=t).alias(n) for n, t in _CARRIED.items() if n not in decided.columns]
    return decided.with_columns(missing).select(
        "_op", KEY, TARGET_ID, "_reason", CURSOR, READ_AT, HASHED, "_dedupe_key", "_changed", "_fields",
        *[pl.col(name).alias(f"new:{name}") for name in fields],
        *[f"old:{name}" for name in fields],
    )  # fmt: skip
