"""Mappings: each target field from source fields, typed as the target wants it.

A rule that reads a column the frame does not have leaves its target field out of the answer: absent
is not null. A value that cannot become what the target takes sets its record aside, with the value,
in `_unmapped`; it never becomes null silently.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import polars as pl
import pyarrow as pa

from sync_platform.engine.compiling import Bound, CompiledRule, bind, compile_rule
from sync_platform.engine.conversion import as_text, polars_type
from sync_platform.engine.isolation import isolate
from sync_platform.engine.mapping_check import Problem, check_mapping
from sync_platform.engine.spec import Lookup, SyncSpec
from sync_platform.errors import ConfigError
from sync_platform.model import CURSOR, KEY, READ_AT, Field

__all__ = ["UNMAPPED", "UNMAPPED_TYPE", "CompiledMapping", "Problem", "compile_mapping"]

UNMAPPED: Final = "_unmapped"
UNMAPPED_TYPE: Final = pl.List(pl.Struct({"field": pl.String, "value": pl.String, "reason": pl.String}))
_CARRIED: Final = (KEY, CURSOR, READ_AT, "_dedupe_key", "_changed")
_SHOWN: Final = 200


def load_dotted(dotted: str) -> Any:
    """The object a dotted name stands for; ConfigError when there is none."""
    module, _, name = dotted.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"there is no {dotted}: {error}", field="mapping", value=dotted, mend="name module.function of the project"
        ) from error


def compile_mapping(
    spec: SyncSpec,
    source: pa.Schema,
    target: pa.Schema | None = None,
    load: Callable[[str], Any] = load_dotted,
) -> CompiledMapping:
    """The mapping of a sync against the schemas of its source and target (with `model.Field` metadata).

    Never raises for a wrong rule: `check()` lists them all, `apply` refuses to run with one.
    `load` gives the Python function behind a dotted name.
    """
    rules = {name: compile_rule(name, rule, source, load) for name, rule in spec.mapping.items()}
    return CompiledMapping(spec=spec, source=source, target=target, rules=rules)


@dataclass(kw_only=True)
class CompiledMapping:
    """A mapping ready to run over frames of staged rows."""

    spec: SyncSpec
    source: pa.Schema = field(repr=False)
    target: pa.Schema | None = field(repr=False)
    rules: Mapping[str, CompiledRule] = field(repr=False)
    _bound: dict[tuple[Any, ...], dict[str, Bound]] = field(default_factory=dict, repr=False)

    @property
    def fields(self) -> tuple[str, ...]:
        """The target fields this mapping writes."""
        return tuple(self.rules)

    @cached_property
    def types(self) -> dict[str, pl.DataType]:
        """The target's type of every mapped field it knows."""
        target = self.target if self.target is not None else pa.schema([])
        return {f.name: polars_type(f.type) for f in target if f.name in self.rules}

    @property
    def required(self) -> tuple[str, ...]:
        """The mapped fields that the target refuses a record without."""
        flags = [] if self.target is None else [Field.from_arrow(f) for f in self.target]
        return tuple(f.name for f in flags if f.required and not f.readonly and f.name in self.rules)

    def lineage(self) -> dict[str, list[str]]:
        """For each target field the source fields it is made of (a lookup: its key's fields)."""
        return {name: list(rule.fields) for name, rule in self.rules.items()}

    def absent(self, columns: Sequence[str]) -> tuple[str, ...]:
        """The target fields a frame with these columns says nothing about."""
        return tuple(name for name, rule in self.rules.items() if not set(rule.fields) <= set(columns))

    def check(self, source: pa.Schema | None = None, target: pa.Schema | None = None) -> list[Problem]:
        """Everything wrong with the mapping, for a person to mend before anything runs.

        A field missing in source or target, a read-only target field, a type that cannot be converted, a
        missing required field, a value outside a closed list, two target fields that differ by case only.
        """
        told = target if target is not None else self.target
        rules = self.rules
        if source is not None and source != self.source:
            rules = {n: r.against(source) for n, r in rules.items()}
        return check_mapping(self.spec, rules, self.source if source is None else source, told)

    def lookup_keys(self, name: str, frame: pl.DataFrame) -> pl.DataFrame:
        """The keys this frame looks up for one lookup field: `key` (text, distinct, no nulls)."""
        bound = self._bind(frame).get(name)
        if bound is None or not isinstance(self.spec.mapping[name], Lookup):
            return pl.DataFrame(schema={"key": pl.String})
        text = as_text(bound.value, bound.type).alias("key")
        return frame.lazy().select(text).drop_nulls().unique().collect()

    def apply(self, frame: pl.DataFrame, lookups: Mapping[str, pl.DataFrame] | None = None) -> pl.DataFrame:
        """The target fields of every row, in the target's types, and `_unmapped`.

        `lookups` gives for each lookup field a frame `key` (text), `value`. Columns out: `_key`, `_cursor`,
        `_read_at`, `_dedupe_key`, `_changed` (those the frame has), the target fields that are not absent, and
        `_unmapped`, a list of {field, value, reason} (null when all is well). Raises ConfigError when a rule
        is wrong, naming the field.
        """
        bound = self._bind(frame)
        carried = [name for name in _CARRIED if name in frame.columns]
        raw = self._raw(frame, bound, carried)
        types: dict[str, pl.DataType] = {}
        for name, one in bound.items():
            if one.lookup:
                raw = _look_up(raw, name, (lookups or {}).get(name))
            types[name] = raw.schema[f"raw:{name}"]
        finished = {
            n: one.finish(types[n], self.types.get(n), self.spec.timezone, flagged=f"bad:{n}" in raw.columns)
            for n, one in bound.items()
        }
        doubtful = {n: f.failed for n, f in finished.items() if f.failed is not None}
        out = raw.select(*carried, *[f.value.alias(n) for n, f in finished.items()])
        seen = raw.select([bad.any().alias(n) for n, bad in doubtful.items()]) if doubtful else pl.DataFrame()
        bad = [n for n in doubtful if frame.height and seen[n][0]]
        return out.with_columns(_set_aside(raw, bad, bound, finished, types) if bad else _NOTHING)

    def _bind(self, frame: pl.DataFrame) -> dict[str, Bound]:
        """The rules as expressions over frames with this schema; fields that are absent are left out."""
        key = tuple(frame.schema.items())
        if key not in self._bound:
            absent = set(self.absent(frame.columns))
            self._bound[key] = {n: bind(rule, frame.schema) for n, rule in self.rules.items() if n not in absent}
        return self._bound[key]

    def _raw(self, frame: pl.DataFrame, bound: Mapping[str, Bound], carried: Sequence[str]) -> pl.DataFrame:
        """The computed values `raw:<f>`, with `bad:<f>` and `from:<f>` where a value may not compute."""
        wanted: list[pl.Expr] = []
        for name, one in bound.items():
            wanted.append(one.value.alias(f"raw:{name}"))
            if one.failed is not None:
                wanted += [one.failed.alias(f"bad:{name}"), one.shown.alias(f"from:{name}")]
        try:
            return frame.select(*carried, *wanted)
        except pl.exceptions.PolarsError:
            return self._row_by_row(frame, bound, carried)

    def _row_by_row(self, frame: pl.DataFrame, bound: Mapping[str, Bound], carried: Sequence[str]) -> pl.DataFrame:
        """As `_raw`, for a frame in which some record makes an expression fail: finds which."""
        columns = [frame.get_column(name) for name in carried]
        for name, one in bound.items():
            value, bad = isolate(frame, one.value, one.type, name)
            columns.append(value.alias(f"raw:{name}"))
            if one.failed is not None:
                bad = bad | frame.select(one.failed.fill_null(False).alias("bad"))["bad"]
            columns.append(bad.alias(f"bad:{name}"))
            columns.append(frame.select(one.shown.alias("from"))["from"].alias(f"from:{name}"))
        return pl.DataFrame(columns)


_NOTHING: Final = pl.lit(None, dtype=UNMAPPED_TYPE).alias(UNMAPPED)


def _look_up(raw: pl.DataFrame, name: str, found: pl.DataFrame | None) -> pl.DataFrame:
    """Replaces the looked-up key by its value; a key that is not there gives null."""
    if found is None:
        raise ConfigError(
            f"the lookup of {name} was given no rows to look in", field=name, mend="pass lookups={field: frame}"
        )
    one_each = found.select(pl.col("key").cast(pl.String), pl.col("value").alias("_found")).drop_nulls("key")
    one_each = one_each.sort("_found", nulls_last=True).unique("key", keep="first", maintain_order=True)
    keyed = raw.with_columns(as_text(pl.col(f"raw:{name}"), raw.schema[f"raw:{name}"]).alias("_on"))
    joined = keyed.join(one_each, left_on="_on", right_on="key", how="left", maintain_order="left")
    return joined.with_columns(pl.col("_found").alias(f"raw:{name}")).drop("_on", "_found")


def _set_aside(
    raw: pl.DataFrame,
    bad: Sequence[str],
    bound: Mapping[str, Bound],
    finished: Mapping[str, Any],
    types: Mapping[str, pl.DataType],
) -> pl.Series:
    """The `_unmapped` column: what could not be mapped, record by record."""
    numbered = raw.with_row_index("_row")
    parts = []
    for name in bad:
        value = as_text(pl.col(f"raw:{name}"), types[name])
        if f"from:{name}" in raw.columns:
            value = value.fill_null(pl.col(f"from:{name}"))
        shown = value.str.slice(0, _SHOWN).fill_null("")
        told = pl.concat_str(pl.lit(f"{name} '"), shown, pl.lit(f"' {finished[name].complaint}"))
        parts.append(
            numbered.filter(finished[name].failed).select(
                "_row", pl.struct(pl.lit(name).alias("field"), value.alias("value"), told.alias("reason")).alias("one")
            )
        )
    lists = pl.concat(parts).group_by("_row", maintain_order=True).agg(pl.col("one"))
    joined = numbered.select("_row").join(lists, on="_row", how="left", maintain_order="left")
    return joined["one"].cast(UNMAPPED_TYPE).alias(UNMAPPED)
