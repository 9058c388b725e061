"""sObject Collections (200 records a call) and Composite (25 requests a call).

REST API Developer Guide, "Use Composite Resources".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from sync_platform.sandbox.salesforce import ids
from sync_platform.sandbox.salesforce.ask import Answer, Ask, not_allowed
from sync_platform.sandbox.salesforce.metadata import ObjectDef
from sync_platform.sandbox.salesforce.objects import PREFIXES, find_object
from sync_platform.sandbox.salesforce.query import Renderer
from sync_platform.sandbox.salesforce.records import Done, check_types, fold, row_locked
from sync_platform.sandbox.salesforce.refusals import SalesforceError, UnbuiltError, bad_input, not_found, unknown_type
from sync_platform.sandbox.salesforce.sobjects import key_field, outputs_of

if TYPE_CHECKING:
    from sync_platform.sandbox.salesforce.simulator import SalesforceSimulator

MAX_GET: Final = 2000
MAX_REQUESTS: Final = 25
_REFERENCE: Final = re.compile(r"@\{(\w+)((?:\.\w+|\[\d+\])*)\}")


class Item:
    """One record of a collection call: what to do, and how the log names it."""

    __slots__ = ("id", "op", "step", "stream")

    def __init__(self, stream: str, id: str | None, op: str, step: Callable[[], Done]) -> None:
        self.stream = stream
        self.id = id
        self.op = op
        self.step = step


def answer(org: SalesforceSimulator, ask: Ask) -> Answer:
    """A request below composite."""
    if len(ask.parts) == 1:
        if ask.method != "POST":
            raise not_allowed(ask)
        return _composite(org, ask)
    if ask.parts[1] != "sobjects":
        raise UnbuiltError(f"composite/{ask.parts[1]} is not built")
    if ask.version < 42:
        raise not_found(violation=True)
    if len(ask.parts) == 2:
        return _collection(org, ask)
    target = find_object(ask.parts[2])
    if target is None:
        raise not_found(violation=True)
    if len(ask.parts) == 3:
        return _retrieve(org, ask, target)
    if len(ask.parts) == 4 and ask.method == "PATCH" and ask.version >= 46:
        return _upsert(org, ask, target, ask.parts[3])
    raise not_found(violation=True)


# ---- collections


def _collection(org: SalesforceSimulator, ask: Ask) -> Answer:
    if ask.method == "DELETE":
        wanted = [id for id in ask.query.get("ids", "").split(",") if id]
        _limit(org, wanted)
        items = [_delete_item(org, id) for id in wanted]
        return Answer(200, run_items(org, ask, items, all_or_none=ask.flag("allOrNone")))
    if ask.method not in ("POST", "PATCH"):
        raise not_allowed(ask)
    document = ask.document()
    records = _records(org, document)
    items = []
    for record in records:
        target = _type_of(record)
        prepared = org.writer.prepare(target, record)
        check_types(prepared)
        if ask.method == "POST":
            items.append(Item(target.name, None, "create", _bind(org.writer.create, target, prepared)))
            continue
        id = record.get("id", record.get("Id"))
        if not isinstance(id, str):
            message = "Id not specified in an update call"
            items.append(Item(target.name, None, "update", _raise("MISSING_ARGUMENT", message)))
            continue
        rest = {name: sent for name, sent in prepared.items() if name != "Id"}
        items.append(Item(target.name, ids.to18(id), "update", _bind(org.writer.update, target, id, rest)))
    return Answer(200, run_items(org, ask, items, all_or_none=document.get("allOrNone", False)))


def _upsert(org: SalesforceSimulator, ask: Ask, target: ObjectDef, name: str) -> Answer:
    field = key_field(target, name)
    document = ask.document()
    records = _records(org, document)
    keys = []
    for record in records:
        if _type_of(record) is not target:
            raise bad_input(f"all records must be of type {target.name}")
        key = next((value for n, value in record.items() if n.lower() == field.name.lower()), None)
        keys.append(key if key is None else str(key).strip())
    folded = [fold(key) for key in keys]
    items = []
    for record, key, low in zip(records, keys, folded, strict=True):
        prepared = org.writer.prepare(target, record)
        check_types(prepared)
        if field.name == "Id":
            prepared = {n: sent for n, sent in prepared.items() if n != "Id"}
        known = org.writer.by_key(target, field, key) if key else []
        id, op = (known[0].id, "update") if known else (None, "create")
        if key and folded.count(low) > 1:
            step = _raise("DUPLICATE_VALUE", f"Duplicate external id specified: {key}", [field.name])
        else:
            step = _bind(org.writer.upsert, target, field, key, prepared)
        items.append(Item(target.name, id, op, step))
    results = run_items(org, ask, items, all_or_none=document.get("allOrNone", False), upsert=True)
    return Answer(200, results)


def run_items(
    org: SalesforceSimulator, ask: Ask, items: Sequence[Item], *, all_or_none: bool, upsert: bool = False
) -> list[dict[str, Any]]:
    """The results in order; each item alone, or all or none."""
    partial = len(items) > 1 and ask.call.fault("partial") is not None
    outcomes: list[Done | SalesforceError] = []

    def run() -> bool:
        for place, item in enumerate(items):
            try:
                if partial and place % 2:
                    raise row_locked()
                outcomes.append(item.step())
            except SalesforceError as error:
                if error.violation:
                    ask.call.violation(f"{error.code}: {error.message}")
                outcomes.append(error)
        return any(isinstance(outcome, SalesforceError) for outcome in outcomes)

    if all_or_none:
        try:
            with org.world.atomic(org):
                if run():
                    raise _RolledBackError
        except _RolledBackError:
            message = "Record rolled back because not all records were valid and the request was using AllOrNone header"
            undone = SalesforceError(400, "ALL_OR_NONE_OPERATION_ROLLED_BACK", message, fields=[])
            outcomes = [o if isinstance(o, SalesforceError) else undone for o in outcomes]
    else:
        run()
    results: list[dict[str, Any]] = []
    for item, outcome in zip(items, outcomes, strict=True):
        if isinstance(outcome, SalesforceError):
            ask.call.effect(item.stream, item.id, item.op, applied=False)
            results.append({"success": False, "errors": [outcome.to_item()]})
        else:
            ask.call.effect(item.stream, outcome.id, outcome.op)
            result: dict[str, Any] = {"id": outcome.id, "success": True, "errors": []}
            results.append({**result, "created": outcome.op == "create"} if upsert else result)
    return results


class _RolledBackError(Exception):
    """Leaves the transaction of an all-or-none call."""


def _bind(step: Callable[..., Done], *arguments: Any) -> Callable[[], Done]:
    return lambda: step(*arguments)


def _raise(code: str, message: str, fields: Sequence[str] = ()) -> Callable[[], Done]:
    def step() -> Done:
        raise SalesforceError(400, code, message, fields=fields)

    return step


def _records(org: SalesforceSimulator, document: dict[str, Any]) -> list[dict[str, Any]]:
    unknown = set(document) - {"allOrNone", "records"}
    if unknown:
        raise bad_input(f"Unrecognized field {sorted(unknown)[0]!r}")
    if not isinstance(document.get("allOrNone", False), bool):
        raise bad_input("allOrNone must be true or false")
    records = document.get("records")
    if not isinstance(records, list) or not records or not all(isinstance(r, dict) for r in records):
        raise bad_input("records must be a list of records")
    _limit(org, records)
    return records


def _limit(org: SalesforceSimulator, items: Sequence[object]) -> None:
    most = org.value("collection_size")
    if not items:
        raise bad_input("no records were given")
    if org.on("collection_size") and len(items) > most:
        raise bad_input(f"Request size over limit: {len(items)} records, at most {most} are allowed")


def _type_of(record: dict[str, Any]) -> ObjectDef:
    """The type named by `attributes`, which comes first."""
    attributes = record.get("attributes")
    if next(iter(record), None) != "attributes" or not isinstance(attributes, dict) or "type" not in attributes:
        raise bad_input("every record must begin with attributes that name its type")
    target = find_object(str(attributes["type"]))
    if target is None:
        raise unknown_type(str(attributes["type"]))
    return target


def _delete_item(org: SalesforceSimulator, id: str) -> Item:
    known = ids.to18(id)
    target = PREFIXES.get(known[:3]) if known else None
    if target is None:
        return Item("", None, "delete", _raise("MALFORMED_ID", f"malformed id {id}"))
    return Item(target.name, known, "delete", _bind(org.writer.delete, target, id))


def _retrieve(org: SalesforceSimulator, ask: Ask, target: ObjectDef) -> Answer:
    """Records by id, null where there is none; GET by parameters or POST by body."""
    if ask.method == "GET":
        wanted, names = (ask.query.get(name, "").split(",") for name in ("ids", "fields"))
    elif ask.method == "POST":
        document = ask.document()
        wanted, names = document.get("ids", []), document.get("fields", [])
    else:
        raise not_allowed(ask)
    if not wanted or not names or not all(isinstance(text, str) and text for text in (*wanted, *names)):
        raise bad_input("ids and fields must be given")
    if len(wanted) > MAX_GET:
        raise bad_input(f"Request size over limit: {len(wanted)} ids, at most {MAX_GET} are allowed")
    render = Renderer(target, outputs_of(org, target, names), ask.base)
    found: list[dict[str, Any] | None] = []
    for id in wanted:
        known = ids.to18(id)
        if known is None:
            raise SalesforceError(400, "MALFORMED_ID", f"malformed id {id}", violation=True)
        record = org.stores[target.name].get(known)
        shown = None if record is None or record.deleted else {**render(record), "Id": known}
        found.append(shown)
    return Answer(200, found)


# ---- composite


def _composite(org: SalesforceSimulator, ask: Ask) -> Answer:
    document = ask.document()
    requests = document.get("compositeRequest")
    if not isinstance(requests, list) or not requests:
        raise bad_input("compositeRequest must be a list of requests")
    if len(requests) > MAX_REQUESTS:
        raise bad_input(f"The limit of {MAX_REQUESTS} composite subrequests is exceeded: {len(requests)}")
    responses: list[dict[str, Any]] = []
    bodies: dict[str, Any] = {}
    before = len(ask.call.entry.records)

    def run() -> bool:
        failed = False
        for request in requests:
            response = _subrequest(org, ask, request, bodies)
            bodies[response["referenceId"]] = response["body"]
            responses.append(response)
            failed = failed or response["httpStatusCode"] >= 300
        return failed

    if not document.get("allOrNone", False):
        run()
        return Answer(200, {"compositeResponse": responses})
    try:
        with org.world.atomic(org):
            if run():
                raise _RolledBackError
    except _RolledBackError:
        halted = "The transaction was rolled back since another operation in the same transaction failed."
        for response in responses:
            if response["httpStatusCode"] < 300:
                response["httpStatusCode"] = 400
                response["body"] = [{"errorCode": "PROCESSING_HALTED", "message": halted}]
        effects = ask.call.entry.records
        effects[before:] = [effect._replace(applied=False) for effect in effects[before:]]
    return Answer(200, {"compositeResponse": responses})


def _subrequest(org: SalesforceSimulator, ask: Ask, request: Any, bodies: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(request, dict) or not all(
        isinstance(request.get(k), str) for k in ("method", "url", "referenceId")
    ):
        raise bad_input("a subrequest needs method, url and referenceId")
    try:
        url = urlsplit(_filled(request["url"], bodies))
        _, _, rest = url.path.partition("/services/data/v")
        parts = tuple(unquote(part) for part in rest.split("/")[1:] if part)
        inner = replace(
            ask,
            method=request["method"].upper(),
            parts=parts,
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            payload=_filled(request.get("body"), bodies),
        )
        if parts[:1] == ("composite",) and len(parts) == 1:
            raise bad_input("a composite request cannot hold another")
        done = org.dispatch(inner)
        status, body = done.status, done.body
    except SalesforceError as error:
        if error.violation:
            ask.call.violation(f"{error.code}: {error.message.strip().splitlines()[-1]}")
        status, body = error.status, error.to_rest()
    return {"body": body, "httpHeaders": {}, "httpStatusCode": status, "referenceId": request["referenceId"]}


def _filled(value: Any, bodies: dict[str, Any]) -> Any:
    """The value with @{reference.path} put in."""
    if isinstance(value, dict):
        return {name: _filled(inner, bodies) for name, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, bodies) for inner in value]
    if not isinstance(value, str):
        return value

    def put(match: re.Match[str]) -> str:
        found: Any = bodies.get(match.group(1))
        for step in re.findall(r"\.(\w+)|\[(\d+)\]", match.group(2)):
            name, place = step
            try:
                found = found[name] if name else found[int(place)]
            except (KeyError, IndexError, TypeError):
                found = None
        if found is None:
            message = f"Invalid reference specified. No value for {match.group()} found"
            raise SalesforceError(400, "PROCESSING_HALTED", message)
        return str(found)

    return _REFERENCE.sub(put, value)
