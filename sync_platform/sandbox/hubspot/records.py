"""The records of one object type: the vendor's rules for writing, and how a record is shown."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sync_platform.sandbox.hubspot.defaults import LIFECYCLE
from sync_platform.sandbox.hubspot.filters import Seen
from sync_platform.sandbox.hubspot.objects import ObjectKind
from sync_platform.sandbox.hubspot.properties import PropertySet
from sync_platform.sandbox.hubspot.refusals import Problem, bad_values, conflict, missing_properties
from sync_platform.sandbox.hubspot.search_index import SearchIndex
from sync_platform.sandbox.hubspot.values import BadValueError, store, text_of
from sync_platform.sandbox.kit import Fields, Record, Simulator, iso

STAGES: Final = tuple(option.value for option in LIFECYCLE)
#: Read-only to the API, yet a person can edit it on the record's page.
EDITABLE_BY_HAND: Final = frozenset({"hs_additional_emails", "hs_additional_domains"})
MISUSE: Final = frozenset({"PROPERTY_DOESNT_EXIST", "READ_ONLY_VALUE"})


def folded(name: str, value: str) -> str:
    """A unique value as the vendor compares it: e-mail addresses without case and surrounding blanks."""
    return value.strip().lower() if name == "email" else value


#: An account with one pipeline puts a record without one into it (HubSpot's guide to deals and tickets).
ONLY_PIPELINE: Final[Mapping[str, Fields]] = {"deals": {"pipeline": "default"}, "tickets": {"hs_pipeline": "0"}}


class Records:
    """The records of one kind, over the store shared with the control API."""

    def __init__(self, kind: ObjectKind, simulator: Simulator) -> None:
        self.kind = kind
        self.simulator = simulator
        self.store = simulator.store(kind.name)
        self.properties = PropertySet(kind.properties, (kind.group,))
        self.index = SearchIndex(kind.searched)
        self.clear()

    def clear(self) -> None:
        """Back to no records and the vendor's own properties."""
        self.order: list[int] = []  # ids, ascending; purged ones stay as holes
        self.aliases: dict[str, str] = {}  # additional e-mail -> record id
        self.merged: dict[str, str] = {}  # id of a merged-away record -> the winner's
        self.index.clear()
        self.properties.reset()

    # ---- reading

    def by_id(self, id: str, *, archived: bool = False, habit: str = "merged_id_answers") -> Record | None:
        """The record of that id, or the one it was merged into if the habit is on."""
        record = self.store.get(id)
        while record is None and id in self.merged and self.simulator.on(habit):
            id = self.merged[id]
            record = self.store.get(id)
        return record if record is not None and record.deleted == archived else None

    def find(
        self, id_property: str | None, value: str, *, archived: bool = False, habit: str = "merged_id_answers"
    ) -> Record | None:
        """The record with that id, or with that value of a unique property."""
        if id_property in (None, "hs_object_id"):
            return self.by_id(value, archived=archived, habit=habit)
        wanted = folded(id_property, value) if id_property else value
        found = self.store.lookup(str(id_property), wanted, fold=lambda v: folded(str(id_property), v))
        for record in found:
            if record.deleted == archived:
                return record
        if id_property == "email" and wanted in self.aliases:
            return self.by_id(self.aliases[wanted], archived=archived)
        return None

    def page(self, after: int, limit: int, *, archived: bool) -> tuple[list[Record], int | None]:
        """Up to `limit` records from id `after` on, in id order, and the id the next page starts at."""
        rows: list[Record] = []
        get = self.store.records.get
        for at in range(bisect_left(self.order, after), len(self.order)):
            record = get(str(self.order[at]))
            if record is None or record.deleted != archived:
                continue
            if len(rows) == limit:
                return rows, int(record.id)
            rows.append(record)
        return rows, None

    def show(self, record: Record, names: Iterable[str] | None = None) -> dict[str, Any]:
        """The record as the API answers it; unknown names are left out without a word, as the vendor does."""
        created, updated = iso(record.created_at), iso(record.updated_at)
        known, fields = self.properties.by_name, record.fields
        values = {name: fields.get(name) for name in (names or self.kind.default) if name in known}
        if "hs_createdate" in values:
            values["hs_createdate"] = created
        values["createdate"] = created
        values["hs_object_id"] = record.id
        values[self.kind.modified] = updated
        shown: dict[str, Any] = {
            "id": record.id,
            "properties": values,
            "createdAt": created,
            "updatedAt": updated,
            "archived": record.deleted,
        }
        if record.deleted_at is not None:
            shown["archivedAt"] = iso(record.deleted_at)
        return shown

    # ---- writing

    def changes(self, given: Mapping[str, Any], before: Record | None, *, by_hand: bool = False) -> Fields:
        """The values to store for `given`; None clears. Raises RefusedError with every problem."""
        kept: Fields = {}
        problems: list[Problem] = []
        for name, value in given.items():
            try:
                text = "" if value is None and by_hand else text_of(name, value)
                kept[name] = self._stored(name, text, before, by_hand=by_hand)
            except BadValueError as bad:
                problems.append(bad.problem)
        if problems:
            raise bad_values(problems, violation=any(p.code in MISUSE for p in problems))
        if not by_hand:
            self._hold_stage(kept, before)
        return kept

    def _stored(self, name: str, text: str, before: Record | None, *, by_hand: bool) -> str | None:
        definition = self.properties.get(name)
        if definition is None:
            raise BadValueError(name, "PROPERTY_DOESNT_EXIST", f'Property "{name}" does not exist')
        fixed = definition.read_only or definition.calculated
        if fixed and not (by_hand and name in EDITABLE_BY_HAND):
            raise BadValueError(name, "READ_ONLY_VALUE", f'"{name}" is a read only property; its value cannot be set.')
        return store(definition, text, None if before is None else before.fields.get(name))

    def _hold_stage(self, kept: Fields, before: Record | None) -> None:
        """Drops a lifecycle stage that would move back: the vendor takes the request and leaves the stage."""
        old = None if before is None else before.fields.get("lifecyclestage")
        new = kept.get("lifecyclestage")
        if not self.simulator.on("lifecycle_only_forward") or old not in STAGES or new not in STAGES:
            return
        if STAGES.index(new) < STAGES.index(old):
            del kept["lifecyclestage"]

    def create(self, fields: Fields, *, source: str = "INTEGRATION") -> Record:
        """Stores a new record. Raises RefusedError: 400 without what it needs, 409 when a unique value is taken."""
        simulator = self.simulator
        fields = {**ONLY_PIPELINE.get(self.kind.name, {}), **fields}
        if simulator.on("required_on_create"):
            lacking = [group[0] for group in self.kind.required if not any(fields.get(name) for name in group)]
            if lacking:
                raise missing_properties(self.kind.type_id, lacking)
        self._claim(fields, None)
        if self.kind.name == "companies" and simulator.on("company_domain_fills_website") and fields.get("domain"):
            fields = {"website": fields["domain"], **fields}
        if self.kind.name == "contacts" and simulator.on("lead_is_default_stage"):
            fields = {"lifecyclestage": "lead", **fields}
        record = self._insert({**fields, "hs_object_source": source}, simulator.world.now_ms())
        simulator.changed(self.kind.name, record.id, "create", record.fields)
        return record

    def adopt(self, fields: Fields, *, created_at: int, updated_at: int) -> Record:
        """Stores a record with its stamps, past all rules (legacy data)."""
        return self._insert(fields, created_at, updated_at)

    def _insert(self, fields: Fields, created_at: int, updated_at: int | None = None) -> Record:
        id = self.simulator.new_id(self.kind.name)
        stored_at = created_at if updated_at is None else updated_at
        record = self.store.insert(
            id, self._derived(fields), created_at=created_at, updated_at=updated_at, stored_at=stored_at
        )
        self.order.append(int(id))
        self._alias(fields, id)
        self.publish(id, stored_at)
        return record

    def update(self, record: Record, changes: Fields) -> bool:
        """Writes the changes; whether any value differs (the stamp moves only then). Raises RefusedError (409)."""
        differing = {name: value for name, value in changes.items() if record.fields.get(name) != value}
        if not differing:
            return False
        self.simulator.changed(self.kind.name, record.id, "update", self._write(record, differing))
        return True

    def _write(self, record: Record, differing: Fields) -> Fields:
        self._claim(differing, record.id)
        now = self.simulator.world.now_ms()
        written = self._derived(differing)
        self.store.patch(record.id, written, updated_at=now)
        self._alias(differing, record.id)
        self.publish(record.id, now)
        return written

    def archive(self, record: Record) -> None:
        """Moves the record to the archive, from where only a person can restore it."""
        self.store.remove(record.id)
        self.publish(record.id, self.simulator.world.now_ms())
        self.simulator.changed(self.kind.name, record.id, "delete")

    def restore(self, record: Record) -> None:
        """Takes the record back from the archive. Raises RefusedError (409) when a unique value is taken by now."""
        self._claim(record.fields, record.id)
        now = self.simulator.world.now_ms()
        self.store.restore(record.id, updated_at=now)
        self.publish(record.id, now)
        self.simulator.changed(self.kind.name, record.id, "restore")

    def erase(self, record: Record) -> None:
        """Removes the record for good, for the sake of privacy."""
        self._forget(record)
        self.simulator.changed(self.kind.name, record.id, "erase")

    def _forget(self, record: Record) -> None:
        self.store.purge(record.id)
        self.publish(record.id, self.simulator.world.now_ms())
        for alias in [alias for alias, id in self.aliases.items() if id == record.id]:
            del self.aliases[alias]

    def merge(self, winner: Record, loser: Record) -> Record:
        """Makes one record of two: the winner's values, gaps filled from the loser, whose address is kept too."""
        fields: Fields = {**loser.fields, **winner.fields}
        renewed = self.simulator.on("merge_makes_new_id")
        gone = [winner, loser] if renewed else [loser]
        before = [record.fields.get("hs_merged_object_ids") for record in (winner, loser)]
        before_fields = winner.fields
        fields["hs_merged_object_ids"] = ";".join(filter(None, [*before, *(record.id for record in gone)]))
        stages = [r.fields["lifecyclestage"] for r in (winner, loser) if r.fields.get("lifecyclestage") in STAGES]
        if stages and self.simulator.on("merge_keeps_furthest_stage"):
            fields["lifecyclestage"] = max(stages, key=STAGES.index)
        if self.kind.name == "contacts":
            now = self.simulator.world.now_ms()
            fields["hs_calculated_merged_vids"] = ";".join(f"{record.id}:{now}" for record in gone)
            emails = [r.fields.get(name) for r in (winner, loser) for name in ("hs_additional_emails", "email")]
            spare = dict.fromkeys(email for text in emails if text for email in text.split(";"))
            spare.pop(fields.get("email", ""), None)
            if spare:
                fields["hs_additional_emails"] = ";".join(spare)
        for record in gone:
            self._forget(record)
        if renewed:
            now = self.simulator.world.now_ms()
            merged = self._insert(fields, min(winner.created_at, loser.created_at), now)
        else:
            self._write(winner, {name: value for name, value in fields.items() if winner.fields.get(name) != value})
            merged = winner
        self.merged |= {record.id: merged.id for record in gone}
        moved = {name: value for name, value in loser.fields.items() if name not in before_fields}
        self.simulator.changed(self.kind.name, merged.id, "merge", moved, primary=winner.id, merged=(loser.id,))
        return merged

    def echo(self, record: Record) -> None:
        """Lets the modified stamp move once more a while after a write through the API."""
        simulator = self.simulator
        if not simulator.on("own_write_moves_again"):
            return
        low, high = simulator.value("own_write_moves_again")
        due = simulator.world.now_ms() + int(simulator.rng.uniform(low, high) * 1000)
        simulator.world.schedule(due, simulator.system, lambda: self._move(record.id, due))

    def _move(self, id: str, due: int) -> None:
        record = self.store.get(id)
        if record is not None and not record.deleted and record.updated_at < due:
            self.store.patch(id, {}, updated_at=due)
            self.publish(id, due)

    def publish(self, id: str, at: int) -> None:
        """Sends the record as it is now to the search index, where it arrives late."""
        simulator = self.simulator
        lag = 0
        if simulator.on("index_lag"):
            low, high = simulator.value("index_lag")
            lag = int(simulator.rng.uniform(low, high) * 1000)
        self.index.write(int(id), self._seen(id), at + lag)
        if self.store.journal is not None:
            self.store.journal.insert(0, lambda: self.index.write(int(id), self._seen(id), at))  # undone last

    def _seen(self, id: str) -> Seen | None:
        record = self.store.get(id)
        if record is None or record.deleted:
            return None
        return Seen(int(id), record.created_at, record.updated_at, record.fields)

    def _derived(self, fields: Fields) -> Fields:
        """The fields with what the vendor derives from them."""
        if self.kind.name == "contacts" and "email" in fields:
            email = fields["email"]
            return {**fields, "hs_email_domain": email.rpartition("@")[2].strip().lower() or None if email else None}
        return fields

    def _claim(self, fields: Mapping[str, Any], id: str | None) -> None:
        for name in self._unique(fields):
            other = self.find(name, fields[name])
            if other is not None and other.id != id:
                raise conflict(self.kind.label, other.id)

    def _alias(self, fields: Mapping[str, Any], id: str) -> None:
        for email in (fields.get("hs_additional_emails") or "").split(";"):
            if email.strip():
                self.aliases[folded("email", email)] = id

    def _unique(self, fields: Mapping[str, Any]) -> list[str]:
        return [name for name in self.properties.unique if name != "hs_object_id" and fields.get(name)]
