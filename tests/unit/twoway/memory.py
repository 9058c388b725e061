"""A system in memory that both reads and is written: records with stamps, deletions, merges and what a vendor does."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import PrivateAttr

from sync_platform.connectors.connector import Connector
from sync_platform.model import Change, Cursor, Field, Health, Op, Outcome, Page, Position, Status, Stream, schema_of

STAMP = "Stamp"
_EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def text(name: str, **flags: Any) -> Field:
    """A text field."""
    return Field(name=name, type=pa.string(), **flags)


class Killed(BaseException):
    """Our process dies here; nothing of ours may catch it."""


class Memory(Connector):
    """One stream `people` in a dictionary; every write moves the record's stamp by a second."""

    system: ClassVar[str] = "memory"
    api_version: ClassVar[str] = "1"

    _fields: tuple[Field, ...] = PrivateAttr()
    _stream: Stream = PrivateAttr()
    _rows: dict[str, dict[str, Any]] = PrivateAttr(default_factory=dict)
    _dead: dict[str, dict[str, Any]] = PrivateAttr(default_factory=dict)
    _survivors: dict[str, str] = PrivateAttr(default_factory=dict)
    _ticks: Iterator[int] = PrivateAttr()
    _ids: Iterator[int] = PrivateAttr(default_factory=lambda: itertools.count(1))
    _written: list[Change] = PrivateAttr(default_factory=list)
    _reads: list[list[str]] = PrivateAttr(default_factory=list)
    _habit: Callable[[str, Any], Any] = PrivateAttr(default_factory=lambda: _as_sent)
    _dies: str | None = PrivateAttr(default=None)
    _refused: set[str] = PrivateAttr(default_factory=set)
    _prefix: str = PrivateAttr(default="m")

    @classmethod
    def of(cls, *fields: Field, prefix: str, ticks: Iterator[int], **habits: Any) -> Memory:
        """A system with these fields beside `Id` and `Stamp`; `habits` are the stream's."""
        made = cls()
        made._fields = (text("Id", readonly=True), *fields, _stamp())
        made._stream = Stream(name="people", key=("Id",), cursor=Cursor(field=STAMP), **habits)
        made._ticks, made._prefix = ticks, prefix
        return made

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The records by id."""
        return self._rows

    @property
    def written(self) -> list[Change]:
        """Every change that reached us."""
        return self._written

    @property
    def reads(self) -> list[list[str]]:
        """The ids of every call of `get`."""
        return self._reads

    def habit(self, change: Callable[[str, Any], Any]) -> None:
        """Lets the vendor store something else than it was sent: (field, value) -> value."""
        self._habit = change

    def die(self, when: str | None) -> None:
        """The next write kills our process `before` or `after` it is stored."""
        self._dies = when

    @property
    def refused(self) -> set[str]:
        """Values that no record may be given."""
        return self._refused

    def put(self, **values: Any) -> str:
        """A person makes a record; returns its id."""
        key = f"{self._prefix}{next(self._ids)}"
        blank = {f.name: None for f in self._fields}
        self._rows[key] = blank | {"Id": key, STAMP: self._now()} | values
        return key

    def edit(self, key: str, **values: Any) -> None:
        """A person changes a record."""
        self._rows[key] |= values | {STAMP: self._now()}

    def remove(self, key: str) -> None:
        """A person deletes a record."""
        self._dead[key] = self._rows.pop(key) | {STAMP: self._now()}

    def merge(self, survivor: str, loser: str) -> None:
        """A person merges two records: the survivor keeps its values and takes what it lacked."""
        lost = self._rows[loser]
        self.remove(loser)
        self._survivors[loser] = survivor
        mine = self._rows[survivor]
        self.edit(survivor, **{n: v for n, v in lost.items() if mine.get(n) is None})

    def merged(self, stream: str, ids: Sequence[str]) -> Mapping[str, str]:
        """Which of these were merged away, and into what."""
        return {key: self._survivors[key] for key in ids if key in self._survivors}

    def _now(self) -> dt.datetime:
        return _EPOCH + dt.timedelta(seconds=next(self._ticks))

    # -- the connector ---------------------------------------------------------------------------

    def stream(self, name: str) -> Stream:
        """The one stream."""
        assert name == "people"
        return self._stream

    def check(self) -> Health:
        """Always well."""
        return Health(ok=True)

    def discover(self, stream: str) -> pa.Schema:
        """The fields."""
        return schema_of(self._fields)

    def read(
        self, stream: str, since: Position | None = None, *, fields: Sequence[str] | None = None,
        where: str | None = None,
    ) -> Iterator[Page]:  # fmt: skip
        """All records, the deleted ones marked."""
        alive, dead = list(self._rows.values()), list(self._dead.values())
        table = self._table([*alive, *dead], [f.name for f in self._fields])
        marks = pa.array([False] * len(alive) + [True] * len(dead), pa.bool_())
        yield Page(
            table=table.append_column("_deleted", marks), position=Position({"all": True}),
            read_at=dt.datetime.now(dt.UTC), complete=True,
        )  # fmt: skip

    def get(self, stream: str, ids: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The living records of these ids."""
        self._reads.append(list(ids))
        return self._table([self._rows[one] for one in ids if one in self._rows], ["Id", *fields])

    def find(self, stream: str, field: str, values: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The living records with one of these values, compared without case."""
        wanted = {value.casefold() for value in values}
        found = [row for row in self._rows.values() if str(row[field] or "").casefold() in wanted]
        return self._table(found, ["Id", field, *fields])

    def write(self, stream: str, changes: Sequence[Change]) -> Iterator[Outcome]:
        """One outcome per change."""
        if self._dies == "before":
            self._dies = None
            raise Killed
        outcomes = [self._apply(change) for change in changes]
        if self._dies == "after":
            self._dies = None
            raise Killed
        yield from outcomes

    def _apply(self, change: Change) -> Outcome:
        if self._refused.intersection(v for v in change.fields.values() if isinstance(v, str)):
            return Outcome(
                key=change.key, op=change.op, status=Status.FAILED, target_id=change.target_id, reason="not welcome"
            )
        self._written.append(change)
        values = {name: self._habit(name, value) for name, value in change.fields.items()}
        if self._stream.empty_is_null:
            values = {name: None if value == "" else value for name, value in values.items()}
        key = change.target_id
        if change.op is Op.CREATE:
            key = self.put(**values)
        elif change.op is Op.UPDATE:
            assert key is not None
            self.edit(key, **values)
        elif key in self._rows:
            self.remove(str(key))
        return Outcome(key=change.key, op=change.op, status=Status.APPLIED, target_id=key)

    def _table(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pa.Table:
        kinds = {f.name: f.type for f in self._fields}
        wanted = [name for name in dict.fromkeys(names) if name in kinds]
        return pa.table({name: pa.array([row[name] for row in rows], kinds[name]) for name in wanted})


def _as_sent(name: str, value: Any) -> Any:
    return value


def _stamp() -> Field:
    return Field(name=STAMP, type=pa.timestamp("us", tz="UTC"), readonly=True)
