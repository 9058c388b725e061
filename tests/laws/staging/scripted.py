"""A source that answers exactly the pages it was told: a real Connector, for the laws of staging."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import PrivateAttr

from sync_platform.connectors.connector import Connector
from sync_platform.model import (
    Change,
    Cursor,
    Deletes,
    Health,
    Outcome,
    Page,
    Position,
    Stream,
)

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LEAD = Stream(name="Lead", key=("Id",), cursor=Cursor(field="Modified"), deletes=Deletes.TOMBSTONE)
ITEM = Stream(name="Item", key=("Id",), deletes=Deletes.ABSENCE)
RATE = Stream(name="Rate", key=("Region", "Code"))


def at(minutes: float) -> dt.datetime:
    """A moment, in minutes after the laws' start."""
    return START + dt.timedelta(minutes=minutes)


def lead(key: str, minutes: float, **fields: Any) -> dict[str, Any]:
    """A record of the stream Lead, modified then."""
    return {"Id": key, "Modified": at(minutes), **fields}


def table(rows: Sequence[Mapping[str, Any]], **types: pa.DataType) -> pa.Table:
    """The rows as an Arrow table of the columns their first row has."""
    names = list(rows[0])
    known = {"Modified": pa.timestamp("us", tz="UTC"), "_deleted": pa.bool_(), **types}
    return pa.table({name: pa.array([row.get(name) for row in rows], known.get(name)) for name in names})


_clock = [0]


def page(
    rows: Sequence[Mapping[str, Any]] | pa.Table, position: int | None = None, *, complete: bool = False, **types: Any
) -> Page:
    """A page; every one is requested a second after the one made before it."""
    _clock[0] += 1
    return Page(
        table=rows if isinstance(rows, pa.Table) else table(rows, **types),
        position=None if position is None else Position({"next": position}),
        read_at=START + dt.timedelta(days=30, seconds=_clock[0]),
        complete=complete,
    )


class Scripted(Connector):
    """Yields the pages `answers(since)` gives. `asked` notes every read."""

    system: ClassVar[str] = "scripted"
    api_version: ClassVar[str] = "1"
    streams: ClassVar[Mapping[str, Stream]] = {stream.name: stream for stream in (LEAD, ITEM, RATE)}

    _answers: Callable[[Position | None], Iterator[Page]] = PrivateAttr()
    _told: pa.Schema = PrivateAttr(default=pa.schema([]))
    _asked: list[dict[str, Any]] = PrivateAttr(default_factory=list)

    @classmethod
    def of(cls, *pages: Page, schema: pa.Schema | None = None) -> Scripted:
        """A source that answers these pages, whatever the position."""
        return cls.by(lambda since: iter(pages), schema=schema)

    @classmethod
    def by(cls, answers: Callable[[Position | None], Iterator[Page]], schema: pa.Schema | None = None) -> Scripted:
        """A source that answers by position."""
        made = cls()
        made._answers = answers
        made._told = schema or pa.schema([])
        return made

    @property
    def asked(self) -> list[dict[str, Any]]:
        """`since`, `fields` and `where` of every read."""
        return self._asked

    def check(self) -> Health:
        """Always well."""
        return Health(ok=True)

    def discover(self, stream: str) -> pa.Schema:
        """The schema it was told."""
        return self._told

    def read(
        self,
        stream: str,
        since: Position | None = None,
        *,
        fields: Sequence[str] | None = None,
        where: str | None = None,
    ) -> Iterator[Page]:
        """The pages it was told."""
        self._asked.append({"since": since.value if since else None, "fields": fields, "where": where})
        yield from self._answers(since)

    def get(self, stream: str, ids: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """Nothing: staging never looks up."""
        return pa.table({})

    def find(self, stream: str, field: str, values: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """Nothing: staging never looks up."""
        return pa.table({})

    def write(self, stream: str, changes: Sequence[Change]) -> Iterator[Outcome]:
        """Nothing: staging never writes to a source."""
        return iter(())
