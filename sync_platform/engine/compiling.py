"""One mapping rule as polars expressions: parsed once, bound to each shape of frame."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import polars as pl
import pyarrow as pa
from sqlglot import exp

from sync_platform.engine import normalisers
from sync_platform.engine.conversion import Conversion, as_text, convert
from sync_platform.engine.expressions import PolarsSQL, Scalar, parse, resolve
from sync_platform.engine.spec import Constant, Expression, FieldRule, Lookup, Transform, ValueMap
from sync_platform.engine.text_casts import failed_column, with_text_casts
from sync_platform.errors import ConfigError, SyncError

_KNOWN: Final = (
    "lower, upper, initcap, trim, ltrim, rtrim, concat, concat_ws, ||, substring, left, right, replace, "
    "regexp_replace, regexp_like, split_part, position, length, lpad, rpad, reverse, starts_with, coalesce, nullif, "
    "ifnull, greatest, least, CASE WHEN, CAST, TRY_CAST, round, abs, ceil, floor, date_part, extract, strftime, "
    "strptime, " + ", ".join(sorted(normalisers.NAMES))
)
#: What people write that polars names otherwise.
_INSTEAD: Final = {
    "to_char": "strftime(field, '%Y-%m-%d')",
    "to_date": "strptime(field, '%Y-%m-%d')",
    "to_timestamp": "strptime(field, '%Y-%m-%d %H:%M:%S')",
    "nvl": "coalesce(a, b)",
    "isnull": "coalesce(a, b)",
    "date_format": "strftime(field, '%Y-%m-%d')",
    "strip_accents": "normalize_name(field)",
    "instr": "position('x' in field)",
    "translate": "replace(field, 'a', 'b')",
    "date_trunc": "strftime(field, '%Y-%m-01')",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledRule:
    """One rule, parsed: its SQL with the source's own names, or the error that parsing gave."""

    name: str
    rule: FieldRule
    scalars: tuple[Scalar, ...] = ()
    fields: tuple[str, ...] = ()
    function: Callable[..., Any] | None = field(default=None, repr=False)
    error: SyncError | None = None

    def against(self, source: pa.Schema) -> CompiledRule:
        """The same rule with its identifiers resolved against another schema."""
        if self.error:
            return self
        scalars = tuple(_resolved(s, source.names) for s in self.scalars)
        return replace(self, scalars=scalars, fields=_fields(scalars))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A computed column in its final type; `complaint` completes the sentence "<field> '<value>' ..."."""

    value: pl.Expr
    failed: pl.Expr | None
    complaint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A rule over frames of one schema: its value, where computing it fails, and what to show then."""

    name: str
    rule: FieldRule
    value: pl.Expr
    type: pl.DataType
    failed: pl.Expr | None
    shown: pl.Expr

    @property
    def lookup(self) -> bool:
        """Whether the value is a key that still has to be looked up."""
        return isinstance(self.rule, Lookup)

    def finish(self, raw: pl.DataType, target: pl.DataType | None, timezone: str, *, flagged: bool) -> Finished:
        """The column `raw:<name>` of that type, translated and converted to the target's type.

        `flagged` says that a column `bad:<name>` marks rows whose value could not be computed.
        """
        value, flags, complaint = pl.col(f"raw:{self.name}"), [], ""
        if isinstance(self.rule, ValueMap):
            value, unknown = _translate(as_text(value, raw), self.rule)
            raw = pl.String()
            if unknown is not None:
                flags, complaint = [unknown], "is not in the table of values"
        done = (
            convert(value, raw, target, timezone)
            if target is not None
            else Conversion(value=value, failed=None, wanted="a value")
        )
        if done.failed is not None:
            flags.append(done.failed)
        if flagged:
            flags.append(pl.col(f"bad:{self.name}"))
            complaint = complaint or "cannot be computed as the mapping says"
        failed = pl.any_horizontal(flags).fill_null(False) if flags else None
        return Finished(value=done.value, failed=failed, complaint=complaint or f"is not {done.wanted}")


def compile_rule(name: str, rule: FieldRule, source: pa.Schema, load: Callable[[str], Any]) -> CompiledRule:
    """The rule of one target field, parsed; a mistake in it is kept as `error`."""
    try:
        scalars = tuple(_resolved(_parse(sql, name), source.names) for sql in _texts(rule))
        function = load(rule.function) if isinstance(rule, Transform) else None
        if function is not None and not callable(function):
            raise ConfigError(f"{name}: {rule!r} is no function", field=name, mend="name a function of the project")
    except SyncError as error:
        return CompiledRule(name=name, rule=rule, error=error)
    return CompiledRule(name=name, rule=rule, scalars=scalars, fields=_fields(scalars), function=function)


def bind(rule: CompiledRule, schema: Mapping[str, pl.DataType]) -> Bound:
    """The rule over frames of this schema. Raises ConfigError naming the field when it cannot work."""
    if rule.error:
        raise rule.error
    parts = [_expression(rule.name, s, schema) for s in rule.scalars]
    if isinstance(rule.rule, Constant):
        value = pl.lit(rule.rule.value)
    elif isinstance(rule.rule, Transform):
        value = _call(rule, [p for p, _ in parts])
    else:
        value = parts[0][0]
    flags = [f for _, f in parts if f is not None]
    empty = pl.DataFrame(schema=dict(schema))
    try:
        dtype = empty.with_columns(value.alias("_value")).schema["_value"]
    except pl.exceptions.PolarsError as error:
        raise _unusable(rule.name, " / ".join(_texts(rule.rule)), error) from error
    shown = as_text(pl.col(rule.fields[0]), schema[rule.fields[0]]) if rule.fields else pl.lit(None, dtype=pl.String)
    return Bound(
        name=rule.name,
        rule=rule.rule,
        value=value,
        type=dtype,
        failed=pl.any_horizontal(flags).fill_null(False) if flags else None,
        shown=shown if not rule.fields or schema[rule.fields[0]] != pl.Binary else pl.lit(None, dtype=pl.String),
    )


def _texts(rule: FieldRule) -> tuple[str, ...]:
    match rule:
        case Expression(sql=sql):
            return (sql,)
        case ValueMap(source=source):
            return (source,)
        case Lookup(on=on):
            return (on,)
        case Transform(arguments=arguments):
            return arguments
        case _:
            return ()


def _parse(sql: str, name: str) -> Scalar:
    return parse(
        sql,
        None,
        what=f"mapping of {name}",
        dialect=PolarsSQL,
        before=normalisers.for_polars,
        everything=True,
    )


def _fields(scalars: tuple[Scalar, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for s in scalars for name in s.fields))


def _resolved(scalar: Scalar, names: Collection[str]) -> Scalar:
    """The scalar with the source's spelling; a name the source does not have stays as written."""
    tree = scalar.tree.copy()
    for column in tree.find_all(exp.Column):
        column.set("this", exp.to_identifier(resolve(column.name, names) or column.name, quoted=True))
    fields = tuple(dict.fromkeys(resolve(f, names) or f for f in scalar.fields))
    return Scalar(text=scalar.text, tree=tree, fields=fields)


def _expression(name: str, scalar: Scalar, schema: Mapping[str, pl.DataType]) -> tuple[pl.Expr, pl.Expr | None]:
    """The polars expression, and where a CAST in it that is really taken fails."""
    try:
        return with_text_casts(scalar.tree, schema, _polars)
    except pl.exceptions.PolarsError as error:
        raise _unusable(name, scalar.text, error) from error


def _polars(tree: exp.Expr) -> tuple[pl.Expr, pl.Expr | None]:
    lenient = tree.transform(
        lambda n: exp.TryCast(this=n.this, to=n.to) if type(n) is exp.Cast and not _is_typed_text(n) else n
    )
    failing = _failing(tree)
    return (
        pl.sql_expr(lenient.sql(dialect=PolarsSQL, comments=False)),
        pl.sql_expr(failing.sql(dialect=PolarsSQL, comments=False)) if failing is not None else None,
    )


def _is_typed_text(node: exp.Expr) -> bool:
    """A constant such as DATE '2024-01-31'."""
    return isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal)


def _failing(node: exp.Expr) -> exp.Expr | None:
    """SQL that is true where a CAST of the expression fails for a value that is there; None without casts."""
    if (failed := failed_column(node)) is not None:
        return failed
    if type(node) is exp.Cast and not _is_typed_text(node):
        inner = node.this.transform(lambda n: exp.TryCast(this=n.this, to=n.to) if type(n) is exp.Cast else n)
        here: exp.Expr = exp.and_(
            exp.not_(exp.Is(this=inner.copy(), expression=exp.Null())),
            exp.Is(this=exp.TryCast(this=inner.copy(), to=node.to.copy()), expression=exp.Null()),
        )
        deeper = _failing(node.this)
        return exp.or_(here, deeper) if deeper is not None else here
    if isinstance(node, exp.Case):
        branches = [(b.this.copy(), _failing(b.args["true"])) for b in node.args["ifs"]]
        default = node.args.get("default")
        last = _failing(default) if default is not None else None
        if all(f is None for _, f in branches) and last is None:
            return None
        case = exp.Case(this=node.this.copy() if node.this else None)
        for condition, failing in branches:
            case = case.when(condition, failing if failing is not None else exp.false(), copy=False)
        return case.else_(last if last is not None else exp.false(), copy=False)
    found = [f for f in map(_failing, node.iter_expressions()) if f is not None]
    return exp.or_(*found) if found else None


def _call(rule: CompiledRule, arguments: list[pl.Expr]) -> pl.Expr:
    assert rule.function is not None
    try:
        answer = rule.function(*arguments)
    except (TypeError, ValueError, AttributeError, pl.exceptions.PolarsError) as error:
        raise ConfigError(
            f"the transform of {rule.name} cannot be used: {error}",
            field=rule.name,
            mend="it takes one polars expression per argument and returns one",
        ) from error
    if not isinstance(answer, pl.Expr):
        raise ConfigError(
            f"the transform of {rule.name} returns {type(answer).__name__}, not a polars expression",
            field=rule.name,
            mend="return pl.Expr, e.g. value.str.strip_chars()",
        )
    return answer


def _translate(text: pl.Expr, rule: ValueMap) -> tuple[pl.Expr, pl.Expr | None]:
    """The text by the rule's table, and where it holds a value that the table lacks."""
    old, new = list(rule.values), list(rule.values.values())
    has_default = rule.has_default or rule.default is not None
    default = rule.default if has_default else None
    if not old:
        value = pl.lit(default, dtype=pl.String)
        return value, None if has_default else text.is_not_null()
    value = text.replace_strict(old, new, default=pl.lit(default, dtype=pl.String), return_dtype=pl.String)
    if has_default:
        return pl.when(text.is_null()).then(pl.lit(default, dtype=pl.String)).otherwise(value), None
    return value, text.is_not_null() & ~text.is_in(old)


def _unusable(name: str, sql: str, error: Exception) -> ConfigError:
    """A polars complaint about an expression, in our words."""
    text = str(error).splitlines()[0]
    instead = next((f"write {to} instead" for word, to in _INSTEAD.items() if word in sql.lower()), None)
    if "unsupported function" in text or "unsupported" in text.lower():
        mend = instead or f"functions there are: {_KNOWN}"
    else:
        mend = instead or "check the fields' types; CAST(x AS VARCHAR) makes text, strptime(x, '%Y-%m-%d') a date"
    return ConfigError(f"the mapping of {name} cannot work: {text}: {sql!r}", field=name, value=sql, mend=mend)
