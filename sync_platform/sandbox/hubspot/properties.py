"""Property definitions: what a property may hold and how the properties API shows it.

https://developers.hubspot.com/docs/api-reference/latest/crm/properties/guide
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

TYPES: Final = ("string", "number", "date", "datetime", "enumeration", "bool")

#: The field types the vendor lets each type have (the table of the guide above).
FIELD_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "bool": ("booleancheckbox", "calculation_equation"),
    "enumeration": ("booleancheckbox", "checkbox", "radio", "select", "calculation_equation"),
    "date": ("date",),
    "datetime": ("date",),
    "string": ("file", "text", "textarea", "html", "phonenumber", "calculation_equation"),
    "number": ("number", "calculation_equation"),
}

#: A unique property counts against this limit per object. Same guide.
MAX_UNIQUE: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One allowed value of an enumeration."""

    value: str
    label: str
    order: int = 0
    hidden: bool = False

    def wire(self) -> dict[str, Any]:
        """The option as the properties API shows it."""
        return {"label": self.label, "value": self.value, "displayOrder": self.order, "hidden": self.hidden}


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One property of an object. `vendor` False: made by the account through the properties API."""

    name: str
    label: str
    type: str = "string"
    field_type: str = "text"
    group: str = ""
    description: str = ""
    options: tuple[Option, ...] = ()
    unique: bool = False
    read_only: bool = False
    calculated: bool = False
    hidden: bool = False
    form_field: bool = False
    vendor: bool = True
    display_order: int = -1
    created_at: str | None = None
    updated_at: str | None = None
    archived_at: str | None = None

    @property
    def allowed(self) -> tuple[str, ...]:
        """The values of the options, in order."""
        return tuple(option.value for option in self.options)

    @property
    def sorted_by_number(self) -> bool:
        """Whether the search compares its values as numbers (times are milliseconds)."""
        return self.type in ("number", "date", "datetime")

    @property
    def multiple(self) -> bool:
        """Whether it holds several options, separated by semicolons."""
        return self.type == "enumeration" and self.field_type == "checkbox"

    def wire(self) -> dict[str, Any]:
        """The definition as the properties API shows it."""
        shown: dict[str, Any] = {
            "name": self.name,
            "label": self.label,
            "type": self.type,
            "fieldType": self.field_type,
            "description": self.description,
            "groupName": self.group,
            "options": [option.wire() for option in self.options],
            "displayOrder": self.display_order,
            "calculated": self.calculated,
            "externalOptions": False,
            "archived": self.archived_at is not None,
            "hasUniqueValue": self.unique,
            "hidden": self.hidden,
            "formField": self.form_field,
            "dataSensitivity": "non_sensitive",
            "modificationMetadata": {
                "archivable": not self.vendor,
                "readOnlyDefinition": self.vendor,
                "readOnlyValue": self.read_only or self.calculated,
            },
        }
        if self.vendor:
            shown["hubspotDefined"] = True
        if self.type == "enumeration":
            shown["modificationMetadata"]["readOnlyOptions"] = self.vendor
        stamps = {"createdAt": self.created_at, "updatedAt": self.updated_at, "archivedAt": self.archived_at}
        return shown | {name: at for name, at in stamps.items() if at is not None}


class PropertySet:
    """The properties of one object by name, archived ones kept apart."""

    def __init__(self, defaults: Sequence[Property], groups: Sequence[str]) -> None:
        self._defaults = tuple(defaults)
        self._default_groups = tuple(groups)
        self.by_name: dict[str, Property] = {}
        self.archived: dict[str, Property] = {}
        self.groups: list[str] = []
        self.reset()

    def reset(self) -> None:
        """Back to the vendor's own properties."""
        self.by_name = {p.name: p for p in self._defaults}
        self.archived = {}
        self.groups = list(self._default_groups)

    def get(self, name: str) -> Property | None:
        """The live property of that name (names are lower-case)."""
        return self.by_name.get(name)

    def put(self, definition: Property) -> None:
        """Adds or replaces a property."""
        self.by_name[definition.name] = definition
        self.archived.pop(definition.name, None)

    def archive(self, name: str, at: str) -> None:
        """Archives a property of the account."""
        self.archived[name] = replace(self.by_name.pop(name), archived_at=at)

    @property
    def unique(self) -> tuple[str, ...]:
        """Names of the properties no two records may share a value of."""
        return tuple(p.name for p in self.by_name.values() if p.unique)


def options(*pairs: str) -> tuple[Option, ...]:
    """Options from `value=Label` texts, in order."""
    split = (pair.split("=", 1) for pair in pairs)
    return tuple(Option(value=value, label=label, order=order) for order, (value, label) in enumerate(split))
