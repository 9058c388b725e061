"""Reading a field of a stored record: system fields, compounds, formulas and parents included.

A *row* is a `Record` (as it is now) or a `Past` (as it was): both have id, created_at, fields,
updated_at and deleted. Instants are ms since the epoch, dates ISO text.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Protocol, TypeAlias

from sync_platform.sandbox.kit_store import Fields, Record, Store, Version
from sync_platform.sandbox.salesforce.metadata import FieldDef, ObjectDef
from sync_platform.sandbox.salesforce.objects import OBJECTS

_EPOCH: Final = dt.datetime(1970, 1, 1)


class Row(Protocol):
    """One version of one record."""

    id: str
    created_at: int
    fields: Fields
    updated_at: int
    deleted: bool


Getter: TypeAlias = Callable[[Any], Any]


class Past:
    """An older version of a record, or a snapshot of the current one."""

    __slots__ = ("created_at", "deleted", "fields", "id", "updated_at")

    def __init__(self, record: Record, version: Version) -> None:
        self.id = record.id
        self.created_at = record.created_at
        self.fields = version.fields
        self.updated_at = version.updated_at
        self.deleted = version.deleted


@lru_cache(maxsize=1 << 14)
def rest_datetime(ms: int) -> str:
    """An instant as REST answers show it."""
    return (_EPOCH + dt.timedelta(milliseconds=ms)).isoformat(timespec="milliseconds") + "+0000"


class Reader:
    """Getters for every field of every object over one organization's stores."""

    def __init__(self, stores: dict[str, Store], default_user: Callable[[], str]) -> None:
        self._stores = stores
        self._user = default_user
        self._getters: dict[tuple[str, str], Getter] = {}

    def parent(self, target: str, id: str | None) -> Record | None:
        """The record a reference points to, unless it is deleted."""
        record = self._stores[target].get(id) if id is not None else None
        return None if record is None or record.deleted else record

    def getter(self, object_: ObjectDef, field: FieldDef) -> Getter:
        """A function from a row to the field's stored value (None when null)."""
        key = (object_.name, field.name)
        if key not in self._getters:
            self._getters[key] = self._make(object_, field)
        return self._getters[key]

    def _make(self, object_: ObjectDef, field: FieldDef) -> Getter:
        name = field.name
        system: dict[str, Getter] = {
            "Id": lambda row: row.id,
            "IsDeleted": lambda row: row.deleted,
            "CreatedDate": lambda row: row.created_at,
            "SystemModstamp": lambda row: row.updated_at,
            "LastModifiedDate": lambda row: row.fields.get("LastModifiedDate", row.updated_at),
            "CreatedById": lambda row: row.fields.get("CreatedById") or self._user(),
            "LastModifiedById": lambda row: row.fields.get("LastModifiedById") or self._user(),
            "OwnerId": lambda row: row.fields.get("OwnerId") or self._user(),
            "Is_Hot__c": lambda row: (row.fields.get("Score__c") or 0) >= 80,
            "IsClosed": lambda row: row.fields.get("StageName", "").startswith("Closed"),
            "IsWon": lambda row: row.fields.get("StageName") == "Closed Won",
        }
        if name in system and (name in object_.fields):
            return system[name]
        if name == "Name" and "LastName" in object_.fields:
            return _full_name
        if name == "Account_Industry__c":
            industry = self.getter(OBJECTS["Account"], OBJECTS["Account"].fields["Industry"])
            return lambda row: _through(self.parent("Account", row.fields.get("AccountId")), industry)
        if field.type == "address":
            parts = [(p, name.removesuffix("Address") + p[0].upper() + p[1:]) for p in _ADDRESS_PARTS]
            return lambda row: _address(row.fields, parts)
        if field.type == "boolean":
            return lambda row: row.fields.get(name, False)

        def plain(row: Row) -> Any:
            return row.fields.get(name)

        return plain


_ADDRESS_PARTS: Final = ("city", "country", "postalCode", "state", "street")


def _address(fields: Fields, parts: list[tuple[str, str]]) -> dict[str, Any] | None:
    found = {part: fields.get(name) for part, name in parts}
    if not any(found.values()):
        return None
    return {**found, "geocodeAccuracy": None, "latitude": None, "longitude": None}


def _full_name(row: Row) -> str:
    first, last = row.fields.get("FirstName"), row.fields.get("LastName", "")
    return f"{first} {last}" if first else last


def _through(parent: Record | None, getter: Getter) -> Any:
    return None if parent is None else getter(parent)


def shown(field: FieldDef, value: Any) -> Any:
    """A stored value as REST answers show it."""
    return rest_datetime(value) if field.type == "datetime" and value is not None else value
