"""Values a contract has accepted before: a few records whose every value is known need not be judged again.

pandera takes some ten milliseconds however few records it is given, most of what an event may take. What may be
remembered is only a check that judges each value by itself and is one of pandera's own; a contract with any
other check (of a whole column, of several columns, of one's own, unique values, coercion) is always asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import pandera.polars as pa
import polars as pl

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
    """What one contract accepted. `checked` are the columns whose values count, `nullable` those that may be empty."""

    checked: tuple[str, ...]
    strict: frozenset[str]
    schemas: set[tuple[Any, ...]] = field(default_factory=set)
    values: dict[str, set[Any]] = field(default_factory=dict)

    def cover(self, fields: pl.DataFrame) -> bool:
        """Whether the contract accepted frames of this shape and every value of this one."""
        if fields.height > FEW or tuple(fields.schema.items()) not in self.schemas:
            return False
        if any(fields[name].null_count() for name in self.strict if name in fields.columns):
            return False
        return all(self.values.get(n, set()).issuperset(fields[n]) for n in self.checked if n in fields.columns)

    def learn(self, fields: pl.DataFrame) -> None:
        """Remembers an accepted frame."""
        if fields.height > FEW:
            return
        self.schemas.add(tuple(fields.schema.items()))
        for name in self.checked:
            if name in fields.columns:
                known = self.values.setdefault(name, set())
                if len(known) > KEPT:
                    known.clear()
                known.update(fields[name])


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
        checked=tuple(name for name, column in schema.columns.items() if column.checks),
        strict=frozenset(name for name, column in schema.columns.items() if not column.nullable),
    )


def _judges_each_value(check: Any) -> bool:
    made_by = getattr(check._check_fn, "__module__", None)
    return made_by == _PANDERAS and check.name in _EACH_VALUE and not check.groupby
