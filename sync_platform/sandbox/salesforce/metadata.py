"""What a describe says: sObjects and their fields.

Flags as in "DescribeSObjectResult", SOAP API Developer Guide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

#: Field types that hold text, by the describe's `type`.
TEXT: Final = frozenset({"string", "email", "phone", "url", "textarea", "picklist", "multipicklist", "combobox"})
NUMBERS: Final = frozenset({"double", "currency", "percent", "int"})
_SOAP: Final = {"boolean": "xsd:boolean", "double": "xsd:double", "currency": "xsd:double", "percent": "xsd:double",
                "int": "xsd:int", "date": "xsd:date", "datetime": "xsd:dateTime", "id": "tns:ID",
                "reference": "tns:ID", "address": "urn:address"}  # fmt: skip

#: What a describe says of every field here alike.
_ALIKE: Final[dict[str, Any]] = {
    "aiPredictionField": False,
    "autoNumber": False,
    "cascadeDelete": False,
    "controllerName": None,
    "defaultValueFormula": None,
    "dependentPicklist": False,
    "deprecatedAndHidden": False,
    "digits": 0,
    "displayLocationInDecimal": False,
    "encrypted": False,
    "extraTypeInfo": None,
    "filteredLookupInfo": None,
    "formulaTreatNullNumberAsZero": False,
    "highScaleNumber": False,
    "htmlFormatted": False,
    "inlineHelpText": None,
    "mask": None,
    "maskType": None,
    "namePointing": False,
    "queryByDistance": False,
    "referenceTargetField": None,
    "relationshipOrder": None,
    "restrictedDelete": False,
    "searchPrefilterable": False,
    "writeRequiresMasterRead": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDef:
    """One field. `length` in characters; `precision` and `scale` in digits."""

    name: str
    label: str
    type: str = "string"
    length: int = 0
    nillable: bool = True
    createable: bool = True
    updateable: bool = True
    filterable: bool = True
    sortable: bool = True
    groupable: bool = True
    external_id: bool = False
    id_lookup: bool = False
    unique: bool = False
    case_sensitive: bool = False
    defaulted: bool = False
    calculated: bool = False
    formula: str | None = None
    values: tuple[str, ...] = ()
    default_value: str | bool | None = None
    restricted: bool = False
    reference_to: tuple[str, ...] = ()
    relationship: str | None = None
    compound: str | None = None
    name_field: bool = False
    precision: int = 0
    scale: int = 0

    @property
    def custom(self) -> bool:
        """Whether this organization added it."""
        return self.name.endswith("__c")

    @property
    def required(self) -> bool:
        """Whether a create without it is refused."""
        return self.createable and not self.nillable and not self.defaulted and self.type != "boolean"

    def describe(self) -> dict[str, Any]:
        """The field as `describe` shows it."""
        picklist = [
            {"active": True, "defaultValue": v == self.default_value, "label": v, "validFor": None, "value": v}
            for v in self.values
        ]
        return {
            **_ALIKE,
            "aggregatable": self.filterable and self.type != "boolean",
            "byteLength": self.length * 3,
            "calculated": self.calculated,
            "calculatedFormula": self.formula,
            "caseSensitive": self.case_sensitive,
            "compoundFieldName": self.compound,
            "createable": self.createable,
            "custom": self.custom,
            "defaultValue": self.default_value if not self.values else None,
            "defaultedOnCreate": self.defaulted or self.type == "boolean",
            "externalId": self.external_id,
            "filterable": self.filterable,
            "groupable": self.groupable,
            "idLookup": self.id_lookup,
            "label": self.label,
            "length": self.length,
            "name": self.name,
            "nameField": self.name_field,
            "nillable": self.nillable,
            "permissionable": self.nillable and self.updateable,
            "picklistValues": picklist,
            "polymorphicForeignKey": len(self.reference_to) > 1,
            "precision": self.precision,
            "referenceTo": list(self.reference_to),
            "relationshipName": self.relationship,
            "restrictedPicklist": self.restricted,
            "scale": self.scale,
            "soapType": _SOAP.get(self.type, "xsd:string"),
            "sortable": self.sortable,
            "type": self.type,
            "unique": self.unique,
            "updateable": self.updateable,
        }


class ObjectDef:
    """One sObject. Field names are looked up without regard to case, as the vendor does."""

    def __init__(self, name: str, prefix: str, plural: str, fields: tuple[FieldDef, ...]) -> None:
        self.name = name
        self.prefix = prefix
        self.plural = plural
        self.fields: Mapping[str, FieldDef] = {f.name: f for f in fields}
        self._by_low = {f.name.lower(): f for f in fields}
        self._by_relationship = {f.relationship.lower(): f for f in fields if f.relationship}

    def field(self, name: str) -> FieldDef | None:
        """The field of that name in any case."""
        return self._by_low.get(name.lower())

    def relationship(self, name: str) -> FieldDef | None:
        """The reference field whose relationship has that name."""
        return self._by_relationship.get(name.lower())

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Fields without which a create is refused."""
        return tuple(f.name for f in self.fields.values() if f.required)

    @cached_property
    def unique(self) -> tuple[FieldDef, ...]:
        """Fields whose values may not repeat."""
        return tuple(f for f in self.fields.values() if f.unique)

    @cached_property
    def datetimes(self) -> frozenset[str]:
        """Stored fields that hold instants."""
        return frozenset(f.name for f in self.fields.values() if f.type == "datetime")

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """What a new record holds where nothing is given."""
        return {
            f.name: f.default_value if f.default_value is not None else False
            for f in self.fields.values()
            if (f.default_value is not None or f.type == "boolean") and f.name != "IsDeleted" and not f.calculated
        }

    def summary(self, base: str) -> dict[str, Any]:
        """The object as the list of objects shows it; `base` is /services/data/vNN.0 with its prefix."""
        url = f"{base}/sobjects/{self.name}"
        flags = ("createable", "deletable", "queryable", "replicateable", "retrieveable", "searchable", "updateable")
        urls = {"sobject": url, "describe": f"{url}/describe", "rowTemplate": url + "/{ID}"}
        return {
            "activateable": False, "custom": False, "customSetting": False, "deprecatedAndHidden": False,
            "feedEnabled": True, "hasSubtypes": False, "isInterface": False, "isSubtype": False,
            "keyPrefix": self.prefix, "label": self.name, "labelPlural": self.plural, "layoutable": True,
            "mergeable": self.name in ("Lead", "Contact", "Account"), "mruEnabled": True, "name": self.name,
            "triggerable": True, "undeletable": True, **dict.fromkeys(flags, True), "urls": urls,
        }  # fmt: skip

    def describe(self, base: str, hidden: frozenset[str]) -> dict[str, Any]:
        """The full describe, without the fields hidden from this user."""
        fields = [f.describe() for f in self.fields.values() if f.name not in hidden]
        extra: dict[str, Any] = {
            "actionOverrides": [],
            "childRelationships": [],
            "namedLayoutInfos": [],
            "recordTypeInfos": [],
        }
        return {**self.summary(base), **extra, "fields": fields, "supportedScopes": []}
