"""Whether a two-way mapping comes to rest: there and back again must give the value one began with.

Judged by values, never by the text of an expression: a `lower(...)` is harmless where the system ignores case, and a
plain rename loops where the other side cannot hold the value. A mapping that settles after one step is refused as well
when that step rewrites what the user typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from sync_platform.engine.mapping import UNMAPPED, CompiledMapping
from sync_platform.engine.mapping_check import Problem
from sync_platform.engine.twoway.merging import Rule
from sync_platform.engine.twoway.pairing import Pair, Pairing
from sync_platform.engine.twoway.samples import frame_of_values, kind_of, shown, value_shown
from sync_platform.engine.twoway.values import Comparing
from sync_platform.model import KEY, Field


def round_trip_problems(
    pairing: Pairing, rule: Rule, source: pl.DataFrame | None = None, target: pl.DataFrame | None = None
) -> list[Problem]:
    """The pairs that would rewrite a value, one problem each with the value that shows it.

    `source` and `target` are real rows to try beside made-up ones, e.g. from staging.
    """
    found = []
    for pair in pairing.pairs:
        if pair.both:
            problem = _try(pair, pairing, rule, source, target)
            if problem is not None:
                found.append(problem)
    return found


def _try(
    pair: Pair, pairing: Pairing, rule: Rule, source: pl.DataFrame | None, target: pl.DataFrame | None
) -> Problem | None:
    forward, back = pairing.forward, pairing.back
    assert back.source is not None
    reads = tuple(dict.fromkeys((*pair.reads_source, *pair.sources)))
    values = frame_of_values(forward.source, reads, source)
    from_target = frame_of_values(back.source, pair.reads_target, target)
    led = _applied(back, from_target)
    filled = [name for name in reads if name in led.columns]
    if set(filled) == set(reads):  # what the target can send us is a value of the source as well
        fields = [f for f in map(Field.from_arrow, forward.source) if f.name in reads]
        more = led.filter(~pl.col("_bad"), *[_holds(f) for f in fields])
        values = pl.concat([values, more.select([pl.col(f.name).cast(kind_of(f), strict=False) for f in fields])
                            .select(values.columns)])  # fmt: skip
    there = _applied(forward, values)
    again = _applied(back, there)
    return _first(pair, values, there, again, rule.source, pairing)


def _holds(field: Field) -> pl.Expr:
    """Whether the source takes a value: another one is refused there and rewrites nothing."""
    text = pl.col(field.name).cast(pl.String)
    fits = text.is_null()
    if field.values:
        return fits | text.is_in(list(field.values))
    return fits | (text.str.len_chars() <= field.max_length) if field.max_length is not None else pl.lit(True)


def _applied(mapping: CompiledMapping, frame: pl.DataFrame) -> pl.DataFrame:
    """The mapped rows, in order; a row that cannot be mapped (it is set aside, not written) has `_bad`."""
    keyed = frame.drop("_bad", strict=False).with_row_index(KEY).with_columns(pl.col(KEY).cast(pl.String))
    done = mapping.apply(keyed)
    bad = done[UNMAPPED].is_not_null()
    if "_bad" in frame.columns:
        bad = bad | frame["_bad"]
    return done.drop(KEY, UNMAPPED).with_columns(_bad=bad)


def _first(
    pair: Pair, values: pl.DataFrame, there: pl.DataFrame, again: pl.DataFrame, how: Comparing, pairing: Pairing
) -> Problem | None:
    bad = again["_bad"].to_list()
    before, middle, after = values.to_dicts(), there.to_dicts(), again.to_dicts()
    changed = [
        (at, name) for at, row in enumerate(before) if not bad[at] for name in pair.sources
        if name in after[at] and not how.equal(name, row[name], after[at][name])
    ]  # fmt: skip
    if not changed:
        return None
    telling = [(at, name) for at, name in changed if after[at][name] not in (None, "")]
    at, name = (telling or changed)[0]
    return _problem(pair, name, before[at], middle[at], after[at], pairing)


def _problem(
    pair: Pair, name: str, row: Mapping[str, Any], there: Mapping[str, Any], after: Mapping[str, Any], pairing: Pairing
) -> Problem:
    spec = pairing.forward.spec
    return Problem(
        field=name,
        value=value_shown(row[name]),
        message=(
            f"{shown(row, pair.sources)} becomes {shown(there, pair.targets)} at {spec.target} and comes back as "
            f"{shown(after, pair.sources)}: the sync would rewrite {spec.source}"
        ),
        mend=(
            f"map it without a change, write a `back` for {name} that undoes the mapping for every value, or make it "
            f"one-way with `back: {{{name}: null}}`"
        ),
    )
