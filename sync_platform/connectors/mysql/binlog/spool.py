"""The events of one transaction: a list, and beyond a certain number a temporary file: none fills the memory."""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import IO, Final, overload

from sync_platform.model import Event

#: Events that are kept in memory; and how many are read from the file at once.
IN_MEMORY: Final = 20_000
_CHUNK: Final = 1_000

_Row = tuple[str, str, str, int]  # stream, kind, key, which of the stream's changes in the transaction


class Events(Sequence[Event]):
    """The events of one transaction, in order. An event's id is the transaction's, its stream and its number there."""

    def __init__(self, gtid: str) -> None:
        self._gtid = gtid
        self._at = dt.datetime.fromtimestamp(0, dt.UTC)
        self._rows: list[_Row] = []
        self._numbers: Counter[str] = Counter()
        self._file: IO[bytes] | None = None
        self._places: list[int] = []  # where in the file each thousand begins
        self._filed = 0
        self._last: tuple[int, list[_Row]] = (-1, [])  # the chunk that was read last

    def add(self, stream: str, kind: str, key: str) -> None:
        """One more change."""
        number = self._numbers[stream]
        self._numbers[stream] = number + 1
        self._rows.append((stream, kind, key, number))
        if len(self._rows) == IN_MEMORY:
            self._spill()

    def committed(self, at: dt.datetime) -> None:
        """The transaction ended at that time; nothing is added from now on."""
        self._at = at
        if self._file is not None and self._rows:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="sync-binlog-")  # noqa: SIM115
        self._file.seek(0, 2)
        for start in range(0, len(self._rows), _CHUNK):
            self._places.append(self._file.tell())
            self._file.writelines(json.dumps(row).encode() + b"\n" for row in self._rows[start : start + _CHUNK])
        self._filed += len(self._rows)
        self._rows = []

    def __len__(self) -> int:
        return self._filed + len(self._rows)

    def __iter__(self) -> Iterator[Event]:
        for chunk in range(len(self._places)):
            yield from (self._event(row) for row in self._read(chunk))
        yield from (self._event(row) for row in self._rows)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | Sequence[Event]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        if place >= self._filed:
            return self._event(self._rows[place - self._filed])
        return self._event(self._read(place // _CHUNK)[place % _CHUNK])

    def _read(self, chunk: int) -> list[_Row]:
        if self._last[0] != chunk:
            assert self._file is not None
            self._file.seek(self._places[chunk])
            count = min(_CHUNK, self._filed - chunk * _CHUNK)
            self._last = chunk, [tuple(json.loads(self._file.readline())) for _ in range(count)]
        return self._last[1]

    def _event(self, row: _Row) -> Event:
        stream, kind, key, number = row
        name = f"{self._gtid}/{stream}/{number}"
        return Event(id=name, stream=stream, key=key, kind=kind, occurred_at=self._at)


class Joined(Sequence[Event]):
    """The events of several transactions, one after the other."""

    def __init__(self, parts: Sequence[Events]) -> None:
        self._parts = [part for part in parts if part]
        self._ends = list(accumulate(len(part) for part in self._parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Event]:
        for part in self._parts:
            yield from part

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | Sequence[Event]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        part = bisect_right(self._ends, place)
        return self._parts[part][place - (self._ends[part - 1] if part else 0)]
