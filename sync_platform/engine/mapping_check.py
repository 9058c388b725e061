"""What is wrong with a mapping, found before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from sync_platform.engine.compiling import CompiledRule, bind
from sync_platform.engine.conversion import can_convert, convert, polars_type, words
from sync_platform.engine.expressions import did_you_mean, resolve
from sync_platform.engine.spec import Constant, Lookup, SyncSpec, ValueMap
from sync_platform.errors import SyncError
from sync_platform.model import Field


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake in a sync's configuration: where, what was written, what is wrong, what to do."""

    field: str
    value: str
    message: str
    mend: str

    def __str__(self) -> str:
        return f"{self.message} -> {self.mend}"


def check_mapping(
    spec: SyncSpec, rules: Mapping[str, CompiledRule], source: pa.Schema, target: pa.Schema | None
) -> list[Problem]:
    """All problems of a mapping against both schemas, in the order of the mapping."""
    problems = _repeated(rules)
    known = {f.name: Field.from_arrow(f) for f in target} if target is not None else None
    shape = {f.name: polars_type(f.type) for f in source}
    for name, rule in rules.items():
        there = known.get(name) if known is not None else None
        if known is not None and there is None:
            near = resolve(name, known)
            mend = f"write {near}" if near else did_you_mean(name, known)
            problems.append(_problem(name, name, f"{spec.target} has no field {name}", mend))
        if there is not None and there.readonly:
            why = f": {there.made_by}" if there.made_by else ""
            message = f"{spec.target}: {name} is read-only{why}"
            problems.append(_problem(name, name, message, "remove it from the mapping"))
        problems += _rule_problems(spec, rule, shape, there)
    if known is not None:
        problems += _missing(spec, rules, known)
    return problems


def _problem(field: str, value: object, message: str, mend: str | None) -> Problem:
    return Problem(field=field, value=str(value), message=message, mend=mend or "")


def _repeated(rules: Mapping[str, CompiledRule]) -> list[Problem]:
    first: dict[str, str] = {}
    found = []
    for name in rules:
        other = first.setdefault(name.lower(), name)
        if other != name:
            found.append(
                _problem(name, name, f"{name} and {other} are the same target field", f"keep one of {other}, {name}")
            )
    return found


def _missing(spec: SyncSpec, rules: Mapping[str, CompiledRule], known: Mapping[str, Field]) -> list[Problem]:
    found = []
    if spec.mode != "update":  # an update never creates
        found = [
            _problem(f.name, "", f"{spec.target} needs {f.name}, and nothing is mapped to it", f"map {f.name}")
            for f in known.values()
            if f.required and not f.readonly and f.name not in rules
        ]
    for name in spec.match:
        if name not in rules:
            mend = f"map {name}, or match on one of: " + ", ".join(rules)
            found.append(_problem(name, name, f"records are matched by {name}, and nothing is mapped to it", mend))
    return found


def _rule_problems(
    spec: SyncSpec, rule: CompiledRule, shape: Mapping[str, pl.DataType], there: Field | None
) -> list[Problem]:
    """What is wrong with one rule: its SQL, its fields, its type, its values."""
    if rule.error:
        return [_problem(rule.name, rule.error.value, rule.error.message, rule.error.mend)]
    unknown = [f for f in rule.fields if f not in shape]
    if unknown:
        start = f"the mapping of {rule.name}: {spec.source} has no field"
        return [_problem(rule.name, f, f"{start} {f}", did_you_mean(f, shape)) for f in unknown]
    try:
        bound = bind(rule, shape)
    except SyncError as error:
        return [_problem(rule.name, error.value, error.message, error.mend)]
    if there is None:
        return []
    target = polars_type(there.type)
    if isinstance(rule.rule, Constant | ValueMap):
        return _value_problems(rule, target, there)
    if isinstance(rule.rule, Lookup) or can_convert(bound.type, target):
        return []
    return [
        _problem(
            rule.name,
            bound.type,
            f"the mapping of {rule.name} gives {words(bound.type)}, and {spec.target} takes {words(target)}",
            "convert it, e.g. CAST(x AS VARCHAR) or strptime(x, '%Y-%m-%d')",
        )
    ]


def _value_problems(rule: CompiledRule, target: pl.DataType, there: Field) -> list[Problem]:
    """Literal values that the target would refuse."""
    if isinstance(rule.rule, Constant):
        given = [rule.rule.value]
    else:
        assert isinstance(rule.rule, ValueMap)
        given = [*rule.rule.values.values(), rule.rule.default]
    found = []
    for value in dict.fromkeys(v for v in given if v is not None):
        literal = pl.Series("v", [value])
        if not can_convert(literal.dtype, target) or _fails(literal, target):
            found.append(
                _problem(rule.name, value, f"{rule.name}: {value!r} is not {words(target)}", f"use {words(target)}")
            )
        elif there.values and str(value) not in there.values:
            near = did_you_mean(str(value), there.values)
            found.append(_problem(rule.name, value, f"{rule.name}: {value!r} is not one of the allowed values", near))
        elif there.max_length is not None and len(str(value)) > there.max_length:
            mend = f"use at most {there.max_length} characters"
            found.append(_problem(rule.name, value, f"{rule.name}: {value!r} is too long", mend))
    return found


def _fails(literal: pl.Series, target: pl.DataType) -> bool:
    done = convert(pl.col("v"), literal.dtype, target)
    return done.failed is not None and bool(literal.to_frame().select(done.failed.any()).item())
