"""SQL predicates as HubSpot search filters, as far as HubSpot can take them.

A search is a disjunction of `filterGroups`, each a conjunction of filters. What is returned matches
every row the predicate matches, and may match more: conjuncts without an equal are left out, and
HubSpot compares text without regard to case. Page:
https://developers.hubspot.com/docs/api-reference/search/guide
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import orjson

from sync_platform.connectors.hubspot.values import milliseconds, moment_of
from sync_platform.errors import ContractError

Filter: TypeAlias = Mapping[str, Any]
#: A disjunction of conjunctions.
Groups: TypeAlias = list[list[Filter]]

MAX_GROUPS: Final = 5
MAX_FILTERS_IN_A_GROUP: Final = 6
MAX_FILTERS: Final = 18
MAX_VALUES: Final = 100

_COMPARISONS: Final = {"EQ": "EQ", "GT": "GT", "GTE": "GTE", "LT": "LT", "LTE": "LTE", "NEQ": "NEQ"}
_TURNED: Final = {"EQ": "EQ", "NEQ": "NEQ", "GT": "LT", "GTE": "LTE", "LT": "GT", "LTE": "GTE"}
_NEGATED: Final = {"EQ": "NEQ", "NEQ": "EQ", "GT": "LTE", "GTE": "LT", "LT": "GTE", "LTE": "GT"}
_HAS: Final = "HAS_PROPERTY"


def filter_groups(predicate: str) -> list[dict[str, Any]] | None:
    """The `filterGroups` of a predicate; None when no part of it can be expressed within the limits."""
    import sqlglot

    try:
        tree = sqlglot.parse_one(f"SELECT 1 FROM t WHERE {predicate}", read="duckdb").args["where"].this
    except (sqlglot.errors.SqlglotError, KeyError, AttributeError):
        return None
    groups = _groups(tree, negated=False)
    if not groups:
        return None
    groups = [_distinct(group) for group in groups]
    if (
        len(groups) > MAX_GROUPS
        or any(len(group) > MAX_FILTERS_IN_A_GROUP for group in groups)
        or sum(len(group) for group in groups) > MAX_FILTERS
    ):
        return None
    return [{"filters": group} for group in groups]


def preview(predicate: str) -> str | None:
    """The same as the JSON a search would carry."""
    groups = filter_groups(predicate)
    return None if groups is None else orjson.dumps({"filterGroups": groups}).decode()


def _groups(node: Any, *, negated: bool) -> Groups | None:
    """The node in disjunctive form; None when HubSpot cannot say it (nothing may be assumed)."""
    from sqlglot import exp

    if isinstance(node, exp.Paren):
        return _groups(node.this, negated=negated)
    if isinstance(node, exp.Not):
        return _groups(node.this, negated=not negated)
    if isinstance(node, exp.And | exp.Or):
        left, right = _groups(node.left, negated=negated), _groups(node.right, negated=negated)
        if isinstance(node, exp.And) is not negated:
            return _both(left, right)
        return left + right if left is not None and right is not None else None
    filters = _filters(node, negated=negated)
    return [filters] if filters is not None else None


def _both(left: Groups | None, right: Groups | None) -> Groups | None:
    """A conjunction; a side that cannot be said is left out, which only widens the answer."""
    if left is None or right is None:
        return left if right is None else right
    if len(left) * len(right) > MAX_GROUPS:
        return left if len(left) <= len(right) else right
    return [[*a, *b] for a, b in itertools.product(left, right)]


def _filters(node: Any, *, negated: bool) -> list[Filter] | None:
    from sqlglot import exp

    if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null) and (name := _column(node.this)):
        return [{"propertyName": name, "operator": _HAS if negated else "NOT_HAS_PROPERTY"}]
    if isinstance(node, exp.Between) and (name := _column(node.this)):
        low, high = _literal(node.args["low"]), _literal(node.args["high"])
        if low is None or high is None or negated:
            return None
        return [{"propertyName": name, "operator": "BETWEEN", "value": low, "highValue": high}]
    if isinstance(node, exp.In) and (name := _column(node.this)):
        return _membership(name, node, negated=negated)
    if isinstance(node, exp.Binary) and (operator := _COMPARISONS.get(type(node).__name__.upper())):
        return _comparison(node, operator, negated=negated)
    return None


def _membership(name: str, node: Any, *, negated: bool) -> list[Filter] | None:
    values = [_literal(each) for each in node.expressions]
    if not values or len(values) > MAX_VALUES or any(value is None for value in values):
        return None
    # text is indexed in lower case, and IN compares with the index as it is
    folded = [str(value).lower() for value in values]
    if not negated:
        return [{"propertyName": name, "operator": "IN", "values": folded}]
    return [{"propertyName": name, "operator": "NOT_IN", "values": folded}, {"propertyName": name, "operator": _HAS}]


def _comparison(node: Any, operator: str, *, negated: bool) -> list[Filter] | None:
    name, value = _column(node.left), _literal(node.right)
    if name is None or value is None:
        name, value, operator = _column(node.right), _literal(node.left), _TURNED[operator]
    if name is None or value is None:
        return None
    operator = _NEGATED[operator] if negated else operator
    said: list[Filter] = [{"propertyName": name, "operator": operator, "value": value}]
    # SQL's <> is never true for null; HubSpot's NEQ is
    return [*said, {"propertyName": name, "operator": _HAS}] if operator == "NEQ" else said


def _column(node: Any) -> str | None:
    from sqlglot import exp

    while isinstance(node, exp.Paren | exp.Cast):
        node = node.this
    return str(node.name) if isinstance(node, exp.Column) else None


def _literal(node: Any) -> str | None:
    """The text of a constant: a time as milliseconds; None for anything that is not a constant."""
    from sqlglot import exp

    if isinstance(node, exp.Paren):
        return _literal(node.this)
    if isinstance(node, exp.Cast):
        inner = _literal(node.this)
        return _moment(inner) if inner is not None and node.to.this in exp.DataType.TEMPORAL_TYPES else inner
    if isinstance(node, exp.Neg):
        inner = _literal(node.this)
        return f"-{inner}" if inner is not None else None
    if isinstance(node, exp.Boolean):
        return "true" if node.this else "false"
    return str(node.this) if isinstance(node, exp.Literal) else None


def _moment(text: str) -> str | None:
    try:
        moment = moment_of(text)
    except ContractError:
        return None
    return str(milliseconds(moment.astimezone(dt.UTC))) if moment is not None else None


def _distinct(group: list[Filter]) -> list[Filter]:
    kept: list[Filter] = []
    for each in group:
        if each not in kept:
            kept.append(each)
    return kept
