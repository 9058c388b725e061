"""CASTs of text to dates, times and booleans, which polars does not have.

Each becomes a column that the rest of the expression reads, converted as a target field of that type would be:
`CAST(x AS DATE)` gives what mapping x to a date gives, and a text that is none sets its record aside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import polars as pl
from sqlglot import exp

from sync_platform.engine.conversion import convert

_TYPES: Final[Mapping[exp.DType, pl.DataType]] = {
    exp.DType.DATE: pl.Date(),
    exp.DType.TIMESTAMP: pl.Datetime("us"),
    exp.DType.DATETIME: pl.Datetime("us"),
    exp.DType.TIMESTAMPTZ: pl.Datetime("us", "UTC"),
    exp.DType.TIME: pl.Time(),
    exp.DType.BOOLEAN: pl.Boolean(),
}
_PREFIX: Final = "cast:"

#: What makes polars expressions of a tree: its value, and where that value cannot be computed (None: nowhere).
Compile = Callable[[exp.Expr], tuple[pl.Expr, pl.Expr | None]]


def failed_column(node: exp.Expr) -> exp.Column | None:
    """The column that says where the cast behind a column of ours failed; None for any other node."""
    if not isinstance(node, exp.Column) or not node.name.startswith(_PREFIX):
        return None
    return _column(f"{node.name}!")


def with_text_casts(
    tree: exp.Expr, schema: Mapping[str, pl.DataType], compile_tree: Compile
) -> tuple[pl.Expr, pl.Expr | None]:
    """What `compile_tree` gives for an expression over frames of this schema, CASTs of text included."""
    tree, shape = tree.copy(), pl.DataFrame(schema=dict(schema))
    steps: list[dict[str, pl.Expr]] = []
    for node in reversed(list(tree.find_all(exp.Cast))):  # the innermost first
        wanted = _TYPES.get(node.to.this)
        if wanted is None or not node.find(exp.Column):
            continue
        value, failing = compile_tree(node.this)
        if shape.select(value.alias("v")).schema["v"] != pl.String:
            continue
        done = convert(value, pl.String(), wanted)
        lost = [flag for flag in (failing, done.failed if type(node) is exp.Cast else None) if flag is not None]
        name = f"{_PREFIX}{len(steps)}"
        steps.append({name: done.value, f"{name}!": pl.any_horizontal(lost) if lost else pl.lit(False)})
        shape = shape.with_columns(**steps[-1])
        if node is not tree:
            node.replace(_column(name))
        elif len(steps) == 1:
            return steps[0][name], steps[0][f"{name}!"]
        else:
            tree = _column(name)
    value, failing = compile_tree(tree)
    if not steps:
        return value, failing
    names = [name for name in dict.fromkeys(c.name for c in tree.find_all(exp.Column)) if name in schema]
    read = list(dict.fromkeys([*names, *_read_by(steps)])) or list(schema)[:1]  # one constant for each row
    return _over(read, steps, value, shape), None if failing is None else _over(read, steps, failing, shape)


def _read_by(steps: list[dict[str, pl.Expr]]) -> list[str]:
    found = [name for step in steps for one in step.values() for name in one.meta.root_names()]
    return [name for name in found if not name.startswith(_PREFIX)]


def _over(read: list[str], steps: list[dict[str, pl.Expr]], last: pl.Expr, shape: pl.DataFrame) -> pl.Expr:
    """The last expression over the columns read and those of the steps, as one expression."""

    def compute(rows: pl.Series) -> pl.Series:
        frame = rows.struct.unnest()
        for step in steps:
            frame = frame.with_columns(**step)
        return frame.select(last.alias("v"))["v"]

    return pl.struct(read).map_batches(compute, return_dtype=shape.select(last.alias("v")).schema["v"])


def _column(name: str) -> exp.Column:
    return exp.column(exp.to_identifier(name, quoted=True))
