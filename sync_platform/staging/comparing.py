"""A full read by digests: of a stream read before, only the blocks that are not as they are staged.

Everything is looked at when it is needed: the source's blocks in one snapshot, the staged rows as they are under the
stream's lock. A staged row has the digest that a fact (see `facts`) gives its content; a row of unknown digest is in no
block. Then, for one row a key on both sides:

- A block with the same count and sum of digests on both sides holds the same rows.
- Every row of the source that is not staged as it is there, is in a block that differs: those are read.
- A staged record that the source does not have is of unknown digest or in a block that differs (its `doubted` keys);
  of these, what the blocks read did not bring is deleted. The source cannot have it in a block that was not read: such
  a block holds nothing but what is staged, and there the key has another digest.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sync_platform.connectors.digests import Comparison, TellsDigests
from sync_platform.model import DELETED, HASH, KEY, Position
from sync_platform.staging.tables import exists, table_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb

    from sync_platform.connectors.connector import Connector
    from sync_platform.model import Page
    from sync_platform.staging.facts import Facts

#: Rows of a block, about: what one changed row has read.
_BLOCK: Final = 64
_BITS: Final = (4, 15)
#: A larger share of the source's rows than this is read as any whole read is, which goes on where it was killed.
_MOST: Final = 0.5
DOUBTED: Final = "temp.doubted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What of a stream is read, so that all of it is known."""

    since: Position
    blocks: Sequence[int]
    rows: int  # that the source has in all
    _comparison: Comparison

    def pages(self) -> Iterator[Page]:
        """The rows of the blocks that differ."""
        return self._comparison.pages(self.since, self.blocks)


class Comparing:
    """A comparison begun in a thread, while the lake is made ready. Close it."""

    def __init__(
        self, connector: Connector, stream: str, facts: Facts, fields: Sequence[str] | None, where: str | None
    ) -> None:
        self._connector, self._stream, self._facts = connector, stream, facts
        self._asked = (fields, where)
        self._bits = min(max((facts.rows() // _BLOCK).bit_length(), _BITS[0]), _BITS[1])
        worker = ThreadPoolExecutor(1, thread_name_prefix="comparing")
        self._begun: Future[Comparison | None] = worker.submit(self._begin)
        worker.shutdown(wait=False)

    def _begin(self) -> Comparison | None:
        assert isinstance(self._connector, TellsDigests)
        fields, where = self._asked
        return self._connector.compare(self._stream, self._bits, fields=fields, where=where)

    def part(self, con: duckdb.DuckDBPyConnection, connection: str, since: Position) -> Part | None:
        """What must be read of a stream that was read up to `since`; None: everything. Fills `doubted`.

        Raises what the source's connector raises.
        """
        import duckdb

        found = self._begun.result()
        if found is None or found.digests != self._facts.digests or not found.fits(since):
            return None
        if not exists(con, connection, self._stream):
            return None
        try:
            blocks, rows, of_them = self._differing(con, found, table_name(connection, self._stream))
        except duckdb.Error:  # facts that cannot be read are none
            self._facts.forget()
            return None
        if of_them > _MOST * max(rows, 1):
            return None
        return Part(since=since, blocks=blocks, rows=rows, _comparison=found)

    def _differing(self, con: duckdb.DuckDBPyConnection, source: Comparison, table: str) -> tuple[list[int], int, int]:
        """The blocks that differ, how many rows the source has, and how many of them are in those blocks."""
        mask, facts = 2**self._bits - 1, self._facts.sql()
        staged = f"SELECT {KEY}, f.d FROM {table} t LEFT JOIN ({facts}) f ON t.{HASH} = f.h WHERE NOT t.{DELETED}"
        con.register("told", source.sums)
        try:
            con.execute(f"""
                CREATE OR REPLACE TEMP TABLE compared AS
                SELECT coalesce(theirs.block, ours.block) AS block, coalesce(theirs.rows, 0) AS rows,
                       theirs.rows IS DISTINCT FROM ours.rows OR theirs.total IS DISTINCT FROM ours.total AS differs
                FROM told theirs FULL JOIN (
                    SELECT d & {mask} AS block, count(*) AS rows, sum(d)::VARCHAR AS total FROM ({staged}) GROUP BY 1
                ) ours ON theirs.block = ours.block""")
        finally:
            con.unregister("told")
        blocks = [row[0] for row in con.execute("SELECT block FROM compared WHERE differs").fetchall()]
        counted = con.execute("SELECT sum(rows)::BIGINT, sum(rows) FILTER (differs)::BIGINT FROM compared").fetchone()
        rows, of_them = counted or (0, 0)
        con.execute(f"CREATE OR REPLACE TEMP TABLE {DOUBTED.removeprefix('temp.')} ({KEY} VARCHAR)")
        if blocks:
            doubted = f"d IS NULL OR d & {mask} IN (SELECT block FROM compared WHERE differs)"
            con.execute(f"INSERT INTO {DOUBTED} SELECT {KEY} FROM ({staged}) WHERE {doubted}")
        return [block for block in blocks if block is not None], int(rows or 0), int(of_them or 0)

    def close(self) -> None:
        """Ends the comparison; waits for the answer that is on its way."""
        self._begun.cancel()
        if not self._begun.cancelled() and self._begun.exception() is None and (found := self._begun.result()):
            found.close()
