"""Loads of single rows by their keys, for deliveries that follow one another within a second.

Nothing lands on the way. A landing keeps rows and the position behind them together, but here no position moves: the
events stay until what came of them is delivered, so whatever a death leaves undone is read again. And dlt, which
writes the landing, takes most of a second for any load, however small.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from sync_platform.connectors.sql import key_parts
from sync_platform.crash import crash_point
from sync_platform.engine.lookups import with_target_id
from sync_platform.model import DELETED, Page
from sync_platform.staging import debts, ledger
from sync_platform.staging.chunks import Chunk, Chunks, Limits
from sync_platform.staging.landing import Landing, import_whole, pipeline_name, translated
from sync_platform.staging.load import Load, lock_name
from sync_platform.staging.merge import adopt, describe, merge_file, next_seq
from sync_platform.staging.reading import Reading
from sync_platform.staging.sieve import Sieve
from sync_platform.staging.sifting import check_cursor
from sync_platform.staging.source import Source, needs_full_read
from sync_platform.state.locks import advisory_lock

if TYPE_CHECKING:
    from sync_platform.model import Stream
    from sync_platform.staging.lake import Lake

#: Rows asked for at a time.
_AT_ONCE: Final = 20_000


@dataclass
class KeyedLoads:
    """Loads rows of any stream by their keys; one load of a stream at a time, whichever process it is in."""

    lake: Lake
    #: How far each stream was read, with the load that read it: to look it up takes as long as all the rest.
    _readings: dict[tuple[str, str], tuple[str, Reading]] = field(default_factory=dict, repr=False)

    def prepare(self, connection: str, source: Source) -> None:
        """Imports, opens and looks up what a load of a stream needs, so that the first one is as quick as the others.

        Raises TransientError when somebody is loading the stream.
        """
        import_whole()
        with self._begun(connection, source, timeout=0.0) as load:
            self._reading(load, connection, source.stream.name)

    def stage(self, connection: str, source: Source, keys: Sequence[str]) -> bool:
        """Reads these rows and stages what differs; one that is not there is staged as deleted.

        False, and nothing done, when the stream must be read as a whole first. No position moves. Raises the
        connector's errors, ContractError for a value that does not fit, AccessError when the lake cannot be used.
        """
        stream = source.stream.name
        with self._begun(connection, source) as load:
            reading = self._reading(load, connection, stream)
            if reading.position is None or not reading.finished or needs_full_read(reading, source.fields, None):
                return False
            if debts.owed(self.lake.db, connection, stream) is not None:
                return False
            load.take(keys)
        return True

    @contextlib.contextmanager
    def _begun(self, connection: str, source: Source, timeout: float | None = None) -> Iterator[KeyedLoad]:
        """A load under the stream's lock, for the block."""
        name = lock_name(connection, source.stream.name)
        with (
            advisory_lock(self.lake.db, name, timeout=timeout) as lock,
            translated(self.lake),
            self.lake.connect() as con,
        ):
            load = KeyedLoad(self.lake, connection, source, lock, "", Limits(), None)
            load.con = con
            yield load

    def _reading(self, load: KeyedLoad, connection: str, stream: str) -> Reading:
        """How far the stream was read; what an interrupted load left is merged. Call it under the stream's lock."""
        newest = ledger.newest(self.lake.db, connection, stream)
        known = self._readings.get((connection, stream))
        if known is not None and known[0] == newest:
            return known[1]
        with Landing(self.lake, connection, stream) as load.landing:
            load.merge_landed()
            reading = load.landing.reading
        if newest is not None:
            self._readings[connection, stream] = newest, reading
        return reading


class KeyedLoad(Load):
    """A load of some rows: the stream's position stays where it is, and no other load joins it."""

    def merge_landed(self) -> None:
        """Merges what an interrupted load left."""
        self._merge()

    def take(self, keys: Sequence[str]) -> None:
        """Reads these rows and stages what differs; one that is not there is staged as deleted."""
        source, stream = self._source, self._source.stream
        self._chunks = Chunks(
            pages=self._pages(keys),
            name=f"{self._connection}/{stream.name}",
            key=stream.key,
            staged=dict(describe(self.con, self._connection, stream.name).types),
            discover=lambda: source.connector.discover(stream.name),
        )
        for chunk in self._chunks:
            if chunk.rows.num_rows:
                self._take(chunk)
            if chunk.error is not None:
                raise chunk.error

    def _take(self, chunk: Chunk) -> None:
        """Merges what a chunk changes; a row that is gone was asked for, and has its tombstone."""
        self._check_lock()
        stream, place = self._source.stream, (self._connection, self._source.stream.name)
        target = describe(self.con, *place)
        new = [name for name in chunk.types if name not in target.types]
        if new and not target.empty:  # said before it is so: a death in between leaves a compare too many
            with self._lake.db.connection() as own:
                debts.owe(own, place[0], [place[1]], f"{', '.join(new)} is new, and older records were read without it")
        with self._file() as file, Sieve(self.con, chunk.rows, target, stream.key, self._source.cursor) as sieve:
            check_cursor(sieve, chunk, self._connection, self._source)
            seq = next_seq(self._lake)
            written, _ = sieve.write([file], 0, seq)
            if not written[file]:
                return
            with self._lake.changing:
                adopted = adopt(
                    self._lake, self.con, *place,
                    landing=None, files=written, types=chunk.types, apart=sieve.apart,
                )  # fmt: skip
                if adopted is None:
                    merge_file(self.con, *place, file=file, seq=seq, types=chunk.types)
        crash_point("staging_loaded")

    @contextlib.contextmanager
    def _file(self) -> Iterator[Path]:
        """Where to write rows; it is gone after the block. Under the stream's lock nobody else writes there."""
        folder = self._lake.db.home.run / "keyed" / pipeline_name(self._connection, self._source.stream.name)
        shutil.rmtree(folder, ignore_errors=True)  # of a load that was killed
        folder.mkdir(parents=True, mode=0o700)
        try:
            yield folder / "rows.parquet"
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _pages(self, keys: Sequence[str]) -> Iterator[Page]:
        stream = self._source.stream
        names = self._source.asked() or [one.name for one in self._source.connector.discover(stream.name)]
        for start in range(0, len(keys), _AT_ONCE):
            some, read_at = keys[start : start + _AT_ONCE], dt.datetime.now(dt.UTC)
            found = self._source.connector.get(stream.name, some, names)
            yield Page(table=found, position=None, read_at=read_at)
            there = (
                set(with_target_id(found.select(list(stream.key)), stream)["_target_id"]) if found.num_rows else set()
            )
            gone = [key for key in some if key not in there]
            if gone:
                yield Page(table=_tombstones(gone, stream, found.schema), position=None, read_at=read_at)


def _tombstones(keys: Sequence[str], stream: Stream, schema: pa.Schema) -> pa.Table:
    """Rows of which nothing is known but their keys and that they are gone."""
    parts = list(zip(*(key_parts(key, stream.key) for key in keys), strict=True))
    columns = {
        name: pa.array(texts, pa.string()).cast(schema.field(name).type)
        for name, texts in zip(stream.key, parts, strict=True)
    }
    return pa.table({**columns, DELETED: pa.repeat(pa.scalar(True), len(keys))})
