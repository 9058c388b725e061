"""Records of one simulated stream, with the history a late search index answers from.

Times are integers: milliseconds since the epoch, on the sandbox clock. A version of a record is never
changed in place: a write replaces `Record.fields`, so older versions and snapshots cost nothing.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

Fields: TypeAlias = dict[str, Any]
Undo: TypeAlias = Callable[[], None]

#: How long superseded versions are kept, in milliseconds of the sandbox clock.
HISTORY_MS = 15 * 60 * 1000


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Pauses the garbage collector while very many small objects are made.

    It would walk all of them again and again.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class Version(NamedTuple):
    """What a record held from `stored_at` on."""

    stored_at: int
    updated_at: int
    fields: Fields
    deleted: bool


class Record:
    """One record. `fields` holds no nulls: a field that is absent is null to the vendor."""

    __slots__ = ("created_at", "deleted", "deleted_at", "fields", "id", "meta", "past", "stored_at", "updated_at")

    def __init__(self, id: str, fields: Fields, created_at: int, updated_at: int, stored_at: int) -> None:
        self.id = id
        self.fields = fields
        self.created_at = created_at
        self.updated_at = updated_at
        self.stored_at = stored_at  # when this version entered the store (what an index lags behind)
        self.deleted = False
        self.deleted_at: int | None = None
        self.past: list[Version] | None = None
        self.meta: dict[str, Any] | None = None  # a simulator's own notes (merged into, visible from, ...)

    @property
    def current(self) -> Version:
        """The newest version."""
        return Version(self.stored_at, self.updated_at, self.fields, self.deleted)

    def as_of(self, at: int) -> Version | None:
        """The version an index that saw everything up to `at` (ms) would hold, or None."""
        if self.stored_at <= at:
            return self.current
        for version in reversed(self.past or ()):
            if version.stored_at <= at:
                return version
        return None


class Index:
    """Record ids by the folded value of one field; kept current by the store."""

    __slots__ = ("field", "fold", "ids")

    def __init__(self, field: str, fold: Callable[[Any], Any]) -> None:
        self.field = field
        self.fold = fold
        self.ids: dict[Any, dict[str, None]] = {}

    def add(self, id: str, fields: Mapping[str, Any]) -> None:
        """Takes a record up."""
        value = fields.get(self.field)
        if value is not None:
            self.ids.setdefault(self.fold(value), {})[id] = None

    def drop(self, id: str, fields: Mapping[str, Any]) -> None:
        """Forgets a record."""
        value = fields.get(self.field)
        if value is not None:
            self.ids.get(self.fold(value), {}).pop(id, None)


class Store:
    """The records of one stream in order of creation, deleted ones included until purged."""

    def __init__(self, name: str, now: Callable[[], int]) -> None:
        self.name = name
        self.now = now
        self.records: dict[str, Record] = {}
        self.journal: list[Undo] | None = None  # set by World.atomic
        self.newest = 0  # the highest `updated_at` ever stored
        self.version = 0  # grows with every write
        self._indexes: dict[str, Index] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records.values())

    def get(self, id: str) -> Record | None:
        """The record, deleted or not; None if it never existed or was purged."""
        return self.records.get(id)

    def live(self) -> Iterator[Record]:
        """The records that are not deleted."""
        return (record for record in self.records.values() if not record.deleted)

    def insert(
        self, id: str, fields: Fields, *, created_at: int, updated_at: int | None = None, stored_at: int | None = None
    ) -> Record:
        """Stores a new record (nulls left out). `stored_at` defaults to the clock."""
        updated = created_at if updated_at is None else updated_at
        kept = fields if None not in fields.values() else {k: v for k, v in fields.items() if v is not None}
        record = Record(id, kept, created_at, updated, self.now() if stored_at is None else stored_at)
        self.records[id] = record
        self.newest = max(self.newest, updated)
        self.version += 1
        for index in self._indexes.values():
            index.add(id, kept)
        self._undo(lambda: self.purge(id))
        return record

    def patch(self, id: str, changes: Mapping[str, Any], *, updated_at: int | None = None) -> bool:
        """Writes some fields (None clears); a new version. Returns whether any value differs.

        `updated_at` None keeps the stamp.
        """
        record = self.records[id]
        fields = {**record.fields, **changes}
        if None in fields.values():
            fields = {k: v for k, v in fields.items() if v is not None}
        changed = fields != record.fields
        self._replace(record, fields, record.updated_at if updated_at is None else updated_at, record.deleted)
        return changed

    def remove(self, id: str, *, updated_at: int | None = None) -> None:
        """Marks a record deleted; it stays for tombstones and archives."""
        record = self.records[id]
        self._replace(record, record.fields, record.updated_at if updated_at is None else updated_at, True)

    def restore(self, id: str, *, updated_at: int | None = None) -> None:
        """Takes a deletion back."""
        record = self.records[id]
        self._replace(record, record.fields, record.updated_at if updated_at is None else updated_at, False)

    def purge(self, id: str) -> None:
        """Forgets a record for good."""
        record = self.records.pop(id, None)
        if record is None:
            return
        self.version += 1
        for index in self._indexes.values():
            index.drop(id, record.fields)
        self._undo(lambda: self._revive(record))

    def lookup(self, field: str, value: Any, *, fold: Callable[[Any], Any] = lambda value: value) -> list[Record]:
        """Records (deleted ones too) whose `field` folds to the same value; indexed on first use.

        One fold per field: the first caller's.
        """
        index = self._indexes.get(field)
        if index is None:
            index = self._indexes[field] = Index(field, fold)
            for record in self.records.values():
                index.add(record.id, record.fields)
        return [self.records[id] for id in index.ids.get(index.fold(value), ())]

    def clear(self) -> None:
        """Empties the store."""
        self.records.clear()
        self._indexes.clear()
        self.newest = 0
        self.version += 1

    def _revive(self, record: Record) -> None:
        self.version += 1
        self.records[record.id] = record
        for index in self._indexes.values():
            index.add(record.id, record.fields)

    def _replace(self, record: Record, fields: Fields, updated_at: int, deleted: bool) -> None:
        now = self.now()
        before = (record.fields, record.updated_at, record.stored_at, record.deleted, record.deleted_at, record.past)
        past = [*(record.past or ()), record.current]
        while len(past) > 1 and past[1].stored_at <= now - HISTORY_MS:
            past.pop(0)  # the version before the window stays: a lagging index may still hold it
        self._set(record, fields, updated_at, now, deleted, now if deleted else None, past)
        self.newest = max(self.newest, updated_at)
        self._undo(lambda: self._set(record, *before[:3], *before[3:]))

    def _set(
        self,
        record: Record,
        fields: Fields,
        updated_at: int,
        stored_at: int,
        deleted: bool,
        deleted_at: int | None,
        past: list[Version] | None,
    ) -> None:
        self.version += 1
        if fields is not record.fields:
            for index in self._indexes.values():
                index.drop(record.id, record.fields)
                index.add(record.id, fields)
        record.fields = fields
        record.updated_at = updated_at
        record.stored_at = stored_at
        record.deleted = deleted
        record.deleted_at = deleted_at
        record.past = past

    def _undo(self, step: Undo) -> None:
        if self.journal is not None:
            self.journal.append(step)


def without_nulls(fields: Mapping[str, Any]) -> Fields:
    """The fields that hold a value."""
    return {name: value for name, value in fields.items() if value is not None}


def select(records: Iterable[Record], at: int | None = None) -> Iterator[tuple[Record, Version]]:
    """Records with the version visible as of `at` (None: now), deleted ones included."""
    for record in records:
        version = record.current if at is None else record.as_of(at)
        if version is not None:
            yield record, version
