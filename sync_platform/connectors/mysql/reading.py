"""Rows out of MySQL as Arrow: one query in one snapshot, streamed page by page."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from sync_platform.connectors.ahead import ahead
from sync_platform.connectors.key_text import text_bytes
from sync_platform.connectors.mysql.catalog import StoredColumn, StoredTable
from sync_platform.connectors.mysql.charsets import is_known, is_unicode, to_bytes
from sync_platform.connectors.mysql.decoding import conform, local_text
from sync_platform.connectors.mysql.digests import RowDigests
from sync_platform.connectors.mysql.queries import source_of
from sync_platform.connectors.mysql.session import Server, identifier, literal
from sync_platform.connectors.mysql.watermark import (
    Progress,
    Snapshot,
    Watermark,
    advanced,
    conditions,
    finished,
    parse,
    position_of,
)
from sync_platform.connectors.query import of_query, still_good
from sync_platform.connectors.sql import key_parts, translate
from sync_platform.errors import RecordError
from sync_platform.model import DIGEST, Page, Position

#: Pages that may wait in memory while those before them are staged.
_AHEAD: Final = 8

#: Values of one look-up query; more are asked for in turns.
_LOOKUP: Final = 2_000

_BITS: Final = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a connection reads: bytes of a page, about, and whether the date 0000-00-00 is null."""

    page_bytes: int
    zero_dates: bool


def read(
    server: Server,
    table: StoredTable,
    since: Position | None,
    fields: Sequence[str] | None,
    where: str | None,
    manner: Manner,
    digests: RowDigests | None = None,
) -> Iterator[Page]:
    """The rows changed since a position, or all of them, from one snapshot.

    A full read goes by key and may be resumed after any page; an incremental one goes by cursor, then
    key. `complete` is claimed only by a full read that began at the beginning.
    """
    read_at = dt.datetime.now(dt.UTC)
    columns, name = columns_of(table, fields), digests.name if digests else None
    asked = [] if where is None else [f"({translate(where, table, 'mysql')})"]
    good = still_good(table, since)
    stored = parse(good)
    with server.session() as session, digests or contextlib.nullcontext():
        snapshot = Snapshot.begin(session)
        if isinstance(stored, Progress):
            progress, resumed = stored, True
        else:
            began = stored if table.cursor is not None else None
            progress, resumed = Progress(began=began, snapshot=snapshot), False
        order = _order(table, progress.began)
        if progress.began is not None:
            asked += conditions(table, progress.began)
        if progress.after:
            asked.append(behind(table, order, progress.after))
        sql = (
            f"SELECT {selected(columns)} FROM {source_of(table)}"
            + (f" WHERE {' AND '.join(asked)}" if asked else "")
            + f" ORDER BY {ordered(table, order)}"
        )
        last, any_row = _empty(columns), False
        for batch in ahead(session.batches(sql, f"reading {table}", manner.page_bytes), _AHEAD):
            if last.num_rows:
                position = of_query(table, progress.position())
                yield Page(table=_marked(table, last), position=position, read_at=read_at, digests=name)
            last = conform_page(table, columns, batch, manner)
            if digests is not None:
                last = last.append_column(DIGEST, digests.of(batch))
            progress = _advance(table, progress, order, batch, last, seeing=not resumed)
            any_row = any_row or last.num_rows > 0
        yield Page(
            table=_marked(table, last),
            position=of_query(table, position_of(finished(table, progress, empty=not any_row))),
            read_at=read_at,
            complete=progress.began is None and not resumed and good is since,
            digests=name,
        )


def conform_page(
    table: StoredTable, columns: Sequence[StoredColumn], batch: pa.RecordBatch, manner: Manner
) -> pa.Table:
    """A batch off the wire in the columns' types."""
    return conform(table, columns, batch, zero_dates=manner.zero_dates)


def ordered(table: StoredTable, names: Sequence[str]) -> str:
    """What stands behind ORDER BY."""
    return ", ".join(_sortable(table.columns[name]) for name in names)


def get(server: Server, table: StoredTable, ids: Sequence[str], fields: Sequence[str], manner: Manner) -> pa.Table:
    """The rows of these keys: key columns and fields, with `_deleted` where the tombstone column is among them.

    A key that a collation only calls equal is another one.
    """
    columns = columns_of(table, fields, cursor=False)
    keys = [table.columns[name] for name in table.key]
    wanted = []
    for key in dict.fromkeys(ids):
        try:
            parts = key_parts(key, table.key)
        except RecordError:
            continue  # what is no key of this table is no row of it either
        if all(_fits(column, part) for column, part in zip(keys, parts, strict=True)):
            wanted.append([_said_key(table, column, part) for column, part in zip(keys, parts, strict=True)])
    names = ", ".join(identifier(column.name) for column in keys)
    exact = ", ".join(f"BINARY {identifier(c.name)}" if c.is_text else identifier(c.name) for c in keys)
    conditions = []
    for start in range(0, len(wanted), _LOOKUP):
        some = wanted[start : start + _LOOKUP]
        condition = f"({names}) IN ({_tuples(some)})"
        if any(column.is_text for column in keys):
            bytewise = [[_bytes(c, p) for c, p in zip(keys, parts, strict=True)] for parts in some]
            condition += f" AND ({exact}) IN ({_tuples(bytewise)})"
        conditions.append(condition)
    rows = _looked_up(server, table, columns, conditions, manner)
    return _marked(table, rows) if table.options.tombstone in rows.column_names else rows


def find(
    server: Server, table: StoredTable, field: str, values: Sequence[str], fields: Sequence[str], manner: Manner
) -> pa.Table:
    """The rows whose `field` is one of the values to its collation: key columns, `field` and `fields`."""
    column = table.column(field)
    columns = columns_of(table, [field, *fields], cursor=False)
    wanted = [_said(table, column, value) for value in dict.fromkeys(values) if _fits(column, value)]
    conditions = [
        f"{identifier(field)} IN ({', '.join(wanted[start : start + _LOOKUP])})"
        for start in range(0, len(wanted), _LOOKUP)
    ]
    return _looked_up(server, table, columns, conditions, manner)


def _tuples(rows: Sequence[Sequence[str]]) -> str:
    return ", ".join("(" + ", ".join(row) + ")" for row in rows)


def _looked_up(
    server: Server, table: StoredTable, columns: Sequence[StoredColumn], conditions: Sequence[str], manner: Manner
) -> pa.Table:
    found = [_empty(columns)]
    if conditions:
        with server.session() as session:
            for condition in conditions:
                sql = f"SELECT {selected(columns)} FROM {source_of(table)} WHERE {condition}"
                found += [
                    conform(table, columns, batch, zero_dates=manner.zero_dates)
                    for batch in session.batches(sql, f"looking up rows of {table}", manner.page_bytes)
                ]
    return pa.concat_tables(found)


def columns_of(table: StoredTable, fields: Sequence[str] | None, *, cursor: bool = True) -> list[StoredColumn]:
    """The columns that a read of these fields selects, in the table's order."""
    if fields is None:
        return list(table.columns.values())
    wanted = {table.column(name).name for name in fields} | set(table.key)
    if cursor:
        wanted |= {name for name in (table.cursor, table.options.tombstone) if name}
    return [column for name, column in table.columns.items() if name in wanted]


def selected(columns: Sequence[StoredColumn]) -> str:
    """What to SELECT, so that the values are printed whole."""
    return ", ".join(f"{column.expression} AS {identifier(column.name)}" for column in columns)


def _empty(columns: Sequence[StoredColumn]) -> pa.Table:
    return pa.schema([c.field().to_arrow() for c in columns]).empty_table()


def _order(table: StoredTable, began: Watermark | None) -> list[str]:
    if began is None or table.cursor is None:
        return list(table.key)
    return list(dict.fromkeys((table.cursor, *table.key)))


def _sortable(column: StoredColumn) -> str:
    """What to order by: enumerations are ordered by number but compared by text, so both by their text."""
    name = identifier(column.name)
    return f"BINARY {name}" if column.type in ("enum", "set") else name


def behind(table: StoredTable, order: Sequence[str], after: Sequence[str]) -> str:
    """The condition for rows behind the last one already read; the first column alone leads to its index.

    Rows whose first column is null come first and were read before any other.
    """
    columns = [table.columns[name] for name in order]
    pairs = [(_sortable(c), _printed(c, value)) for c, value in zip(columns, after, strict=True)]
    condition = ""
    for name, value in reversed(pairs):
        condition = f"({name} > {value} OR ({name} = {value} AND {condition}))" if condition else f"{name} > {value}"
    name, value = pairs[0]
    return condition if len(pairs) == 1 else f"({name} >= {value} AND {condition})"


def _printed(column: StoredColumn, value: str) -> str:
    """A literal of a value as it was printed on the wire (bytes as hexadecimal digits)."""
    if pa.types.is_binary(column.arrow):
        return f"x'{value}'"
    if column.type in ("enum", "set"):
        return f"BINARY {literal(value)}"
    return value if column.type in (*_BITS, "bit", "float", "double", "decimal", "year") else literal(value)


def _advance(
    table: StoredTable,
    progress: Progress,
    order: Sequence[str],
    wire: pa.RecordBatch,
    page: pa.Table,
    *,
    seeing: bool,
) -> Progress:
    """The progress after a page; while the cursor is null there is no later point to resume at.

    What a resumed read sees is newer than the snapshot its watermark speaks of: it does not count as seen.
    """
    if page.num_rows == 0:
        return progress
    if seeing and table.cursor is not None:
        progress = advanced(progress, table.columns[table.cursor], page[table.cursor])
    values = [wire.column(name)[page.num_rows - 1].as_py() for name in order]
    if any(value is None for value in values):
        return progress
    texts = (
        value.hex() if pa.types.is_binary(table.columns[name].arrow) else value.decode()
        for name, value in zip(order, values, strict=True)
    )
    return replace(progress, after=tuple(texts))


def _marked(table: StoredTable, page: pa.Table) -> pa.Table:
    """The page with `_deleted`, when a tombstone column is configured."""
    if table.options.tombstone is None:
        return page
    mark = page[table.options.tombstone]
    gone = pc.fill_null(mark, False) if pa.types.is_boolean(mark.type) else pc.is_valid(mark)
    return page.append_column("_deleted", gone)


def _fits(column: StoredColumn, value: str) -> bool:
    """Whether a text can be a value of the column; one that cannot is in no row."""
    try:
        if pa.types.is_boolean(column.arrow):
            return value.lower() in ("true", "false", "0", "1")
        if column.is_text and is_known(column.charset):
            return to_bytes(column.charset or "", value) is not None
        if pa.types.is_binary(column.arrow) or pa.types.is_string(column.arrow):
            return True
        pa.array([value]).cast(column.arrow)
    except pa.ArrowInvalid:
        return pa.types.is_timestamp(column.arrow) and _moment(value) is not None
    return True


def _moment(value: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(value)
    except ValueError:
        return None


def _said(table: StoredTable, column: StoredColumn, value: str) -> str:
    """A look-up value as a literal of the column's own kind, so that its index is used."""
    if pa.types.is_boolean(column.arrow):
        return "1" if value.lower() in ("true", "1") else "0"
    if pa.types.is_binary(column.arrow):
        return literal(value.encode())
    moment = _moment(value) if pa.types.is_timestamp(column.arrow) else None
    if moment is not None and moment.tzinfo is not None:
        return literal(local_text(moment, table.options.timezone if column.type == "datetime" else None))
    return value if column.type in (*_BITS, "bit", "float", "double", "decimal", "year") else literal(value)


def _said_key(table: StoredTable, column: StoredColumn, part: str) -> str:
    """A part of a key as a literal: bytes stand in it as staging prints them, texts in the column's own charset.

    Rows of several literals of another charset are not all compared as the first is.
    """
    if pa.types.is_binary(column.arrow):
        return literal(text_bytes(part))
    if column.is_text and is_known(column.charset) and not is_unicode(column.charset):
        return f"_{column.charset} {literal(to_bytes(column.charset or '', part))}"
    return _said(table, column, part)


def _bytes(column: StoredColumn, said: str) -> str:
    """The literal as the bytes the column stores for it."""
    if not column.is_text:
        return said
    return said.partition(" ")[2] if said.startswith("_") else f"BINARY CONVERT({said} USING {column.charset})"
