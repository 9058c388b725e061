"""Look-ups of HubSpot records by id and by value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from sync_platform.connectors.hubspot.api import BATCH, BODY_ROOM, SEARCH_LIMIT, Api, body_size
from sync_platform.connectors.hubspot.properties import Property
from sync_platform.connectors.hubspot.streams import KEY, MERGED, OBJECT_ID
from sync_platform.connectors.hubspot.values import milliseconds, moment_of, one_table, record_of, wire_value
from sync_platform.errors import ContractError
from sync_platform.model import Record, Stream

#: The kinds whose values the index holds in lower case.
_TEXT: Final = frozenset({"string", "phone_number", ""})


def by_id(api: Api, stream: Stream, ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """`id` and the columns of the records that exist; strongly consistent."""
    asked = [each for each in dict.fromkeys(str(each) for each in ids) if each.isascii() and each.isdigit()]
    found: dict[str, Record] = {}
    for part in _parts(asked, BATCH):
        for record in api.batch_read(stream.name, part, columns).records:
            found[str(record[KEY])] = record
    # a merged-away id is answered with the record it went into, which was not asked for
    return _table(stream, (found[each] for each in asked if each in found), columns)


def merged(api: Api, stream: Stream, ids: Sequence[str]) -> dict[str, str]:
    """The record that survives each of these ids that was merged away."""
    asked = [each for each in dict.fromkeys(str(each) for each in ids) if each.isascii() and each.isdigit()]
    found: dict[str, str] = {}
    for part in _parts(asked, BATCH):
        for record in api.batch_read(stream.name, part, [MERGED]).records:
            losers = str((record.get("properties") or {}).get(MERGED) or "").split(";")
            found |= {loser: str(record[KEY]) for loser in losers if loser in part}
    return found


def by_field(
    api: Api,
    stream: Stream,
    properties: Mapping[str, Property],
    field: str,
    values: Sequence[str],
    columns: Sequence[str],
) -> pa.Table:
    """`id` and the columns (`field` among them) of the records whose field is one of the values."""
    if field in (KEY, OBJECT_ID):
        return by_id(api, stream, values, columns)
    one = properties[field]
    wanted: dict[str, str] = {}
    for value in values:
        text = wire_value(field, value, one.kind).strip()
        if text:
            wanted.setdefault(text.casefold() if one.field.folded else text, text)
    if one.field.unique:
        records = _by_unique(api, stream, field, list(wanted), columns)
    else:
        records = _by_search(api, stream, one, list(wanted.values()), columns)
    # the index may be behind: what is answered is live, and is what counts
    same = {_comparable(field, text, one) for text in wanted}
    found = {
        str(record[KEY]): record
        for record in records
        if _comparable(field, (record.get("properties") or {}).get(field), one) in same
    }
    return _table(stream, found.values(), columns)


def _by_unique(api: Api, stream: Stream, field: str, values: Sequence[str], columns: Sequence[str]) -> Iterator[Record]:
    for part in _parts(values, BATCH):
        yield from api.batch_read(stream.name, part, columns, id_property=field).records


def _by_search(
    api: Api, stream: Stream, one: Property, values: Sequence[str], columns: Sequence[str]
) -> Iterator[Record]:
    """Every record the index knows under these values, by keyset on the id."""
    texts = [_indexed(value, one.kind) for value in values]
    for part in _fitting(one.field.name, texts, columns):
        last, after = 0, None
        while True:
            found = api.search(stream.name, _body(one.field.name, part, columns, last, after))
            yield from found.records
            if found.after is None:
                break
            reached = max((int(each[KEY]) for each in found.records), default=0)
            if reached <= last and found.after == after:
                raise ContractError(f"hubspot: a search of {stream.name} answered the same page again")
            last, after = (reached, None) if reached > last else (last, found.after)


def _body(field: str, values: Sequence[str], columns: Sequence[str], last: int, after: str | None) -> dict[str, Any]:
    filters: list[dict[str, Any]] = [{"propertyName": field, "operator": "IN", "values": list(values)}]
    if last:
        filters.append({"propertyName": OBJECT_ID, "operator": "GT", "value": str(last)})
    body: dict[str, Any] = {
        "filterGroups": [{"filters": filters}],
        "sorts": [{"propertyName": OBJECT_ID, "direction": "ASCENDING"}],
        "properties": list(columns),
        "limit": SEARCH_LIMIT,
    }
    return body if after is None else {**body, "after": after}


def _fitting(field: str, values: Sequence[str], columns: Sequence[str]) -> Iterator[list[str]]:
    """The values in parts whose search body has room for them (one value always goes alone)."""
    part: list[str] = []
    for value in dict.fromkeys(values):
        grown = [*part, value]
        if part and (len(grown) > BATCH or body_size(_body(field, grown, columns, 10**15, None)) > BODY_ROOM):
            yield part
            grown = [value]
        part = grown
    if part:
        yield part


def _indexed(value: str, kind: str) -> str:
    if kind in _TEXT:
        return value.lower()
    if kind in ("date", "datetime"):
        moment = moment_of(value)
        return str(milliseconds(moment)) if moment is not None else value
    return value


def _comparable(field: str, value: Any, one: Property) -> str:
    return wire_value(field, value, one.kind).strip().casefold()


def _parts(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _table(stream: Stream, records: Any, columns: Sequence[str]) -> pa.Table:
    cursor = stream.cursor.field if stream.cursor is not None else None
    return one_table([record_of(each, cursor) for each in records], columns, cursor)
