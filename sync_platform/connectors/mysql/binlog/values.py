"""Values of a row as the binlog holds them, as the texts the server prints; the columns in between are passed over.

https://dev.mysql.com/doc/dev/mysql-server/latest/field__types_8h.html
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping
from typing import Final

from sync_platform.connectors.mysql.catalog import StoredColumn
from sync_platform.connectors.mysql.charsets import is_known, is_unicode, to_text

__all__ = ["KEY_TYPES", "Misfit", "printer_of", "width_of"]


class Misfit(Exception):
    """The log's column is not the one that the catalogue describes now: the table was altered in between."""


_FIXED: Final[Mapping[int, int]] = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 6: 0, 7: 4, 8: 8, 9: 3, 10: 3, 11: 3, 12: 8, 13: 1,
                                    14: 3}  # fmt: skip
_TIMES: Final[Mapping[int, int]] = {17: 4, 18: 5, 19: 3}
_GROUP: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)  # bytes of so many decimal digits
_EPOCH: Final = dt.datetime(1970, 1, 1)


def _string(detail: int) -> tuple[int, int]:
    """The real type of a column of type STRING, and its length in bytes, which lends two bits to the type's byte."""
    kind, length = detail >> 8, detail & 0xFF
    if kind & 0x30 != 0x30:
        return kind | 0x30, length | ((kind & 0x30) ^ 0x30) << 4
    return kind, length


def width_of(kind: int, detail: int) -> int:
    """Bytes of a column's value; below zero: bytes of the length that precedes it."""
    if kind in _FIXED:
        return _FIXED[kind]
    if kind in _TIMES:
        return _TIMES[kind] + (detail + 1) // 2
    if kind in (15, 141, 253):
        return -2 if detail > 255 else -1
    if kind == 254:
        real, length = _string(detail)
        return length if real in (247, 248) else -2 if length > 255 else -1
    if kind in (247, 248):
        return detail & 0xFF
    if kind == 246:
        precision, scale = detail >> 8, detail & 0xFF
        whole, rest = divmod(precision - scale, 9), divmod(scale, 9)
        return whole[0] * 4 + _GROUP[whole[1]] + rest[0] * 4 + _GROUP[rest[1]]
    if kind == 16:
        return (detail & 0xFF) + bool(detail >> 8)
    if kind in (140, 242, 245, 249, 250, 251, 252, 255):
        return -(detail or 1)
    raise Misfit(f"a column has the unknown type {kind}")


#: The types a key may have.
KEY_TYPES: Final = frozenset({
    "tinyint", "smallint", "mediumint", "int", "bigint", "bit", "decimal", "year", "date", "datetime", "timestamp",
    "time", "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "uuid", "binary",
    "varbinary", "tinyblob", "blob", "mediumblob", "longblob",
})  # fmt: skip

_NUMBERS: Final = {"tinyint": (1,), "smallint": (2,), "int": (3,), "bigint": (8,), "mediumint": (9,)}
Printer = Callable[[bytes], bytes]


def printer_of(column: StoredColumn, kind: int, detail: int) -> Printer:
    """What turns a value's bytes in the log into what the server prints; Misfit when the log's type is another one."""
    name = column.type
    if name in _NUMBERS and kind in (1, 2, 3, 8, 9):
        unsigned = "unsigned" in column.declared.lower()
        return lambda raw: b"%d" % int.from_bytes(raw, "little", signed=not unsigned)
    if name == "bit" and kind == 16:
        return lambda raw: b"%d" % int.from_bytes(raw, "big")
    if name == "decimal" and kind == 246:
        return lambda raw: _decimal(raw, detail >> 8, detail & 0xFF)
    if name == "year" and kind == 13:
        return lambda raw: b"%04d" % (raw[0] + 1900 if raw[0] else 0)
    if name == "date" and kind in (10, 14):
        return _date
    if name == "datetime" and kind == 18:
        return lambda raw: _datetime(raw, detail)
    if name == "timestamp" and kind == 17:
        return lambda raw: _timestamp(raw, detail)
    if name == "time" and kind == 19:
        return lambda raw: _time(raw, detail)
    if name in ("enum", "set"):
        return _chosen(column, kind, detail)
    if name == "uuid" and kind == 254:
        return _uuid
    text = kind in (15, 252, 253, 249, 250, 251) or (kind == 254 and _string(detail)[0] == 254)
    if text and column.is_text:
        return _texts(column)
    if text and name in ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"):
        length = column.length or 0  # a fixed length is filled up with zero bytes, which the log leaves out
        return lambda raw: raw.ljust(length, b"\0")
    raise Misfit(f"{column.name} is a {column.declared}, and another type in the log")


def _texts(column: StoredColumn) -> Printer:
    charset = column.charset or ""
    if is_unicode(charset):
        return lambda raw: raw
    if not is_known(charset):
        raise Misfit(f"{column.name} has the charset {charset}")
    return lambda raw: to_text(charset, raw).encode()


def _chosen(column: StoredColumn, kind: int, detail: int) -> Printer:
    members = [member.encode() for member in column.members]
    real = _string(detail)[0] if kind == 254 else kind
    if column.type == "enum" and real == 247:

        def one(raw: bytes) -> bytes:
            place = int.from_bytes(raw, "little")
            if place > len(members):
                raise Misfit(f"{column.name} has a value that its list lacks")
            return members[place - 1] if place else b""

        return one
    if column.type == "set" and real == 248:
        return lambda raw: b",".join(m for i, m in enumerate(members) if int.from_bytes(raw, "little") >> i & 1)
    raise Misfit(f"{column.name} is a {column.declared}, and another type in the log")


def _decimal(raw: bytes, precision: int, scale: int) -> bytes:
    """Groups of nine digits in four bytes, the first bit flipped, every bit of a negative number."""
    below = not raw[0] & 0x80
    flipped = bytes([raw[0] ^ 0x80]) + raw[1:]
    if below:
        flipped = bytes(byte ^ 0xFF for byte in flipped)
    whole, rest = precision - scale, scale
    sizes = [whole % 9, *[9] * (whole // 9), *[9] * (rest // 9), rest % 9]
    digits, at = [], 0
    for size in sizes:
        if size:
            digits.append(b"%0*d" % (size, int.from_bytes(flipped[at : at + _GROUP[size]], "big")))
            at += _GROUP[size]
    text = b"".join(digits)
    before = text[:whole].lstrip(b"0") or b"0"
    number = before + b"." + text[whole:] if scale else before
    return b"-" + number if below else number


def _date(raw: bytes) -> bytes:
    packed = int.from_bytes(raw, "little")
    return b"%04d-%02d-%02d" % (packed >> 9, packed >> 5 & 15, packed & 31)


def _fraction(raw: bytes, digits: int) -> bytes:
    if not digits:
        return b""
    micros = int.from_bytes(raw, "big") * 100 ** (3 - len(raw))
    return b"." + (b"%06d" % micros)[:digits]


def _datetime(raw: bytes, digits: int) -> bytes:
    packed = int.from_bytes(raw[:5], "big") - (1 << 39)
    month, day = packed >> 22, packed >> 17 & 31
    hour, minute, second = packed >> 12 & 31, packed >> 6 & 63, packed & 63
    told = b"%04d-%02d-%02d %02d:%02d:%02d" % (month // 13, month % 13, day, hour, minute, second)
    return told + _fraction(raw[5:], digits)


def _timestamp(raw: bytes, digits: int) -> bytes:
    seconds = int.from_bytes(raw[:4], "big")
    if not seconds:
        return b"0000-00-00 00:00:00" + _fraction(raw[4:], digits)
    told = (_EPOCH + dt.timedelta(seconds=seconds)).isoformat(sep=" ")
    return told.encode() + _fraction(raw[4:], digits)


def _time(raw: bytes, digits: int) -> bytes:
    more = len(raw) - 3
    packed = int.from_bytes(raw, "big") - (0x800000 << 8 * more)
    span, rest = abs(packed) >> 8 * more, (abs(packed) & (1 << 8 * more) - 1).to_bytes(more, "big")
    told = b"%02d:%02d:%02d" % (span >> 12 & 1023, span >> 6 & 63, span & 63)
    return (b"-" if packed < 0 else b"") + told + _fraction(rest, digits)


def _uuid(raw: bytes) -> bytes:
    """Stored with its five parts in reverse order, so that those of one machine are neighbours; newer kinds are not."""
    value = raw.ljust(16, b"\0")
    if value[6] & 0x80 and 0 < value[8] < 0x60:
        value = value[12:] + value[10:12] + value[8:10] + value[6:8] + value[:6]
    return str(uuid.UUID(bytes=value)).encode()
