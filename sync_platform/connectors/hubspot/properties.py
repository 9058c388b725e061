"""What the properties API says about an object, as fields.

Page: https://developers.hubspot.com/docs/api-reference/crm-properties-v3/guide
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from sync_platform.connectors.hubspot.streams import KEY, OBJECT_ID, REQUIRED, UNIQUE
from sync_platform.model import Field, Record, Stream

#: The Arrow type of a cursor column; every other property is the string HubSpot answers.
MOMENT: Final = pa.timestamp("us", tz="UTC")

#: Metadata key under which a field keeps HubSpot's own type (`number`, `bool`, `datetime`, ...).
VENDOR_TYPE: Final = b"vendor_type"


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One property of an object type: the field it makes and HubSpot's own type of it."""

    field: Field
    kind: str


def properties_of(stream: Stream, answered: Iterable[Record]) -> dict[str, Property]:
    """The properties by name, in HubSpot's order, from the `results` of the properties API."""
    found: dict[str, Property] = {}
    for raw in answered:
        if raw.get("archived"):
            continue
        made = _property(stream, raw)
        found[made.field.name] = made
    return found


def _property(stream: Stream, raw: Record) -> Property:
    name, kind = str(raw["name"]), str(raw.get("type") or "string")
    limits = raw.get("modificationMetadata") or {}
    is_cursor = stream.cursor is not None and name == stream.cursor.field
    options = tuple(str(option["value"]) for option in raw.get("options") or () if "value" in option)
    unique = bool(raw.get("hasUniqueValue")) or name in UNIQUE.get(stream.name, ()) or name == OBJECT_ID
    field = Field(
        name=name,
        type=MOMENT if is_cursor else pa.string(),
        readonly=bool(limits.get("readOnlyValue") or raw.get("calculated") or is_cursor or name == OBJECT_ID),
        required=name in REQUIRED.get(stream.name, ()),
        unique=unique,
        folded=stream.name == "contacts" and name == "email",
        # several checkboxes hold values joined by semicolons: not one of a closed list
        values=() if raw.get("fieldType") == "checkbox" or raw.get("externalOptions") else options,
        label=str(raw.get("label") or ""),
    )
    return Property(field=field, kind=kind)


def schema(stream: Stream, properties: dict[str, Property]) -> pa.Schema:
    """The Arrow schema: `id` first, then every property, each with its flags and HubSpot's type."""
    key = Field(name=KEY, type=pa.string(), readonly=True, unique=True, label="Record ID")
    fields = [key.to_arrow()]
    for one in properties.values():
        arrow = one.field.to_arrow()
        fields.append(arrow.with_metadata({**(arrow.metadata or {}), VENDOR_TYPE: one.kind.encode()}))
    return pa.schema(fields)
