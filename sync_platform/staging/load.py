"""A load: one stream read, landed, merged and its position moved, under the stream's lock.

    pages -> chunks -> sifting (what changes?) -> landing (dlt: rows + position) -> merge

A killed load resumes from its last chunk. Between a chunk's landing and its merge nothing is lost:
the position is stored with the landed rows, and the next load merges what landed before it reads.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from sync_platform.connectors.digests import TellsDigests
from sync_platform.crash import crash_point
from sync_platform.errors import BlockedError, SyncError
from sync_platform.model import Page, Position
from sync_platform.staging import debts, ledger
from sync_platform.staging.absence import Absence
from sync_platform.staging.canonical import canonical
from sync_platform.staging.chunks import Chunk, Chunks, Limits
from sync_platform.staging.comparing import DOUBTED
from sync_platform.staging.early import EarlyRead
from sync_platform.staging.facts import Facts
from sync_platform.staging.lake import Lake
from sync_platform.staging.landing import Landing, translated
from sync_platform.staging.ledger import StagedLoad
from sync_platform.staging.merge import adopt, describe, merge
from sync_platform.staging.reading import Reading
from sync_platform.staging.sifting import Sifted, Sifting
from sync_platform.staging.source import Source, goes_on_from, needs_full_read
from sync_platform.staging.tables import create, exists, high_seq, table_name

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from sync_platform.connectors.connector import Connector
    from sync_platform.staging.sieve import Target
    from sync_platform.state.database import Connection

__all__ = ["Progress", "StagedLoad", "lock_name", "next_read_is_full", "stage"]

_DEFAULTS: Final = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a running load got; see `StagedLoad` for what the numbers count."""

    rows_read: int
    rows_changed: int
    rows_deleted: int
    chunks: int
    waiting: bool = False  # for another load of this stream to end
    compared: int = 0  # rows that a full read by digests looked at, the rows read among them


def lock_name(connection: str, stream: str) -> str:
    """The advisory lock that covers everything that writes a stream's landing and staged table."""
    return f"staging/{connection}/{stream}"


def stage(
    lake: Lake,
    connector: Connector,
    connection: str,
    stream: str,
    *,
    fields: Sequence[str] | None = None,
    where: str | None = None,
    requested_at: dt.datetime | None = None,
    full: bool = False,
    on_progress: Callable[[Progress], object] | None = None,
    limits: Limits = _DEFAULTS,
    allow_empty: bool = False,
    go_on: Callable[[], object] | None = None,
) -> StagedLoad:
    """Brings the staged table of a stream up to date and returns what that took.

    `fields` and `where` are the Source's own (a wider or another range reads everything once).
    `requested_at`: a load that started at or after it is joined instead of reading again. `full`
    reads everything from nothing, which is what proves absences; a stream without a cursor, or that owes
    a full read (see `debts`), is always read so. `allow_empty` lets a complete read of nothing delete everything.
    `go_on` is called for every page; what it raises ends the load (the pages of finished chunks stay).

    Raises the connector's errors (after storing the pages that came before), ContractError for a
    value that does not fit (its chunk is not stored), BlockedError for an emptied source,
    AccessError when the lake cannot be used.
    """
    from sync_platform.state.locks import advisory_lock

    source = Source(connector=connector, stream=connector.stream(stream), fields=fields, where=where)

    def waiting() -> None:
        if on_progress is not None:
            on_progress(Progress(rows_read=0, rows_changed=0, rows_deleted=0, chunks=0, waiting=True))

    with advisory_lock(lake.db, lock_name(connection, stream), on_wait=waiting) as lock:
        debt = debts.owed(lake.db, connection, stream)
        if debt is not None:
            full, allow_empty = True, allow_empty or debt.emptied
        if requested_at is not None:
            at = requested_at if debt is None else max(requested_at, debt.since)
            joined = ledger.to_join(lake.db, connection, stream, at, complete=full)
            if joined is not None:
                return joined
        begun = ledger.start(lake.db, connection, stream)
        load = Load(lake, connection, source, lock, begun.load_id, limits, on_progress, go_on)
        try:
            load.begin(begun, full=full)
            with translated(lake), lake.connect() as load.con, Landing(lake, connection, stream) as load.landing:
                done = load.run(full=full, allow_empty=allow_empty)
                debts.pay(lake.db, connection, stream, done)
                return done
        except BaseException as error:
            with contextlib.suppress(SyncError):  # the first error is the one to tell
                ledger.fail(lake.db, begun.load_id, "blocked" if isinstance(error, BlockedError) else "failed")
            raise
        finally:
            load.close()


def next_read_is_full(
    lake: Lake, connection: str, stream: str, *, fields: Sequence[str] | None = None, where: str | None = None
) -> str | None:
    """Why the next load of a stream will read everything again, or None; waits for a running load."""
    from sync_platform.state.locks import advisory_lock

    with (
        advisory_lock(lake.db, lock_name(connection, stream)),
        translated(lake),
        Landing(lake, connection, stream) as landing,
    ):
        debt = debts.owed(lake.db, connection, stream)
        return needs_full_read(landing.reading, fields, where) or (debt.reason if debt is not None else None)


class Load:
    """One load while it runs."""

    con: duckdb.DuckDBPyConnection
    landing: Landing
    _chunks: Chunks

    def __init__(
        self,
        lake: Lake,
        connection: str,
        source: Source,
        lock: Connection,
        load_id: str,
        limits: Limits,
        on_progress: Callable[[Progress], object] | None,
        go_on: Callable[[], object] | None = None,
    ) -> None:
        self._lake = lake
        self._connection = connection
        self._source = source
        self._lock = lock
        self._id = load_id
        self._limits = limits
        self._on_progress = on_progress
        self._go_on = go_on
        self._stopping = threading.Event()
        self._begun: ledger.NewLoad | None = None
        self._early: EarlyRead | None = None
        self._reader: Generator[Page] | None = None
        self._compared = 0
        self._facts = Facts(lake, connection, source.stream.name)
        self._committed = 0
        self._changed = 0
        self._deleted = 0
        self._backfill = False  # is this a read from nothing, or the rest of one?
        self._position: dict[str, Any] | None = None  # the last safe point of this read
        self._stored_at = limits.clock()

    def begin(self, begun: ledger.NewLoad, *, full: bool) -> None:
        """Begins to read while dlt and the lake are made ready, where it is known from where."""
        self._begun = begun
        if full or begun.first or begun.reading is not None:
            since = None if begun.reading is None else goes_on_from(begun.reading, self._source, full=full)
            self._early = EarlyRead(self._source, self._facts, since, self._pages_since, first=begun.first)

    def close(self) -> None:
        """Ends a read that was begun, wherever it stands."""
        for one in (self._reader, self._early):
            if one is not None:
                one.close()
        self._reader = self._early = None

    def run(self, *, full: bool, allow_empty: bool) -> StagedLoad:
        """Reads to the end, or to the error that ends the read."""
        source, stream = self._source, self._source.stream
        reading, early = self.landing.reading, self._early
        if self._begun is None or self._begun.reading != reading:
            self._merge()  # what an interrupted load left
        since = goes_on_from(reading, source, full=full)
        whole, part = since is None, None
        if whole and early is not None:
            part = early.part(self.con, self._connection, reading)
        pages = early.pages(since) if part is None and early is not None else None
        if part is not None:
            since, self._compared = part.since, part.rows
        self._backfill = since is None or not reading.finished
        self._position = None if since is None else dict(since.value)
        of = None if part is None else DOUBTED
        absence = Absence(self.con, self._lake, self._connection, stream, proven=whole, of=of)
        self._facts.begin()
        if pages is None:
            pages = self._reader = self._pages_since(since) if part is None else self._going_on(part.pages())
        self._chunks = Chunks(
            pages=pages,
            name=f"{self._connection}/{stream.name}",
            key=stream.key,
            staged=dict(describe(self.con, self._connection, stream.name).types),
            discover=lambda: source.connector.discover(stream.name),
            limits=self._limits,
        )
        complete = False
        with contextlib.ExitStack() as stack:
            sifted = stack.enter_context(contextlib.closing(self._sifting(absence).each(iter(self._chunks))))
            stack.callback(self._stopping.set)  # before that: what is read ahead then ends with its next page
            for one in sifted:
                complete = one.chunk.complete and whole
                if complete and not allow_empty:
                    absence.check(self._chunks.rows_read if part is None else part.rows)
                self._store(one)
                if one.chunk.error is not None:
                    raise one.chunk.error
        if complete:
            self._deleted += absence.apply(self._chunks.read_at)
        if not exists(self.con, self._connection, stream.name):
            self._create_empty()
        self._facts.settle(self.con, table_name(self._connection, stream.name) if complete else None)
        return ledger.finish(
            self._lake.db,
            self._id,
            self.landing.reading,
            rows=(self._chunks.rows_read, self._changed, self._deleted),
            seq_to=high_seq(self.con, self._connection, stream.name, at_least=self._begun.seq_to if self._begun else 0),
            complete=complete,
        )

    def _sifting(self, absence: Absence) -> Sifting:
        return Sifting(
            lake=self._lake, con=self.con, connection=self._connection, source=self._source, landing=self.landing,
            absence=absence, facts=self._facts, backfill=self._backfill, ahead_from=self._limits.ahead_from,
        )  # fmt: skip

    def _pages_since(self, since: Position | None) -> Generator[Page]:
        source = self._source
        read = source.connector.read
        if isinstance(source.connector, TellsDigests) and (since is None or self._facts.digests is not None):
            read = source.connector.read_digested
        yield from self._going_on(read(source.stream.name, since, fields=source.asked(), where=source.where))

    def _going_on(self, pages: Iterator[Page]) -> Generator[Page]:
        for page in pages:
            if self._stopping.is_set():
                return
            if self._go_on is not None:
                self._go_on()
            yield page

    def _create_empty(self) -> None:
        """A stream that holds nothing yet is a table without rows, so that syncs and analysts can read it."""
        source = self._source
        wanted = set(source.fields or ())
        types = {
            field.name: kind
            for field in source.connector.discover(source.stream.name)
            if (kind := canonical(field.type)) is not None
            and (not wanted or field.name in wanted or field.name in source.stream.key)
        }
        with self._lake.changing:
            create(self.con, self._connection, source.stream.name, types)

    def _store(self, sifted: Sifted) -> None:
        """Lands and merges a chunk; nothing at all when it neither changes a row nor moves the position."""
        self._check_lock()
        chunk, reading = sifted.chunk, self._reading(sifted.chunk, sifted.target)
        stored = self.landing.reading.chunk
        if sifted.written:
            with self._lake.changing:
                self.landing.store(sifted.schema, sifted.written, reading)
                # what changed since the last read is hardly ever all new: looking for that costs more than it spares
                likely_new = sifted.apart or self._backfill
                if not (likely_new and self._adopt(sifted.written, chunk.types, apart=sifted.apart)):
                    self._merge()
        elif reading.moved_from(self.landing.reading) and (chunk.last or self._due()):
            self.landing.store(None, {}, reading)
        if self.landing.reading.chunk != stored:
            self._stored_at = self._limits.clock()
            self._committed += 1
            crash_point("staging_loaded")
        for file in sifted.files:
            file.unlink(missing_ok=True)
        self._report()

    def _due(self) -> bool:
        """Whether a position that moved without changes waited long enough: until then it is not worth a package."""
        return self._limits.clock() - self._stored_at >= self._limits.seconds

    def _report(self) -> None:
        ledger.progress(self._lake.db, self._id, self._chunks.rows_read, self._changed, self._deleted)
        if self._on_progress is not None:
            self._on_progress(
                Progress(
                    rows_read=self._chunks.rows_read,
                    rows_changed=self._changed,
                    rows_deleted=self._deleted,
                    chunks=self._committed,
                    compared=self._compared,
                )
            )

    def _reading(self, chunk: Chunk, target: Target) -> Reading:
        """What to remember once this chunk is stored."""
        before, source = self.landing.reading, self._source
        new = [name for name in chunk.types if name not in target.types]
        owed = before.owed
        if self._backfill:
            owed = None
        elif new and not target.empty:
            owed = f"{', '.join(new)} is new, and older records were read without it"
        if chunk.position is not None:
            self._position = dict(chunk.position.value)
        return Reading(
            position=self._position,
            where=source.where,
            fields=None if source.fields is None else sorted(source.fields),
            finished=not self._backfill or (chunk.last and chunk.error is None),
            owed=owed,
            columns=list(chunk.types),
        )

    def _adopt(self, files: Mapping[Path, int], types: Mapping[str, pa.DataType], *, apart: bool) -> bool:
        """Tries to make the files just landed a part of the staged table as they are: a first load is spared a copy."""
        place, landing = (self._connection, self._source.stream.name), self.landing.table()
        done = adopt(self._lake, self.con, *place, landing=landing, files=files, types=types, apart=apart)
        if done is not None:
            self._changed += done.changed
        return done is not None

    def _merge(self) -> None:
        """Merges what the last package landed; rows of a package without a stored position are dropped."""
        reading = self.landing.reading
        stream = self._source.stream.name
        for name in self.landing.tables(self.con):
            table = self.landing.table(name)
            schema = self.con.execute(f"SELECT * FROM {table} LIMIT 0").to_arrow_table().schema
            types = {column: schema.field(column).type for column in reading.columns if column in schema.names}
            chunk = reading.chunk if name == reading.table else -1
            done = merge(self._lake, self.con, self._connection, stream, landing=table, chunk=chunk, types=types)
            self._changed += done.changed
            self._deleted += done.deleted

    def _check_lock(self) -> None:
        """A lost lock means another load may be running: stop before writing."""
        from sync_platform.state.database import translated as state_errors

        with state_errors(self._lake.db.shown):
            self._lock.execute("SELECT 1")
