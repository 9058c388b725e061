"""A read cut into chunks: pages put together until it is worth a commit, and never mixed in shape."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from sync_platform.errors import ContractError, SyncError
from sync_platform.model import DELETED, DIGEST, READ_AT, Page, Position
from sync_platform.staging.canonical import canonical, check_key, check_names, fit, flag
from sync_platform.staging.sieve import ORDER

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_OURS: Final = (DELETED, READ_AT, ORDER, DIGEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a chunk is committed: whatever comes first. A page is never split.

    `ahead_from`: rows of a chunk that take long enough to land for the next one to be sifted meanwhile.
    """

    rows: int = 500_000
    bytes: int = 128 * 1024 * 1024
    seconds: float = 60.0
    ahead_from: int = 50_000
    clock: Callable[[], float] = time.monotonic


@dataclass(slots=True, kw_only=True)
class Chunk:
    """Pages of one shape. `rows` has the vendor's columns in staged types, `_deleted`, `_read_at`, `_ord`."""

    rows: pa.Table
    types: Mapping[str, pa.DataType]  # the vendor columns the pages had
    position: Position | None  # the last safe point, if there was one
    complete: bool  # the last page proved the read complete
    last: bool  # the read ended here
    error: SyncError | None = None  # why it ended, when it broke off
    digests: str | None = None  # what `rows` has digests of, in a column of that name (see `Page`)


@dataclass(slots=True)
class Chunks:
    """The chunks of one read. `staged` are the types of the staged table, and grow with what is seen.

    `discover` gives the stream's schema and is asked once, when a page brings a column that is not
    staged yet. `rows_read` counts as pages arrive.
    """

    pages: Iterator[Page]
    name: str  # "<connection>/<stream>" for messages
    key: Sequence[str]
    staged: dict[str, pa.DataType]
    discover: Callable[[], pa.Schema]
    limits: Limits = field(default_factory=Limits)
    rows_read: int = 0
    digests: str | None = None
    read_at: int = 0  # the latest request's start, in microseconds
    _spelling: dict[str, str] = field(default_factory=dict)
    _described: dict[str, pa.DataType] | None = None

    def __iter__(self) -> Iterator[Chunk]:
        """Yields chunks, the last of them with `last`. A read without pages yields none."""
        held: list[pa.Table] = []
        size, started = 0, self.limits.clock()
        position: Position | None = None
        empty = True  # no page in this chunk yet, not even one without rows
        for page, error in self._arriving():
            if page is None:
                if not empty or error is not None:
                    yield self._chunk(held, position, last=True, error=error)
                return
            table = self._prepared(page) if page.table.num_rows else None
            if held and table is not None:
                full = sum(map(len, held)) >= self.limits.rows or size >= self.limits.bytes
                late = self.limits.clock() - started >= self.limits.seconds
                if full or late or table.schema.names != held[0].schema.names:
                    yield self._chunk(held, position)
                    held, size, started, position = [], 0, self.limits.clock(), None
            if table is not None:
                held.append(table)
                size += table.nbytes
            empty, position = False, page.position or position
            if page.complete:
                yield self._chunk(held, position, complete=True, last=True)
                return

    def _arriving(self) -> Iterator[tuple[Page | None, SyncError | None]]:
        """The pages, then (None, how it ended). What breaks off a read does not undo the pages before it."""
        try:
            for page in self.pages:
                yield page, None
        except ContractError:
            raise
        except SyncError as error:
            yield None, error
            return
        yield None, None

    def _prepared(self, page: Page) -> pa.Table:
        table = self._respelled(page.table)
        given = {name: table.schema.field(name).type for name in table.column_names if name not in (DELETED, DIGEST)}
        check_names(list(given), self.name)
        check_key(table, self.key, self.name)
        types = {name: known for name, kind in given.items() if (known := self._type(name, kind)) is not None}
        count = table.num_rows
        rows = fit(table.select(sorted(types)), types, self.name)
        rows = rows.append_column(DELETED, flag(table))
        if page.digests is not None:
            rows = rows.append_column(DIGEST, table[DIGEST])
        self.digests = page.digests
        read_at = _micros(page.read_at)
        rows = rows.append_column(READ_AT, pa.repeat(pa.scalar(read_at, pa.int64()), count))
        rows = rows.append_column(ORDER, pa.arange(self.rows_read, self.rows_read + count))
        self.rows_read += count
        self.read_at = max(self.read_at, read_at)
        return rows

    def _respelled(self, table: pa.Table) -> pa.Table:
        """Column names as staged: DuckDB does not tell `email` from `Email`."""
        for name in self.staged:
            self._spelling.setdefault(name.casefold(), name)
        names = [self._spelling.setdefault(name.casefold(), name) for name in table.column_names]
        if len(set(names)) < len(names):
            check_names([name for name in table.column_names if name not in (DELETED, DIGEST)], self.name)
        return table.rename_columns(names) if names != table.column_names else table

    def _type(self, name: str, given: pa.DataType) -> pa.DataType | None:
        """The staged type of a column; None for a new one of which only nulls are known: it is absent."""
        if name in self.staged:
            return self.staged[name]
        if self._described is None:
            self._described = {item.name.casefold(): item.type for item in self.discover()}
        told = self._described.get(name.casefold(), given)
        told = given if pa.types.is_null(told) else told
        if pa.types.is_null(told):
            return None
        kind = canonical(told)
        if kind is None:
            raise ContractError(
                f"{self.name}: {name} has the type {told}, which the lake cannot hold",
                field=name,
                mend="let the connector give it as text or as a number",
            )
        self.staged[name] = kind
        return kind

    def _chunk(
        self,
        held: list[pa.Table],
        position: Position | None,
        *,
        complete: bool = False,
        last: bool = False,
        error: SyncError | None = None,
    ) -> Chunk:
        rows = pa.concat_tables(held) if held else pa.table({})
        types = {name: self.staged[name] for name in rows.column_names if name not in _OURS}
        digests = self.digests if DIGEST in rows.column_names else None
        return Chunk(
            rows=rows, types=types, position=position, complete=complete, last=last, error=error, digests=digests
        )


def _micros(moment: dt.datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
