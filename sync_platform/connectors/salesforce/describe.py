"""An object as this user sees it: the describe answer as an Arrow schema with field flags.

Field-level security removes fields from a describe without a word: what is not listed does not exist for us.
https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_sobject_describe.htm
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from sync_platform.model import Field, schema_of

#: The fields that move with every change, best first.
_CURSORS: Final = ("SystemModstamp", "LastModifiedDate", "CreatedDate")
_INSTANT: Final = pa.timestamp("us", "UTC")
_TYPES: Final[Mapping[str, pa.DataType]] = {
    "boolean": pa.bool_(),
    "int": pa.int64(),
    "long": pa.int64(),
    "double": pa.float64(),
    "percent": pa.float64(),
    "date": pa.date32(),
    "datetime": _INSTANT,
}
#: Compounds repeat their parts, base64 is a download of its own, complexvalue has no flat form.
_LEFT_OUT: Final = frozenset({"address", "location", "base64", "complexvalue"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the connector needs to know of one object.

    `kinds` maps each field to Salesforce's type name; `external` are the external-id fields an upsert may
    use, `unfilterable` those a WHERE may not name. `cursor` is None when nothing tells what changed.
    """

    name: str
    schema: pa.Schema
    kinds: Mapping[str, str]
    external: tuple[str, ...]
    unfilterable: frozenset[str]
    cursor: str | None
    soft_deletes: bool
    writable: bool

    @property
    def exact(self) -> bool:
        """Whether some field is money, so that JSON numbers must be read as decimals."""
        return any(pa.types.is_decimal(kind) for kind in self.schema.types)


def shape_of(described: Mapping[str, Any]) -> Shape:
    """The shape of a describe answer."""
    raw = [field for field in described["fields"] if field["type"] not in _LEFT_OUT]
    fields = {field["name"]: _field(field) for field in raw}
    instants = {field["name"] for field in raw if field["type"] == "datetime" and field.get("filterable", True)}
    return Shape(
        name=described["name"],
        schema=schema_of(fields),
        kinds={field["name"]: field["type"] for field in raw},
        external=tuple(field["name"] for field in raw if field.get("externalId") and field.get("createable")),
        unfilterable=frozenset(field["name"] for field in raw if not field.get("filterable", True)),
        cursor=next((name for name in _CURSORS if name in instants), None),
        soft_deletes="IsDeleted" in fields,
        writable=bool(described.get("createable") or described.get("updateable")),
    )


def _field(raw: Mapping[str, Any]) -> Field:
    createable, updateable = bool(raw.get("createable")), bool(raw.get("updateable"))
    kind, text = raw["type"], _type(raw)
    return Field(
        name=raw["name"],
        type=text,
        readonly=not createable and not updateable,
        required=createable and not raw.get("nillable", True) and not raw.get("defaultedOnCreate", False),
        unique=kind == "id" or bool(raw.get("unique")) or bool(raw.get("externalId")),
        folded=kind == "email" or (bool(raw.get("unique")) and not raw.get("caseSensitive", False)),
        values=_values(raw),
        max_length=(raw.get("length") or None) if pa.types.is_string(text) else None,
        label=str(raw.get("label") or ""),
    )


#: An amount may hold more digits than its field shows (converted currencies do); none is cut off.
MONEY_SCALE: Final = 9


def _type(raw: Mapping[str, Any]) -> pa.DataType:
    if raw["type"] == "currency":
        return pa.decimal128(38, max(MONEY_SCALE, int(raw.get("scale") or 0)))
    return _TYPES.get(raw["type"], pa.string())


def _values(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The closed list of a restricted picklist; an unrestricted one takes any text through the API."""
    if raw["type"] != "picklist" or not raw.get("restrictedPicklist"):
        return ()
    return tuple(str(v["value"]) for v in raw.get("picklistValues") or [] if v.get("active", True))
