"""Chunks sifted into files that are ready to land; of a long read, the next one while the one before it lands.

dlt lands a chunk on one core. Meanwhile the next one is read to its end and sifted, if that needs nothing of what is
landing: all of its keys lie beyond those that are staged or on their way (see `Sieve.apart`), as when a table is read
for the first time. Any other chunk is sifted when the one before it is staged.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from sync_platform.errors import ContractError
from sync_platform.staging.merge import describe, next_seq
from sync_platform.staging.sieve import Sieve, Target

if TYPE_CHECKING:
    import duckdb

    from sync_platform.staging.absence import Absence
    from sync_platform.staging.chunks import Chunk
    from sync_platform.staging.facts import Facts
    from sync_platform.staging.lake import Lake
    from sync_platform.staging.landing import Landing
    from sync_platform.staging.sieve import Ends
    from sync_platform.staging.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Sifted:
    """What of a chunk would change the staged table."""

    chunk: Chunk  # without its rows, which need not wait in memory until the files have landed
    target: Target  # the staged table as it will be when this lands
    number: int  # of the package, which the rows carry
    rows: int  # of the chunk
    files: Sequence[Path]  # to delete when it has landed
    written: Mapping[Path, int]  # those that hold rows, and how many
    schema: pa.Schema | None  # of the files; None for a chunk without rows
    apart: bool  # no key of it is staged
    ends: Ends | None  # of the keys that are staged when it has landed, if that is known


@dataclass(frozen=True, kw_only=True)
class Sifting:
    """Sifts the chunks of one load. `backfill`: it reads from nothing, or the rest of that, so digests may be new."""

    lake: Lake
    con: duckdb.DuckDBPyConnection
    connection: str
    source: Source
    landing: Landing
    absence: Absence
    facts: Facts
    backfill: bool
    ahead_from: int  # rows of a chunk that take long enough to land

    def each(self, chunks: Iterator[Chunk]) -> Generator[Sifted]:
        """Every chunk, sifted; the one before it must have landed when the next is asked for."""
        with ThreadPoolExecutor(1, thread_name_prefix="sifting ahead") as helper:
            chunk, sifted = next(chunks, None), None
            while chunk is not None:
                sifted = sifted or self._sift(chunk)
                ahead = helper.submit(self._next_sifted, chunks, sifted) if self._may_look_ahead(sifted) else None
                chunk = None  # its rows need not wait in memory
                yield sifted
                chunk, sifted = ahead.result() if ahead is not None else (next(chunks, None), None)

    def _may_look_ahead(self, sifted: Sifted) -> bool:
        """Whether the next chunk may be apart from all that is staged then, and nothing but files comes of it."""
        known = sifted.apart and sifted.ends is not None and bool(sifted.written)
        return known and not self.absence.active and sifted.rows >= self.ahead_from and not sifted.chunk.last

    def _next_sifted(self, chunks: Iterator[Chunk], before: Sifted) -> tuple[Chunk | None, Sifted | None]:
        """The next chunk, and what was sifted of it; None where that must wait until the one before it is staged."""
        chunk = next(chunks, None)
        if chunk is None or not chunk.rows.num_rows:
            return chunk, None
        types = {**before.target.types, **before.chunk.types}
        target = replace(before.target, types=types, empty=False, ends=before.ends)
        with self.lake.connect() as con:
            sifted = self._written(con, chunk, target, before.number + 1, only_apart=True)
        return (chunk, None) if sifted is None else (sifted.chunk, sifted)

    def _sift(self, chunk: Chunk) -> Sifted:
        """Sifts a chunk against what is staged now."""
        target = describe(self.con, self.connection, self.source.stream.name)
        number = self.landing.next_chunk
        sifted = self._written(self.con, chunk, target, number) if chunk.rows.num_rows else None
        return sifted or Sifted(
            chunk=chunk, target=target, number=number, rows=0, files=(), written={}, schema=None, apart=False, ends=None
        )

    def _written(
        self, con: duckdb.DuckDBPyConnection, chunk: Chunk, target: Target, number: int, *, only_apart: bool = False
    ) -> Sifted | None:
        """Writes what changes to files."""
        with Sieve(con, chunk.rows, target, self.source.stream.key, self.source.cursor) as sieve:
            if only_apart and not sieve.apart:
                return None
            check_cursor(sieve, chunk, self.connection, self.source)
            self.absence.remember(sieve)
            files = self.landing.files(number)
            told, schema = sieve.write(files, number, next_seq(self.lake))
            written = {file: count for file, count in told.items() if count}
            if chunk.digests is not None and (self.backfill or self.facts.digests == chunk.digests):
                self.facts.note(con, chunk.digests, sieve.facts(list(written)))
            return Sifted(
                chunk=replace(chunk, rows=chunk.rows.schema.empty_table()), target=target, number=number,
                rows=chunk.rows.num_rows, files=files, written=written, schema=schema,
                apart=sieve.apart, ends=sieve.ends,
            )  # fmt: skip


def check_cursor(sieve: Sieve, chunk: Chunk, connection: str, source: Source) -> None:
    """ContractError for a text in the cursor's column that is no time."""
    cursor = source.cursor
    if cursor is None or cursor not in chunk.types or not pa.types.is_string(chunk.types[cursor]):
        return
    value = sieve.unreadable_cursor(cursor)
    if value is not None:
        raise ContractError(
            f"{connection}/{source.stream.name}: the cursor {cursor} holds {value!r}, which is no time",
            field=cursor,
            value=value,
            mend="the connector must give the cursor as a timestamp or a number",
        )
