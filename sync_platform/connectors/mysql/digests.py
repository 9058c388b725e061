"""Digests of rows: as the server computes them for a compare, and as we do of the bytes that it sends.

A digest is 60 bits of the SHA-1 of a row's values as a read selects them, one after the other with a byte between them
that no UTF-8 text has, and numbers that tell which of them are null. Values that may hold that byte, and those that may
be longer than the server lets a function answer, stand as a SHA-1 of their own. Should the server print a value in two
ways, its digest and ours differ, and the row is read with every compare: nothing is missed.

https://mariadb.com/kb/en/concat_ws/, https://dev.mysql.com/doc/refman/8.4/en/encryption-functions.html#function_sha1
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sync_platform import __version__
from sync_platform.connectors.mysql.catalog import SHAPES, StoredColumn, StoredTable
from sync_platform.connectors.mysql.charsets import is_unicode
from sync_platform.connectors.mysql.session import Session, identifier

if TYPE_CHECKING:
    import duckdb

#: Higher when the same values get another digest, or are staged in another form.
_FORM: Final = 1
_SEPARATOR: Final = b"\xff"
_NUMBERS: Final = ("tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double", "bit", "year",
                   "date", "datetime", "timestamp", "time")  # fmt: skip
_SHORT: Final = ("varchar", "char", "enum", "set")
_FLAGS: Final = 60  # nullable columns that one number tells of


def comparable(table: StoredTable, columns: Sequence[StoredColumn]) -> bool:
    """Whether a table's rows can be compared by digests: each has a key of its own, and a snapshot holds.

    Of two rows with one key only one is staged, so that their blocks would never agree.
    """
    unique = any(set(names) <= set(table.key) for names in table.uniques.values())
    whole = table.query is None and table.why_not is None and table.options.tombstone is None
    return whole and unique and not any(column.type in SHAPES for column in columns)


def named(session: Session, table: StoredTable, columns: Sequence[StoredColumn], *, zero_dates: bool) -> str:
    """What digests of these columns are called: others are made by, or of, something else."""
    release = session.about.version.partition("-")[0].rpartition(".")[0]
    made_of = [
        _FORM, __version__, session.about.is_mariadb, release, str(table), table.key, table.cursor,
        table.options.timezone, zero_dates,
        [(c.name, c.declared, c.expression, str(c.arrow), c.charset, c.not_null) for c in columns],
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]


def digest_sql(table: StoredTable, columns: Sequence[StoredColumn]) -> str:
    """A row's digest as the server computes it, a whole number."""
    first, others = _in_order(table, columns)
    # a column of bytes among them keeps the server from taking the separator for a text
    terms = [f"CAST({_term(first)} AS BINARY)", *map(_term, others)]
    terms += [" | ".join(map(_flag, range(len(part)), part)) for part in _nullable(columns)]
    joined = f"CONCAT_WS(_binary x'{_SEPARATOR.hex()}', {', '.join(terms)})"
    return f"CAST(CONV(LEFT(SHA1({joined}), 15), 16, 10) AS UNSIGNED)"


def _term(column: StoredColumn) -> str:
    if not _is_hashed(column):
        return column.expression
    sent = pa.types.is_binary(column.arrow) or is_unicode(column.charset)
    return f"SHA1({column.expression if sent else f'CONVERT({column.expression} USING utf8mb4)'})"


def _flag(bit: int, column: StoredColumn) -> str:
    return f"(({identifier(column.name)} IS NULL) << {bit})"


def _is_hashed(column: StoredColumn) -> bool:
    """Whether its values stand as a SHA-1 of their own."""
    short = column.type in _SHORT and (is_unicode(column.charset) or column.charset == "ascii")
    return not short and column.type not in _NUMBERS


def _in_order(table: StoredTable, columns: Sequence[StoredColumn]) -> tuple[StoredColumn, list[StoredColumn]]:
    first = table.columns[table.key[0]]
    return first, [column for column in columns if column.name != first.name]


def _nullable(columns: Sequence[StoredColumn]) -> list[list[StoredColumn]]:
    """The columns that null flags tell of, by the number that holds theirs."""
    able = [column for column in columns if not column.not_null]
    return [able[start : start + _FLAGS] for start in range(0, len(able), _FLAGS)]


class RowDigests:
    """Digests of the rows of one read, of what the server sends: the same as its own. A context."""

    def __init__(self, name: str, table: StoredTable, columns: Sequence[StoredColumn]) -> None:
        """`name` is what such digests are called."""
        self.name = name
        first, others = _in_order(table, columns)
        self._columns = [first, *others]
        self._nullable = _nullable(columns)

    def __enter__(self) -> Self:
        import duckdb

        self._con: duckdb.DuckDBPyConnection = duckdb.connect(config={"threads": 1})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._con.close()

    def of(self, batch: pa.RecordBatch) -> pa.ChunkedArray:
        """A digest (int64) for each row, whose columns are the bytes off the wire."""
        values = [self._value(batch.column(one.name), hashed=_is_hashed(one)) for one in self._columns]
        values += [_flags([batch.column(one.name) for one in part]) for part in self._nullable]
        joined = pc.binary_join_element_wise(*values, pa.scalar(_SEPARATOR, pa.binary()), null_handling="skip")
        return self._asked("('0x' || left(sha1(v), 15))::BIGINT", joined)

    def _value(self, column: pa.Array, *, hashed: bool) -> pa.Array:
        return self._asked("sha1(v)", column).combine_chunks().cast(pa.binary()) if hashed else column

    def _asked(self, expression: str, values: pa.Array) -> pa.ChunkedArray:
        self._con.register("given", pa.table({"v": values}))
        return self._con.execute(f"SELECT {expression} AS d FROM given").to_arrow_table()["d"]


def _flags(columns: Sequence[pa.Array]) -> pa.Array:
    """Numbers, as the server prints them, whose bits tell which of the columns are null."""
    flags = np.zeros(len(columns[0]), np.int64)
    for bit, column in enumerate(columns):
        if column.null_count:
            flags |= column.is_null().to_numpy(zero_copy_only=False).astype(np.int64) << bit
    return pa.array(flags).cast(pa.string()).cast(pa.binary())
