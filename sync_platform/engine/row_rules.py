"""A mapping and a dedupe key over single rows in plain Python: what polars and DuckDB answer, without their start.

Running an expression costs the same for one row as for fifty thousand, and a few records are all that an event
brings. Only what is certain to be the same is done here: text that is plain ASCII, and a handful of functions.
Everything else answers None or raises `NotPlain`, and the frames decide. Property tests hold both to the same
answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import polars as pl
import pyarrow as pa
from sqlglot import exp

from sync_platform.engine import normalisers
from sync_platform.engine.conversion import polars_type
from sync_platform.engine.expressions import parse
from sync_platform.engine.mapping import CompiledMapping
from sync_platform.engine.spec import Constant, Expression, SyncSpec, ValueMap
from sync_platform.errors import SyncError

Row = Mapping[str, Any]
Value = Callable[[Row], Any]
Engine = Literal["polars", "duckdb"]

#: What each engine trims off a text when it is not told what to trim.
_TRIMMED: Final[Mapping[str, str]] = {"polars": " \t\n\r\x0b\x0c", "duckdb": " "}
#: Types whose values are the same as JSON, in Python and in a frame.
_SAME: Final = (pa.types.is_string, pa.types.is_boolean, pa.types.is_int64)


class NotPlain(Exception):
    """A value with which Python and the engine might answer differently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRules:
    """The rules of one sync for single rows: values by field name, as JSON holds them."""

    rules: Mapping[str, Value]  # target field -> its value
    reads: Mapping[str, frozenset[str]]  # target field -> the source fields it is made of
    types: Mapping[str, pl.DataType]  # target field -> the type of its values
    key: Value | None  # the dedupe key

    @classmethod
    def of(cls, spec: SyncSpec, mapping: CompiledMapping) -> RowRules | None:
        """The sync's rules; None when one of them is not plain."""
        if spec.filter is not None:
            return None
        rules: dict[str, Value] = {}
        types: dict[str, pl.DataType] = {}
        for name, compiled in mapping.rules.items():
            trees = [scalar.tree for scalar in compiled.scalars]
            if compiled.error is not None or len(trees) > 1:
                return None
            found = _rule(compiled.rule, trees[0] if trees else None, mapping.source)
            if found is None or mapping.types.get(name, found[1]) != found[1]:
                return None
            rules[name], types[name] = found
        key = None
        if spec.dedupe is not None:
            key = _key(spec.dedupe.by, mapping.source)
            if key is None:
                return None
        reads = {name: frozenset(one.fields) for name, one in mapping.rules.items()}
        return cls(rules=rules, reads=reads, types=types, key=key)

    def fields(self, names: frozenset[str]) -> tuple[str, ...]:
        """The target fields that rows with these source fields say something about."""
        return tuple(name for name, read in self.reads.items() if read <= names)

    def dedupe_key(self, row: Row) -> str | None:
        """The row's dedupe key; empty text is none. Raises NotPlain."""
        found = self.key(row) if self.key is not None else None
        return found or None

    def mapped(self, row: Row, fields: Sequence[str]) -> dict[str, Any]:
        """The target fields of one row. Raises NotPlain."""
        return {name: self.rules[name](row) for name in fields}


def _rule(rule: object, tree: exp.Expr | None, source: pa.Schema) -> tuple[Value, pl.DataType] | None:
    """A rule's value and its type."""
    match rule:
        case Constant(value=str() as text):
            return (lambda row: text), pl.String()
        case Expression() if tree is not None:
            return _typed(tree, source)
        case ValueMap(values=values) if tree is not None:
            inner = _text(tree, source, "polars")
            return (_translated(inner, rule), pl.String()) if inner is not None and values else None
    return None


def _typed(tree: exp.Expr, source: pa.Schema) -> tuple[Value, pl.DataType] | None:
    while isinstance(tree, exp.Paren):
        tree = tree.this
    if isinstance(tree, exp.Column) and tree.name in source.names:
        kind = source.field(tree.name).type
        return (_field(tree.name), polars_type(kind)) if any(same(kind) for same in _SAME) else None
    text = _text(tree, source, "polars")
    return (text, pl.String()) if text is not None else None


def _field(name: str) -> Value:
    return lambda row: row[name]


def _translated(inner: Value, rule: ValueMap) -> Value:
    table, default, known = dict(rule.values), rule.default, rule.has_default or rule.default is not None

    def value(row: Row) -> str | None:
        text = inner(row)
        if text is None:
            return default if known else None
        if text not in table and not known:
            raise NotPlain  # its record is set aside, with the reason
        return table.get(text, default)

    return value


def _key(sql: str, source: pa.Schema) -> Value | None:
    try:
        scalar = parse(sql, source.names, what="dedupe key", before=normalisers.for_duckdb, functions=normalisers.NAMES)
    except SyncError:
        return None
    return _text(scalar.tree, source, "duckdb")


def _text(tree: exp.Expr, source: pa.Schema, engine: Engine) -> Value | None:
    """A text expression as a function of the row; None when it is not plain."""
    match tree:
        case exp.Paren():
            return _text(tree.this, source, engine)
        case exp.Column():
            known = tree.name in source.names and pa.types.is_string(source.field(tree.name).type)
            return _field(tree.name) if known else None
        case exp.Literal(is_string=True):
            text = str(tree.this)
            return lambda row: text
        case exp.Lower() | exp.Upper() | exp.Trim():
            inner = _text(tree.this, source, engine)
            return _applied(tree, inner, engine) if inner is not None else None
        case exp.Coalesce() | exp.Nullif():
            second = tree.expressions if isinstance(tree, exp.Coalesce) else [tree.expression]
            parts = [_text(one, source, engine) for one in (tree.this, *second)]
            return _chosen(tree, [one for one in parts if one is not None]) if None not in parts else None
    return None


def _applied(tree: exp.Expr, inner: Value, engine: Engine) -> Value | None:
    if isinstance(tree, exp.Trim) and any(tree.args.get(one) for one in ("expression", "position", "collation")):
        return None
    change = _change(tree, engine)

    def value(row: Row) -> str | None:
        text = inner(row)
        if text is None:
            return None
        if not text.isascii():
            raise NotPlain
        return change(text)

    return value


def _change(tree: exp.Expr, engine: Engine) -> Callable[[str], str]:
    if isinstance(tree, exp.Trim):
        trimmed = _TRIMMED[engine]
        return lambda text: text.strip(trimmed)
    return str.lower if isinstance(tree, exp.Lower) else str.upper


def _chosen(tree: exp.Expr, parts: Sequence[Value]) -> Value:
    if isinstance(tree, exp.Nullif):
        first, other = parts

        def unless(row: Row) -> Any:
            found = first(row)
            return None if found == other(row) else found

        return unless
    return lambda row: next((found for one in parts if (found := one(row)) is not None), None)
