"""Filters: one SQL predicate over a stream's fields, with the date words people write.

`LastModifiedDate > YESTERDAY` means since the start of yesterday in the sync's time zone. Every date
word becomes an absolute instant before any engine or vendor sees it. Only TRUE is inside a filter:
a comparison with null is unknown, and unknown is outside.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final
from zoneinfo import ZoneInfo

import pyarrow as pa
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from sync_platform.engine import datewords, normalisers
from sync_platform.engine.expressions import parse
from sync_platform.errors import ConfigError

_COMPARISONS: Final = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ)
_ORDERED: Final = (*_COMPARISONS, exp.Between, exp.In)
_DAY_UNITS: Final = {"DAY": 1, "DAYS": 1, "WEEK": 7, "WEEKS": 7}
_RESERVED: Final = frozenset({"order", "group", "by", "limit", "offset", "user", "table", "check", "primary"})
_WORDS: Final = datewords.PLAIN | datewords.COUNTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One parsed predicate.

    `fields` are the vendor's names it reads, `dated` says that its answer moves with the clock.
    """

    text: str
    fields: tuple[str, ...]
    dated: bool
    tree: exp.Expr = field(repr=False, compare=False)
    types: dict[str, pa.DataType] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, sql: str, columns: pa.Schema | Collection[str] | None = None) -> Filter:
        """The filter in `sql`, checked against a stream's fields (an Arrow schema also checks types).

        Raises ConfigError: not one predicate, an unknown field (did-you-mean), a query, a function
        that is not allowed, a date word compared with something that is no time.
        """
        types = {f.name: f.type for f in columns} if isinstance(columns, pa.Schema) else {}
        names = list(columns.names) if isinstance(columns, pa.Schema) else columns
        scalar = parse(
            _counted_words(sql),
            names,
            what="filter",
            before=lambda tree: normalisers.for_duckdb(_mark_words(tree, sql)),
            functions=_MARKS | normalisers.NAMES,
        )
        found = cls(
            text=sql,
            fields=scalar.fields,
            dated=any(_word(node) for node in scalar.tree.walk()),
            tree=scalar.tree,
            types=types,
        )
        if not found._is_predicate(found.tree):
            raise ConfigError(
                f"the filter is not a condition: {sql!r}",
                field="filter",
                value=sql,
                mend="compare something, e.g. Status = 'Open' or Email IS NOT NULL",
            )
        for node in found.tree.walk():
            if _word(node):
                found._check_word(node)
        return found

    def duckdb(self, now: dt.datetime, timezone: str) -> str:
        """The predicate as DuckDB SQL, every date word an absolute instant (session zone irrelevant)."""
        return self._resolved(now, timezone, cast_text=True).sql(dialect="duckdb", comments=False)

    def absolute(self, now: dt.datetime, timezone: str) -> str:
        """The predicate in neutral SQL with absolute instants, as connectors' `preview` takes it."""
        tree = self._resolved(now, timezone, cast_text=False)
        for identifier in tree.find_all(exp.Identifier):
            if _is_plain(str(identifier.this)):
                identifier.set("quoted", False)
        return tree.sql(comments=False)

    # -- what is a predicate ---------------------------------------------------------------------

    def _is_predicate(self, node: exp.Expr) -> bool:
        if isinstance(node, exp.Paren | exp.Not):
            return self._is_predicate(node.this)
        if isinstance(node, exp.And | exp.Or):
            return self._is_predicate(node.left) and self._is_predicate(node.right)
        if isinstance(node, exp.Escape):
            return True
        if isinstance(node, exp.Column):
            known = self.types.get(node.name)
            return known is not None and pa.types.is_boolean(known)
        if isinstance(node, exp.Case):
            answers = [branch.args["true"] for branch in node.args["ifs"]]
            return all(self._is_predicate(a) for a in (*answers, node.args.get("default")) if a is not None)
        if isinstance(node, exp.Coalesce):
            return all(self._is_predicate(a) for a in (node.this, *node.expressions))
        if isinstance(node, exp.Cast):
            return bool(node.to.is_type("boolean"))
        return isinstance(node, exp.Predicate | exp.Boolean | exp.StartsWith | exp.EndsWith | exp.Contains) or (
            isinstance(node, exp.RegexpLike | exp.RegexpILike | exp.SimilarTo)
            or (isinstance(node, exp.Anonymous) and str(node.this).lower() in {"prefix", "suffix", "regexp_like"})
        )

    def _check_word(self, node: exp.Expr) -> None:
        word = _spelled(node)
        for column, comparison in self._compared_columns(node):
            known = self.types.get(column.name)
            if known is None:
                continue
            if not (pa.types.is_temporal(known) or pa.types.is_string(known) or pa.types.is_large_string(known)):
                raise ConfigError(
                    f"the filter compares {column.name} with {word}, but {column.name} holds {known}, not a time",
                    field=column.name,
                    value=self.text,
                    mend="compare a date or time field with it",
                )
            if pa.types.is_timestamp(known) and isinstance(comparison, exp.EQ | exp.In) and node.name != datewords.NOW:
                raise ConfigError(
                    f"{column.name} = {word} is true for one instant only: {word} is the start of that day",
                    field=column.name,
                    value=self.text,
                    mend=f"write a range, e.g. {column.name} >= {word} AND {column.name} < ...",
                )

    # -- instants for words ----------------------------------------------------------------------

    def _resolved(self, now: dt.datetime, timezone: str, *, cast_text: bool) -> exp.Expr:
        if now.tzinfo is None:
            raise ConfigError(f"{now} has no time zone", field="now", mend="pass an aware datetime")
        tz = datewords.zone(timezone)
        tree = self.tree.copy()
        # Collected before anything is replaced: a replaced node no longer finds its comparison.
        todo = [(node, self._kind(node)) for node in tree.walk() if _word(node)]
        literals = [(node, self._kind(node)) for node in tree.walk() if self._is_time_literal(node)]
        texts = self._text_columns(tree) if cast_text else []
        for node, kind in todo:
            _replace_word(node, kind, now, tz)
        for node, kind in literals:
            _replace_literal(node, kind, tz, self.text)
        for column in texts:
            column.replace(exp.TryCast(this=column.copy(), to=exp.DataType.build("TIMESTAMPTZ")))
        return tree

    def _compared_columns(self, node: exp.Expr) -> Iterator[tuple[exp.Column, exp.Expr]]:
        """The columns on the other sides of the comparison that holds the node."""
        inner, outer = node, node.parent
        while outer is not None and not isinstance(outer, _ORDERED):
            if isinstance(outer, exp.And | exp.Or | exp.Not):
                return
            inner, outer = outer, outer.parent
        if outer is None:
            return
        for side in outer.iter_expressions():
            if side is not inner:
                yield from ((column, outer) for column in side.find_all(exp.Column))

    def _kind(self, node: exp.Expr) -> str:
        """What the other side of the comparison is: date | naive | instant."""
        for column, _ in self._compared_columns(node):
            known = self.types.get(column.name)
            if known is not None and pa.types.is_date(known):
                return "date"
            if known is not None and pa.types.is_timestamp(known) and known.tz is None:
                return "naive"
        return "instant"

    def _text_columns(self, tree: exp.Expr) -> list[exp.Column]:
        """Text columns compared with a date word: their ISO text is read as a time."""
        found: dict[int, exp.Column] = {}
        for node in tree.walk():
            if _word(node):
                for column, _ in self._compared_columns(node):
                    known = self.types.get(column.name)
                    if known is not None and (pa.types.is_string(known) or pa.types.is_large_string(known)):
                        found[id(column)] = column
        return list(found.values())

    def _is_time_literal(self, node: exp.Expr) -> bool:
        """A quoted date or time compared with a timestamp field: without an offset it is local time."""
        literal = node.this if isinstance(node, exp.Cast) else node
        if not (isinstance(literal, exp.Literal) and literal.is_string):
            return False
        if isinstance(node, exp.Literal) and isinstance(node.parent, exp.Cast):
            return False
        if isinstance(node, exp.Cast) and not node.to.is_type("date", "timestamp", "timestamptz", "datetime"):
            return False
        holder = node.parent
        if not isinstance(holder, _ORDERED):
            return False
        kinds = [self.types.get(column.name) for column, _ in self._compared_columns(node)]
        return any(kind is not None and pa.types.is_timestamp(kind) for kind in kinds)


_MARKS: Final = frozenset(f"__{word.lower()}" for word in _WORDS)


def _is_plain(name: str) -> bool:
    """Whether a field name needs no quotes."""
    if name.upper() in _WORDS or name.lower() in _RESERVED or not name.isascii():
        return False
    try:
        tokens = sqlglot.tokenize(name)
    except SqlglotError:
        return False
    return len(tokens) == 1 and tokens[0].token_type == sqlglot.TokenType.VAR and tokens[0].text == name


def _word(node: exp.Expr) -> bool:
    return isinstance(node, exp.Anonymous) and str(node.this).lower() in _MARKS


def _spelled(node: exp.Expr) -> str:
    word = str(node.this)[2:]
    return f"{word}:{node.expressions[0].name}" if node.expressions else word


def _counted_words(sql: str) -> str:
    """`LAST_N_DAYS:7` as a call that a SQL parser understands; text, names and comments stay as they are."""
    try:
        tokens = sqlglot.tokenize(sql, dialect="duckdb")
    except SqlglotError:
        return sql  # the parser reports it with its place
    out, done = [], 0
    for at, token in enumerate(tokens):
        if token.token_type != sqlglot.TokenType.VAR or token.text.upper() not in datewords.COUNTED:
            continue
        after = tokens[at + 1 : at + 3]
        if [t.token_type for t in after] != [sqlglot.TokenType.COLON, sqlglot.TokenType.NUMBER]:
            raise ConfigError(
                f"{token.text} needs a number: {sql!r}", field="filter", value=sql, mend=f"write {token.text}:7"
            )
        if not after[1].text.isdigit():
            raise ConfigError(
                f"{token.text}:{after[1].text} needs a whole number", field="filter", value=sql, mend="write e.g. :7"
            )
        out += [sql[done : token.start], f"__{token.text.upper()}({after[1].text})"]
        done = after[1].end + 1
    return "".join([*out, sql[done:]])


def _mark_words(tree: exp.Expr, sql: str) -> exp.Expr:
    """Every date word as a call `__WORD()`, so that it is no column any more."""

    def mark(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and not node.args.get("table") and not node.this.args.get("quoted"):
            word = node.name.upper()
            if word in datewords.PLAIN:
                return exp.Anonymous(this=f"__{word}")
        if isinstance(node, exp.CurrentDate) or (isinstance(node, exp.Anonymous) and node.name.lower() == "today"):
            return exp.Anonymous(this="__TODAY")
        if isinstance(node, exp.CurrentTimestamp) or (isinstance(node, exp.Anonymous) and node.name.lower() == "now"):
            return exp.Anonymous(this="__NOW")
        if isinstance(node, exp.Anonymous) and node.name.startswith("__") and node.name.lower() not in _MARKS:
            raise ConfigError(f"the filter holds an unknown function {node.name}", field="filter", value=sql)
        return node

    return tree.transform(mark)


def _replace_word(node: exp.Expr, kind: str, now: dt.datetime, tz: ZoneInfo) -> None:
    """Puts the instant (or the day) in the place of one word and of `± n days` around it."""
    word = str(node.this)[2:]
    count = int(node.expressions[0].name) if node.expressions else 0
    days, spot = 0, node
    while isinstance(spot.parent, exp.Add | exp.Sub) and spot is spot.parent.left:
        step = _interval_days(spot.parent.right)
        if step is None:
            break
        days += step if isinstance(spot.parent, exp.Add) else -step
        spot = spot.parent
    while isinstance(spot.parent, exp.Paren) and days:
        spot = spot.parent
    if kind == "date":
        date = datewords.day(word, count, now, tz) + dt.timedelta(days=days)
        spot.replace(_cast(date.isoformat(), "DATE"))
    else:
        spot.replace(_instant(datewords.instant(word, count, now, tz, days), kind))


def _interval_days(node: exp.Expr) -> int | None:
    """The days of `INTERVAL n DAY|WEEK`, or of a plain number; None for anything else."""
    if isinstance(node, exp.Literal) and not node.is_string and node.name.isdigit():
        return int(node.name)
    if not isinstance(node, exp.Interval) or node.this is None or not str(node.this.name).isdigit():
        return None
    unit = str(node.args.get("unit") or "").upper()
    return int(node.this.name) * _DAY_UNITS[unit] if unit in _DAY_UNITS else None


def _replace_literal(node: exp.Expr, kind: str, tz: ZoneInfo, sql: str) -> None:
    text = node.this.name if isinstance(node, exp.Cast) else node.name
    at = datewords.parse_time(text, tz)
    if at is None:
        raise ConfigError(
            f"the filter compares a time with {text!r}, which is no date",
            field="filter",
            value=sql,
            mend="write it as '2024-01-31' or '2024-01-31T10:00:00Z'",
        )
    node.replace(_instant(at, kind))


def _instant(at: dt.datetime, kind: str) -> exp.Expr:
    utc = at.astimezone(dt.UTC)
    if kind == "naive":
        return _cast(utc.replace(tzinfo=None).isoformat(sep=" "), "TIMESTAMP")
    return _cast(utc.isoformat(sep=" "), "TIMESTAMPTZ")


def _cast(text: str, kind: str) -> exp.Expr:
    return exp.Cast(this=exp.Literal.string(text), to=exp.DataType.build(kind))
