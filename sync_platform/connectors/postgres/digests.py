"""Digests of rows, computed by the server, and a snapshot of a table by blocks of them.

A digest is made of the values exactly as a read selects them: whole numbers by all their bits, times by their bytes,
everything else by its text, byte by byte, whatever the column's collation. PostgreSQL's own hashes of values are not
exact enough for some types: they take -1.5 for 1.5 (the sign is left out), 1.0 for 1.00, an enum's old label for its
new one, and fold a bigint to half its bits.

https://github.com/postgres/postgres/blob/master/src/backend/access/hash/hashfunc.c
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import pyarrow as pa

from sync_platform import __version__
from sync_platform.connectors.blocks import Blocks
from sync_platform.connectors.postgres.queries import source_of
from sync_platform.connectors.postgres.reading import WITHOUT_JIT, Digested, columns_of, conform, selected
from sync_platform.connectors.postgres.session import Server, Session, identifier, literal
from sync_platform.connectors.postgres.table import PgTable
from sync_platform.connectors.postgres.watermark import (
    Progress,
    Snapshot,
    Watermark,
    finished,
    newest,
    newest_in,
    parse,
    position_of,
)
from sync_platform.connectors.sql import Column, translate
from sync_platform.model import DIGEST, Position

#: Higher when the same values get another digest, or are staged in another form.
_FORM: Final = 1
_ABLE: Final = """
SELECT to_regprocedure('hashtextextended(text,bigint)') IS NOT NULL
   AND to_regprocedure('hashint8extended(bigint,bigint)') IS NOT NULL
   AND NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
                   WHERE c.oid = to_regclass({table}) AND c.relkind <> 'p') AS able,
       current_setting('server_version_num')::int / 10000 AS major
"""
_WHOLE: Final = ("int2", "int4", "bool")
_TIMES: Final = {"timestamp": "timestamp_send", "timestamptz": "timestamptz_send"}


def comparable(table: PgTable) -> bool:
    """Whether a table's rows can be compared by digests: each has a key of its own, and is there or not.

    Of two rows with one key only one is staged, so that their blocks would never agree.
    """
    unique = any(one.why_not is None and set(one.columns) <= set(table.key) for one in table.uniques)
    return table.query is None and table.options.tombstone is None and table.row_versions and unique


def named(session: Session, table: PgTable, columns: Sequence[Column]) -> str | None:
    """What digests of these columns are called; None when this server cannot make them, or the table has heirs."""
    place = literal(identifier(table.schema, table.name))
    told = session.rows(_ABLE.format(table=place), "asking for its hashes").to_pylist()[0]
    if not told["able"]:
        return None
    made_of = [
        _FORM, __version__, told["major"], str(table), table.key, table.cursor,
        [(one.name, one.type, one.declared, one.expression, str(one.arrow)) for one in columns],
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]


def digested(server: Server, table: PgTable, fields: Sequence[str] | None) -> Digested | None:
    """The digests with which a table can be read, if it can be compared."""
    if not comparable(table):
        return None
    columns = columns_of(table, fields)
    with server.session() as session:
        name = named(session, table, columns)
    return None if name is None else Digested(name=name, sql=digest_sql(columns))


def digest_sql(columns: Sequence[Column]) -> str:
    """A bigint of a row. Each column counts with its place, so that two that swap their values are not the same."""
    terms = [term for at, column in enumerate(columns) for term in _terms(column, 2 * at + 1)]
    return " # ".join(terms)


def _terms(column: Column, place: int) -> list[str]:
    """What a column adds; of nothing its place, which is no value's hash but by chance."""

    def or_nothing(hashed: str) -> str:
        return f"coalesce({hashed}, {-place})"

    value = column.expression
    if pa.types.is_string(column.arrow):
        return [or_nothing(f'hashtextextended(({value})::text COLLATE "C", {place})')]
    if column.type in _WHOLE:
        return [or_nothing(f"hashint4extended(({value})::int4, {place})")]
    if column.type == "int8":  # its hash is of the halves put together, so one of them is needed besides
        upper = f"hashint4extended((({value}) >> 32)::int4, {place + 1})"
        return [or_nothing(f"hashint8extended({value}, {place})"), f"coalesce({upper}, 0)"]
    if column.type in _TIMES:
        kind = "timestamptz" if column.arrow.tz is not None else "timestamp"
        return [or_nothing(f'hashtextextended({_TIMES[kind]}({value})::text COLLATE "C", {place})')]
    return [or_nothing(f'hashtextextended(({value})::text COLLATE "C", {place})')]


def compare(
    server: Server,
    table: PgTable,
    fields: Sequence[str] | None,
    where: str | None,
    bits: int,
    read_at: dt.datetime,
    page_bytes: int,
) -> TableBlocks | None:
    """The table's rows (those of the filter) by blocks; None where they cannot be compared."""
    if not comparable(table):
        return None
    filtered = f" WHERE {translate(where, table, 'postgres')}" if where is not None else ""
    found = TableBlocks(server, table, columns_of(table, fields), f"{source_of(table)}{filtered}", read_at, page_bytes)
    return found if found.open(bits) else None


class TableBlocks(Blocks[Session]):
    """A table in one snapshot, by blocks of digests; see `Comparison`."""

    def __init__(
        self,
        server: Server,
        table: PgTable,
        columns: Sequence[Column],
        asked: str,
        read_at: dt.datetime,
        page_bytes: int,
    ) -> None:
        """`asked` is what stands behind FROM, filter included."""
        super().__init__(server.session(), read_at, page_bytes)
        self._table, self._columns, self._asked = table, columns, asked

    def _sum_up(self) -> bool:
        self._snapshot = Snapshot.begin(self._session)
        name = named(self._session, self._table, self._columns)
        if name is None:
            return False
        self.digests = name
        self._session.run(WITHOUT_JIT, "setting up the session")
        self.sums = self._session.rows(  # OFFSET 0: each digest is computed once
            f"SELECT {DIGEST} & {self._mask} AS block, count(*) AS rows, sum({DIGEST})::text AS total FROM "
            f"(SELECT {digest_sql(self._columns)} AS {DIGEST} FROM {self._asked} OFFSET 0) AS digests GROUP BY 1",
            f"comparing {self._table}",
        )
        return True

    def fits(self, since: Position) -> bool:
        """Whether that is the end of an earlier read of this server."""
        stored = parse(since)
        return isinstance(stored, Watermark) and stored.server == self._snapshot.server

    def _go_on_from(self, since: Position) -> None:
        began = parse(since)
        assert isinstance(began, Watermark)
        self._progress = Progress(began=began, snapshot=self._snapshot)

    def _batches(self, blocks: Sequence[int]) -> Iterator[pa.RecordBatch]:
        wanted = ",".join(map(str, blocks))
        key = ", ".join(identifier(name) for name in self._table.key)
        sql = (
            f"SELECT * FROM (SELECT {selected(self._columns)}, {digest_sql(self._columns)} AS {DIGEST} "
            f"FROM {self._asked} OFFSET 0) AS digested "
            f"WHERE {DIGEST} & {self._mask} IN (SELECT unnest('{{{wanted}}}'::bigint[])) ORDER BY {key}"
        )
        return self._session.batches(sql, f"reading {self._table}", self._page_bytes)

    def _conform(self, batch: pa.RecordBatch) -> pa.Table:
        return conform(self._table, self._columns, batch, digested=True)

    def _see(self, rows: pa.Table) -> None:
        if self._table.cursor is not None:
            seen = newest_in(rows[self._table.cursor], self._snapshot)
            self._progress = replace(self._progress, seen=newest(self._progress.seen, seen))

    def _end(self, *, empty: bool) -> Position:
        return position_of(finished(self._table, self._progress, empty=empty))

    def _schema(self) -> pa.Schema:
        return pa.schema([(one.name, one.arrow) for one in self._columns])
