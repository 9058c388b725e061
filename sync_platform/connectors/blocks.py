"""What the snapshots by blocks of every database have in common; see `digests.Comparison`."""

from __future__ import annotations

import abc
import contextlib
import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, Generic, TypeVar

import pyarrow as pa

from sync_platform.connectors.ahead import ahead
from sync_platform.model import Page, Position

S = TypeVar("S")

_AHEAD: Final = 8


class Blocks(abc.ABC, Generic[S]):
    """A table in one snapshot of one session, by blocks of digests."""

    digests: str
    sums: pa.Table

    def __init__(self, session: AbstractContextManager[S], read_at: dt.datetime, page_bytes: int) -> None:
        """`page_bytes`: how large a page is, about."""
        self._read_at, self._page_bytes = read_at, page_bytes
        self._stack = contextlib.ExitStack()
        self._session = self._stack.enter_context(session)
        self._reading = False

    def open(self, bits: int) -> bool:
        """Takes the snapshot and sums up blocks of that many bits; closed and False where the server cannot."""
        self._mask = 2**bits - 1
        try:
            if self._sum_up():
                return True
        except BaseException:
            self._give_up()
            raise
        self.close()
        return False

    @abc.abstractmethod
    def _sum_up(self) -> bool:
        """Takes the snapshot; fills `digests` and `sums`. False where the server cannot."""

    @abc.abstractmethod
    def fits(self, since: Position) -> bool:
        """Whether that is the end of an earlier read of this server."""

    def pages(self, since: Position, blocks: Sequence[int]) -> Iterator[Page]:
        """The rows of these blocks. Every change since that position is among them, or was staged before."""
        any_row = False
        self._go_on_from(since)
        if blocks:
            self._reading = True
            for batch in ahead(self._batches(blocks), _AHEAD):
                rows = self._conform(batch)
                if rows.num_rows:
                    any_row = True
                    self._see(rows)
                    yield Page(table=rows, position=None, read_at=self._read_at, digests=self.digests)
            self._reading = False
        end = self._end(empty=not any_row)
        yield Page(table=self._schema().empty_table(), position=end, read_at=self._read_at, complete=True)

    @abc.abstractmethod
    def _go_on_from(self, since: Position) -> None:
        """What is read is read since there."""

    @abc.abstractmethod
    def _batches(self, blocks: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """The rows of these blocks as the server sends them, in the order of their keys."""

    @abc.abstractmethod
    def _conform(self, batch: pa.RecordBatch) -> pa.Table:
        """Rows in the columns' types, with their digests."""

    @abc.abstractmethod
    def _see(self, rows: pa.Table) -> None:
        """Notes the newest of the cursor's values."""

    @abc.abstractmethod
    def _end(self, *, empty: bool) -> Position:
        """The position behind everything."""

    @abc.abstractmethod
    def _schema(self) -> pa.Schema:
        """Of pages without rows."""

    def close(self) -> None:
        """Gives the connection back, or closes it in the middle of a query."""
        if self._reading:
            self._give_up()
        self._stack.close()

    def _give_up(self) -> None:
        """Closes the connection, whatever it is doing."""
        self._reading = False
        self._stack.__exit__(GeneratorExit, GeneratorExit(), None)
