"""Deletes by absence: what a proven complete read did not return is deleted at the source.

Only such a read says anything: one that started from nothing and was not resumed, or that compared everything (see
`comparing`), and whose last page the connector marked `complete`. The keys it returned are kept in a temporary table
of the load's own connection (it spills to disk), so a read that was killed proves nothing and the next full one does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync_platform.errors import BlockedError
from sync_platform.model import DELETED, KEY, READ_AT, SEQ, Deletes, Stream
from sync_platform.staging.merge import describe, next_seq, transact
from sync_platform.staging.tables import exists, table_name

if TYPE_CHECKING:
    import duckdb

    from sync_platform.staging.lake import Lake
    from sync_platform.staging.sieve import Sieve

_SEEN = "temp.seen"


class Absence:
    """The keys one read returned. Does nothing for a stream that shows its deletes otherwise."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        lake: Lake,
        connection: str,
        stream: Stream,
        *,
        proven: bool,
        of: str | None = None,
    ) -> None:
        """`proven`: the read is of everything, so that its last page may prove it complete.

        `of`: a table of the keys that the read may prove absent (see `comparing`); default: all.
        """
        self._con = con
        self._lake = lake
        self._connection = connection
        self._stream = stream.name
        self._of = of
        # what is staged from now on is what this read returns: of a table that holds nothing yet nothing can be absent
        #: Whether the keys of every chunk are remembered.
        self.active = proven and stream.deletes is Deletes.ABSENCE and not describe(con, connection, stream.name).empty
        if self.active:
            con.execute(f"CREATE OR REPLACE TEMP TABLE {_SEEN.removeprefix('temp.')} (_key VARCHAR)")

    def remember(self, sieve: Sieve) -> None:
        """Notes the keys of a chunk."""
        if self.active:
            sieve.remember_keys(_SEEN)

    def check(self, rows_read: int) -> None:
        """Raises BlockedError when a complete read returned nothing of a table that holds records."""
        if not self.active or rows_read or not exists(self._con, self._connection, self._stream):
            return
        row = self._con.execute(
            f"SELECT count(*) FROM {table_name(self._connection, self._stream)} WHERE NOT {DELETED}"
        ).fetchone()
        if row and row[0]:
            raise BlockedError(
                f"{self._connection}/{self._stream}: a complete read returned no rows, but {row[0]} records are staged;"
                " nothing was marked as deleted",
                value=row[0],
                mend="check the source and its permissions; if it is really empty, allow the empty read once",
            )

    def apply(self, read_at: int) -> int:
        """Marks staged records whose key the read did not return; how many. `read_at` in microseconds."""
        if not self.active or not exists(self._con, self._connection, self._stream):
            return 0
        table = table_name(self._connection, self._stream)
        absent = f"NOT {DELETED} AND {KEY} NOT IN (SELECT _key FROM {_SEEN})"
        if self._of is not None:
            absent = f"NOT {DELETED} AND {KEY} IN (SELECT _key FROM {self._of} EXCEPT SELECT _key FROM {_SEEN})"
        row = self._con.execute(f"SELECT count(*) FROM {table} WHERE {absent}").fetchone()
        count = int(row[0]) if row else 0
        if count:
            seq = next_seq(self._lake)
            transact(
                self._con,
                f"UPDATE {table} SET {DELETED} = true, {SEQ} = {seq},"
                f" {READ_AT} = greatest({READ_AT}, {read_at}) WHERE {absent}",
            )
        return count
