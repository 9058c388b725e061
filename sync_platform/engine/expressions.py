"""Scalar SQL over one stream's fields: parsing, name resolution and what is allowed in it.

Filters, dedupe keys and look-up keys are run by DuckDB, mappings by polars. Both start here: one
expression, no statement, no subquery, no aggregate, nothing that reads a file or a table.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import sqlglot
from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError

from sync_platform.errors import ConfigError


class PolarsSQL(Postgres):
    """The SQL that `polars.sql_expr` reads: PostgreSQL's words plus TRY_CAST."""

    class Generator(Postgres.Generator):  # type: ignore[misc,valid-type]
        """Writes TRY_CAST as such; PostgreSQL itself has none."""

        TRANSFORMS: ClassVar = {
            **Postgres.Generator.TRANSFORMS,
            exp.TryCast: lambda self, e: f"TRY_CAST({self.sql(e, 'this')} AS {self.sql(e, 'to')})",
        }


_NODES: Final = """
    Column Identifier Literal Boolean Null Paren Tuple Var DataType DataTypeParam Interval
    And Or Not EQ NEQ GT GTE LT LTE NullSafeEQ NullSafeNEQ Is In Between Like ILike Escape SimilarTo
    RegexpLike RegexpILike StartsWith EndsWith Contains
    Add Sub Mul Div IntDiv Mod Neg Abs Round Floor Ceil Sign Greatest Least
    Case If Coalesce Nullif Cast TryCast
    DPipe Concat ConcatWs Lower Upper Initcap Trim Length Substring Replace Left Right Reverse Pad
    SplitPart StrPosition RegexpReplace RegexpExtract
    Extract Year Month Day Date TsOrDsToDate TimestampTrunc DateTrunc StrToTime TimeToStr AtTimeZone
    CurrentDate CurrentTimestamp
"""
_ALLOWED: Final = tuple(getattr(exp, name) for name in _NODES.split() if hasattr(exp, name))
_FUNCTIONS: Final = """
    starts_with ends_with suffix prefix strip_accents strptime strftime date_part date_trunc now today
    split_part regexp_matches regexp_like regexp_replace ltrim rtrim btrim ifnull concat
    length char_length octet_length bit_length lpad rpad reverse initcap mod div normalize try_strptime
    year month day hour minute second quarter week
"""
_ALLOWED_NAMES: Final = frozenset(_FUNCTIONS.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """One parsed expression, its identifiers resolved to the stream's own names and quoted."""

    text: str
    tree: exp.Expr
    fields: tuple[str, ...]

    def sql(self, dialect: type[sqlglot.Dialect] | str) -> str:
        """The expression in a dialect."""
        return self.tree.sql(dialect=dialect, comments=False)


def closest(name: str, names: Iterable[str]) -> str | None:
    """The name somebody probably meant, or None."""
    known = {n.lower(): n for n in names}
    found = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return known[found[0]] if found else None


def did_you_mean(name: str, names: Collection[str]) -> str:
    """A mend for an unknown name: the closest one, else the first known ones."""
    near = closest(name, names)
    if near:
        return f"did you mean {near}?"
    shown = sorted(names)[:12]
    return "use one of: " + ", ".join(shown) + (", ..." if len(names) > len(shown) else "")


def resolve(name: str, names: Collection[str]) -> str | None:
    """The name as the vendor writes it: exactly, else the only one that differs by case."""
    if name in names:
        return name
    folded = [n for n in names if n.lower() == name.lower()]
    return folded[0] if len(folded) == 1 else None


def parse(
    sql: str,
    columns: Collection[str] | None,
    *,
    what: str,
    dialect: type[sqlglot.Dialect] | str = "duckdb",
    before: Callable[[exp.Expr], exp.Expr] | None = None,
    functions: Collection[str] = (),
    everything: bool = False,
) -> Scalar:
    """The expression in `sql`. `what` names it in errors, e.g. "filter" or "mapping of email".

    `before` rewrites the tree before names are resolved, `functions` are further names allowed,
    `everything` allows any scalar function (the engine that runs it then decides).
    Raises ConfigError: not one expression, not allowed, or an unknown field (with did-you-mean).
    """
    tree = _single(sql, what, dialect)
    if before:
        tree = before(tree)
    _refuse(tree, sql, what, frozenset(functions), everything)
    fields: dict[str, None] = {}
    for column in list(tree.find_all(exp.Column, bfs=False)):
        fields[_resolve_column(column, columns, sql, what)] = None
    return Scalar(text=sql, tree=tree, fields=tuple(fields))


def _single(sql: str, what: str, dialect: type[sqlglot.Dialect] | str) -> exp.Expr:
    if not sql.strip():
        raise ConfigError(f"the {what} is empty", field=what, value=sql, mend="write a SQL expression over the fields")
    try:
        if any(t.token_type == sqlglot.TokenType.SEMICOLON for t in sqlglot.tokenize(sql, dialect=dialect)):
            raise ConfigError(
                f"the {what} holds a semicolon: {sql!r}",
                field=what,
                value=sql,
                mend="write one SQL expression, not a statement",
            )
        # in brackets, so that a field may be called like a statement (comment, show, set)
        end = "\n)" if "--" in sql else ")"
        tree = sqlglot.parse_one(f"({sql}{end}", dialect=dialect)
    except SqlglotError as error:
        errors = getattr(error, "errors", None)
        detail = str(errors[0]["description"]).rstrip(".") if errors else str(error).splitlines()[0]
        at = f" at column {max(errors[0]['col'] - 1, 1)}" if errors and errors[0].get("col") else ""
        raise ConfigError(
            f"the {what} is not SQL{at}: {detail}: {sql!r}",
            field=what,
            value=sql,
            mend="check quotes, brackets and commas; field names with spaces need double quotes",
        ) from None
    if isinstance(tree, exp.Paren):
        return tree.this  # type: ignore[no-any-return]
    if not isinstance(tree, exp.Subquery | exp.Query):  # `a, b` or `a) or (b`
        raise ConfigError(f"the {what} is not a SQL expression: {sql!r}", field=what, value=sql)
    return tree


def _refuse(tree: exp.Expr, sql: str, what: str, functions: frozenset[str], everything: bool) -> None:
    """Raises ConfigError for anything that is not a scalar expression over the row."""
    for node in tree.walk():
        if isinstance(node, exp.Query | exp.Subquery | exp.Exists | exp.Table | exp.DDL | exp.Command | exp.Alias):
            problem, mend = "a query inside it", "only this stream's own fields can be used; use a lookup for another"
        elif isinstance(node, exp.AggFunc | exp.Window):
            problem, mend = f"{_name(node)}, which looks at several records", "use functions of one record"
        elif isinstance(node, exp.Star | exp.Placeholder | exp.Parameter | exp.SessionParameter):
            problem, mend = f"{node.sql()!r}", "name the fields"
        elif isinstance(node, exp.Anonymous):
            name = str(node.this).lower()
            if everything or name in _ALLOWED_NAMES or name in functions:
                continue
            problem = f"the function {name}"
            mend = did_you_mean(name, {n for n in _ALLOWED_NAMES | functions if not n.startswith("__")})
        elif isinstance(node, _ALLOWED) or (everything and not isinstance(node, exp.UDTF)):
            continue
        else:
            problem, mend = f"{_name(node)}, which is not allowed", "use comparisons, text, number and date functions"
        raise ConfigError(f"the {what} holds {problem}: {sql!r}", field=what, value=sql, mend=mend)


def _name(node: exp.Expr) -> str:
    return node.sql_name().lower() if isinstance(node, exp.Func) else type(node).__name__.upper()


def _resolve_column(column: exp.Column, columns: Collection[str] | None, sql: str, what: str) -> str:
    """Rewrites one column to its vendor's name, quoted; returns that name."""
    if column.args.get("table"):
        raise ConfigError(
            f"the {what} refers to another table: {column.sql()}: {sql!r}",
            field=what,
            value=column.sql(),
            mend=f"write {column.name} alone, or quote a name that holds a dot",
        )
    name = column.name
    if columns is not None:
        found = resolve(name, columns)
        if found is None:
            raise ConfigError(
                f"the {what} uses a field that does not exist: {name}",
                field=name,
                value=sql,
                mend=did_you_mean(name, columns),
            )
        name = found
    column.set("this", exp.to_identifier(name, quoted=True))
    return name
