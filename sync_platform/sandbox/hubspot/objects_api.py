"""Single records: list, read, create, update, archive, merge, GDPR delete, and search.

https://developers.hubspot.com/docs/api-reference/latest/crm/objects/contacts/guide and the pages beside it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from sync_platform.sandbox.hubspot.exchange import Answer, Exchange, properties_of
from sync_platform.sandbox.hubspot.filters import parse
from sync_platform.sandbox.hubspot.refusals import RefusedError, bad_request, not_built, not_found
from sync_platform.sandbox.kit import Record

MAX_PAGE = 100
DEFAULT_PAGE = 10


def answer(exchange: Exchange) -> Answer:
    """The answer of /{objectType}… except batches. Raises RefusedError."""
    match exchange.call.method, exchange.rest:
        case "GET", ():
            return listing(exchange)
        case "POST", ():
            return create(exchange)
        case "POST", ("search",):
            return search(exchange)
        case "POST", ("merge",):
            return merge(exchange)
        case "POST", ("gdpr-delete",):
            return gdpr_delete(exchange)
        case "GET", (id,):
            return read(exchange, id)
        case "PATCH", (id,):
            return update(exchange, id)
        case "DELETE", (id,):
            return archive(exchange, id)
    raise not_built(f"{exchange.call.method} {exchange.call.path}")


def listing(exchange: Exchange) -> Answer:
    """A page of all records in id order; the records themselves, not the index."""
    exchange.may_read()
    exchange.only("limit", "after", "properties", "propertiesWithHistory", "associations", "archived")
    query = exchange.call.query
    limit, after = query.get("limit", str(DEFAULT_PAGE)), query.get("after") or "0"
    if not limit.isdecimal() or not 1 <= int(limit) <= MAX_PAGE:
        raise bad_request(f"limit must be between 1 and {MAX_PAGE}, got {limit}")
    if not after.isdecimal():
        raise bad_request(f"after is not a cursor of this list: {after}")
    names = exchange.names()
    rows, following = exchange.records.page(int(after), int(limit), archived=exchange.flag("archived"))
    content: dict[str, Any] = {"results": [exchange.records.show(record, names) for record in rows]}
    if following is not None:
        link = urlencode({**query, "after": following})
        content["paging"] = {"next": {"after": str(following), "link": f"{exchange.call.root}{exchange.path}?{link}"}}
    return Answer(content=content)


def read(exchange: Exchange, id: str) -> Answer:
    """One record by id or by a unique property."""
    exchange.may_read()
    exchange.only("properties", "propertiesWithHistory", "associations", "archived", "idProperty")
    names = exchange.names()
    record = exchange.records.find(id_property(exchange), id, archived=exchange.flag("archived"))
    if record is None:
        raise not_found(id)
    return Answer(content=exchange.records.show(record, names))


def create(exchange: Exchange) -> Answer:
    """A new record: 201, or 409 when its e-mail or another unique value is taken."""
    exchange.may_write()
    exchange.only()
    body = exchange.body("properties", "associations", "objectWriteTraceId")
    if body.get("associations"):
        raise not_built("associations on create")
    records, given = exchange.records, properties_of(body)
    fields = {name: value for name, value in records.changes(given, None).items() if value is not None}
    record = records.create(fields)
    exchange.effect(record.id, "create")
    content = records.show(record, (*fields, *records.kind.default))
    records.echo(record)
    return Answer(content=content, status=201)


def update(exchange: Exchange, id: str) -> Answer:
    """Some properties of a record; `""` clears one."""
    exchange.may_write()
    exchange.only("idProperty")
    given = properties_of(exchange.body("properties", "objectWriteTraceId"))
    record = existing(exchange, id, id_property(exchange))
    write(exchange, record, given)
    return Answer(content=exchange.records.show(record, (*given, *exchange.records.kind.default)))


def write(exchange: Exchange, record: Record, given: dict[str, Any]) -> None:
    """Applies an update and reports it."""
    records = exchange.records
    changed = records.update(record, records.changes(given, record))
    exchange.effect(record.id, "update" if changed else "noop")
    if changed:
        records.echo(record)


def archive(exchange: Exchange, id: str) -> Answer:
    """Archives a record: 204, also when it already is."""
    exchange.may_write()
    exchange.only()
    record = exchange.records.by_id(id)
    if record is None:
        if exchange.records.by_id(id, archived=True) is None:
            raise not_found(id)
        exchange.effect(id, "noop")
    else:
        exchange.records.archive(record)
        exchange.effect(record.id, "delete")
    return Answer(content=None, status=204)


def merge(exchange: Exchange) -> Answer:
    """Merges one record into another."""
    exchange.may_write()
    exchange.only()
    wanted = ("primaryObjectId", "objectIdToMerge")
    body = exchange.body(*wanted, required=wanted)
    winner, loser = (existing(exchange, str(body[name]), None) for name in wanted)
    if winner.id == loser.id:
        raise bad_request("Cannot merge a record with itself")
    merged = exchange.records.merge(winner, loser)
    if merged.id != winner.id:
        exchange.effect(winner.id, "delete")
    exchange.effect(loser.id, "delete")
    exchange.effect(merged.id, "update" if merged.id == winner.id else "create")
    exchange.records.echo(merged)
    return Answer(content=exchange.records.show(merged))


def gdpr_delete(exchange: Exchange) -> Answer:
    """Removes a contact for good."""
    exchange.may_write()
    exchange.only()
    body = exchange.body("objectId", "idProperty", required=("objectId",))
    record = existing(exchange, str(body["objectId"]), body.get("idProperty"))
    exchange.records.erase(record)
    exchange.effect(record.id, "delete")
    return Answer(content=None, status=204)


def search(exchange: Exchange) -> Answer:
    """A search: filters see the index, values are live, archived rows count in `total` but are not returned."""
    exchange.may_read()
    exchange.only()
    simulator, records = exchange.simulator, exchange.records
    habits = simulator.habit["search_filter_groups"], simulator.habit["search_total_cap"]
    longest = simulator.habit["search_body_limit"]
    size = len(exchange.call.body.decode("utf-8", "replace"))
    if longest.on and size > longest.value:
        raise bad_request(f"The search body has {size} characters, at most {longest.value} are taken")
    wanted = parse(
        exchange.body(),
        records.properties,
        max_groups=habits[0].value if habits[0].on else 6,
        cap=habits[1].value if habits[1].on else 1 << 60,
    )
    fault = exchange.call.fault("stale_index")
    back = 0 if fault is None else int(fault.seconds * 1000)
    total, ids = records.index.find(wanted, simulator.world.now_ms(), back)
    live = (records.store.get(str(id)) for id in ids)
    results = [records.show(r, wanted.properties) for r in live if r is not None and not r.deleted]
    content: dict[str, Any] = {"total": total, "results": results}
    if wanted.after + wanted.limit < total:
        link = f"{exchange.call.root}{exchange.call.path}?after={wanted.after + wanted.limit}"
        content["paging"] = {"next": {"after": str(wanted.after + wanted.limit), "link": link}}
    return Answer(content=content)


def id_property(exchange: Exchange) -> str | None:
    """The `idProperty` parameter. Raises RefusedError unless its values are unique."""
    name = exchange.call.query.get("idProperty")
    if name is not None:
        require_unique(exchange, name)
    return name


def require_unique(exchange: Exchange, name: str) -> None:
    """Raises RefusedError unless no two records may share a value of the property."""
    if name not in exchange.records.properties.unique:
        raise bad_request(f"{name} is not a unique property of {exchange.records.kind.name}")


def existing(exchange: Exchange, id: str, by: str | None) -> Record:
    """The live record. Raises RefusedError (400, 404)."""
    if by is not None:
        require_unique(exchange, by)
    record = exchange.records.find(by, id)
    if record is None:
        raise RefusedError(
            404,
            "Object not found. objectId are usually numeric.",
            category="OBJECT_NOT_FOUND",
            context={"id": [id]},
            violation=False,
        )
    return record
