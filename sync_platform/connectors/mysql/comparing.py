"""A table in one snapshot, by blocks of digests that the server sums up."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

import pyarrow as pa

from sync_platform.connectors.blocks import Blocks
from sync_platform.connectors.mysql.catalog import StoredColumn, StoredTable
from sync_platform.connectors.mysql.digests import RowDigests, comparable, digest_sql, named
from sync_platform.connectors.mysql.queries import source_of
from sync_platform.connectors.mysql.reading import Manner, columns_of, conform_page, ordered, selected
from sync_platform.connectors.mysql.session import Server, Session
from sync_platform.connectors.mysql.watermark import (
    Progress,
    Snapshot,
    Watermark,
    advanced,
    finished,
    parse,
    position_of,
)
from sync_platform.connectors.sql import translate
from sync_platform.model import DIGEST, Position


def row_digests(server: Server, table: StoredTable, fields: Sequence[str] | None, manner: Manner) -> RowDigests | None:
    """The digests with which a table can be read, if it can be compared."""
    columns = columns_of(table, fields)
    if not comparable(table, columns):
        return None
    with server.session() as session:
        name = named(session, table, columns, zero_dates=manner.zero_dates)
    return RowDigests(name, table, columns)


def compare(
    server: Server, table: StoredTable, fields: Sequence[str] | None, where: str | None, bits: int, manner: Manner
) -> TableBlocks | None:
    """The table's rows (those of the filter) by blocks; None where they cannot be compared."""
    columns = columns_of(table, fields)
    if not comparable(table, columns):
        return None
    condition = None if where is None else f"({translate(where, table, 'mysql')})"
    found = TableBlocks(server, table, columns, condition, manner)
    return found if found.open(bits) else None


class TableBlocks(Blocks[Session]):
    """A table in one snapshot, by blocks of digests; see `Comparison`."""

    def __init__(
        self,
        server: Server,
        table: StoredTable,
        columns: Sequence[StoredColumn],
        condition: str | None,
        manner: Manner,
    ) -> None:
        super().__init__(server.session(), dt.datetime.now(dt.UTC), manner.page_bytes)
        self._table, self._columns, self._condition, self._manner = table, columns, condition, manner
        self._digest = digest_sql(table, columns)

    def _sum_up(self) -> bool:
        self._snapshot = Snapshot.begin(self._session)
        self.digests = named(self._session, self._table, self._columns, zero_dates=self._manner.zero_dates)
        where = f" WHERE {self._condition}" if self._condition else ""
        sql = (  # the LIMIT, which no table reaches, has each digest computed once
            f"SELECT {DIGEST} & {self._mask} AS block, count(*) AS `rows`, sum({DIGEST}) AS total "
            f"FROM (SELECT {self._digest} AS {DIGEST} FROM {source_of(self._table)}{where} LIMIT {2**64 - 1}) "
            "AS digests GROUP BY 1 ORDER BY NULL"
        )
        told = pa.Table.from_batches(list(self._session.batches(sql, f"comparing {self._table}", self._page_bytes)))
        texts = [column.cast(pa.string()) for column in told.columns]
        self.sums = pa.table({"block": texts[0].cast(pa.int64()), "rows": texts[1].cast(pa.int64()), "total": texts[2]})
        return bool(self.sums["block"].null_count == 0)  # a row without a digest has a value that is too long

    def fits(self, since: Position) -> bool:
        """Whether that is the end of an earlier read."""
        return isinstance(parse(since), Watermark)

    def _go_on_from(self, since: Position) -> None:
        began = parse(since)
        assert isinstance(began, Watermark)
        self._progress = Progress(began=began, snapshot=self._snapshot)

    def _batches(self, blocks: Sequence[int]) -> Iterator[pa.RecordBatch]:
        asked = [self._condition] if self._condition else []
        asked.append(f"{self._digest} & {self._mask} IN ({', '.join(map(str, blocks))})")
        sql = (
            f"SELECT {selected(self._columns)}, {self._digest} AS {DIGEST} FROM {source_of(self._table)} "
            f"WHERE {' AND '.join(asked)} ORDER BY {ordered(self._table, self._table.key)}"
        )
        return self._session.batches(sql, f"reading {self._table}", self._page_bytes)

    def _conform(self, batch: pa.RecordBatch) -> pa.Table:
        rows = conform_page(self._table, self._columns, batch.select(batch.schema.names[:-1]), self._manner)
        digests = batch.columns[-1].cast(pa.string()).cast(pa.int64())
        return rows.append_column(DIGEST, digests)

    def _see(self, rows: pa.Table) -> None:
        if self._table.cursor is not None:
            cursor = self._table.columns[self._table.cursor]
            self._progress = advanced(self._progress, cursor, rows[self._table.cursor])

    def _end(self, *, empty: bool) -> Position:
        return position_of(finished(self._table, self._progress, empty=empty))

    def _schema(self) -> pa.Schema:
        return pa.schema([one.field().to_arrow() for one in self._columns])
