"""SOQL text to a `Statement`, by the grammar of the SOQL and SOSL Reference.

What SQL would take and SOQL does not is refused: AND mixed with OR without parentheses, a NOT that is
not alone in its parentheses, quoted or zoneless datetimes, bind variables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NoReturn

from sync_platform.sandbox.salesforce.refusals import SalesforceError, UnbuiltError, malformed
from sync_platform.sandbox.salesforce.soql_ast import (
    Aggregate,
    Among,
    Column,
    Compare,
    Condition,
    Every,
    FieldsGroup,
    Literal,
    Not,
    Order,
    Path,
    SelectItem,
    Some,
    Statement,
)

MAX_LENGTH: Final = 100_000
AGGREGATES: Final = ("count", "count_distinct", "min", "max", "sum", "avg")
DATE_WORDS: Final = frozenset(
    f"{when}_{what}" for when in ("last", "this", "next") for what in ("week", "month", "quarter", "year")
) | {"yesterday", "today", "tomorrow", "last_90_days", "next_90_days"}
N_WORDS: Final = frozenset(
    f"{when}_n_{what}" for when in ("last", "next") for what in ("days", "weeks", "months", "quarters", "years")
) | {f"n_{what}_ago" for what in ("days", "weeks", "months", "quarters", "years")}
_KEYWORDS: Final = frozenset(
    {
        "select", "from", "where", "and", "or", "not", "in", "like", "includes", "excludes", "group", "by", "having",
        "order", "limit", "offset", "asc", "desc", "nulls", "first", "last", "using", "with", "for", "null", "true",
        "false",
    }
)  # fmt: skip
_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
    |(?P<string>'(?:[^'\\]|\\.)*')
    |(?P<datetime>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))
    |(?P<date>\d{4}-\d\d-\d\d(?![\dT]))
    |(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<op><=|>=|!=|<>|=|<|>)
    |(?P<punct>[(),.:])""",
    re.VERBOSE,
)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "'": "'", '"': '"', "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Token:
    """One word of the statement; `low` is its lower case."""

    kind: str
    text: str
    pos: int

    @property
    def low(self) -> str:
        """The text in lower case, for keywords."""
        return self.text.lower() if self.kind == "name" else self.text


def where_in(text: str, pos: int, message: str) -> str:
    """A message with the place it speaks of, as the vendor shows it."""
    row = text.count("\n", 0, pos) + 1
    start = text.rfind("\n", 0, pos) + 1
    end = text.find("\n", pos)
    line = text[start : end if end >= 0 else len(text)]
    left = max(0, pos - start - 40)
    shown = line[left : pos - start + 40]
    return f"\n{shown}\n{' ' * (pos - start - left)}^\nERROR at Row:{row}:Column:{pos - start + 1}\n{message}"


def tokens_of(text: str) -> list[Token]:
    """The statement's words. Raises MALFORMED_QUERY at a character that starts none."""
    found = []
    pos = 0
    while pos < len(text):
        match = _TOKEN.match(text, pos)
        if match is None:
            raise malformed(where_in(text, pos, f"line 1:{pos} no viable alternative at character '{text[pos]}'"))
        kind = match.lastgroup or ""
        if kind != "space":
            found.append(Token(kind, match.group(), pos))
        pos = match.end()
    found.append(Token("end", "<EOF>", len(text)))
    return found


def unquote(text: str, token: Token) -> str:
    """The value of a string literal. Raises MALFORMED_QUERY for an escape SOQL does not know."""
    out, body, at = [], token.text[1:-1], 0
    while at < len(body):
        if body[at] != "\\":
            out.append(body[at])
            at += 1
        elif body[at + 1] in _ESCAPES:
            out.append(_ESCAPES[body[at + 1]])
            at += 2
        elif body[at + 1] in "%_":  # kept for LIKE
            out.append(body[at : at + 2])
            at += 2
        elif body[at + 1] == "u" and re.match(r"[0-9A-Fa-f]{4}", body[at + 2 :]):
            out.append(chr(int(body[at + 2 : at + 6], 16)))
            at += 6
        else:
            raise malformed(where_in(text, token.pos, f"Illegal string literal: invalid escape '\\{body[at + 1]}'"))
    return "".join(out)


def parse(text: str) -> Statement:
    """The statement. Raises SalesforceError MALFORMED_QUERY, or UnbuiltError."""
    if len(text) > MAX_LENGTH:
        raise malformed(f"SOQL statements cannot be longer than {MAX_LENGTH} characters")
    return _Parser(text).statement()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens_of(text)
        self.at = 0

    # ---- words

    @property
    def here(self) -> Token:
        return self.tokens[self.at]

    @property
    def calls(self) -> bool:
        """Whether a parenthesis follows the word at hand."""
        return self.tokens[min(self.at + 1, len(self.tokens) - 1)].text == "("

    def unexpected(self, token: Token | None = None) -> NoReturn:
        bad = token or self.here
        raise malformed(where_in(self.text, bad.pos, f"unexpected token: '{bad.text}'"))

    def ahead(self, *words: str) -> bool:
        """Whether these words (lower case) come next."""
        following = self.tokens[self.at : self.at + len(words)]
        return len(following) == len(words) and all(t.low == w for t, w in zip(following, words, strict=True))

    def take(self, *words: str) -> bool:
        if self.ahead(*words):
            self.at += len(words)
            return True
        return False

    def need(self, word: str) -> Token:
        token = self.here
        if token.low != word:
            self.unexpected()
        self.at += 1
        return token

    def name(self) -> Token:
        token = self.here
        if token.kind != "name" or token.low in _KEYWORDS:
            self.unexpected()
        self.at += 1
        return token

    def path(self) -> Path:
        first = self.name()
        parts = [first.text]
        while self.take("."):
            parts.append(self.name().text)
        if len(parts) > 6:
            raise malformed(where_in(self.text, first.pos, "relationship paths reach at most five levels up"))
        return Path(tuple(parts), first.pos)

    # ---- clauses

    def statement(self) -> Statement:
        self.need("select")
        items = [self.select_item()]
        while self.take(","):
            items.append(self.select_item())
        self.need("from")
        target = self.name()
        alias = None
        self.take("as")
        if self.here.kind == "name" and self.here.low not in _KEYWORDS:
            alias = self.name().text
        if self.ahead(","):
            raise UnbuiltError("SOQL with several objects in FROM is not built")
        for clause in (("using", "scope"), ("with",), ("for",)):
            if self.ahead(*clause):
                raise UnbuiltError(f"SOQL {' '.join(clause).upper()} is not built")
        where = self.condition() if self.take("where") else None
        group: list[Path] = []
        having = None
        if self.take("group", "by"):
            if self.ahead("rollup") or self.ahead("cube"):
                raise UnbuiltError(f"SOQL GROUP BY {self.here.text.upper()} is not built")
            group = [self.path()]
            while self.take(","):
                group.append(self.path())
            having = self.condition(aggregates=True) if self.take("having") else None
        order = self.order_by() if self.take("order", "by") else ()
        limit = self.whole("limit")
        offset = self.whole("offset")
        if self.ahead("for"):
            raise UnbuiltError("SOQL FOR VIEW, REFERENCE and UPDATE are not built")
        if self.here.kind != "end":
            self.unexpected()
        return Statement(
            text=self.text, items=tuple(items), object=target.text, object_pos=target.pos, alias=alias, where=where,
            group=tuple(group), having=having, order=order, limit=limit, offset=offset,
        )  # fmt: skip

    def whole(self, clause: str) -> int | None:
        if not self.take(clause):
            return None
        token = self.here
        if token.kind != "number" or not token.text.isdigit():
            self.unexpected()
        self.at += 1
        return int(token.text)

    def select_item(self) -> SelectItem:
        token = self.here
        if token.text == "(":
            raise UnbuiltError("SOQL child subqueries are not built")
        if token.low == "typeof":
            raise UnbuiltError("SOQL TYPEOF is not built")
        if self.calls and token.kind == "name":
            if token.low == "fields":
                return self.fields_group()
            if token.low in AGGREGATES:
                return self.aggregate(aliased=True)
            raise UnbuiltError(f"the SOQL function {token.text}() is not built")
        path = self.path()
        alias = self.name().text if self.here.kind == "name" and self.here.low not in _KEYWORDS else None
        return Column(path, alias)

    def fields_group(self) -> FieldsGroup:
        pos = self.here.pos
        self.at += 2
        group = self.name().low
        if group not in ("all", "standard", "custom"):
            self.unexpected(self.tokens[self.at - 1])
        self.need(")")
        return FieldsGroup(group, pos)

    def aggregate(self, *, aliased: bool) -> Aggregate:
        token = self.here
        self.at += 2
        path = None if self.ahead(")") else self.path()
        self.need(")")
        if path is None and token.low != "count":
            self.unexpected(self.tokens[self.at - 1])
        alias = None
        if aliased and self.here.kind == "name" and self.here.low not in _KEYWORDS:
            alias = self.name().text
        return Aggregate(token.low, path, token.pos, alias)

    def order_by(self) -> tuple[Order, ...]:
        terms = []
        while True:
            is_call = self.calls and self.here.low in AGGREGATES
            by = self.aggregate(aliased=False) if is_call else self.path()
            descending = self.take("desc")
            if not descending:
                self.take("asc")
            nulls_last = self.take("nulls", "last")
            if not nulls_last:
                self.take("nulls", "first")
            terms.append(Order(by, descending, nulls_last))
            if not self.take(","):
                return tuple(terms)

    # ---- conditions

    def condition(self, *, aggregates: bool = False) -> Condition:
        if self.take("not"):
            inner: Condition = Not(self.simple(aggregates))
            if self.ahead("and") or self.ahead("or"):
                self.unexpected()
            return inner
        items = [self.simple(aggregates)]
        word = self.here.low if self.here.low in ("and", "or") else None
        while word is not None and self.take(word):
            items.append(self.simple(aggregates))
        if self.ahead("and") or self.ahead("or"):
            self.unexpected()  # SOQL takes no mix of AND and OR without parentheses
        if len(items) == 1:
            return items[0]
        return Every(tuple(items)) if word == "and" else Some(tuple(items))

    def simple(self, aggregates: bool) -> Condition:
        if self.take("("):
            inner = self.condition(aggregates=aggregates)
            self.need(")")
            return inner
        left: Path | Aggregate
        if self.here.kind == "name" and self.calls:
            if not aggregates or self.here.low not in AGGREGATES:
                raise UnbuiltError(f"the SOQL function {self.here.text}() is not built in conditions")
            left = self.aggregate(aliased=False)
        else:
            left = self.path()
        token = self.here
        if token.kind == "op":
            self.at += 1
            op = "!=" if token.text == "<>" else token.text
            return Compare(left, op, self.literal())
        if self.take("like"):
            return Compare(left, "like", self.literal())
        for words in (("in",), ("not", "in"), ("includes",), ("excludes",)):
            if self.take(*words):
                if isinstance(left, Aggregate):
                    self.unexpected(token)
                return Among(left, " ".join(words), self.literals())
        self.unexpected()

    def literals(self) -> tuple[Literal, ...]:
        self.need("(")
        if self.ahead("select"):
            raise UnbuiltError("SOQL semi-joins are not built")
        values = [self.literal()]
        while self.take(","):
            values.append(self.literal())
        self.need(")")
        return tuple(values)

    def literal(self) -> Literal:
        token = self.here
        self.at += 1
        if token.kind == "string":
            return Literal("string", unquote(self.text, token), token.pos)
        if token.kind == "number":
            return Literal("number", float(token.text), token.pos)
        if token.kind in ("date", "datetime"):
            return Literal(token.kind, token.text, token.pos)
        if token.low in ("true", "false"):
            return Literal("boolean", token.low == "true", token.pos)
        if token.low == "null":
            return Literal("null", None, token.pos)
        if token.kind == "name" and token.low in DATE_WORDS:
            return Literal("word", token.low, token.pos)
        if token.kind == "name" and token.low in N_WORDS:
            self.need(":")
            number = self.here
            if number.kind != "number" or not number.text.isdigit():
                self.unexpected()
            self.at += 1
            return Literal("word", token.low, token.pos, int(number.text))
        if token.kind == "name" and ("fiscal" in token.low):
            raise UnbuiltError(f"the SOQL date literal {token.text} is not built")
        self.unexpected(token)


def invalid_field(text: str, pos: int, message: str) -> SalesforceError:
    """400 INVALID_FIELD with the place in the statement."""
    return SalesforceError(400, "INVALID_FIELD", where_in(text, pos, message), violation=True)
