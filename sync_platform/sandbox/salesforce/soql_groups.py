"""GROUP BY, aggregates and HAVING."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sync_platform.sandbox.salesforce.metadata import NUMBERS, FieldDef
from sync_platform.sandbox.salesforce.refusals import SalesforceError, malformed
from sync_platform.sandbox.salesforce.rows import shown
from sync_platform.sandbox.salesforce.soql_ast import Aggregate, Column, FieldsGroup, Path
from sync_platform.sandbox.salesforce.soql_parser import where_in
from sync_platform.sandbox.salesforce.soql_run import Output, Plan, sort_rows

MAX_GROUPS: Final = 2000


class Group:
    """One group: its key and its rows."""

    __slots__ = ("key", "rows")

    def __init__(self, key: tuple[Any, ...]) -> None:
        self.key = key
        self.rows: list[Any] = []


def grouped(plan: Plan, rows: list[Any]) -> list[dict[str, Any]]:
    """The records of a grouped or aggregated query. `rows` are those WHERE let through, unlimited."""
    statement = plan.statement
    keys = [plan.resolve(path, grouping=True) for path in statement.group]
    shown_as = _columns(plan, keys)
    groups: dict[tuple[Any, ...], Group] = {}
    if not keys:
        groups[()] = Group(())
    for row in rows:
        key = tuple(_folded(k.getter(row)) for k in keys)
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(tuple(k.getter(row) for k in keys))
        group.rows.append(row)
    found = list(groups.values())

    def resolve(by: Path | Aggregate) -> Output:
        if isinstance(by, Aggregate):
            return _aggregate_output(plan, by)
        return _key_output(plan, by, keys)

    if statement.having is not None:
        test = plan.condition(statement.having, resolve)
        found = [group for group in found if test(group)]
    for term in reversed(statement.order):
        sort_rows(found, resolve(term.by), descending=term.descending, nulls_last=term.nulls_last)
    start = statement.offset or 0
    found = found[start : None if statement.limit is None else start + statement.limit]
    if len(found) > MAX_GROUPS:
        message = f"Aggregate query has too many rows for direct assignment, use a LIMIT of at most {MAX_GROUPS}"
        raise SalesforceError(400, "EXCEEDED_ID_LIMIT", message, violation=True)
    return [
        {"attributes": {"type": "AggregateResult"}, **{name: read(group) for name, read in shown_as}} for group in found
    ]


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _columns(plan: Plan, keys: list[Output]) -> list[tuple[str, Callable[[Group], Any]]]:
    columns: list[tuple[str, Callable[[Group], Any]]] = []
    unnamed = 0
    for item in plan.statement.items:
        if isinstance(item, FieldsGroup):
            raise malformed(where_in(plan.statement.text, item.pos, "FIELDS() can not be grouped"))
        if isinstance(item, Column):
            output = _key_output(plan, item.path, keys)
            columns.append((item.alias or output.parts[-1], _display(output)))
            continue
        output = _aggregate_output(plan, item)
        name = item.alias
        if name is None:
            name = f"expr{unnamed}"
            unnamed += 1
        columns.append((name, _display(output)))
    return columns


def _display(output: Output) -> Callable[[Group], Any]:
    return lambda group: shown(output.field, output.getter(group))


def _key_output(plan: Plan, path: Path, keys: list[Output]) -> Output:
    wanted = plan.resolve(path)
    for place, key in enumerate(keys):
        if key.parts == wanted.parts:
            return Output(key.parts, _key_getter(place), key.field)
    message = f"Field must be grouped or aggregated: {path}"
    raise malformed(where_in(plan.statement.text, path.pos, message))


def _key_getter(place: int) -> Callable[[Any], Any]:
    return lambda group: group.key[place]


def _aggregate_output(plan: Plan, item: Aggregate) -> Output:
    if item.path is None:
        return Output(("expr",), lambda group: len(group.rows), FieldDef(name="expr", label="", type="int"))
    source = plan.resolve(item.path)
    if item.function in ("sum", "avg") and source.field.type not in NUMBERS:
        message = f"field {source.field.name} does not support aggregate operator {item.function.upper()}"
        raise malformed(where_in(plan.statement.text, item.pos, message))
    type = source.field.type if item.function in ("min", "max") else "double"
    if item.function.startswith("count"):
        type = "int"
    get, function = source.getter, item.function

    def read(group: Any) -> Any:
        values = [value for value in map(get, group.rows) if value is not None]
        if function == "count":
            return len(values)
        if function == "count_distinct":
            return len({_folded(value) for value in values})
        if not values:
            return None
        if function in ("sum", "avg"):
            return sum(values) / (len(values) if function == "avg" else 1)
        return min(values) if function == "min" else max(values)

    return Output(("expr",), read, FieldDef(name="expr", label="", type=type))
