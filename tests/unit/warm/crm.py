"""A source in memory whose records change under the events about them: a real Connector."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import PrivateAttr

from sync_platform.connectors.connector import Connector
from sync_platform.errors import TransientError
from sync_platform.model import Change, Cursor, Field, Health, Outcome, Page, Position, Stream, schema_of

FIELDS = (
    Field(name="Id", type=pa.string()),
    Field(name="Email", type=pa.string()),
    Field(name="Name", type=pa.string()),
    Field(name="Changed", type=pa.timestamp("us", tz="UTC")),
)
LEAD = Stream(name="Lead", key=("Id",), cursor=Cursor(field="Changed"), writable=False)


class Crm(Connector):
    """Leads in a dictionary. `away` is how many calls fail before it answers again."""

    system: ClassVar[str] = "crm"
    api_version: ClassVar[str] = "1"
    events_carry_values: ClassVar[bool] = True
    streams: ClassVar[Mapping[str, Stream]] = {"Lead": LEAD}

    _rows: dict[str, dict[str, Any]] = PrivateAttr(default_factory=dict)
    _reads: list[list[str]] = PrivateAttr(default_factory=list)
    _away: list[int] = PrivateAttr(default_factory=lambda: [0])
    _hidden: set[str] = PrivateAttr(default_factory=set)

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The leads by id."""
        return self._rows

    @property
    def reads(self) -> list[list[str]]:
        """The ids of every call of `get`."""
        return self._reads

    @property
    def hidden(self) -> set[str]:
        """The fields our user may not see any more."""
        return self._hidden

    def fail(self, times: int) -> None:
        """The next calls find nobody at home."""
        self._away[0] = times

    def put(self, key: str, email: str | None, name: str | None = None, *, at: dt.datetime | None = None) -> None:
        """Stores a lead as a person would."""
        changed = at or dt.datetime.now(dt.UTC)
        self._rows[key] = {"Id": key, "Email": email, "Name": name, "Changed": changed}

    def check(self) -> Health:
        """Always well."""
        return Health(ok=True)

    def discover(self, stream: str) -> pa.Schema:
        """The fields."""
        return schema_of(FIELDS)

    def get(self, stream: str, ids: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The leads of these ids."""
        if self._away[0] > 0:
            self._away[0] -= 1
            raise TransientError("crm: nobody answers")
        self._reads.append(list(ids))
        found = self._table([self._rows[one] for one in ids if one in self._rows])
        return found.select([name for name in found.column_names if name in {"Id", *fields}])

    def find(self, stream: str, field: str, values: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The leads with one of these values."""
        return self._table([row for row in self._rows.values() if row[field] in values])

    def read(
        self,
        stream: str,
        since: Position | None = None,
        *,
        fields: Sequence[str] | None = None,
        where: str | None = None,
    ) -> Iterator[Page]:
        """All leads in one page: these tests stage little."""
        yield Page(
            table=self._table(list(self._rows.values())),
            position=Position({"all": True}),
            read_at=dt.datetime.now(dt.UTC),
            complete=True,
        )

    def write(self, stream: str, changes: Sequence[Change]) -> Iterator[Outcome]:
        """Nobody writes here."""
        raise AssertionError("a source was written to")

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        shown = [f for f in FIELDS if f.name not in self._hidden]
        return pa.table({f.name: pa.array([row[f.name] for row in rows], f.type) for f in shown})
