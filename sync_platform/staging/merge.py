"""The merge: what landed becomes part of the staged table, in one DuckLake transaction.

`_seq` is one value of the sequence `sync.seq` per merge, taken under the stream's lock: all rows a
merge changes share it, and it is higher than every `_seq` of earlier merges of the stream. A reader
that has seen everything up to `high_seq` therefore misses nothing by asking for `_seq > high_seq`.
"""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import pyarrow as pa

from sync_platform.errors import TransientError
from sync_platform.model import CURSOR, DELETED, HASH, KEY, READ_AT, SEQ
from sync_platform.staging.canonical import CHUNK, LANDED_HASH
from sync_platform.staging.lake import CATALOG, Lake, link, literal, quoted
from sync_platform.staging.sieve import NOT_OLDER, Target
from sync_platform.staging.tables import add_columns, columns, create, table_name

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

ATTEMPTS: Final = 10
#: How the name of a data file begins that we wrote and registered ourselves.
APPENDED: Final = "appended-"

#: So many rows are not deleted one by one: an empty table takes the place of the one that holds them.
_MANY: Final = 20_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """How many rows a merge changed."""

    changed: int = 0
    deleted: int = 0


def describe(con: duckdb.DuckDBPyConnection, connection: str, stream: str) -> Target:
    """The staged table of a stream as it is now."""
    schema = columns(con, connection, stream)
    name = table_name(connection, stream)
    if schema is None:
        return Target(name=name, types={}, empty=True)
    row = con.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone()
    return Target(name=name, types=dict(zip(schema.names, schema.types, strict=True)), empty=row is None)


def next_seq(lake: Lake) -> int:
    """A number higher than all before; call it under the stream's lock."""
    with lake.db.connection() as pg:
        row = pg.execute("SELECT nextval('sync.seq')").fetchone()
    assert row is not None
    return int(row[0])


def merge(
    lake: Lake,
    con: duckdb.DuckDBPyConnection,
    connection: str,
    stream: str,
    *,
    landing: str,
    chunk: int,
    types: Mapping[str, pa.DataType],
) -> Merged:
    """Merges the rows of `chunk` in the landing table and empties it; doing it again changes nothing.

    `types` are the vendor columns the chunk's pages had: others stay untouched. The landing table
    holds one row per key (see `sieve`). Rows of other chunks in it are leftovers of a load that never
    stored its position: they will be read again, and are dropped here.
    """
    counted = con.execute(
        f"SELECT count(*), count(*) FILTER (NOT {DELETED} AND {CHUNK} = {chunk}),"
        f" count(*) FILTER ({DELETED} AND {CHUNK} = {chunk}) FROM {landing}"
    ).fetchone()
    landed, live, dead = counted or (0, 0, 0)
    if not live and not dead:
        if landed:
            retried(lambda: con.execute(f"DELETE FROM {landing}"))
        return Merged()
    target = retried(lambda: _prepare(con, connection, stream, types))
    seq = next_seq(lake)
    source = f"({_unsigned(con, landing)} WHERE {CHUNK} = {chunk})"
    transact(con, _upsert(target.name, source, types, seq, deletions=dead > 0), f"DELETE FROM {landing}")
    return Merged(changed=live, deleted=dead)


def adopt(
    lake: Lake,
    con: duckdb.DuckDBPyConnection,
    connection: str,
    stream: str,
    *,
    landing: str | None,
    files: Mapping[Path, int],
    types: Mapping[str, pa.DataType],
    apart: bool = False,
) -> Merged | None:
    """Makes files of the sieve's (see `Sieve.write`) data files of the staged table.

    None when a key in them is staged already: then their rows must be merged (`apart`: it is known that none is).
    Otherwise nothing is copied, and the files' own `_seq` holds: it was taken under the lock that still lasts.
    `files` with their numbers of rows; `landing` is the table that was just filled from them, which is emptied.
    `types` as for `merge`.
    """
    target = retried(lambda: _prepare(con, connection, stream, types))
    known = apart or target.empty
    landed = ", ".join(literal(str(file)) for file in files)
    if not known and _shared_keys(con, target.name, f"read_parquet([{landed}])"):
        return None
    folder = lake.db.home.lake / connection.replace("/", "_") / stream.replace("/", "_")
    places = {file: folder / f"{APPENDED}{uuid.uuid4()}.parquet" for file in files}
    for file, place in places.items():
        link(file, place)
    count = sum(files.values())
    statements = [
        f"CALL ducklake_add_data_files({literal(CATALOG)}, {literal(stream)}, {literal(str(place))},"
        f" schema => {literal(connection)}, allow_missing => true, ignore_extra_columns => true)"
        for place in places.values()
    ]
    if landing is not None:
        emptied = f"CREATE OR REPLACE TABLE {landing} AS SELECT * FROM {landing} LIMIT 0"
        statements.append(emptied if count >= _MANY else f"DELETE FROM {landing}")
    transact(con, *statements)
    return Merged(changed=count)


def merge_file(
    con: duckdb.DuckDBPyConnection,
    connection: str,
    stream: str,
    *,
    file: Path,
    seq: int,
    types: Mapping[str, pa.DataType],
) -> None:
    """Merges a file of the sieve's that did not land; `seq` was taken under the lock that still lasts."""
    target = retried(lambda: _prepare(con, connection, stream, types))
    source = f"read_parquet({literal(str(file))})"
    dead = con.execute(f"SELECT 1 FROM {source} WHERE {DELETED} LIMIT 1").fetchone()
    transact(con, _upsert(target.name, source, types, seq, deletions=dead is not None))


def transact(con: duckdb.DuckDBPyConnection, *statements: str) -> None:
    """Runs the statements as one transaction, again from its first statement after a conflict."""

    def once() -> None:
        con.execute("BEGIN TRANSACTION")
        try:
            for statement in statements:
                con.execute(statement)
            con.execute("COMMIT")
        except BaseException:
            _rollback(con)
            raise

    retried(once)


def retried(work: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """`work()`, repeated while DuckLake reports that another writer committed in between.

    Raises TransientError when that happens too often.
    """
    import duckdb

    for attempt in range(ATTEMPTS):
        try:
            return work()
        except duckdb.Error as error:
            if not _conflict(error):
                raise
        sleep(min(2.0, 0.05 * 2**attempt) * (0.5 + random.random()))
    raise TransientError("the lake's catalog is too busy: every attempt to commit met another writer", retry_after=30)


def _conflict(error: Exception) -> bool:
    import duckdb

    text = str(error)
    return isinstance(error, duckdb.TransactionException) or "onflict" in text or "another transaction" in text


def _rollback(con: duckdb.DuckDBPyConnection) -> None:
    import duckdb

    with contextlib.suppress(duckdb.Error):  # a failed COMMIT has already ended the transaction
        con.execute("ROLLBACK")


def _prepare(con: duckdb.DuckDBPyConnection, connection: str, stream: str, types: Mapping[str, pa.DataType]) -> Target:
    """The staged table with all of the chunk's columns; created or extended where needed."""
    target = describe(con, connection, stream)
    if not target.types:
        create(con, connection, stream, types)
    elif new := {name: kind for name, kind in types.items() if name not in target.types}:
        add_columns(con, connection, stream, new)
    else:
        return target
    return describe(con, connection, stream)


def _shared_keys(con: duckdb.DuckDBPyConnection, table: str, source: str) -> bool:
    """Whether a landed key is staged already."""
    found = con.execute(f"SELECT 1 FROM {table} t SEMI JOIN {source} s ON t.{KEY} = s.{KEY} LIMIT 1").fetchone()
    return found is not None


def _unsigned(con: duckdb.DuckDBPyConnection, landing: str) -> str:
    """A SELECT over a landing table with `_hash` as it is staged: the landed one has a sign (see `Sieve.write`)."""
    names = con.execute(f"SELECT * FROM {landing} LIMIT 0").to_arrow_table().schema.names
    landed = LANDED_HASH if LANDED_HASH in names else HASH  # an older release landed it under its own name
    number = f"""CASE WHEN {landed} < 0 THEN ({landed}::HUGEINT + 18446744073709551616)::UBIGINT
        ELSE {landed}::UBIGINT END AS {HASH}"""
    return f"SELECT * EXCLUDE ({landed}), {number} FROM {landing}"


def _upsert(table: str, source: str, types: Mapping[str, pa.DataType], seq: int, *, deletions: bool) -> str:
    """`deletions`: some rows say only that a record is gone, and keep its values; else those need not be read."""
    vendor = list(map(quoted, types))
    names = [*vendor, KEY, HASH, DELETED, CURSOR, READ_AT]
    kept = [
        f"{name} = CASE WHEN s.{DELETED} THEN t.{name} ELSE s.{name} END" if deletions else f"{name} = s.{name}"
        for name in vendor
    ]
    return f"""
        MERGE INTO {table} t USING {source} s ON t.{KEY} = s.{KEY}
        WHEN MATCHED AND (t.{HASH} <> s.{HASH} OR t.{DELETED} <> s.{DELETED}) AND {NOT_OLDER} THEN UPDATE SET
            {"".join(f"{item}, " for item in kept)}
            {HASH} = s.{HASH}, {SEQ} = {seq}, {DELETED} = s.{DELETED},
            {CURSOR} = greatest(s.{CURSOR}, t.{CURSOR}), {READ_AT} = s.{READ_AT}
        WHEN NOT MATCHED THEN INSERT ({", ".join(names)}, {SEQ})
            VALUES ({", ".join(f"s.{name}" for name in names)}, {seq})"""
