"""Rows out of PostgreSQL as Arrow: one query in one snapshot, streamed page by page."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from sync_platform.connectors.ahead import ahead
from sync_platform.connectors.postgres.queries import source_of
from sync_platform.connectors.postgres.session import Server, array_literal, identifier, literal
from sync_platform.connectors.postgres.watermark import (
    Progress,
    Snapshot,
    Watermark,
    conditions,
    finished,
    newest,
    newest_in,
    parse,
    position_of,
)
from sync_platform.connectors.query import of_query, still_good
from sync_platform.connectors.sql import Column, Table, key_parts, translate
from sync_platform.errors import ContractError, RecordError
from sync_platform.model import DIGEST, Page, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class _Calendar:
    """What our calendars have of a kind of time, in its own units since 1970 (or midnight).

    `ever` and `never` are what the driver makes of `infinity` and `-infinity`: sums that ran over.
    """

    name: str
    first: int
    last: int
    ever: int | None = None
    never: int | None = None

    def holds(self, raw: pa.Array) -> bool:
        """Whether no value lies outside."""
        ends = pc.min_max(raw).as_py()
        return ends["min"] is None or (self.first <= ends["min"] and ends["max"] <= self.last)


_DAY: Final = 86_400_000_000
_FIRST: Final = (dt.date(1, 1, 1) - dt.date(1970, 1, 1)).days
_LAST: Final = (dt.date(9999, 12, 31) - dt.date(1970, 1, 1)).days
_MOMENTS: Final = _Calendar(
    name="the years 1 to 9999", first=_FIRST * _DAY, last=(_LAST + 1) * _DAY - 1,
    ever=-9222425352054775809, never=-9222425352054775808,
)  # fmt: skip
_DAYS: Final = _Calendar(
    name="the years 1 to 9999", first=_FIRST, last=_LAST, ever=-2147472692, never=-2147472691
)  # fmt: skip
_CLOCK: Final = _Calendar(name="00:00 to 23:59:59.999999", first=0, last=_DAY - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Digested:
    """How rows are read with a digest each: what such digests are called, and the SQL of one."""

    name: str
    sql: str


#: Compiling an expression of many hashes takes longer than it spares.
WITHOUT_JIT: Final = "SELECT set_config('jit', 'off', true)"

#: Pages that may wait in memory while those before them are staged.
_AHEAD: Final = 8

#: Whole numbers, and the bits of each beside its sign.
_BITS: Final = {"int2": 15, "int4": 31, "int8": 63}

#: Values of one look-up query; more are asked for in turns.
_LOOKUP: Final = 20_000


def read(
    server: Server,
    table: Table,
    since: Position | None,
    fields: Sequence[str] | None,
    where: str | None,
    page_bytes: int,
    read_at: dt.datetime,
    digested: Digested | None = None,
) -> Iterator[Page]:
    """The rows changed since a position, or all of them, from one snapshot.

    A full read goes by key and may be resumed after any page; an incremental one goes by cursor, then
    key. `complete` is claimed only by a full read that began at the beginning. `read_at`: the server has all that was
    committed before.
    """
    columns, digests = columns_of(table, fields), digested.name if digested else None
    asked = [] if where is None else [f"({translate(where, table, 'postgres')})"]
    good = still_good(table, since)
    stored = parse(good)
    with server.session() as session:
        snapshot = Snapshot.begin(session)
        if isinstance(stored, Progress):
            progress, resumed = stored, True
        else:
            began = stored if table.cursor is not None else None
            progress, resumed = Progress(began=began, snapshot=snapshot), False
        order = _order(table, progress.began)
        if progress.began is not None:
            asked += conditions(table, progress.began, snapshot)
        if progress.after:
            asked.append(_behind(table, order, progress.after))
        sql = (
            f"SELECT {selected(columns)}{f', {digested.sql} AS {DIGEST}' if digested else ''} FROM {source_of(table)}"
            + (f" WHERE {' AND '.join(asked)}" if asked else "")
            + f" ORDER BY {', '.join(_sortable(table.columns[name])[0] for name in order)}"
        )
        last, any_row = _empty(table, columns), False
        if digested is not None:
            session.run(WITHOUT_JIT, "setting up the session")
        for batch in ahead(session.batches(sql, f"reading {table}", page_bytes), _AHEAD):
            if last.num_rows:
                progress = _advance(table, progress, order, last, seeing=not resumed)
                position = of_query(table, progress.position())
                yield Page(table=_marked(table, last), position=position, read_at=read_at, digests=digests)
            last = conform(table, columns, batch, digested=digested is not None)
            any_row = any_row or last.num_rows > 0
        progress = _advance(table, progress, order, last, seeing=not resumed)
        yield Page(
            table=_marked(table, last),
            position=of_query(table, position_of(finished(table, progress, empty=not any_row))),
            read_at=read_at,
            complete=progress.began is None and not resumed and good is since,
            digests=digests,
        )


def get(server: Server, table: Table, ids: Sequence[str], fields: Sequence[str]) -> pa.Table:
    """The rows of these keys: key columns and fields, with `_deleted` where the tombstone column is among them."""
    columns, parts = columns_of(table, fields, cursor=False), _keys_of(table, ids)
    found = []
    with server.session() as session:
        for start in range(0, len(parts), _LOOKUP):
            sql = f"SELECT {selected(columns, 't')} FROM {_with_keys(table, parts[start : start + _LOOKUP])}"
            found.append(conform(table, columns, session.rows(sql, f"getting rows of {table}")))
    rows = pa.concat_tables(found) if found else _empty(table, columns)
    return _marked(table, rows) if table.options.tombstone in rows.column_names else rows


def _keys_of(table: Table, ids: Sequence[str]) -> list[tuple[str, ...]]:
    """The values of these keys by key column, without what is no key of this table: it is no row of it either."""
    if len(table.key) == 1:
        return [(value,) for value in _fitting(table.columns[table.key[0]], ids)]
    found = []
    for key in ids:
        with contextlib.suppress(RecordError):
            part = key_parts(key, table.key)
            if all(_fits(table.columns[name], value) for name, value in zip(table.key, part, strict=True)):
                found.append(part)
    return found


def _with_keys(table: Table, keys: Sequence[tuple[str, ...]]) -> str:
    """The table as `t`, with the rows of these keys alone."""
    source, columns = source_of(table, alias="t"), [table.columns[name] for name in table.key]
    if len(columns) == 1:  # looked up one by one in an index, where a join would read the whole table
        return f"{source} WHERE t.{_among(columns[0], [key[0] for key in keys])}"
    arrays = ", ".join(f"{array_literal([key[i] for key in keys])}::text[]" for i, _ in enumerate(columns))
    names = ", ".join(f"k{i}" for i, _ in enumerate(columns))
    same = " AND ".join(f"t.{identifier(one.name)} = w.k{i}::{one.cast}" for i, one in enumerate(columns))
    return f"unnest({arrays}) AS w({names}) JOIN {source} ON {same}"


def _among(column: Column, values: Sequence[str]) -> str:
    """The condition that a column has one of these values."""
    return f"{identifier(column.name)} = ANY({array_literal(values)}::{column.cast}[])"


def find(server: Server, table: Table, field: str, values: Sequence[str], fields: Sequence[str]) -> pa.Table:
    """The rows whose `field` is one of the values: key columns, `field` and `fields`."""
    column = table.column(field)
    columns = columns_of(table, [field, *fields], cursor=False)
    wanted = _fitting(column, list(dict.fromkeys(values)))
    found = []
    with server.session() as session:
        for start in range(0, len(wanted), _LOOKUP):
            among = _among(column, wanted[start : start + _LOOKUP])
            sql = f"SELECT {selected(columns)} FROM {source_of(table)} WHERE {among}"
            found.append(conform(table, columns, session.rows(sql, f"looking up {field} in {table}")))
    return pa.concat_tables(found) if found else _empty(table, columns)


def conform(
    table: Table, columns: Sequence[Column], rows: pa.RecordBatch | pa.Table, *, digested: bool = False
) -> pa.Table:
    """Rows as the driver gave them, in the types `discover` promised; their digests, if any, are the last column."""
    arrays = []
    for column, name in zip(columns, rows.schema.names[: -1 if digested else None], strict=True):
        values = rows.column(name)
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        try:
            values = _finite(values)
            arrays.append(values if values.type == column.arrow else values.cast(column.arrow))
        except pa.ArrowInvalid as error:
            raise ContractError(
                f"{table}.{name}: a value is not a {column.arrow}: {error}",
                field=name,
                mend=f"read it as text: tables={{{table.name!r}: {{'as_text': [{name!r}]}}}}",
            ) from None
    found = pa.table(arrays, schema=pa.schema([c.field().to_arrow() for c in columns]))
    return found.append_column(DIGEST, rows.column(rows.num_columns - 1)) if digested else found


def _finite(values: pa.Array) -> pa.Array:
    """Times and dates with PostgreSQL's infinities moved to the ends of the calendar.

    Raises ArrowInvalid for what no calendar of ours has: other times outside the years 1 to 9999, and 24:00.
    """
    kind = values.type
    if pa.types.is_timestamp(kind):
        raw, calendar = values.cast(pa.int64()), _MOMENTS
    elif pa.types.is_date32(kind):
        raw, calendar = values.cast(pa.int32()), _DAYS
    elif pa.types.is_time(kind):
        raw, calendar = values.cast(pa.int64()), _CLOCK
    else:
        return values
    if calendar.holds(raw):
        return values
    for mark, end in ((calendar.ever, calendar.last), (calendar.never, calendar.first)):
        if mark is not None:
            raw = pc.if_else(pc.equal(raw, pa.scalar(mark, raw.type)), pa.scalar(end, raw.type), raw)
    if not calendar.holds(raw):
        raise pa.ArrowInvalid(f"one lies outside {calendar.name}")
    return raw.cast(kind)


def columns_of(table: Table, fields: Sequence[str] | None, *, cursor: bool = True) -> list[Column]:
    """The columns that a read of these fields selects, in the table's order."""
    if fields is None:
        return list(table.columns.values())
    wanted = {table.column(name).name for name in fields} | set(table.key)
    if cursor:
        wanted |= {name for name in (table.cursor, table.options.tombstone) if name}
    return [column for name, column in table.columns.items() if name in wanted]


def selected(columns: Sequence[Column], alias: str | None = None) -> str:
    """What to SELECT, so that the columns arrive in their types."""
    before = f"{alias}." if alias else ""
    parts = []
    for column in columns:
        name = identifier(column.name)
        expression = column.expression.replace(name, before + name, 1) if alias else column.expression
        parts.append(f"{expression} AS {name}")
    return ", ".join(parts)


def _empty(table: Table, columns: Sequence[Column]) -> pa.Table:
    return pa.schema([c.field().to_arrow() for c in columns]).empty_table()


def _order(table: Table, began: Watermark | None) -> list[str]:
    if began is None or table.cursor is None:
        return list(table.key)
    return list(dict.fromkeys((table.cursor, *table.key)))


def _sortable(column: Column) -> tuple[str, str]:
    """What to order by, and the type its literals need: a local time is ordered as the instant it is."""
    if column.type == "timestamp" and column.arrow != pa.timestamp("us") and column.expression.startswith("("):
        return column.expression, "timestamptz"
    return identifier(column.name), column.cast


def _behind(table: Table, order: Sequence[str], after: Sequence[str]) -> str:
    """The condition for rows behind the last one already read."""
    pairs = [_sortable(table.columns[name]) for name in order]
    typed = ", ".join(f"{literal(value)}::{kind}" for value, (_, kind) in zip(after, pairs, strict=True))
    condition = f"({', '.join(expression for expression, _ in pairs)}) > ({typed})"
    first = table.columns[order[0]]
    return condition if first.not_null else f"({condition} OR {identifier(first.name)} IS NULL)"


def _advance(table: Table, progress: Progress, order: Sequence[str], page: pa.Table, *, seeing: bool) -> Progress:
    """The progress after a page; while the cursor is null there is no later point to resume at.

    What a resumed read sees is newer than the snapshot its watermark speaks of: it does not count as seen.
    """
    if page.num_rows == 0:
        return progress
    values = [page[name][page.num_rows - 1].as_py() for name in order]
    seen = progress.seen
    if seeing and table.cursor is not None:
        seen = newest(seen, newest_in(page[table.cursor], progress.snapshot))
    after = progress.after if any(v is None for v in values) else tuple(_text(v) for v in values)
    return replace(progress, seen=seen, after=after)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)


def _marked(table: Table, page: pa.Table) -> pa.Table:
    """The page with `_deleted`, when a tombstone column is configured."""
    if table.options.tombstone is None:
        return page
    mark = page[table.options.tombstone]
    gone = pc.fill_null(mark, False) if pa.types.is_boolean(mark.type) else pc.is_valid(mark)
    return page.append_column("_deleted", gone)


def _fitting(column: Column, values: Sequence[str]) -> Sequence[str]:
    """The texts that can be values of the column; whole numbers, which most keys are, are looked at together."""
    if column.type in _BITS:
        numbers = pl.Series(values, dtype=pl.String).cast(pl.Int64, strict=False)
        end = 2 ** _BITS[column.type]
        if not numbers.null_count() and numbers.is_between(-end, end - 1).all() and "+" not in "".join(values):
            return values
    return [value for value in values if _fits(column, value)]


def _fits(column: Column, value: str) -> bool:
    """Whether a text can be a value of the column; one that cannot is in no row."""
    if column.type in _BITS:
        bits = _BITS[column.type]
        digits = value.strip().removeprefix("-")
        return digits.isascii() and digits.isdigit() and -(2**bits) <= int(value) < 2**bits
    if column.type == "uuid":
        plain = value.strip().strip("{}").replace("-", "")
        return len(plain) == 32 and all(c in "0123456789abcdefABCDEF" for c in plain)
    if column.values:
        return value in column.values
    return "\0" not in value
