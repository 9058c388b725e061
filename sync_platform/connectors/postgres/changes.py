"""What the messages of a slot say about rows: the newest change of each, by stream and key."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sync_platform.connectors.postgres.keys import Translation, key_text, translation
from sync_platform.connectors.postgres.pgoutput import (
    Begin,
    Commit,
    Relation,
    Truncate,
    Unchanged,
    Values,
    key_of_delete,
    key_of_insert,
    keys_of_update,
    parse,
    relation_of,
)
from sync_platform.connectors.postgres.replication import Followed
from sync_platform.connectors.sql import Table
from sync_platform.errors import SyncError


@dataclass(frozen=True, slots=True)
class _Target:
    """How the rows of a relation become events: the streams they belong to and where their key stands."""

    streams: tuple[str, ...]
    places: tuple[int, ...]
    translations: tuple[Translation, ...]


class Hint(NamedTuple):
    """The newest change of a row: its place in the log, what it was, and when it was committed."""

    lsn: int
    kind: str
    at: dt.datetime


@dataclass
class Changes:
    """What was read and not told yet. `describe` gives a stream's table as the catalogue has it now."""

    followed: Mapping[str, Followed]
    describe: Callable[[str], Table]
    end: int  # behind the last whole transaction
    transaction: Begin | None = None  # the one being read
    rows: dict[tuple[str, str], Hint] = field(default_factory=dict)
    xids: set[int] = field(default_factory=set)  # of the transactions they are from
    emptied: set[str] = field(default_factory=set)
    altered: set[str] = field(default_factory=set)
    newest: dt.datetime | None = None
    _relations: dict[int, Relation] = field(default_factory=dict)
    _targets: dict[int, _Target | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.rows or self.emptied or self.altered)

    def told(self) -> None:
        """Everything was told."""
        self.rows, self.emptied, self.altered, self.newest = {}, set(), set(), None

    def take(self, payload: bytes, where: int) -> None:
        """Takes a message in; `where` is its place in the log."""
        kind = payload[0]
        if kind == 73:  # I
            self._row(relation_of(payload), where, "created", payload)
        elif kind == 85:  # U
            self._row(relation_of(payload), where, "updated", payload)
        elif kind == 68:  # D
            self._row(relation_of(payload), where, "deleted", payload)
        else:
            self._other(parse(payload))

    def _other(self, message: Begin | Commit | Relation | Truncate | None) -> None:
        if isinstance(message, Begin):
            self.transaction = message
        elif isinstance(message, Commit):
            self.transaction, self.end = None, message.end
        elif isinstance(message, Relation):
            self._relation(message)
        elif isinstance(message, Truncate):
            self._note()
            for number in message.relations:
                target = self._targets.get(number)
                self.emptied |= set(target.streams if target is not None else self._streams_of(number))

    def _note(self) -> dt.datetime:
        """The open transaction's changes are among what is told next."""
        assert self.transaction is not None, "a row outside a transaction"
        self.xids.add(self.transaction.xid)
        self.newest = self.transaction.committed_at
        return self.newest

    def _row(self, number: int, where: int, kind: str, payload: bytes) -> None:
        target = self._targets.get(number)
        if target is None:
            return
        at = self._note()
        if kind == "updated":
            old, new = keys_of_update(payload, target.places)
            if old is not None:
                new = tuple(was if isinstance(now, Unchanged) else now for was, now in zip(old, new, strict=True))
                if old != new:
                    self._hint(target, old, where, "deleted", at)
            self._hint(target, new, where, kind, at)
        else:
            values = (
                key_of_insert(payload, target.places) if kind == "created" else key_of_delete(payload, target.places)
            )
            self._hint(target, values, where, kind, at)

    def _hint(self, target: _Target, values: Values, where: int, kind: str, at: dt.datetime) -> None:
        key = key_text(values, target.translations)
        for stream in target.streams:
            if key is None:  # nobody can say which row it was
                self.altered.add(stream)
            else:
                self.rows[stream, key] = Hint(where, kind, at)

    def _relation(self, relation: Relation) -> None:
        """A table is told of for the first time on this connection, or looks different from now on."""
        before, self._relations[relation.id] = self._relations.get(relation.id), relation
        streams = self._streams_of(relation.id)
        if not streams:
            self._targets[relation.id] = None
            return
        known = self.followed[streams[0]]
        if relation.columns != (before.columns if before is not None else known.columns):
            self.altered |= set(streams)
        table = known.table
        places = relation.places(table.key)
        if places is None:  # the key has other columns by now
            with contextlib.suppress(SyncError):
                table = self.describe(streams[0])
                places = relation.places(table.key)
        translations = tuple(translation(table.columns[name]) for name in table.key)
        if places is None or None in translations:
            self.altered |= set(streams)
            self._targets[relation.id] = None
            return
        self._targets[relation.id] = _Target(streams, places, tuple(one for one in translations if one is not None))

    def _streams_of(self, number: int) -> tuple[str, ...]:
        relation = self._relations.get(number)
        return tuple(
            name
            for name, one in self.followed.items()
            if relation is not None and (one.table.schema, one.table.name) == (relation.schema, relation.name)
        )
