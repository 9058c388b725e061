"""Batches of up to 100 inputs: read, create, update, upsert, archive.

https://developers.hubspot.com/docs/api-reference/latest/crm/objects/contacts/guide; partial failures follow
https://developers.hubspot.com/docs/api-reference/latest/error-handling: only inputs that all carry a trace id of their
own fail one by one, otherwise one bad input refuses the batch. Records that do not exist are always reported apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sync_platform.sandbox.hubspot.exchange import Answer, Exchange, fields_of, properties_of
from sync_platform.sandbox.hubspot.objects_api import require_unique
from sync_platform.sandbox.hubspot.records import folded
from sync_platform.sandbox.hubspot.refusals import RefusedError, bad_request, not_built
from sync_platform.sandbox.kit import Record, iso

MAX_INPUTS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input of a batch."""

    trace: str | None
    id: str | None
    id_property: str | None
    given: dict[str, Any]

    def context(self) -> dict[str, list[str]]:
        """What an error says about where it comes from."""
        context = {} if self.trace is None else {"objectWriteTraceId": [self.trace]}
        return context if self.id is None else {**context, "ids": [self.id]}


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a batch has done so far."""

    results: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    missing: list[Input] = field(default_factory=list)
    written: list[Record] = field(default_factory=list)


def answer(exchange: Exchange) -> Answer:
    """The answer of /{objectType}/batch/{operation}. Raises RefusedError."""
    if exchange.call.method != "POST":
        raise not_built(f"{exchange.call.method} {exchange.call.path}")
    match exchange.rest:
        case ("batch", "read"):
            return read(exchange)
        case ("batch", "create" | "update" | "upsert" as operation):
            return write(exchange, operation)
        case ("batch", "archive"):
            return archive(exchange)
    raise not_built(f"{exchange.call.method} {exchange.call.path}")


def read(exchange: Exchange) -> Answer:
    """Records by id or by a unique property; those not there are one entry of `errors`."""
    exchange.may_read()
    exchange.only("archived")
    started = exchange.simulator.world.now_ms()
    body = exchange.body("inputs", "properties", "propertiesWithHistory", "idProperty")
    if body.get("propertiesWithHistory"):
        raise not_built("propertiesWithHistory")
    by = body.get("idProperty")
    if by is not None:
        require_unique(exchange, by)
    archived = exchange.flag("archived")
    outcome = Outcome()
    found: dict[str, Record] = {}
    for item in inputs(body, "read"):
        record = exchange.records.find(by, str(item.id), archived=archived, habit="merged_id_answers_batches")
        if record is None:
            outcome.missing.append(item)
        else:
            found[record.id] = record
    names = body.get("properties") or None
    outcome.results = [exchange.records.show(record, names) for record in found.values()]
    return reply(exchange, outcome, started, 200)


def write(exchange: Exchange, operation: str) -> Answer:
    """Creates, updates or upserts. Without trace ids all or nothing; with them one by one."""
    exchange.may_write()
    exchange.only()
    started = exchange.simulator.world.now_ms()
    items = inputs(exchange.body("inputs"), operation)
    _check_keys(exchange, items, operation)
    refused = _partial(exchange, items)
    outcome = Outcome()
    one_by_one = all(item.trace is not None for item in items) and not (
        exchange.simulator.on("email_upsert_all_or_nothing") and any(item.id_property == "email" for item in items)
    )
    if one_by_one:
        for at, item in enumerate(items):
            _attempt(exchange, operation, item, outcome, refused=at in refused)
    else:
        _together(exchange, operation, items, outcome, refused)
    for record in outcome.written:
        exchange.records.echo(record)
    return reply(exchange, outcome, started, 201 if operation == "create" else 200)


def archive(exchange: Exchange) -> Answer:
    """Archives records; ids that are not there are passed over."""
    exchange.may_write()
    exchange.only()
    for item in inputs(exchange.body("inputs"), "archive"):
        record = exchange.records.by_id(str(item.id))
        if record is not None:
            exchange.records.archive(record)
        exchange.effect(item.id, "delete" if record is not None else "noop")
    return Answer(content=None, status=204)


def inputs(body: dict[str, Any], operation: str) -> list[Input]:
    """The inputs of a batch. Raises RefusedError: none, too many, unknown or missing keys, a trace id used twice."""
    given = body.get("inputs")
    if not isinstance(given, list) or not given:
        raise bad_request("Some required fields were not set: [inputs]")
    if len(given) > MAX_INPUTS:
        raise bad_request(f"The maximum number of inputs in a batch is {MAX_INPUTS}, got {len(given)}")
    known: tuple[str, ...] = ("id",)
    if operation in ("create", "update", "upsert"):
        known = (
            "properties",
            "objectWriteTraceId",
            *(("associations",) if operation == "create" else ("id", "idProperty")),
        )
    items = []
    for item in given:
        fields = fields_of(item, known, () if operation == "create" else ("id",))
        if fields.get("associations"):
            raise not_built("associations on create")
        id, trace, by = fields.get("id"), fields.get("objectWriteTraceId"), fields.get("idProperty")
        properties = properties_of(fields) if "properties" in known else {}
        items.append(
            Input(
                id=None if id is None else str(id),
                trace=None if trace is None else str(trace),
                id_property=None if by is None else str(by),
                given=properties,
            )
        )
    traces = [item.trace for item in items if item.trace is not None]
    if len(set(traces)) < len(traces):
        raise bad_request("objectWriteTraceId must be unique within a batch")
    return items


def reply(exchange: Exchange, outcome: Outcome, started: int, status: int) -> Answer:
    """The batch answer; 207 when something failed, 200 in the versions whose schema has no 207."""
    simulator = exchange.simulator
    errors = outcome.errors
    if outcome.missing:
        errors = [*errors, *_missing(exchange, outcome.missing)]
    if simulator.on("shuffled_batch_results"):
        simulator.rng.shuffle(outcome.results)
    content: dict[str, Any] = {
        "status": "COMPLETE",
        "results": outcome.results,
        "startedAt": iso(started),
        "completedAt": iso(simulator.world.now_ms()),
    }
    if errors:
        content |= {"numErrors": len(errors), "errors": errors}
        status = status if exchange.version == "2026-09" else 207
    return Answer(content=content, status=status)


def _check_keys(exchange: Exchange, items: Sequence[Input], operation: str) -> None:
    """Refuses keys that are not unique: the property, or two inputs with one value."""
    seen: set[tuple[str | None, str]] = set()
    doubled: dict[str, None] = {}
    for item in items:
        by = item.id_property
        strict = operation == "update" and exchange.simulator.on("batch_update_wants_ids") and by == "email"
        if by is not None and (strict or by not in exchange.records.properties.unique):
            raise bad_request(
                f"Unable to perform update/upsert by non-unique {exchange.records.kind.type_id} property {by}"
            )
        if item.id is not None:
            key = (by, folded(by or "", item.id))
            if key in seen:
                doubled[item.id] = None
            seen.add(key)
    if doubled:
        raise bad_request(f"Duplicate IDs found in batch input: [{', '.join(doubled)}]. IDs must be unique")


def _partial(exchange: Exchange, items: Sequence[Input]) -> frozenset[int]:
    """Which inputs the fault "partial" refuses: half of them, at least one."""
    if exchange.call.fault("partial") is None:
        return frozenset()
    return frozenset(exchange.simulator.rng.sample(range(len(items)), max(1, len(items) // 2)))


def _attempt(exchange: Exchange, operation: str, item: Input, outcome: Outcome, *, refused: bool) -> None:
    """Writes one input; a refusal becomes an entry of `errors`. `refused`: it is, whatever it holds."""
    try:
        if refused:
            raise RefusedError(429, "You have reached your secondly limit.", category="RATE_LIMITS", violation=False)
        _apply(exchange, operation, item, outcome)
    except RefusedError as refusal:
        outcome.errors.append(refusal.item(**item.context()))
        record = None if item.id is None else exchange.records.find(item.id_property, item.id)
        exchange.effect(record.id if record else None, "update" if record else "create", applied=False)
        if refusal.violation:
            exchange.call.violation(refusal.message)


def _together(
    exchange: Exchange, operation: str, items: Sequence[Input], outcome: Outcome, refused: frozenset[int]
) -> None:
    """Writes all inputs or none. Raises the first RefusedError."""
    effects = exchange.call.entry.records
    before = len(effects)
    try:
        with exchange.simulator.world.atomic(exchange.simulator):
            for item in items:
                record = None if item.id is None else exchange.records.find(item.id_property, item.id)
                exchange.records.changes(item.given, record)
            for at, item in enumerate(items):
                if at in refused:
                    _attempt(exchange, operation, item, outcome, refused=True)
                else:
                    _apply(exchange, operation, item, outcome)
    except RefusedError:
        del effects[before:]
        raise


def _apply(exchange: Exchange, operation: str, item: Input, outcome: Outcome) -> None:
    """Writes one input. Raises RefusedError."""
    records = exchange.records
    record = None if item.id is None else records.find(item.id_property, item.id)
    if record is None and (operation == "update" or (operation == "upsert" and item.id_property is None)):
        outcome.missing.append(item)
        exchange.effect(None, "update", applied=False)
        return
    new = record is None
    given = item.given
    if record is None:
        if item.id_property is not None:
            given = {item.id_property: item.id, **given}
        fields = {name: value for name, value in records.changes(given, None).items() if value is not None}
        record = records.create(fields)
        exchange.effect(record.id, "create")
        outcome.written.append(record)
    else:
        changed = records.update(record, records.changes(given, record))
        exchange.effect(record.id, "update" if changed else "noop")
        if changed:
            outcome.written.append(record)
    result = records.show(record, (*given, *records.kind.default))
    if operation == "upsert":
        result["new"] = new
    if item.trace is not None and not exchange.simulator.on("results_without_trace_ids"):
        result["objectWriteTraceId"] = item.trace
    outcome.results.append(result)


def _missing(exchange: Exchange, missing: Sequence[Input]) -> list[dict[str, Any]]:
    """One error for all records that are not there; one each where inputs carry trace ids."""
    message = f"Could not get some {exchange.records.kind.label.upper()} objects, they may be deleted or not exist."
    refusal = RefusedError(404, message, category="OBJECT_NOT_FOUND")
    if all(item.trace is not None for item in missing):
        return [refusal.item(**item.context()) for item in missing]
    return [refusal.item(ids=[str(item.id) for item in missing])]
