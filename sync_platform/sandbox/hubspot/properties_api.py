"""The properties API: what an object type can hold, and an account's own properties.

https://developers.hubspot.com/docs/api-reference/latest/crm/properties/guide
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from sync_platform.sandbox.hubspot.exchange import Answer, Exchange, fields_of
from sync_platform.sandbox.hubspot.properties import FIELD_TYPES, MAX_UNIQUE, TYPES, Option, Property
from sync_platform.sandbox.hubspot.refusals import RefusedError, bad_json, bad_request, not_built
from sync_platform.sandbox.kit import iso

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
DEFINITION: Final = (
    "name", "label", "type", "fieldType", "groupName", "description", "options", "displayOrder", "hasUniqueValue",
    "hidden", "formField", "referencedObjectType", "calculationFormula", "externalOptions", "dataSensitivity",
)  # fmt: skip
EDITABLE: Final = (
    "label",
    "type",
    "fieldType",
    "groupName",
    "description",
    "options",
    "displayOrder",
    "hidden",
    "formField",
)


def answer(exchange: Exchange) -> Answer:
    """The answer of /crm/…/properties/{objectType}…. Raises RefusedError."""
    kind, method = exchange.records.kind, exchange.call.method
    scopes = (kind.read_scope, kind.write_scope, f"crm.schemas.{kind.name}.read", f"crm.schemas.{kind.name}.write")
    exchange.token.require(*(scopes if method == "GET" or exchange.rest == ("batch", "read") else scopes[1::2]))
    match method, exchange.rest:
        case "GET", ():
            exchange.only("archived", "properties", "dataSensitivity")
            return _listing(exchange)
        case "POST", ():
            created = _create(exchange, exchange.body(*DEFINITION))
            return Answer(content=created.wire(), status=201)
        case "POST", ("batch", "read"):
            return _batch_read(exchange)
        case "POST", ("batch", "create"):
            return _batch_create(exchange)
        case "GET", ("groups",):
            groups = [
                {"name": g, "label": g, "displayOrder": -1, "archived": False}
                for g in exchange.records.properties.groups
            ]
            return Answer(content={"results": groups})
        case "GET", (name,):
            return Answer(content=_known(exchange, name).wire())
        case "PATCH", (name,):
            return _change(exchange, _own(exchange, name))
        case "DELETE", (name,):
            exchange.records.properties.archive(_own(exchange, name).name, iso(exchange.simulator.world.now_ms()))
            return Answer(content=None, status=204)
    raise not_built(f"{method} {exchange.call.path}")


def _listing(exchange: Exchange) -> Answer:
    known = exchange.records.properties
    shown = known.archived if exchange.flag("archived") else known.by_name
    return Answer(content={"results": [definition.wire() for definition in shown.values()]})


def _known(exchange: Exchange, name: str) -> Property:
    known = exchange.records.properties
    definition = (known.archived if exchange.flag("archived") else known.by_name).get(name)
    if definition is None:
        raise RefusedError(404, f"Property {name} does not exist", category="OBJECT_NOT_FOUND", violation=False)
    return definition


def _own(exchange: Exchange, name: str) -> Property:
    definition = _known(exchange, name)
    if definition.vendor:
        raise bad_request(f"{name} is defined by HubSpot and cannot be changed")
    return definition


def _create(exchange: Exchange, body: Mapping[str, Any]) -> Property:
    known = exchange.records.properties
    for required in ("name", "label", "type", "fieldType", "groupName"):
        if not isinstance(body.get(required), str) or not body[required]:
            raise bad_request(f"Some required fields were not set: [{required}]")
    name, unique = body["name"], body.get("hasUniqueValue") is True
    if not NAME.fullmatch(name):
        raise bad_request(f"{name} is not a property name: lower-case letters, digits and underscores, a letter first")
    if name in known.by_name or name in known.archived:
        raise RefusedError(
            409, f"A property named '{name}' already exists.", category="OBJECT_ALREADY_EXISTS", violation=False
        )
    if body["groupName"] not in known.groups:
        raise bad_request(f"The property group {body['groupName']} does not exist")
    for name_of in ("calculationFormula", "referencedObjectType", "externalOptions"):
        if body.get(name_of):
            raise not_built(f"{name_of} of a property")
    if unique and sum(p.unique and not p.vendor for p in known.by_name.values()) >= MAX_UNIQUE:
        raise bad_request(f"An object can have at most {MAX_UNIQUE} properties with unique values")
    now = iso(exchange.simulator.world.now_ms())
    definition = Property(
        name=name,
        label=body["label"],
        type=body["type"],
        field_type=body["fieldType"],
        group=body["groupName"],
        description=str(body.get("description") or ""),
        options=_options(body),
        unique=unique,
        hidden=body.get("hidden") is True,
        form_field=body.get("formField") is True,
        display_order=int(body.get("displayOrder") or -1),
        vendor=False,
        created_at=now,
        updated_at=now,
    )
    _check_type(definition)
    known.put(definition)
    return definition


def _check_type(definition: Property) -> None:
    if definition.type not in TYPES:
        raise bad_json(f"{definition.type} is not one of [{', '.join(TYPES)}]")
    if definition.field_type not in FIELD_TYPES[definition.type]:
        raise bad_request(f"fieldType {definition.field_type} does not go with type {definition.type}")
    if definition.type == "enumeration" and not definition.options:
        raise bad_request(f"The enumeration property {definition.name} needs options")
    if definition.type == "bool" and set(definition.allowed) != {"true", "false"}:
        raise bad_request(f"The bool property {definition.name} needs the options true and false")
    if definition.unique and definition.type not in ("string", "number"):
        raise bad_request(f"A {definition.type} property cannot have unique values")
    if definition.type not in ("enumeration", "bool") and definition.options:
        raise bad_request(f"A {definition.type} property has no options")


def _options(body: Mapping[str, Any]) -> tuple[Option, ...]:
    found = []
    for order, item in enumerate(body.get("options") or ()):
        option = fields_of(item, ("label", "value", "displayOrder", "hidden", "description"), ("label", "value"))
        found.append(
            Option(
                value=str(option["value"]),
                label=str(option["label"]),
                order=int(option.get("displayOrder", order)),
                hidden=option.get("hidden") is True,
            )
        )
    if len({option.value for option in found}) < len(found):
        raise bad_request("Property options must have unique values")
    return tuple(found)


def _change(exchange: Exchange, definition: Property) -> Answer:
    body = exchange.body(*EDITABLE)
    changed = replace(
        definition,
        label=body.get("label", definition.label),
        type=body.get("type", definition.type),
        field_type=body.get("fieldType", definition.field_type),
        description=body.get("description", definition.description),
        options=_options(body) if "options" in body else definition.options,
        hidden=body.get("hidden", definition.hidden),
        form_field=body.get("formField", definition.form_field),
        updated_at=iso(exchange.simulator.world.now_ms()),
    )
    _check_type(changed)
    exchange.records.properties.put(changed)
    exchange.records.index.forget(definition.name)
    return Answer(content=changed.wire())


def _batch_read(exchange: Exchange) -> Answer:
    body = exchange.body("inputs", "archived", "dataSensitivity", required=("inputs",))
    now = iso(exchange.simulator.world.now_ms())
    found, missing = [], []
    for item in body["inputs"]:
        definition = exchange.records.properties.get(str(fields_of(item, ("name",), ("name",))["name"]))
        if definition is None:
            missing.append(str(item["name"]))
        else:
            found.append(definition.wire())
    content: dict[str, Any] = {"status": "COMPLETE", "results": found, "startedAt": now, "completedAt": now}
    if missing:
        refusal = RefusedError(404, f"Some properties do not exist: {', '.join(missing)}", category="OBJECT_NOT_FOUND")
        content |= {"numErrors": 1, "errors": [refusal.item(name=missing)]}
    return Answer(content=content, status=207 if missing else 200)


def _batch_create(exchange: Exchange) -> Answer:
    body = exchange.body("inputs", required=("inputs",))
    now = iso(exchange.simulator.world.now_ms())
    created = [_create(exchange, fields_of(item, DEFINITION)).wire() for item in body["inputs"]]
    return Answer(content={"status": "COMPLETE", "results": created, "startedAt": now, "completedAt": now}, status=201)
