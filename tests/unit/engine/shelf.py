"""A target in memory with faults that can be switched on: a real Connector, for the tests of delivery."""

from __future__ import annotations

import datetime as dt
import enum
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import PrivateAttr

from sync_platform.connectors.connector import Connector
from sync_platform.errors import RecordError, TransientError, UnknownOutcome
from sync_platform.model import Change, Field, Health, Op, Outcome, Page, Position, Repeat, Status, Stream, schema_of

FIELDS = (
    Field(name="id", type=pa.string(), readonly=True),
    Field(name="email", type=pa.string(), folded=True),
    Field(name="name", type=pa.string()),
)
CONTACTS = Stream(name="contacts", key=("id",), batch_size=3, repeat=Repeat.LOOKUP)
BLIND = Stream(name="blind", key=("id",), batch_size=3, repeat=Repeat.NONE)
LATE = Stream(
    name="late", key=("id",), batch_size=3, repeat=Repeat.LOOKUP, lookup_lag=dt.timedelta(seconds=30), compare="links"
)


class Fault(enum.Enum):
    """What goes wrong with one write call."""

    ANSWER_LOST = "everything is stored, the answer is lost"
    REQUEST_LOST = "nothing is stored, and nobody knows"
    BUSY = "turned away, nothing is stored"
    WHOLE_REFUSED = "the batch is refused as a whole because of one record in it"
    KILLED = "everything is stored, then our process dies"


class Killed(BaseException):
    """Our process dies here; nothing of ours may catch it."""


class Shelf(Connector):
    """Records in a dictionary. `faults` are used up one per write call; `refused` and `retried` name e-mails."""

    system: ClassVar[str] = "shelf"
    api_version: ClassVar[str] = "1"
    streams: ClassVar[Mapping[str, Stream]] = {stream.name: stream for stream in (CONTACTS, BLIND, LATE)}

    _rows: dict[str, dict[str, Any]] = PrivateAttr(default_factory=dict)
    _faults: list[Fault | None] = PrivateAttr(default_factory=list)
    _refused: set[str] = PrivateAttr(default_factory=set)
    _retried: set[str] = PrivateAttr(default_factory=set)
    _calls: list[list[Change]] = PrivateAttr(default_factory=list)
    _before_write: Callable[[], object] | None = PrivateAttr(default=None)
    _ids: Iterator[int] = PrivateAttr(default_factory=lambda: itertools.count(1))

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The records by id, for a test to look at and to edit by hand."""
        return self._rows

    @property
    def faults(self) -> list[Fault | None]:
        """What the next write calls meet, in order; None where all is well."""
        return self._faults

    @property
    def refused(self) -> set[str]:
        """E-mails whose records are refused for good."""
        return self._refused

    @property
    def retried(self) -> set[str]:
        """E-mails whose records are refused for now."""
        return self._retried

    @property
    def calls(self) -> list[list[Change]]:
        """The changes of every write call that reached us."""
        return self._calls

    def on_write(self, look: Callable[[], object]) -> None:
        """Calls `look` at the start of every write call."""
        self._before_write = look

    def put(self, **fields: Any) -> str:
        """Stores a record as a person would; returns its id."""
        made = f"t{next(self._ids)}"
        self._rows[made] = {"email": None, "name": None, **fields}
        return made

    def emails(self) -> list[str]:
        """The e-mails there are, sorted; one that is there twice shows twice."""
        return sorted(str(row["email"]) for row in self._rows.values())

    def check(self) -> Health:
        """Always well."""
        return Health(ok=True)

    def discover(self, stream: str) -> pa.Schema:
        """The fields."""
        return schema_of(FIELDS)

    def read(
        self,
        stream: str,
        since: Position | None = None,
        *,
        fields: Sequence[str] | None = None,
        where: str | None = None,
    ) -> Iterator[Page]:
        """Nothing: these tests compare by look-up."""
        return iter(())

    def get(self, stream: str, ids: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The records of these ids."""
        return self._table([one for one in ids if one in self._rows], fields)

    def find(self, stream: str, field: str, values: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The records with one of these values, compared without case."""
        wanted = {value.casefold() for value in values}
        return self._table(
            [one for one, row in self._rows.items() if str(row[field] or "").casefold() in wanted], fields
        )

    def write(self, stream: str, changes: Sequence[Change]) -> Iterator[Outcome]:
        """One outcome per change, after whatever fault is due."""
        assert changes, "an empty call says nothing"
        assert len(changes) <= self.streams[stream].batch_size
        if self._before_write is not None:
            self._before_write()
        self._calls.append(list(changes))
        fault = self._faults.pop(0) if self._faults else None
        if fault is Fault.BUSY:
            raise TransientError("shelf: busy", retry_after=7.0)
        if fault is Fault.REQUEST_LOST:
            raise UnknownOutcome("shelf: no answer")
        if fault is Fault.WHOLE_REFUSED:
            raise RecordError("shelf: one of them is wrong", field="email")
        outcomes = [self._apply(change) for change in changes]
        if fault is Fault.ANSWER_LOST:
            raise UnknownOutcome("shelf: no answer")
        if fault is Fault.KILLED:
            raise Killed
        yield from outcomes

    def _apply(self, change: Change) -> Outcome:
        email = change.fields.get("email") or self._rows.get(change.target_id or "", {}).get("email")
        for emails, status in ((self._refused, Status.FAILED), (self._retried, Status.RETRY)):
            if email in emails:
                return Outcome(
                    key=change.key, op=change.op, status=status, target_id=change.target_id,
                    field="email", reason="not welcome",
                )  # fmt: skip
        if change.op is Op.CREATE:
            made = self.put(**change.fields)
            return Outcome(key=change.key, op=change.op, status=Status.APPLIED, target_id=made)
        assert change.target_id is not None
        if change.op is Op.UPDATE:
            self._rows[change.target_id].update(change.fields)
        else:
            self._rows.pop(change.target_id, None)
        return Outcome(key=change.key, op=change.op, status=Status.APPLIED, target_id=change.target_id)

    def _table(self, ids: Sequence[str], fields: Sequence[str]) -> pa.Table:
        names = [name for name in dict.fromkeys(fields) if name != "id"]
        columns = {name: pa.array([self._rows[one][name] for one in ids], pa.string()) for name in names}
        return pa.table({"id": pa.array(ids, pa.string()), **columns})
