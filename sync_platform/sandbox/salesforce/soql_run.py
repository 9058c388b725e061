"""Running a parsed SOQL statement over the stores."""

from __future__ import annotations

import datetime as dt
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from sync_platform.sandbox.salesforce import ids
from sync_platform.sandbox.salesforce.metadata import NUMBERS, TEXT, FieldDef, ObjectDef
from sync_platform.sandbox.salesforce.objects import OBJECTS, find_object
from sync_platform.sandbox.salesforce.refusals import SalesforceError, malformed, unknown_type
from sync_platform.sandbox.salesforce.rows import Getter, Reader
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
    Path,
    Some,
    Statement,
)
from sync_platform.sandbox.salesforce.soql_dates import date_range, instant, parse_datetime
from sync_platform.sandbox.salesforce.soql_parser import invalid_field, where_in

Test: TypeAlias = Callable[[Any], bool]
MAX_OFFSET: Final = 2000
FIELDS_LIMIT: Final = 200
_SHUFFLED_WHOLE: Final = 20_000


@dataclass(frozen=True, slots=True)
class Output:
    """One value of the answer: where it stands, how it is read, what it is."""

    parts: tuple[str, ...]  # ("Account", "Name"), canonical names
    getter: Getter
    field: FieldDef
    parents: tuple[tuple[str, str], ...] = ()  # per relationship level: (relationship, object)
    reached: Callable[[Any], list[str | None]] = lambda row: []  # the parents' ids of a row, level by level

    @property
    def is_plain(self) -> bool:
        """Whether the getter is just `row.fields.get` of the field's name."""
        return len(self.parts) == 1 and self.getter.__name__ == "plain"


@dataclass(frozen=True, slots=True)
class Context:
    """What a statement is run against."""

    reader: Reader
    now: int  # ms
    zone: ZoneInfo
    hidden: dict[str, frozenset[str]]  # fields this user may not see, by object


class Plan:
    """A statement with every name resolved. Raises SalesforceError while it is built."""

    def __init__(self, statement: Statement, context: Context) -> None:
        self.statement = statement
        self._context = context
        self.now = context.now
        found = find_object(statement.object)
        if found is None:
            raise unknown_type(statement.object)
        self.object: ObjectDef = found
        aggregates = [item for item in statement.items if isinstance(item, Aggregate)]
        self.count_only = any(item.path is None for item in aggregates)
        self.grouped = bool(statement.group) or (bool(aggregates) and not self.count_only)
        if self.count_only and (len(statement.items) > 1 or statement.group or statement.order):
            raise malformed(where_in(statement.text, aggregates[0].pos, "COUNT() must be the only element selected"))
        self.test: Test | None = None if statement.where is None else self.condition(statement.where)
        self.outputs: list[Output] = [] if self.grouped or self.count_only else self._outputs()
        if statement.offset is not None and statement.offset > MAX_OFFSET:
            raise SalesforceError(
                400, "NUMBER_OUTSIDE_VALID_RANGE", f"Maximum SOQL offset allowed is {MAX_OFFSET}", violation=True
            )

    @property
    def only_ids(self) -> frozenset[str] | None:
        """The ids one of which a row must have to match, as an index on Id tells; None: any id may match."""
        where = self.statement.where
        found = [ids for part in (where.items if isinstance(where, Every) else (where,)) if (ids := self._ids_of(part))]
        return min(found, key=len) if found else None

    def _ids_of(self, part: Condition | None) -> frozenset[str]:
        if isinstance(part, Among) and part.op == "in":
            left, values = part.left, part.values
        elif isinstance(part, Compare) and part.op == "=" and isinstance(part.left, Path):
            left, values = part.left, (part.right,)
        else:
            return frozenset()
        output = self.resolve(left)
        if len(output.parts) > 1 or output.field.name != "Id":
            return frozenset()
        return frozenset(str(self._value(value, output.field)) for value in values)

    # ---- names

    def resolve(self, path: Path, *, grouping: bool = False) -> Output:
        """The field a path means."""
        parts = list(path.parts)
        statement = self.statement
        if len(parts) > 1 and parts[0].lower() in ((statement.alias or "").lower(), statement.object.lower()):
            parts = parts[1:]
        target, steps, names, parents = self.object, [], [], []
        for part in parts[:-1]:
            link = target.relationship(part)
            if link is None or link.relationship is None or link.name in self._context.hidden.get(target.name, ()):
                raise invalid_field(
                    statement.text, path.pos,
                    f"Didn't understand relationship '{part}' in field path. If you are attempting to use a custom "
                    "relationship, be sure to append the '__r' after the custom relationship name. Please reference "
                    "your WSDL or the describe call for the appropriate names.",
                )  # fmt: skip
            steps.append((self._context.reader.getter(target, link), link.reference_to[0]))
            names.append(link.relationship)
            target = OBJECTS[link.reference_to[0]]
            parents.append((link.relationship, target.name))
        field = target.field(parts[-1])
        if field is None or field.name in self._context.hidden.get(target.name, ()):
            raise invalid_field(
                statement.text, path.pos,
                f"No such column '{parts[-1]}' on entity '{target.name}'. If you are attempting to use a custom field, "
                "be sure to append the '__c' after the custom field name. Please reference your WSDL or the describe "
                "call for the appropriate names.",
            )  # fmt: skip
        if grouping and not field.groupable:
            raise malformed(
                where_in(statement.text, path.pos, f"field '{field.name}' can not be grouped in a query call")
            )
        own = self._context.reader.getter(target, field)
        return Output((*names, field.name), self._chain(steps, own), field, tuple(parents), self._ids(steps))

    def _ids(self, steps: list[tuple[Getter, str]]) -> Callable[[Any], list[str | None]]:
        def reached(row: Any) -> list[str | None]:
            found: list[str | None] = []
            for getter, target in steps:
                row = None if row is None else self._context.reader.parent(target, getter(row))
                found.append(None if row is None else row.id)
            return found

        return reached

    def _chain(self, steps: list[tuple[Getter, str]], last: Getter) -> Getter:
        reader = self._context.reader
        if not steps:
            return last

        def read(row: Any) -> Any:
            current: Any = row
            for getter, target in steps:
                current = reader.parent(target, getter(current))
                if current is None:
                    return None
            return last(current)

        return read

    def _outputs(self) -> list[Output]:
        outputs: list[Output] = []
        for item in self.statement.items:
            if isinstance(item, FieldsGroup):
                outputs.extend(self._group_of(item))
            elif isinstance(item, Column):
                if item.alias is not None:
                    raise malformed(where_in(self.statement.text, item.path.pos, f"unexpected token: '{item.alias}'"))
                outputs.append(self.resolve(item.path))
        seen: set[tuple[str, ...]] = set()
        for output in outputs:
            if output.parts in seen:
                name = ".".join(output.parts)
                raise SalesforceError(400, "INVALID_FIELD", f"duplicate field selected: {name}", violation=True)
            seen.add(output.parts)
        return outputs

    def _group_of(self, item: FieldsGroup) -> list[Output]:
        limit = self.statement.limit
        if item.group != "standard" and (limit is None or limit > FIELDS_LIMIT):
            message = f"The SOQL FIELDS function must have a LIMIT of at most {FIELDS_LIMIT}"
            raise malformed(where_in(self.statement.text, item.pos, message))
        wanted = {"all": (True, False), "standard": (False,), "custom": (True,)}[item.group]
        hidden = self._context.hidden.get(self.object.name, frozenset())
        fields = [f for f in self.object.fields.values() if f.custom in wanted and f.name not in hidden]
        return [Output((f.name,), self._context.reader.getter(self.object, f), f) for f in fields]

    # ---- conditions

    def condition(self, node: Condition, resolve: Callable[[Path | Aggregate], Output] | None = None) -> Test:
        """A row test. Null compares false with everything but null."""
        if isinstance(node, Every | Some):
            tests = [self.condition(item, resolve) for item in node.items]
            if isinstance(node, Some):
                return lambda row: any(test(row) for test in tests)
            if len(tests) == 2:
                one, two = tests
                return lambda row: one(row) and two(row)
            return lambda row: all(test(row) for test in tests)
        if isinstance(node, Not):
            inner = self.condition(node.inner, resolve)
            return lambda row: not inner(row)
        left = node.left
        output = resolve(left) if resolve is not None else self.resolve(left) if isinstance(left, Path) else None
        assert output is not None
        if not output.field.filterable:
            message = f"field '{output.field.name}' can not be filtered in a query call"
            raise invalid_field(self.statement.text, left.pos, message)
        if isinstance(node, Among):
            return self._among(node, output)
        return self._compare(node, output)

    def _among(self, node: Among, output: Output) -> Test:
        get, field = output.getter, output.field
        if node.op in ("includes", "excludes"):
            if field.type != "multipicklist":
                raise self._operator(field, node.left.pos, node.op.upper())
            wanted = [frozenset(str(value.value).lower().split(";")) for value in node.values]

            def included(row: Any) -> bool:
                has = frozenset((get(row) or "").lower().split(";"))
                return any(value <= has for value in wanted)

            return included if node.op == "includes" else lambda row: not included(row)
        fold = _folder(field)
        words = [v for v in node.values if v.kind == "word"]
        plain = {self._value(v, field) for v in node.values if v.kind != "word"}
        ranges = [self._range(v, field) for v in words]

        def among(row: Any) -> bool:
            value = get(row)
            if value is None:
                return None in plain
            return fold(value) in plain or any(start <= value < end for start, end in ranges)

        return among if node.op == "in" else lambda row: not among(row)

    def _compare(self, node: Compare, output: Output) -> Test:
        get, field, op = output.getter, output.field, node.op
        if op == "like":
            return self._like(node, output)
        if node.right.kind == "word":
            start, end = self._range(node.right, field)
            tests: dict[str, Test] = {
                "=": lambda row: (v := get(row)) is not None and start <= v < end,
                "!=": lambda row: (v := get(row)) is None or not start <= v < end,
                ">": lambda row: (v := get(row)) is not None and v >= end,
                ">=": lambda row: (v := get(row)) is not None and v >= start,
                "<": lambda row: (v := get(row)) is not None and v < start,
                "<=": lambda row: (v := get(row)) is not None and v < end,
            }
            return tests[op]
        value = self._value(node.right, field)
        if value is None:
            if op not in ("=", "!="):
                raise self._operator(field, node.left.pos, op)
            return (lambda row: get(row) is None) if op == "=" else (lambda row: get(row) is not None)
        if op not in ("=", "!=") and field.type in ("boolean", "multipicklist", "reference"):
            raise self._operator(field, node.left.pos, op)
        fold = _folder(field)
        tests = {
            "=": lambda row: (v := get(row)) is not None and fold(v) == value,
            "!=": lambda row: (v := get(row)) is None or fold(v) != value,
            ">": lambda row: (v := get(row)) is not None and fold(v) > value,
            ">=": lambda row: (v := get(row)) is not None and fold(v) >= value,
            "<": lambda row: (v := get(row)) is not None and fold(v) < value,
            "<=": lambda row: (v := get(row)) is not None and fold(v) <= value,
        }
        return tests[op]

    def _like(self, node: Compare, output: Output) -> Test:
        if output.field.type not in TEXT or output.field.type == "multipicklist":
            raise self._operator(output.field, node.left.pos, "LIKE")
        if node.right.kind != "string":
            raise self._typed(output.field, node.right)
        pieces = re.split(r"(\\[%_]|[%_])", str(node.right.value))
        wild = {"%": ".*", "_": "."}
        pattern = "".join(
            wild[p] if p in wild else re.escape(p[1:] if p[:1] == "\\" and len(p) == 2 else p) for p in pieces
        )
        match = re.compile(pattern, re.IGNORECASE | re.DOTALL).fullmatch
        get = output.getter
        return lambda row: (v := get(row)) is not None and match(v) is not None

    def _operator(self, field: FieldDef, pos: int, op: str) -> SalesforceError:
        message = where_in(self.statement.text, pos, f"invalid operator on {field.type} field: {op}")
        return SalesforceError(400, "INVALID_QUERY_FILTER_OPERATOR", message, violation=True)

    def _typed(self, field: FieldDef, literal: Literal) -> SalesforceError:
        kind = "string" if field.type in TEXT or field.type in ("id", "reference") else field.type
        kind = {"datetime": "dateTime", "currency": "double", "percent": "double"}.get(kind, kind)
        quotes = "should be enclosed in quotes" if kind == "string" else "should not be enclosed in quotes"
        message = f"value of filter criterion for field '{field.name}' must be of type {kind} and {quotes}"
        return invalid_field(self.statement.text, literal.pos, message)

    def _range(self, literal: Literal, field: FieldDef) -> tuple[Any, Any]:
        if field.type not in ("date", "datetime"):
            raise self._typed(field, literal)
        zone = self._context.zone
        today = dt.datetime.fromtimestamp(self._context.now / 1000, zone).date()
        first, after = date_range(str(literal.value), literal.n, today)
        if field.type == "date":
            return first.isoformat(), after.isoformat()
        return instant(first, zone), instant(after, zone)

    def _value(self, literal: Literal, field: FieldDef) -> Any:
        """A literal as it is compared with the field's folded values."""
        kind, value = literal.kind, literal.value
        if kind == "null":
            return None
        if field.type in TEXT and kind == "string":
            return _folder(field)(str(value)) if value else None  # '' is null
        if field.type in ("id", "reference") and kind == "string":
            if not value:
                return None
            known = ids.to18(str(value))
            if known is None:
                message = where_in(self.statement.text, literal.pos, f"invalid ID field: {value}")
                raise SalesforceError(400, "INVALID_QUERY_FILTER_OPERATOR", message, violation=True)
            return known
        if field.type in NUMBERS and kind == "number":
            return value
        if field.type == kind == "boolean" or field.type == kind == "date":
            return value
        if field.type == kind == "datetime":
            try:
                return parse_datetime(str(value))
            except ValueError:
                raise malformed(where_in(self.statement.text, literal.pos, f"Invalid datetime: {value}")) from None
        raise self._typed(field, literal)

    # ---- running

    def rows(self, source: Iterable[Any], *, shuffle: random.Random | None = None) -> list[Any]:
        """The matching rows in order, OFFSET and LIMIT applied. `shuffle` decides ties and what has no order."""
        test = self.test
        found = list(source) if test is None else [row for row in source if test(row)]
        statement = self.statement
        if shuffle is not None and len(found) > 1 and not self.count_only:
            _disorder(found, shuffle)
        for term in reversed(statement.order):
            if isinstance(term.by, Aggregate):
                raise malformed(where_in(statement.text, term.by.pos, "aggregates order grouped queries only"))
            output = self.resolve(term.by)
            if not output.field.sortable:
                message = f"field '{output.field.name}' can not be sorted in a query call"
                raise malformed(where_in(statement.text, term.by.pos, message))
            sort_rows(found, output, descending=term.descending, nulls_last=term.nulls_last)
        start = statement.offset or 0
        end = None if statement.limit is None else start + statement.limit
        return found[start:end] if start or end is not None else found


def _disorder(found: list[Any], rng: random.Random) -> None:
    """Puts rows in an arbitrary order; a long list in blocks, which keeps neighbours in memory together."""
    if len(found) <= _SHUFFLED_WHOLE:
        rng.shuffle(found)
        return
    blocks = [found[at : at + 64][:: rng.choice((1, -1))] for at in range(0, len(found), 64)]
    rng.shuffle(blocks)
    found[:] = [row for block in blocks for row in block]


def sort_rows(found: list[Any], output: Output, *, descending: bool, nulls_last: bool) -> None:
    """Sorts in place, stable; nulls first unless asked otherwise."""
    get, fold = output.getter, _folder(output.field)
    nulls = [row for row in found if get(row) is None]
    if nulls:
        rest = [row for row in found if get(row) is not None]
        rest.sort(key=lambda row: fold(get(row)), reverse=descending)
        found[:] = [*rest, *nulls] if nulls_last else [*nulls, *rest]
    elif fold is _same:
        found.sort(key=get, reverse=descending)
    else:
        found.sort(key=lambda row: fold(get(row)), reverse=descending)


def _same(value: Any) -> Any:
    return value


def _lower(value: Any) -> Any:
    return value.lower()


def _folder(field: FieldDef) -> Callable[[Any], Any]:
    """How values of a field are compared: text without regard to case."""
    return _lower if field.type in TEXT and not field.case_sensitive else _same
