"""The sieve: of a chunk of pages, the rows that would change the staged table, ready to land.

One row per key leaves it: the one with the highest cursor, among equals the latest request, then the
latest row. A row without a cursor (a deletion feed's) counts as new as the newest row before it.
What equals the staged row is left out before dlt writes a file for it: a reload in which nothing
changed lands nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from sync_platform.model import CURSOR, DELETED, DIGEST, HASH, KEY, READ_AT, SEQ
from sync_platform.staging.canonical import CHUNK, LANDED_HASH
from sync_platform.staging.fingerprint import cursor_sql, hash_sql, key_sql
from sync_platform.staging.lake import literal, quoted

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

ORDER: Final = "_ord"
MERGED: Final = "_merged_hash"

#: Looking for what repeats costs more than it spares: a first load is read once or twice before it is compacted.
_QUICK: Final = "FORMAT parquet, COMPRESSION lz4_raw, DICTIONARY_SIZE_LIMIT 1"

#: So many rows are worth a file of their own.
_WORTH_A_FILE: Final = 50_000

_SIGNED: Final = f"""CASE WHEN {MERGED} > 9223372036854775807
    THEN ({MERGED}::HUGEINT - 18446744073709551616)::BIGINT ELSE {MERGED}::BIGINT END"""

#: May this version (s) replace the staged one (t)? The cursor decides; on a tie, or without one, the request's start.
NOT_OLDER: Final = f"""CASE WHEN s.{CURSOR} IS NULL OR t.{CURSOR} IS NULL OR s.{CURSOR} = t.{CURSOR}
    THEN s.{READ_AT} >= t.{READ_AT} ELSE s.{CURSOR} > t.{CURSOR} END"""


#: The lowest and the highest key of one column of numbers or texts.
Ends: TypeAlias = "tuple[Any, Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The staged table as a chunk finds it. `types` are the canonical types of the vendor's columns."""

    name: str  # the quoted table name
    types: Mapping[str, pa.DataType]  # as staged; empty when there is no table
    empty: bool  # no rows, so nothing to compare with
    ends: Ends | None = None  # of its keys with those on their way to it; None: the table is asked for its own


class Sieve:
    """Compares one chunk (`rows`) with a target; use it on a connection that does nothing else meanwhile.

    `rows` has the page's vendor columns in canonical types, `_deleted`, `_read_at` and `_ord`.
    """

    def __init__(
        self, con: duckdb.DuckDBPyConnection, rows: pa.Table, target: Target, key: Sequence[str], cursor: str | None
    ) -> None:
        self._con = con
        self._target = target
        technical = {DELETED, READ_AT, ORDER, DIGEST}
        self._types = {field.name: field.type for field in rows.schema if field.name not in technical}
        self._rows, self._key = rows, key
        #: The column of a key that may rise from row to row, as a database reads it: then no two are the same.
        self._rising = key[0] if len(key) == 1 and pa.types.is_integer(self._types.get(key[0])) else None
        own = self._own_ends(key)
        beyond = own is not None and not target.empty and self._beyond(own, key)
        staged = self._staged_ends(key) if beyond else target.ends
        #: No key of the chunk is staged: either nothing is, or all keys lie beyond those that are.
        self.apart = target.empty or beyond
        #: The ends of what is staged with the chunk, where both are known.
        self.ends = own if target.empty else None
        if own is not None and staged is not None:
            self.ends = min(own[0], staged[0]), max(own[1], staged[1])
        con.register("chunk", rows)
        cursor_of = "NULL::BIGINT"
        if cursor is not None and cursor in self._types:
            cursor_of = cursor_sql(f"c.{quoted(cursor)}", self._types[cursor])
        self._identified = (
            f"SELECT c.*, {key_sql(key, self._types, lambda name: f'c.{quoted(name)}')} AS {KEY},"
            f" {cursor_of} AS {CURSOR} FROM chunk c"
        )

    def __enter__(self) -> Sieve:
        return self

    def __exit__(self, *_: object) -> None:
        self._con.unregister("chunk")
        self._con.unregister("noted")
        self._con.execute("DROP TABLE IF EXISTS temp.losers")

    def remember_keys(self, table: str) -> None:
        """Adds the keys of the chunk's live rows to a temporary table."""
        self._con.execute(f"INSERT INTO {table} SELECT {KEY} FROM ({self._identified}) WHERE NOT {DELETED}")

    def unreadable_cursor(self, cursor: str) -> str | None:
        """A cursor value that is no point in time or number, or None when all are."""
        row = self._con.execute(
            f"SELECT {quoted(cursor)}::VARCHAR FROM ({self._identified})"
            f" WHERE {CURSOR} IS NULL AND {quoted(cursor)} IS NOT NULL LIMIT 1"
        ).fetchone()
        return str(row[0]) if row else None

    def write(self, files: Sequence[Path], chunk: int, seq: int) -> tuple[dict[Path, int], pa.Schema]:
        """Writes the rows that change something to Parquet files; how many went into each, and their schema.

        Several files are written at a time, each by a thread with a part of the chunk, where rows need not be compared
        with any other; else all goes to the first. A file has the columns of the staged table, so that it can become a
        part of it, with `seq` as `_seq`; besides, the chunk's number and `_landed_hash`, the signed number of the same
        bits as `_hash`: dlt knows no unsigned ones, so that is what its landing table has.
        """
        source = self._identified
        repeats = self._repeats()
        if repeats:
            self._find_losers()
            source += f" ANTI JOIN temp.losers l USING ({ORDER})"
        changes = (
            f"SELECT * RENAME ({MERGED} AS {HASH}), {_SIGNED} AS {LANDED_HASH}, {chunk}::BIGINT AS {CHUNK},"
            f" {seq}::BIGINT AS {SEQ} FROM ({self._changes(source)})"
        )
        schema = self._con.execute(f"SELECT * FROM ({changes}) LIMIT 0").to_arrow_table().schema
        if repeats or not self.apart or self._rows.num_rows < len(files) * _WORTH_A_FILE:
            files = files[:1]
        if len(files) == 1:
            return {files[0]: _copied(self._con, changes, files[0])}, schema
        size = -(-self._rows.num_rows // len(files))

        def write_part(at: int) -> int:
            with self._con.cursor() as con:
                con.register("chunk", self._rows.slice(at * size, size))
                return _copied(con, changes, files[at])

        with ThreadPoolExecutor(len(files), thread_name_prefix="writing rows") as writers:
            counts = list(writers.map(write_part, range(len(files))))
        return dict(zip(files, counts, strict=True)), schema

    def facts(self, files: Sequence[Path]) -> str:
        """A query of the rows' content and digests (see `facts`), once their changes are written to these files.

        What was written of a chunk of new rows has their hashes, which take long to compute, in the chunk's order.
        """
        import pyarrow.parquet as pq

        if self.apart and files:
            written = pa.concat_tables(pq.read_table(file, columns=[HASH, *self._key]) for file in files)
            if all(written[name].equals(self._rows[name]) for name in self._key):
                self._con.register("noted", pa.table({"h": written[HASH], "d": self._rows[DIGEST]}))
                return "SELECT h, d FROM noted"
        hashed = hash_sql(self._types, lambda name: f"c.{quoted(name)}")
        return f"SELECT {hashed}::UBIGINT AS h, c.{DIGEST} AS d FROM chunk c WHERE NOT c.{DELETED}"

    def _own_ends(self, key: Sequence[str]) -> Ends | None:
        """The ends of the chunk's keys, if they are of a kind and in the order of the staged ones."""
        kind = self._types.get(key[0]) if len(key) == 1 else None
        if kind is None or not self._rows.num_rows or not (pa.types.is_integer(kind) or pa.types.is_string(kind)):
            return None
        if not self._target.empty and kind != self._target.types.get(key[0]):
            return None
        ends = pc.min_max(self._rows.column(key[0])).as_py()
        return ends["min"], ends["max"]

    def _beyond(self, own: Ends, key: Sequence[str]) -> bool:
        """Whether all staged keys lie on one side of the chunk's: looked for in what its ends leave of their files."""
        known, name = self._target.ends, quoted(key[0])
        if known is not None:
            return bool(known[1] < own[0] or own[1] < known[0])
        for condition, end in ((f"{name} >= $1", own[0]), (f"{name} <= $1", own[1])):
            query = f"SELECT 1 FROM {self._target.name} WHERE {condition} LIMIT 1"
            if self._con.execute(query, [end]).fetchone() is None:
                return True
        return False

    def _staged_ends(self, key: Sequence[str]) -> Ends | None:
        """The ends of the staged keys: looking at them is far less than joining the chunk with what is staged."""
        if self._target.ends is not None:
            return self._target.ends
        name = quoted(key[0])
        return self._con.execute(f"SELECT min({name}), max({name}) FROM {self._target.name}").fetchone()

    def _repeats(self) -> bool:
        if self._rising is not None:
            values = self._rows.column(self._rising)
            if pc.all(pc.greater(values[1:], values[:-1])).as_py() is not False:
                return False
        row = self._con.execute(f"SELECT count(*) > count(DISTINCT {KEY}) FROM ({self._identified})").fetchone()
        return bool(row and row[0])

    def _find_losers(self) -> None:
        """Fills `losers` with the numbers of rows that another row of the same key outranks."""
        self._con.execute(f"""
            CREATE OR REPLACE TEMP TABLE losers AS
            WITH k AS (SELECT {KEY}, {CURSOR}, {READ_AT}, {ORDER} FROM ({self._identified})),
            ranked AS (
                SELECT {ORDER}, {KEY}, {READ_AT},
                       coalesce({CURSOR}, max({CURSOR}) OVER (PARTITION BY {KEY} ORDER BY {ORDER})) AS rank
                FROM k WHERE {KEY} IN (SELECT {KEY} FROM k GROUP BY {KEY} HAVING count(*) > 1)
            )
            SELECT {ORDER} FROM ranked
            QUALIFY row_number() OVER (
                PARTITION BY {KEY} ORDER BY rank DESC NULLS LAST, {READ_AT} DESC, {ORDER} DESC
            ) > 1""")

    def _changes(self, source: str) -> str:
        names = ", ".join(f"s.{quoted(name)}" for name in self._types)
        kept = f"s.{KEY}, s.{DELETED}, s.{CURSOR}, s.{READ_AT}"
        if self.apart:
            hashed = hash_sql(self._types, lambda name: f"s.{quoted(name)}")
            return f"""
                SELECT {names}, {kept}, {hashed}::UBIGINT AS {MERGED} FROM ({source}) s WHERE NOT s.{DELETED}"""
        absent = [name for name in self._target.types if name not in self._types]
        whole = {**self._target.types, **self._types}

        def ref(name: str) -> str:
            return f"t.{quoted(name)}" if name in absent else f"s.{quoted(name)}"

        needed = ", ".join([KEY, HASH, DELETED, CURSOR, READ_AT, *map(quoted, absent)])
        return f"""
            SELECT * EXCLUDE (_is_new, _is_newer, _staged_hash, _was_deleted) FROM (
                SELECT {names}, {kept}, t.{KEY} IS NULL AS _is_new, {NOT_OLDER} AS _is_newer,
                       t.{HASH} AS _staged_hash, t.{DELETED} AS _was_deleted,
                       (CASE WHEN s.{DELETED} THEN t.{HASH} ELSE {hash_sql(whole, ref)} END)::UBIGINT AS {MERGED}
                FROM ({source}) s LEFT JOIN (SELECT {needed} FROM {self._target.name}) t ON t.{KEY} = s.{KEY})
            WHERE CASE WHEN _is_new THEN NOT {DELETED}
                       ELSE ({MERGED} <> _staged_hash OR _was_deleted <> {DELETED}) AND _is_newer END"""


def _copied(con: duckdb.DuckDBPyConnection, changes: str, file: Path) -> int:
    """Writes what a query gives to a Parquet file; the number of rows."""
    row = con.execute(f"COPY ({changes}) TO {literal(str(file))} ({_QUICK})").fetchone()
    return int(row[0]) if row else 0
