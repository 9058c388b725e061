"""The keys of a table's rows in the log, as staging writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import pyarrow as pa

from sync_platform.connectors.key_text import bytes_text, decimal_text, joined
from sync_platform.connectors.mysql.binlog.events import Rows, TableMap
from sync_platform.connectors.mysql.binlog.values import Misfit, Printer, printer_of, width_of
from sync_platform.connectors.mysql.catalog import StoredColumn, StoredTable
from sync_platform.connectors.mysql.decoding import to_utc

_MICROS: Final = 6


class KeyReader:
    """Reads keys of one table, whose rows have the shape that a table map told.

    Raises Misfit when that shape is not the table's as described now.
    """

    def __init__(self, table: StoredTable, told: TableMap) -> None:
        if len(told.types) != len(table.columns):
            raise Misfit(f"{table} has {len(table.columns)} columns, and {len(told.types)} in the log")
        self._table = table
        self._widths = [width_of(kind, detail) for kind, detail in zip(told.types, told.details, strict=True)]
        names = list(table.columns)
        self._parts = {names.index(name): place for place, name in enumerate(table.key)}
        self._texts = [
            _text_of(table, table.columns[name], printer_of(table.columns[name], told.types[at], told.details[at]))
            for name, at in ((name, names.index(name)) for name in table.key)
        ]

    def keys(self, rows: Rows) -> Iterator[tuple[str | None, str | None]]:
        """Each row's key before and after; both are the same for new and deleted rows. None: a part of it is null.

        Raises Misfit when an image lacks a part of the key.
        """
        data, at, size = rows.data, 0, len(rows.data)
        while at < size:
            raw: list[bytes | None] = [b""] * len(self._texts)
            lacking = set(range(len(self._texts)))
            at = self._image(data, at, rows.images[0], raw, lacking)
            if lacking:
                raise Misfit(f"{self._table}: the log holds rows without their whole key")
            before = self._key(raw)
            after = before
            if len(rows.images) == 2:
                changed = list(raw)
                at = self._image(data, at, rows.images[1], changed, set())
                after = before if changed == raw else self._key(changed)
            yield before, after

    def _image(
        self, data: memoryview, at: int, present: Sequence[int], raw: list[bytes | None], lacking: set[int]
    ) -> int:
        """Takes the parts of the key out of an image; where the next one begins."""
        size = (len(present) + 7) // 8
        nulls, at = int.from_bytes(data[at : at + size], "little"), at + size
        widths, parts = self._widths, self._parts
        for bit, place in enumerate(present):
            part = parts.get(place)
            if nulls >> bit & 1:
                if part is not None:
                    raw[part] = None
                    lacking.discard(part)
                continue
            length = widths[place]
            if length < 0:
                begin = at - length
                length = int.from_bytes(data[at:begin], "little")
                at = begin
            if part is not None:
                raw[part] = bytes(data[at : at + length])
                lacking.discard(part)
            at += length
        return at

    def _key(self, raw: Sequence[bytes | None]) -> str | None:
        texts = [None if value is None else text(value) for text, value in zip(self._texts, raw, strict=True)]
        if len(texts) == 1:
            return texts[0]
        whole = [text for text in texts if text is not None]
        return joined(whole) if len(whole) == len(texts) else None


def _text_of(table: StoredTable, column: StoredColumn, printed: Printer) -> Callable[[bytes], str | None]:
    """A value's text in a key: what the server prints, in the manner of the type that the column is read as."""
    if pa.types.is_binary(column.arrow):
        return lambda raw: bytes_text(printed(raw))
    if column.name in table.options.as_text and not column.is_text and column.type in _RAW:
        return lambda raw: printed(raw).hex().upper()
    if pa.types.is_boolean(column.arrow):
        return lambda raw: "false" if printed(raw) == b"0" else "true"
    if pa.types.is_decimal(column.arrow):
        return lambda raw: decimal_text(printed(raw).decode(), column.arrow)
    if column.type == "year" and pa.types.is_integer(column.arrow):
        return lambda raw: str(int(printed(raw)))
    if column.type == "date" and pa.types.is_date(column.arrow):
        return lambda raw: None if (text := printed(raw).decode()).startswith("0000-00-00") else text
    if pa.types.is_timestamp(column.arrow):
        zone = table.options.timezone if column.type == "datetime" else None
        return lambda raw: _moment(printed(raw).decode(), column, zone)
    return lambda raw: printed(raw).decode()


_RAW: Final = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")


def _moment(text: str, column: StoredColumn, zone: str | None) -> str | None:
    if text.startswith("0000-00-00"):
        return None
    whole, _, fraction = text.partition(".")
    full = f"{whole}.{fraction.ljust(_MICROS, '0')}"
    if zone is not None:
        local = pa.array([full], pa.string()).cast(pa.timestamp("us"))
        return str(to_utc(local, zone).cast(pa.string())[0])
    return full if column.arrow.tz is None else f"{full}Z"
