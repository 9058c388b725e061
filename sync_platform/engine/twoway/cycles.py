"""Cycles over several syncs: what A gives to B, B to C and C to A again must be what A began with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
import pyarrow as pa

from sync_platform.engine.mapping import UNMAPPED, CompiledMapping
from sync_platform.engine.mapping_check import Problem
from sync_platform.engine.spec import Lookup
from sync_platform.engine.twoway.samples import frame_of_values, shown, value_shown
from sync_platform.engine.twoway.values import Comparing
from sync_platform.model import KEY

MOST_STEPS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One direction of one sync: an edge of the graph of objects. `back` says that it leads against the mapping."""

    sync: str
    origin: str
    end: str
    mapping: CompiledMapping
    back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A cycle that rewrites the values it began with, found at the step that writes them."""

    step: Step
    problem: Problem


def loops(steps: Sequence[Step], schemas: Mapping[str, pa.Schema], compare: Mapping[str, Comparing]) -> list[Loop]:
    """The cycles of these steps that do not come to rest, each once.

    `schemas` and `compare` are by object ("<connection>/<object>"). One two-way sync's own way there and back is
    tried by `roundtrip` and is not a cycle here.
    """
    found: list[Loop] = []
    seen: set[frozenset[tuple[str, bool]]] = set()
    for cycle in _cycles(steps):
        names = frozenset((step.sync, step.back) for step in cycle)
        loop = _try(cycle, schemas[cycle[0].origin], compare[cycle[0].origin])
        if loop is not None and names not in seen:
            seen.add(names)
            found.append(loop)
    return found


def _cycles(steps: Sequence[Step]) -> Iterator[tuple[Step, ...]]:
    """Every way from an object back to it that visits no object twice, in each of its rotations."""
    for first in steps:
        paths: list[tuple[Step, ...]] = [(first,)]
        while paths:
            path = paths.pop()
            if path[-1].end == path[0].origin:
                if len({step.sync for step in path}) > 1:
                    yield path
                continue
            closed = {step.origin for step in path[1:]}
            if len(path) < MOST_STEPS:
                paths += [(*path, s) for s in steps if s.origin == path[-1].end and s.end not in closed]


def _try(cycle: Sequence[Step], schema: pa.Schema, how: Comparing) -> Loop | None:
    written = [name for name in cycle[-1].mapping.fields if name in schema.names]
    reads = [name for name in dict.fromkeys(f for r in cycle[0].mapping.rules.values() for f in r.fields)
             if name in schema.names]  # fmt: skip
    for name in [one for one in written if one in reads]:
        needed = _needed(cycle, name)
        if name not in needed:  # it is made of other fields: nothing of it goes round
            continue
        values = frame_of_values(schema, [one for one in reads if one in needed])
        after = _around(cycle, values)
        if name not in after.columns:
            continue
        for at, row in enumerate(values.iter_rows(named=True)):
            if not after["_bad"][at] and not how.equal(name, row[name], after[name][at]):
                return Loop(step=cycle[-1], problem=_problem(cycle, name, row, after[name][at]))
    return None


def _needed(cycle: Sequence[Step], name: str) -> set[str]:
    """The fields of the first object that a field written at the end is made of."""
    wanted = {name}
    for step in reversed(cycle):
        rules = [step.mapping.rules[one] for one in wanted if one in step.mapping.rules]
        wanted = {f for rule in rules if not isinstance(rule.rule, Lookup) for f in rule.fields}
    return wanted


def _around(cycle: Sequence[Step], values: pl.DataFrame) -> pl.DataFrame:
    """The rows after one way round; `_bad` marks those some step would set aside."""
    frame, bad = values, pl.Series("_bad", [False] * values.height)
    for step in cycle:
        keyed = frame.with_row_index(KEY).with_columns(pl.col(KEY).cast(pl.String))
        without = [n for n, rule in step.mapping.spec.mapping.items() if isinstance(rule, Lookup)]
        done = step.mapping.apply(
            keyed, {n: pl.DataFrame(schema={"key": pl.String, "value": pl.String}) for n in without}
        )
        bad = bad | done[UNMAPPED].is_not_null()
        frame = done.drop(KEY, UNMAPPED, *without, strict=False)
    return frame.with_columns(bad.alias("_bad"))


def _problem(cycle: Sequence[Step], name: str, row: Mapping[str, Any], after: Any) -> Problem:
    way = " -> ".join([cycle[0].origin, *[step.end for step in cycle]])
    names = ", ".join(dict.fromkeys(step.sync for step in cycle))
    return Problem(
        field=name,
        value=value_shown(row[name]),
        message=f"{shown(row, [name])} goes {way} and comes back as {value_shown(after)}: {names} would rewrite it",
        mend=f"let only one of {names} write {name}, or map it on the way without a change",
    )
