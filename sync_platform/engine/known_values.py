"""Values a contract has accepted before: of a few records only the values that are new are judged.

pandera takes some ten milliseconds however few records it is given, most of what an event may take. What may be
remembered is only a check that judges each value by itself and is one of pandera's own; a contract with any
other check (of a whole column, of several columns, of one's own, unique values, coercion) is always asked. A new
value is given to pandera's own checks of its column alone; one that they refuse is pandera's to explain.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import pandera.polars as pa
import polars as pl
from pandera.api.polars.types import PolarsData

FEW: Final = 500  # records; more of them are worth asking pandera
KEPT: Final = 20_000  # values of a column
_EACH_VALUE: Final = frozenset(
    {
        "equal_to",
        "not_equal_to",
        "greater_than",
        "greater_than_or_equal_to",
        "less_than",
        "less_than_or_equal_to",
        "in_range",
        "isin",
        "notin",
        "str_matches",
        "str_contains",
        "str_startswith",
        "str_endswith",
        "str_length",
    }
)
_PANDERAS: Final = "pandera.api.function_dispatch"


@dataclass(frozen=True, slots=True)
class KnownValues:
    """What one contract accepted. `checks`: by column whose values count; `strict`: columns that are never empty."""

    checks: Mapping[str, Sequence[Any]]
    strict: frozenset[str]
    schemas: set[tuple[Any, ...]] = field(default_factory=set)
    values: dict[str, set[Any]] = field(default_factory=dict)

    def cover(self, fields: pl.DataFrame) -> bool:
        """Whether the contract accepts this frame, as far as that is known without asking it as a whole."""
        if fields.height > FEW or tuple(fields.schema.items()) not in self.schemas:
            return False
        names = [name for name in (*self.checks, *self.strict) if name in fields.columns]
        return self.accept(fields.schema, {name: fields[name].to_list() for name in names})

    def accept(self, schema: Mapping[str, pl.DataType], columns: Mapping[str, Collection[Any]]) -> bool:
        """As `cover`, for the values of columns: all that are checked or never empty, of a frame of this schema."""
        if tuple(schema.items()) not in self.schemas:
            return False
        if any(None in columns[name] for name in self.strict if name in columns):
            return False
        fresh = {n: set(columns[n]) - self.values.get(n, set()) for n in self.checks if n in columns}
        asked = {name: values for name, values in fresh.items() if values}
        if asked and not self._pass(asked, schema):
            return False
        for name, values in asked.items():
            self._remember(name, values)
        return True

    def _pass(self, asked: Mapping[str, Collection[Any]], schema: Mapping[str, pl.DataType]) -> bool:
        """Whether every value passes each check of its column; what a check does not answer does not pass."""
        answers: list[pl.LazyFrame] = []
        for name, values in asked.items():
            for check in self.checks[name]:
                plain = _plainly(check, values)
                if plain is False:
                    return False
                if plain is None:
                    data = PolarsData(pl.LazyFrame({name: list(values)}, {name: schema[name]}), name)
                    answers.append(check.get_builtin_check_fn(check.name)(data, **check._check_kwargs))
        if not answers:
            return True
        return all(bool(found.to_series().fill_null(False).all()) for found in pl.collect_all(answers))

    def learn(self, fields: pl.DataFrame) -> None:
        """Remembers an accepted frame."""
        if fields.height > FEW:
            return
        self.schemas.add(tuple(fields.schema.items()))
        for name in self.checks:
            if name in fields.columns:
                self._remember(name, fields[name].to_list())

    def _remember(self, name: str, values: Collection[Any]) -> None:
        known = self.values.setdefault(name, set())
        if len(known) > KEPT:
            known.clear()
        known.update(values)


def _plainly(check: Any, values: Collection[Any]) -> bool | None:
    """What the commonest checks say of texts, without a frame; None for all others, and where they might differ."""
    told = check._check_kwargs
    if not all(isinstance(value, str) for value in values):
        return None
    if check.name == "isin":
        return all(value in told["allowed_values"] for value in values)
    if check.name == "str_length" and told.get("exact_value") is None:
        least, most = told.get("min_value") or 0, told.get("max_value")
        return all(least <= len(value) and (most is None or len(value) <= most) for value in values)
    if check.name == "str_matches":
        pattern = _pattern(told["pattern"])
        if pattern is not None and all(value.isascii() and value.isprintable() for value in values):
            return all(pattern.search(value) is not None for value in values)
    return None


#: Of a regular expression, what means the same to Python and to Rust for printable ASCII.
_SAME: Final = re.compile(
    r"""(?: [A-Za-z0-9_@ ,;:=<>%&~'"!/-] | \\[sSdDwW.+*?^$|()\[\]{}\\/@-] | [.^$|()+*?] | \{\d{1,3}(?:,\d{0,3})?\}
      | \[\^?(?:[A-Za-z0-9_@ ,;:=<>%'"!/.+*?$|(){}] | \\[sdw.] | (?<=[A-Za-z0-9])-(?=[A-Za-z0-9]))+\] )*""",
    re.VERBOSE,
)
_OTHERWISE: Final = re.compile(r"\(\?(?!:)|[+*?}][+]")  # flags, look-arounds, possessive repeats


@lru_cache(maxsize=256)
def _pattern(pattern: str | re.Pattern[str]) -> re.Pattern[str] | None:
    """The pattern of a `str_matches` (it matches from the start) for Python; None when Rust might read it otherwise."""
    if not isinstance(pattern, str) or _SAME.fullmatch(pattern) is None or _OTHERWISE.search(pattern):
        return None
    try:
        return re.compile(pattern if pattern.startswith("^") else f"^{pattern}")
    except re.error:
        return None


@lru_cache(maxsize=256)
def known_values(model: type[pa.DataFrameModel]) -> KnownValues | None:
    """The memory of a contract; None for one that must always be asked."""
    schema = model.to_schema()
    if schema.checks or schema.unique or schema.parsers or schema.coerce:
        return None
    for column in schema.columns.values():
        own = [check for check in column.checks if not _judges_each_value(check)]
        if own or column.unique or column.coerce or column.parsers:
            return None
    return KnownValues(
        checks={name: tuple(column.checks) for name, column in schema.columns.items() if column.checks},
        strict=frozenset(name for name, column in schema.columns.items() if not column.nullable),
    )


def _judges_each_value(check: Any) -> bool:
    made_by = getattr(check._check_fn, "__module__", None)
    return made_by == _PANDERAS and check.name in _EACH_VALUE and not check.groupby
