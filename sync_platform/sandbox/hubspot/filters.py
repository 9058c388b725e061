"""The search body: grammar, limits and what a filter matches.

https://developers.hubspot.com/docs/api-reference/latest/crm/search-the-crm (limits, operators, `query`). Where the
guide says nothing: null values match only NOT_HAS_PROPERTY; text is compared without regard to case, options exactly.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple, TypeAlias

from sync_platform.sandbox.hubspot.properties import Property, PropertySet
from sync_platform.sandbox.hubspot.refusals import RefusedError, bad_json, bad_request, not_built
from sync_platform.sandbox.hubspot.values import NUMBER, to_ms

Key: TypeAlias = float | str

MAX_FILTERS_PER_GROUP: Final = 6
MAX_FILTERS: Final = 18
MAX_QUERY: Final = 3000
MAX_LIMIT: Final = 200
DEFAULT_LIMIT: Final = 10
BODY_KEYS: Final = frozenset({"filterGroups", "filters", "sorts", "query", "properties", "limit", "after"})
FILTER_KEYS: Final = frozenset({"propertyName", "operator", "value", "values", "highValue"})
TOKENS: Final = re.compile(r"\w+")


class Operator(enum.StrEnum):
    """The operators of a filter."""

    EQ = "EQ"
    NEQ = "NEQ"
    LT = "LT"
    LTE = "LTE"
    GT = "GT"
    GTE = "GTE"
    BETWEEN = "BETWEEN"
    IN = "IN"
    NOT_IN = "NOT_IN"
    HAS_PROPERTY = "HAS_PROPERTY"
    NOT_HAS_PROPERTY = "NOT_HAS_PROPERTY"
    CONTAINS_TOKEN = "CONTAINS_TOKEN"
    NOT_CONTAINS_TOKEN = "NOT_CONTAINS_TOKEN"


class Seen(NamedTuple):
    """What the search index holds of one record. Times in milliseconds."""

    id: int
    created: int
    updated: int
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One condition, its values already in the form the index compares."""

    definition: Property
    operator: Operator
    value: Key | None = None
    high: Key | None = None
    values: frozenset[Key] = frozenset()

    def matches(self, seen: Seen) -> bool:
        """Whether the record, as the index holds it, meets the condition."""
        key = key_of(self.definition, seen)
        if key is None:
            return self.operator is Operator.NOT_HAS_PROPERTY
        match self.operator:
            case Operator.HAS_PROPERTY:
                return True
            case Operator.NOT_HAS_PROPERTY:
                return False
            case Operator.IN:
                return not self.values.isdisjoint(parts(self.definition, key))
            case Operator.NOT_IN:
                return self.values.isdisjoint(parts(self.definition, key))
            case Operator.CONTAINS_TOKEN:
                return contains_token(str(key), str(self.value))
            case Operator.NOT_CONTAINS_TOKEN:
                return not contains_token(str(key), str(self.value))
            case Operator.EQ:
                return self.value in parts(self.definition, key)
            case Operator.NEQ:
                return self.value not in parts(self.definition, key)
            case _:
                low, high, low_in, high_in = self.bounds()
                return (low is None or low < key or (low_in and low == key)) and (  # type: ignore[operator]
                    high is None or key < high or (high_in and high == key)  # type: ignore[operator]
                )

    def bounds(self) -> tuple[Key | None, Key | None, bool, bool]:
        """(low, high, low included, high included) of a comparison; EQ too."""
        match self.operator:
            case Operator.EQ:
                return self.value, self.value, True, True
            case Operator.GT | Operator.GTE:
                return self.value, None, self.operator is Operator.GTE, True
            case Operator.LT | Operator.LTE:
                return None, self.value, True, self.operator is Operator.LTE
            case _:
                return self.value, self.high, True, True


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search body that was understood. `groups` are alternatives, their filters all hold."""

    groups: tuple[tuple[Filter, ...], ...]
    query: str
    sort: Property
    descending: bool
    properties: tuple[str, ...] | None
    limit: int
    after: int


def key_of(definition: Property, seen: Seen) -> Key | None:
    """What the index compares: numbers and milliseconds as numbers, text lower-cased, options as they are."""
    name = definition.name
    if name == "hs_object_id":
        return seen.id
    if name in ("createdate", "hs_createdate"):
        return seen.created
    if name in ("lastmodifieddate", "hs_lastmodifieddate"):
        return seen.updated
    text = seen.fields.get(name)
    return None if text is None else as_key(definition, text)


def as_key(definition: Property, text: str) -> Key | None:
    """A stored value as the index compares it; None when it cannot be."""
    if definition.type == "number":
        return float(text) if NUMBER.fullmatch(text) else None
    if definition.type in ("date", "datetime"):
        return to_ms(text)
    return text.lower() if definition.type == "string" else text


def parts(definition: Property, key: Key) -> tuple[Key, ...]:
    """The single values of a key: the options of a multiple choice, else the key itself."""
    return tuple(str(key).split(";")) if definition.multiple else (key,)


def contains_token(text: str, wanted: str) -> bool:
    """Whether the words of `wanted` appear in `text`, both any case; `*` stands for any characters."""
    text, wanted = text.lower(), wanted.lower()
    if "*" in wanted:
        pattern = wanted.replace("[", "[[]").replace("?", "[?]")
        if fnmatchcase(text, pattern):
            return True
        if wanted.startswith("*") and wanted.endswith("*"):
            return False  # what the whole text lacks, none of its words has
        return any(fnmatchcase(part, pattern) for part in (*text.split(), *TOKENS.findall(text)))
    words = TOKENS.findall(wanted)
    return bool(words) and all(word in text for word in words) and set(words).issubset(TOKENS.findall(text))


def matches_query(query: str, seen: Seen, searched: tuple[str, ...]) -> bool:
    """Whether every word of the free text begins a word of one of the searched properties."""
    text = " ".join(seen.fields.get(name, "") for name in searched).lower()
    words = TOKENS.findall(query.lower())
    if not all(word in text for word in words):
        return False
    tokens = TOKENS.findall(text)
    return all(any(token.startswith(word) for token in tokens) for word in words)


def parse(body: Any, known: PropertySet, *, max_groups: int, cap: int) -> Search:
    """The search a JSON body asks for. Raises RefusedError."""
    if not isinstance(body, dict):
        raise bad_json("Cannot construct instance of a search request from this value")
    for name in body:
        if name not in BODY_KEYS:
            raise bad_json(f'Unrecognized field "{name}"')
    groups = _groups(body, known, max_groups)
    query = body.get("query") or ""
    if not isinstance(query, str) or len(query) > MAX_QUERY:
        raise bad_request(f"query must be a text of at most {MAX_QUERY} characters")
    sort, descending = _sort(body.get("sorts") or [], known)
    wanted = body.get("properties")
    if wanted is not None and not (isinstance(wanted, list) and all(isinstance(name, str) for name in wanted)):
        raise bad_json("Cannot deserialize value of type `java.util.ArrayList` (properties)")
    return Search(
        groups=groups,
        query=query,
        sort=sort,
        descending=descending,
        properties=tuple(wanted) if wanted else None,
        limit=_limit(body.get("limit")),
        after=_after(body.get("after"), cap),
    )


def _limit(given: Any) -> int:
    if given is None:
        return DEFAULT_LIMIT
    number = _whole(given, "limit")
    if not 0 <= number <= MAX_LIMIT:
        raise bad_request(f"limit must be between 0 and {MAX_LIMIT}, got {number}")
    return number


def _after(given: Any, cap: int) -> int:
    if given is None or given == "":
        return 0
    number = _whole(given, "after")
    if number >= cap:
        # A recorded answer carries no category here.
        raise RefusedError(400, f"There was a problem with the request. after must stay below {cap}.", category=None)
    return number


def _whole(given: Any, name: str) -> int:
    if isinstance(given, bool) or not re.fullmatch(r"\d{1,15}", str(given)):
        raise bad_json(f"Cannot deserialize value of type `int` from {given!r} ({name})")
    return int(given)


def _groups(body: Mapping[str, Any], known: PropertySet, max_groups: int) -> tuple[tuple[Filter, ...], ...]:
    given = list(body.get("filterGroups") or [])
    if body.get("filters"):
        given.append({"filters": body["filters"]})
    if len(given) > max_groups:
        raise bad_request(f"Too many filter groups: {len(given)}, at most {max_groups}")
    groups = []
    for group in given:
        filters = group.get("filters") if isinstance(group, dict) and set(group) == {"filters"} else None
        if not isinstance(filters, list) or not filters:
            raise bad_json('A filter group holds a list "filters" of at least one filter')
        if len(filters) > MAX_FILTERS_PER_GROUP:
            raise bad_request(f"Too many filters in a group: {len(filters)}, at most {MAX_FILTERS_PER_GROUP}")
        groups.append(tuple(_filter(item, known) for item in filters))
    if sum(map(len, groups)) > MAX_FILTERS:
        raise bad_request(f"Too many filters: {sum(map(len, groups))}, at most {MAX_FILTERS}")
    return tuple(groups)


def _filter(item: Any, known: PropertySet) -> Filter:
    if not isinstance(item, dict) or not FILTER_KEYS.issuperset(item):
        raise bad_json("Cannot construct instance of a filter from this value")
    name = str(item.get("propertyName"))
    definition = known.get(name)
    if definition is None:
        raise (
            not_built(f"search by {name}")
            if name.startswith("associations.")
            else bad_request(f"Unknown property: {name}")
        )
    if item.get("operator") not in Operator.__members__:
        raise bad_json(
            f'Cannot deserialize value of type `Operator` from String "{item.get("operator")}": '
            f"not one of the values accepted for Enum class: [{', '.join(Operator)}]"
        )
    operator = Operator(item["operator"])
    wants: set[str] = {"value"}
    if operator in (Operator.IN, Operator.NOT_IN):
        wants = {"values"}
    elif operator in (Operator.HAS_PROPERTY, Operator.NOT_HAS_PROPERTY):
        wants = set()
    elif operator is Operator.BETWEEN:
        wants = {"value", "highValue"}
    given = {name for name in ("value", "values", "highValue") if item.get(name) is not None}
    if given != wants:
        raise bad_request(
            f"{operator} on {definition.name} takes {sorted(wants) or 'no value'}, got {sorted(given) or 'no value'}"
        )
    values = item.get("values") if "values" in wants else []
    if not isinstance(values, list) or ("values" in wants and not values):
        raise bad_request(f"{operator} on {definition.name} takes a list of at least one value")
    keys = [_operand(definition, value, folded=False) for value in values]
    token = operator in (Operator.CONTAINS_TOKEN, Operator.NOT_CONTAINS_TOKEN)
    return Filter(
        definition=definition,
        operator=operator,
        value=str(item["value"]) if token else _operand(definition, item["value"]) if "value" in wants else None,
        high=_operand(definition, item["highValue"]) if "highValue" in wants else None,
        values=frozenset(keys),
    )


def _operand(definition: Property, given: Any, *, folded: bool = True) -> Key:
    """A filter's value as the index compares it. `folded` False: text is taken as sent.

    The vendor folds the value of EQ and the comparisons, but not the list of IN and NOT_IN: upper-case text in
    such a list finds nothing (the guide asks for lower-case values there).
    """
    if isinstance(given, dict | list):
        raise bad_json(f"Cannot deserialize value of type `java.lang.String` ({definition.name})")
    text = ("true" if given else "false") if isinstance(given, bool) else str(given)
    key = text if definition.type == "string" and not folded else as_key(definition, text)
    if key is None:
        raise bad_request(f"{text!r} is not a value of the {definition.type} property {definition.name}")
    return key


def _sort(given: Any, known: PropertySet) -> tuple[Property, bool]:
    if not isinstance(given, list) or len(given) > 1:
        raise bad_request("sorts takes at most one sort")
    if not given:
        return known.by_name["hs_object_id"], False
    sort = given[0]
    if isinstance(sort, str):
        name, descending = sort.lstrip("-"), sort.startswith("-")
    elif isinstance(sort, dict) and {"propertyName", "direction"}.issuperset(sort):
        name, direction = str(sort.get("propertyName")), sort.get("direction", "ASCENDING")
        if direction not in ("ASCENDING", "DESCENDING"):
            raise bad_json(f"{direction} is not one of [ASCENDING, DESCENDING]")
        descending = direction == "DESCENDING"
    else:
        raise bad_json("Cannot construct instance of a sort from this value")
    definition = known.get(name)
    if definition is None:
        raise bad_request(f"Unknown property in sorts: {name}")
    return definition, descending
