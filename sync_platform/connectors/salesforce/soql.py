"""SOQL: text made safely, and SQL predicates translated into it.

Two habits of SOQL differ from SQL. `!=` and NOT are true for null, so a negation here also says `!= null`.
Text compares without regard to case, so a translated `=` may let more rows through than SQL would.
https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_soql_select.htm
"""

from __future__ import annotations

import datetime as dt
import difflib
import math
from collections.abc import Sequence
from typing import Final, cast

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from sync_platform.connectors.salesforce.describe import Shape
from sync_platform.errors import ConfigError

_ESCAPES: Final = str.maketrans(
    {"\\": "\\\\", "'": "\\'", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
)
NUMBERS: Final = frozenset({"int", "long", "double", "percent", "currency"})
_OPERATORS: Final[dict[type[exp.Expression], str]] = {
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.LT: "<",
    exp.LTE: "<=",
}
#: What a node may carry and still mean what it says; anything else (SYMMETRIC, ESCAPE, ...) is refused.
_PARTS: Final[dict[type[exp.Expression], frozenset[str]]] = {
    exp.Like: frozenset({"this", "expression", "negate"}),
    exp.ILike: frozenset({"this", "expression", "negate"}),
    exp.Between: frozenset({"this", "low", "high"}),
    exp.In: frozenset({"this", "expressions"}),
}
_PLAIN: Final = frozenset({"this", "expression"})
_OPPOSITE: Final = {"=": "!=", "!=": "=", ">": "<=", ">=": "<", "<": ">=", "<=": ">"}
_MIRRORED: Final = {"=": "=", "!=": "!=", ">": "<", ">=": "<=", "<": ">", "<=": ">="}


class _Untranslatable(Exception):
    """This part has no SOQL that means the same."""


def quote(text: str) -> str:
    """The text as a SOQL string literal."""
    return "'" + text.translate(_ESCAPES) + "'"


def instant(value: dt.datetime) -> str:
    """The instant as SOQL writes it: UTC, milliseconds. A naive time is taken as UTC."""
    utc = value.astimezone(dt.UTC) if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)
    return utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc.microsecond // 1000:03d}Z"


def select(fields: Sequence[str], name: str, *, where: Sequence[str], order: str = "", limit: int | None = None) -> str:
    """A SELECT; the conditions of `where` hold together, each already a whole expression."""
    said = [condition for condition in where if condition]
    text = f"SELECT {', '.join(fields)} FROM {name}"
    if said:
        text += " WHERE " + (said[0] if len(said) == 1 else " AND ".join(f"({condition})" for condition in said))
    if order:
        text += f" ORDER BY {order}"
    return text if limit is None else f"{text} LIMIT {limit}"


def in_list(field: str, values: Sequence[str], kind: str) -> str:
    """`field IN (...)`, the values written as a field of that Salesforce type takes them.

    A text no such field could hold is left out: it can match nothing.
    """
    said = [one for one in (constant(value, kind) for value in values) if one is not None]
    return f"{field} IN ({', '.join(said)})" if said else f"{field} = null AND Id = null"


def constant(text: str, kind: str) -> str | None:
    """The text as a constant of a Salesforce type; None when it is not one."""
    try:
        if kind in NUMBERS:
            return _number(text)
        if kind in ("date", "datetime"):
            return moment(text, kind)
    except _Untranslatable:
        return None
    if kind == "boolean":
        return {"true": "TRUE", "false": "FALSE"}.get(text.lower())
    return quote(text)


def condition(sql: str, shape: Shape) -> str:
    """The SOQL of a whole SQL predicate. ConfigError when a part cannot be said in SOQL."""
    tree = _parsed(sql)
    try:
        return _Translator(shape, sure=False).say(tree)
    except _Untranslatable as why:
        raise ConfigError(
            f"salesforce/{shape.name}: the source's filter cannot be asked of Salesforce: {why}",
            field="filter",
            value=sql,
            mend="compare plain fields with fixed values there, and put the rest into the sync's filter",
        ) from None


def pushable(sql: str, shape: Shape) -> str | None:
    """The SOQL of those AND-ed parts that lose no row of the SQL predicate; None when there are none."""
    tree = _parsed(sql)
    said = []
    for part in tree.flatten() if isinstance(tree, exp.And) else [tree]:
        try:
            said.append(_Translator(shape, sure=True).say(_bare(part)))
        except (_Untranslatable, ConfigError):
            continue
    if not said:
        return None
    return said[0] if len(said) == 1 else " AND ".join(f"({one})" for one in said)


def _parsed(sql: str) -> exp.Expression:
    try:
        tree = sqlglot.parse_one(sql, read="duckdb")
    except SqlglotError as wrong:
        raise ConfigError(
            f"the filter is not a SQL predicate: {str(wrong).splitlines()[0]}",
            field="filter",
            value=sql,
            mend="write it as in a WHERE clause, e.g. Status = 'Open' AND AnnualRevenue > 1000",
        ) from None
    return _bare(tree)


def _bare(node: exp.Expr) -> exp.Expression:
    """The node without parentheses around it."""
    return cast(exp.Expression, node.unnest())


class _Translator:
    """SQL nodes to SOQL text. `sure` refuses what could let fewer rows through than SQL."""

    def __init__(self, shape: Shape, *, sure: bool) -> None:
        self._shape = shape
        self._sure = sure

    def say(self, node: exp.Expression, *, negated: bool = False) -> str:
        """The node's SOQL, of the opposite when `negated`."""
        if isinstance(node, exp.Paren):
            return self.say(node.this, negated=negated)
        if isinstance(node, exp.Not):
            return self.say(node.this, negated=not negated)
        if isinstance(node, exp.And | exp.Or):
            word = "AND" if isinstance(node, exp.And) != negated else "OR"
            return f" {word} ".join(f"({self.say(_bare(part), negated=negated)})" for part in node.flatten())
        if isinstance(node, exp.Column):
            name, kind = self._field(node)
            if kind != "boolean":
                raise _Untranslatable(f"{name} is not a truth value")
            return f"{name} = {'FALSE' if negated else 'TRUE'}"
        carried = {part for part, value in node.args.items() if value}
        if not carried <= _PARTS.get(type(node), _PLAIN):
            raise _Untranslatable(f"{node.sql()!r} has no counterpart in SOQL")
        if isinstance(node, exp.Is):
            return self._is(node, negated)
        if isinstance(node, exp.Between):
            low, high = (">=", "<=") if not negated else ("<", ">")
            one = self._compare(node.this, low, node.args["low"])
            two = self._compare(node.this, high, node.args["high"])
            return f"({one}) {'OR' if negated else 'AND'} ({two})"
        if isinstance(node, exp.In):
            return self._in(node, negated)
        if isinstance(node, exp.Like | exp.ILike):
            return self._like(node, negated != bool(node.args.get("negate")))
        operator = _OPERATORS.get(type(node))
        if operator is None:
            raise _Untranslatable(f"{node.sql()!r} has no counterpart in SOQL")
        left, right = node.args["this"], node.args["expression"]
        if not isinstance(left, exp.Column) and isinstance(right, exp.Column):
            left, right, operator = right, left, _MIRRORED[operator]
        return self._compare(left, _OPPOSITE[operator] if negated else operator, right)

    def _compare(self, left: exp.Expression, operator: str, right: exp.Expression) -> str:
        name, kind = self._field(left)
        if isinstance(right, exp.Null):
            raise _Untranslatable(f"{name} is compared with NULL; write IS NULL")
        if operator == "!=":
            self._sure_of_case(name, kind)
            return f"({name} != {self._value(right, kind)}) AND ({name} != null)"
        if operator != "=" and kind not in NUMBERS | {"date", "datetime", "time"}:
            raise _Untranslatable(f"text in {name} is compared by order, which Salesforce does in its own way")
        return f"{name} {operator} {self._value(right, kind, up=operator in ('<', '>='))}"

    def _is(self, node: exp.Is, negated: bool) -> str:
        name, kind = self._field(node.this)
        if isinstance(node.expression, exp.Null):
            return f"{name} {'!=' if negated else '='} null"
        if isinstance(node.expression, exp.Boolean) and kind == "boolean":
            return f"{name} = {'TRUE' if bool(node.expression.this) != negated else 'FALSE'}"
        raise _Untranslatable(f"{node.sql()!r} has no counterpart in SOQL")

    def _in(self, node: exp.In, negated: bool) -> str:
        if not node.expressions:
            raise _Untranslatable("IN takes a list of values")
        name, kind = self._field(node.this)
        values = ", ".join(self._value(value, kind) for value in node.expressions)
        if not negated:
            return f"{name} IN ({values})"
        self._sure_of_case(name, kind)
        return f"({name} NOT IN ({values})) AND ({name} != null)"

    def _like(self, node: exp.Like | exp.ILike, negated: bool) -> str:
        name, kind = self._field(node.this)
        pattern = node.expression
        if kind in NUMBERS | {"boolean", "date", "datetime"} or not (
            isinstance(pattern, exp.Literal) and pattern.is_string
        ):
            raise _Untranslatable(f"LIKE needs text on both sides: {node.sql()!r}")
        said = f"{name} LIKE {quote(pattern.this)}"
        if not negated:
            return said
        if isinstance(node, exp.Like):
            self._sure_of_case(name, kind)
        return f"(NOT {said}) AND ({name} != null)"

    def _sure_of_case(self, name: str, kind: str) -> None:
        if self._sure and kind not in NUMBERS | {"boolean", "date", "datetime", "id", "reference"}:
            raise _Untranslatable(f"Salesforce ignores case in {name}")

    def _field(self, node: exp.Expression) -> tuple[str, str]:
        """The field's own spelling and Salesforce's type name."""
        if not isinstance(node, exp.Column):
            raise _Untranslatable(f"{node.sql()!r} is not a plain field")
        if node.table:
            raise _Untranslatable(f"{node.sql()!r} is a field of another object")
        known = {name.lower(): name for name in self._shape.kinds}
        name = known.get(node.name.lower())
        if name is None:
            close = difflib.get_close_matches(node.name.lower(), known, n=1)
            raise ConfigError(
                f"salesforce/{self._shape.name} has no field {node.name!r} that this user may see",
                field="filter",
                value=node.name,
                mend=f"did you mean {known[close[0]]}?" if close else "check the name and field-level security",
            )
        if name in self._shape.unfilterable:
            raise _Untranslatable(f"Salesforce does not filter by {name}")
        return name, self._shape.kinds[name]

    def _value(self, node: exp.Expression, kind: str, *, up: bool = False) -> str:
        """A constant as SOQL writes it for a field of that type; a time finer than milliseconds goes `up` or down."""
        if isinstance(node, exp.Paren):
            return self._value(node.this, kind, up=up)
        if isinstance(node, exp.Neg) and kind in NUMBERS:
            return "-" + self._value(node.this, kind)
        if isinstance(node, exp.Boolean) and kind == "boolean":
            return "TRUE" if node.this else "FALSE"
        text = node.this if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal) else node
        if not isinstance(text, exp.Literal):
            raise _Untranslatable(f"{node.sql()!r} is not a constant")
        raw = str(text.this)
        if kind in ("datetime", "date"):
            return moment(raw, kind, up=up)
        if kind in NUMBERS:
            return _number(raw)
        if kind == "boolean" or (not text.is_string and text is node):
            raise _Untranslatable(f"{raw!r} is not a value of a {kind} field")
        return quote(raw)


def moment(raw: str, kind: str, *, up: bool = False) -> str:
    """The ISO text as a date or datetime constant."""
    try:
        value = dt.datetime.fromisoformat(raw.strip())
    except ValueError:
        raise _Untranslatable(f"{raw!r} is not a date or time") from None
    if kind == "datetime":
        return instant(value + dt.timedelta(microseconds=999) if up else value)
    if value.tzinfo is not None:
        value = value.astimezone(dt.UTC)
    if value.time() != dt.time():
        raise _Untranslatable(f"{raw!r} is compared with a field that holds only dates")
    return value.date().isoformat()


def _number(raw: str) -> str:
    try:
        finite = math.isfinite(float(raw))
    except ValueError:
        finite = False
    if not finite:
        raise _Untranslatable(f"{raw!r} is not a number")
    return raw
