"""The resources below /sobjects: describe, single records, the deleted and updated feeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sync_platform.sandbox.kit_store import Record
from sync_platform.sandbox.salesforce import ids
from sync_platform.sandbox.salesforce.ask import Answer, Ask, not_allowed
from sync_platform.sandbox.salesforce.metadata import FieldDef, ObjectDef
from sync_platform.sandbox.salesforce.objects import OBJECTS, find_object
from sync_platform.sandbox.salesforce.query import Renderer
from sync_platform.sandbox.salesforce.records import Done, check_types
from sync_platform.sandbox.salesforce.refusals import SalesforceError, UnbuiltError, not_found
from sync_platform.sandbox.salesforce.rows import rest_datetime
from sync_platform.sandbox.salesforce.soql_dates import parse_datetime
from sync_platform.sandbox.salesforce.soql_run import Output

if TYPE_CHECKING:
    from sync_platform.sandbox.salesforce.simulator import SalesforceSimulator

_DAY_MS: Final = 86_400_000
_MINUTE_MS: Final = 60_000
_CONDITIONS: Final = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")


def answer(org: SalesforceSimulator, ask: Ask) -> Answer:
    """A request below sobjects."""
    if len(ask.parts) == 1:
        if ask.method != "GET":
            raise not_allowed(ask)
        listed = [target.summary(ask.base) for target in OBJECTS.values()]
        return Answer(200, {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": listed})
    target = find_object(ask.parts[1])
    if target is None:
        raise not_found(violation=True)
    for condition in _CONDITIONS:
        if condition in ask.call.headers:
            raise UnbuiltError(f"conditional requests ({condition}) are not built")
    if len(ask.parts) == 2:
        return _object(org, ask, target)
    name = ask.parts[2]
    if len(ask.parts) == 3 and name == "describe":
        if ask.method != "GET":
            raise not_allowed(ask)
        return Answer(200, target.describe(ask.base, org.hidden()[target.name]))
    if len(ask.parts) == 3 and name in ("deleted", "updated"):
        return _feed(org, ask, target, name)
    if name in ("describe", "listviews", "quickActions", "namedLayouts", "approvalLayouts", "compactLayouts"):
        raise UnbuiltError(f"sobjects/{target.name}/{'/'.join(ask.parts[2:])} is not built")
    if len(ask.parts) == 3:
        return _single(org, ask, target, name)
    return _keyed(org, ask, target, name, "/".join(ask.parts[3:]))


def _object(org: SalesforceSimulator, ask: Ask, target: ObjectDef) -> Answer:
    if ask.method == "GET":
        return Answer(200, {"objectDescribe": target.summary(ask.base), "recentItems": []})
    if ask.method != "POST":
        raise not_allowed(ask)
    prepared = org.writer.prepare(target, ask.document())
    check_types(prepared)
    allow = "allowsave=true" in ask.call.headers.get("sforce-duplicate-rule-header", "").lower().replace(" ", "")
    done = _logged(ask, target, None, "create", lambda: org.writer.create(target, prepared, allow_duplicates=allow))
    return Answer(201, {"id": done.id, "success": True, "errors": []})


def _logged(ask: Ask, target: ObjectDef, id: str | None, op: str, step: Any) -> Done:
    """Runs a write and reports it to the log, refused or not."""
    try:
        done: Done = step()
    except SalesforceError:
        ask.call.effect(target.name, id, op, applied=False)
        raise
    ask.call.effect(target.name, done.id, done.op)
    return done


def _single(org: SalesforceSimulator, ask: Ask, target: ObjectDef, id: str) -> Answer:
    known = ids.to18(id)
    if known is None or not known.startswith(target.prefix):
        raise not_found(f"Provided external ID field does not exist or is not accessible: {id}", violation=True)
    if ask.method == "GET":
        record = org.stores[target.name].get(known)
        if record is None or record.deleted:
            raise not_found()
        return Answer(200, _shown(org, ask, target, record))
    if ask.method == "PATCH":
        prepared = org.writer.prepare(target, ask.document())
        check_types(prepared)
        if "Id" in prepared:
            message = "The Id field should not be specified in the sobject data."
            raise SalesforceError(400, "INVALID_FIELD", message, fields=["Id"], violation=True)
        _logged(ask, target, known, "update", lambda: org.writer.update(target, known, prepared))
        return Answer(204)
    if ask.method == "DELETE":
        _logged(ask, target, known, "delete", lambda: org.writer.delete(target, known))
        return Answer(204)
    raise not_allowed(ask)


def outputs_of(org: SalesforceSimulator, target: ObjectDef, names: list[str] | None) -> list[Output]:
    """The named fields (None: all) as outputs. Raises INVALID_FIELD."""
    hidden = org.hidden()[target.name]
    fields: list[FieldDef] = [f for f in target.fields.values() if f.name not in hidden]
    if names is not None:
        fields = []
        for name in names:
            field = target.field(name.strip())
            if field is None or field.name in hidden:
                message = f"No such column '{name}' on sobject of type {target.name}"
                raise SalesforceError(400, "INVALID_FIELD", message, violation=True)
            if field not in fields:
                fields.append(field)
    return [Output((f.name,), org.reader.getter(target, f), f) for f in fields]


def _shown(org: SalesforceSimulator, ask: Ask, target: ObjectDef, record: Record) -> dict[str, Any]:
    names = ask.query["fields"].split(",") if ask.query.get("fields") else None
    shown = Renderer(target, outputs_of(org, target, names), ask.base)(record)
    return shown if names is None else {**shown, "Id": record.id}


def key_field(target: ObjectDef, name: str) -> FieldDef:
    """A field that can name a record. Raises NOT_FOUND."""
    field = target.field(name)
    if field is None or not (field.id_lookup or field.external_id):
        raise not_found(f"Provided external ID field does not exist or is not accessible: {name}", violation=True)
    return field


def _keyed(org: SalesforceSimulator, ask: Ask, target: ObjectDef, name: str, value: str) -> Answer:
    """A record named by an external id."""
    field = key_field(target, name)
    found = org.writer.by_key(target, field, value)
    if len(found) > 1 and ask.method in ("GET", "PATCH", "DELETE"):
        ask.call.effect(target.name, None, "update", applied=False) if ask.method == "PATCH" else None
        return Answer(300, [f"{ask.base}/sobjects/{target.name}/{record.id}" for record in found])
    if ask.method == "PATCH":
        return _upsert(org, ask, target, field, value, found)
    if not found:
        raise not_found()
    if ask.method == "GET":
        return Answer(200, _shown(org, ask, target, found[0]))
    if ask.method == "DELETE":
        _logged(ask, target, found[0].id, "delete", lambda: org.writer.delete(target, found[0].id))
        return Answer(204)
    raise not_allowed(ask)


def _upsert(
    org: SalesforceSimulator, ask: Ask, target: ObjectDef, field: FieldDef, value: str, found: list[Record]
) -> Answer:
    if "updateOnly" in ask.query:
        raise UnbuiltError("upsert with updateOnly is not built")
    prepared = org.writer.prepare(target, ask.document())
    check_types(prepared)
    if field.name in prepared:
        message = f"The {field.name} field should not be specified in the sobject data."
        raise SalesforceError(400, "INVALID_FIELD", message, fields=[field.name], violation=True)
    id = found[0].id if found else None
    op = "update" if found else "create"
    done = _logged(ask, target, id, op, lambda: org.writer.upsert(target, field, value, prepared))
    created = done.op == "create"
    if ask.version < 46 and not created:
        return Answer(204)
    return Answer(201 if created else 200, {"id": done.id, "success": True, "errors": [], "created": created})


# ---- feeds


def _feed(org: SalesforceSimulator, ask: Ask, target: ObjectDef, kind: str) -> Answer:
    """GET deleted and updated: minutes only, and only so many days back."""
    if ask.method != "GET":
        raise not_allowed(ask)
    now = org.world.now_ms()
    start, end = (_minute(ask, name) for name in ("start", "end"))
    habit = f"{kind}_feed_days"
    if end <= start:
        raise _replication("endDate must be at least one minute greater than startDate")
    if start > now:
        raise _replication("startDate cannot be in the future")
    if org.on(habit) and start < now - int(org.value(habit)) * _DAY_MS:
        raise _replication(f"startDate cannot be more than {org.value(habit)} days ago")
    covered = min(end, now)
    store = org.stores[target.name]
    if kind == "updated":
        found = [r.id for r in store if not r.deleted and start <= r.updated_at < end]
        return Answer(200, {"ids": found, "latestDateCovered": rest_datetime(covered)})
    gone = [r for r in store if r.deleted and start <= r.updated_at < end and org.in_bin(r)]
    listed = [{"id": r.id, "deletedDate": rest_datetime(r.updated_at)} for r in gone]
    earliest = now - int(org.value("deleted_feed_days")) * _DAY_MS
    return Answer(
        200,
        {
            "deletedRecords": listed,
            "earliestDateAvailable": rest_datetime(earliest),
            "latestDateCovered": rest_datetime(covered),
        },
    )


def _replication(message: str) -> SalesforceError:
    return SalesforceError(400, "INVALID_REPLICATION_DATE", message, violation=True)


def _minute(ask: Ask, name: str) -> int:
    text = ask.query.get(name, "")
    try:
        return parse_datetime(text) // _MINUTE_MS * _MINUTE_MS
    except (ValueError, IndexError):
        message = f"Value for the query parameter {name} is not a dateTime: {text!r}"
        raise SalesforceError(400, "INVALID_QUERY_PARAMETER", message, violation=True) from None
