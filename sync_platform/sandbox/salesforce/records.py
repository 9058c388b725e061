"""Writing records by the vendor's rules: required fields, lengths, unique keys, references, locks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sync_platform.sandbox.kit_store import Record
from sync_platform.sandbox.salesforce import ids
from sync_platform.sandbox.salesforce.metadata import FieldDef, ObjectDef
from sync_platform.sandbox.salesforce.objects import OBJECTS
from sync_platform.sandbox.salesforce.refusals import SalesforceError
from sync_platform.sandbox.salesforce.values import from_json, from_text

if TYPE_CHECKING:
    from sync_platform.sandbox.salesforce.simulator import SalesforceSimulator


def fold(value: Any) -> Any:
    """How unique values are compared: without regard to case."""
    return value.lower() if isinstance(value, str) else value


class Done(NamedTuple):
    """What a write did. `op`: create | update | noop | delete, as the request log names it."""

    id: str
    op: str


class Writer:
    """DML over the stores of one organization."""

    def __init__(self, org: SalesforceSimulator) -> None:
        self._org = org

    # ---- reading what was sent

    def prepare(self, target: ObjectDef, sent: Mapping[str, Any], *, text: bool = False) -> dict[str, Any]:
        """Sent fields with canonical names and stored values. Raises for a name or JSON type that does not fit.

        These are mistakes of the request, so they refuse the whole of it.
        """
        out: dict[str, Any] = {}
        for name, value in sent.items():
            if name == "attributes":
                continue
            field = target.field(name)
            if field is None and isinstance(value, Mapping):
                link = target.relationship(name)
                if link is not None:
                    out[link.name] = _ByKey(link, value)
                    continue
            if field is None or self._org.is_hidden(target, field):
                message = f"No such column '{name}' on sobject of type {target.name}"
                raise SalesforceError(400, "INVALID_FIELD", message, violation=True)
            out[field.name] = _Sent(field, value, text)
        return out

    def _settle(self, target: ObjectDef, prepared: Mapping[str, Any], *, creating: bool) -> dict[str, Any]:
        """Stored values of a prepared record; raises what concerns this record alone."""
        flag = "createable" if creating else "updateable"
        locked = [name for name in prepared if name != "Id" and not getattr(target.fields[name], flag)]
        if locked:
            message = (
                f"Unable to create/update fields: {', '.join(locked)}. Please check the security settings of this "
                "field and verify that it is read/write for your profile or permission set."
            )
            raise SalesforceError(400, "INVALID_FIELD_FOR_INSERT_UPDATE", message, fields=locked, violation=True)
        values: dict[str, Any] = {}
        for name, sent in prepared.items():
            if name == "Id":
                continue
            values[name] = self._parent_by_key(sent) if isinstance(sent, _ByKey) else sent.stored()
            field = target.fields[name]
            if field.type == "reference" and values[name] is not None:
                self._check_reference(field, values[name])
        missing = [n for n in target.required if values.get(n) is None and (creating or n in values)]
        if missing:
            message = f"Required fields are missing: [{', '.join(missing)}]"
            raise SalesforceError(400, "REQUIRED_FIELD_MISSING", message, fields=missing)
        return {n: _default(target.fields[n]) if v is None and not target.fields[n].nillable else v
                for n, v in values.items()}  # fmt: skip

    def _check_reference(self, field: FieldDef, id: str) -> None:
        for name in field.reference_to:
            record = self._org.stores[name].get(id)
            if record is not None and not record.deleted:
                return
        raise SalesforceError(400, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", fields=[field.name])

    def _parent_by_key(self, sent: _ByKey) -> str:
        target = OBJECTS[sent.link.reference_to[0]]
        named = [(target.field(name), value) for name, value in sent.value.items() if name != "attributes"]
        field, value = named[0] if named else (None, None)
        if len(named) != 1 or field is None or not field.id_lookup:
            message = f"More than 1 field provided in an external foreign key reference in entity: {target.name}"
            raise SalesforceError(400, "INVALID_FIELD", message, violation=True)
        found = [r for r in self.by_key(target, field, value) if not r.deleted]
        if len(found) != 1:
            message = f"Foreign key external ID: {value} not found for field {field.name} in entity {target.name}"
            raise SalesforceError(400, "INVALID_FIELD", message, fields=[])
        return found[0].id

    def by_key(self, target: ObjectDef, field: FieldDef, value: Any) -> list[Record]:
        """Live records whose key field has this value."""
        store = self._org.stores[target.name]
        if field.name == "Id":
            record = store.get(ids.to18(str(value)) or "")
            found = [] if record is None else [record]
        else:
            found = store.lookup(field.name, str(value).strip(), fold=fold)
        return [r for r in found if not r.deleted]

    # ---- writing

    def create(self, target: ObjectDef, prepared: Mapping[str, Any], *, allow_duplicates: bool = False) -> Done:
        """Stores a new record."""
        if "Id" in prepared:
            message = "cannot specify Id in an insert call"
            raise SalesforceError(400, "INVALID_FIELD_FOR_INSERT_UPDATE", message, fields=["Id"], violation=True)
        values = {**target.defaults, **self._settle(target, prepared, creating=True)}
        self._check_unique(target, values, None)
        if not allow_duplicates:
            self._check_duplicate_rule(target, values)
        self._check_lock()
        org = self._org
        moment = org.write_moment()
        id = org.new_id(target.name)
        values["LastModifiedDate"] = moment
        org.stores[target.name].insert(id, values, created_at=moment, updated_at=moment)
        org.changed(target.name, id, "create")
        return Done(id, "create")

    def update(self, target: ObjectDef, id: str, prepared: Mapping[str, Any]) -> Done:
        """Changes some fields of a record. The stamps move even if no value differs."""
        record = self.existing(target, id)
        values = self._settle(target, prepared, creating=False)
        self._check_unique(target, values, record.id)
        self._check_lock()
        same = all(record.fields.get(name) == value for name, value in values.items())
        moment = max(self._org.write_moment(), record.updated_at + 1)
        values["LastModifiedDate"] = moment
        values["LastModifiedById"] = None  # the connecting user
        self._org.stores[target.name].patch(record.id, values, updated_at=moment)
        self._org.changed(target.name, record.id, "update")  # a rule is evaluated at every save, changed or not
        return Done(record.id, "noop" if same else "update")

    def delete(self, target: ObjectDef, id: str) -> Done:
        """Moves a record to the recycle bin."""
        record = self.existing(target, id)
        self._check_lock()
        moment = max(self._org.write_moment(), record.updated_at + 1)
        self._org.stores[target.name].remove(record.id, updated_at=moment)
        return Done(record.id, "delete")

    def upsert(self, target: ObjectDef, field: FieldDef, value: Any, prepared: Mapping[str, Any]) -> Done:
        """Updates the record with this key, or creates it."""
        if value is None or not str(value).strip():
            raise SalesforceError(400, "MISSING_ARGUMENT", f"{field.name} not specified", fields=[])
        found = self.by_key(target, field, value)
        if len(found) > 1:
            message = (
                f"{field.name}: more than one record found for external id field: [{', '.join(r.id for r in found)}]"
            )
            raise SalesforceError(300, "DUPLICATE_EXTERNAL_ID", message, fields=[])
        rest = {name: sent for name, sent in prepared.items() if name != field.name}
        if found:
            return self.update(target, found[0].id, rest)
        return self.create(target, {**rest, field.name: _Sent(field, str(value), True)})

    def existing(self, target: ObjectDef, id: str) -> Record:
        """The live record of an id. Raises MALFORMED_ID, ENTITY_IS_DELETED, INVALID_CROSS_REFERENCE_KEY."""
        known = ids.to18(id)
        if known is None or not known.startswith(target.prefix):
            raise SalesforceError(400, "MALFORMED_ID", f"bad id {id}", fields=[])
        record = self._org.stores[target.name].get(known)
        if record is None:
            raise SalesforceError(404, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", fields=[])
        if record.deleted:
            raise SalesforceError(404, "ENTITY_IS_DELETED", "entity is deleted", fields=[])
        return record

    # ---- rules

    def _check_unique(self, target: ObjectDef, values: Mapping[str, Any], own: str | None) -> None:
        for field in target.unique:
            value = values.get(field.name)
            if value is None:
                continue
            for other in self.by_key(target, field, value):
                if other.id != own:
                    message = f"duplicate value found: {field.name} duplicates value on record with id: {other.id[:15]}"
                    raise SalesforceError(400, "DUPLICATE_VALUE", message, fields=[])

    def _check_duplicate_rule(self, target: ObjectDef, values: Mapping[str, Any]) -> None:
        email = values.get("Email")
        if not self._org.on("duplicate_rule") or email is None or target.name not in ("Lead", "Contact"):
            return
        if any(not r.deleted for r in self._org.stores[target.name].lookup("Email", email, fold=fold)):
            message = "Use one of these records?"
            raise SalesforceError(400, "DUPLICATES_DETECTED", message, fields=[])

    def _check_lock(self) -> None:
        org = self._org
        if org.on("row_locks") and org.rng.random() < float(org.value("row_locks")):
            raise row_locked()


def row_locked() -> SalesforceError:
    """Another transaction holds the row: the same write may succeed later."""
    return SalesforceError(400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record", fields=[])


def _default(field: FieldDef) -> Any:
    if field.type == "boolean":
        return field.default_value or False
    return field.default_value


class _Sent(NamedTuple):
    field: FieldDef
    value: Any
    text: bool

    def stored(self) -> Any:
        if self.text:
            return None if self.value is None else from_text(self.field, self.value)
        return from_json(self.field, self.value)


class _ByKey(NamedTuple):
    link: FieldDef
    value: Mapping[str, Any]


def check_types(prepared: Mapping[str, Any]) -> None:
    """Raises JSON_PARSER_ERROR when a value's JSON type does not fit its field: the whole request fails."""
    for sent in prepared.values():
        if isinstance(sent, _Sent) and not sent.text:
            try:
                sent.stored()
            except SalesforceError as error:
                if error.code == "JSON_PARSER_ERROR":
                    raise
