"""The binlog's events, taken apart as far as changed keys need it. Offsets are the format's, not ours.

https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication_binlog_event.html
https://mariadb.com/docs/server/reference/clientserver-protocol/replication-protocol
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

HEADER: Final = struct.Struct("<IBIIIH")
_IGNORABLE: Final = 0x80
_FORMAT: Final = 15


class Kind(IntEnum):
    """The events that are told apart."""

    QUERY = 2
    ROTATE = 4
    XID = 16
    TABLE_MAP = 19
    INCIDENT = 26
    HEARTBEAT = 27
    GTID = 33  # MySQL
    ANONYMOUS_GTID = 34
    XA_PREPARE = 38
    PARTIAL_UPDATE = 39
    PACKED_TRANSACTION = 40
    MARIA_GTID = 162
    QUERY_COMPRESSED = 165
    OTHER = -1  # says nothing about rows


#: Stop, variables of statements, format description, remarks, lists of ids, checkpoints, encryption: nothing for us.
_SILENT: Final = frozenset({3, 5, 13, 14, 15, 28, 29, 35, 36, 37, 41, 160, 161, 163, 164})


class Change(IntEnum):
    """What a rows event did to its rows."""

    WRITE = 0
    UPDATE = 1
    DELETE = 2


@dataclass(frozen=True, slots=True)
class RowsKind:
    """A rows event's format: what was done, whether extra data precede the columns, whether rows are compressed."""

    change: Change
    extra: bool = False
    compressed: bool = False


ROWS: Final = {
    **{23 + i: RowsKind(change) for i, change in enumerate(Change)},
    **{30 + i: RowsKind(change, extra=True) for i, change in enumerate(Change)},
    **{166 + i: RowsKind(change, compressed=True) for i, change in enumerate(Change)},
    **{169 + i: RowsKind(change, extra=True, compressed=True) for i, change in enumerate(Change)},
}


class Unreadable(Exception):
    """An event of a kind that this reader does not know and may not pass over."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: when it was made (seconds since 1970), by which server, where the next one begins, its body."""

    stamp: int
    kind: int
    server: int
    place: int
    body: memoryview

    @classmethod
    def of(cls, packet: memoryview) -> Event:
        """The event of a packet without its checksum."""
        stamp, kind, server, _, place, flags = HEADER.unpack_from(packet)
        known = kind in ROWS or kind in Kind._value2member_map_
        if not known:
            if kind not in _SILENT and not flags & _IGNORABLE:
                raise Unreadable(f"the binlog has an event of the unknown kind {kind}")
            kind = Kind.OTHER
        return cls(stamp, kind, server, place, packet[HEADER.size :])


class Checksums:
    """Takes the checksum off each packet, as the format event that precedes them says; before it, where there is one.

    Raises Unreadable for a packet that arrived damaged.
    """

    def __init__(self) -> None:
        self._used: bool | None = None

    def without(self, packet: memoryview) -> memoryview:
        """The packet behind its first byte without its last four, where they are its checksum."""
        if packet[4] == _FORMAT:
            self._used = packet[-5] == 1
        if self._used is False:
            return packet
        bare = packet[:-4]
        right = zlib.crc32(bare) == int.from_bytes(packet[-4:], "little")
        if self._used and not right:
            raise Unreadable("an event's checksum is wrong")
        return bare if right else packet


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as it was logged: the database it ran in, and its text."""

    database: str
    text: str


def statement(event: Event) -> Statement:
    """What a query event says."""
    body = event.body
    name, status = body[8], int.from_bytes(body[11:13], "little")
    at = 13 + status
    said = body[at + name + 1 :]
    if event.kind == Kind.QUERY_COMPRESSED:
        said = memoryview(_inflated(said))
    return Statement(bytes(body[at : at + name]).decode("utf-8", "replace"), bytes(said).decode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class TableMap:
    """The table that the rows events after it mean by its number: names, and the columns' types with their details."""

    schema: str
    name: str
    types: bytes
    details: tuple[int, ...]


def table_map(body: memoryview) -> tuple[int, TableMap]:
    """A table's number and what it means."""
    number, at = int.from_bytes(body[:6], "little"), 8
    schema, at = _name(body, at)
    name, at = _name(body, at)
    count, at = number_at(body, at)
    types, at = bytes(body[at : at + count]), at + count
    _, at = number_at(body, at)
    details = []
    for kind in types:
        detail, at = _detail(kind, body, at)
        details.append(detail)
    return number, TableMap(schema, name, types, tuple(details))


def _name(body: memoryview, at: int) -> tuple[str, int]:
    size = body[at]
    return bytes(body[at + 1 : at + 1 + size]).decode("utf-8", "replace"), at + size + 2


_ONE_BYTE: Final = frozenset({4, 5, 17, 18, 19, 140, 242, 245, 249, 250, 251, 252, 255})
_TWO_BYTES: Final = frozenset({15, 141, 253})
_BIG_ENDIAN: Final = frozenset({16, 246, 247, 248, 254})  # two single bytes, the first above the second


def _detail(kind: int, body: memoryview, at: int) -> tuple[int, int]:
    if kind in _ONE_BYTE:
        return body[at], at + 1
    if kind in _TWO_BYTES:
        return body[at] | body[at + 1] << 8, at + 2
    if kind in _BIG_ENDIAN:
        return body[at] << 8 | body[at + 1], at + 2
    return 0, at


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table: which columns each image holds (before, after; one of both for new and deleted rows)."""

    table: int
    change: Change
    images: tuple[Sequence[int], ...]
    data: memoryview


def rows(event: Event) -> Rows:
    """What a rows event holds."""
    body, kind = event.body, ROWS[event.kind]
    table, at = int.from_bytes(body[:6], "little"), 8
    if kind.extra:
        at += int.from_bytes(body[at : at + 2], "little")
    count, at = number_at(body, at)
    size, images = (count + 7) // 8, []
    for _ in range(2 if kind.change is Change.UPDATE else 1):
        images.append(_members(body[at : at + size], count))
        at += size
    data = body[at:]
    if kind.compressed:
        data = memoryview(_inflated(data))
    return Rows(table, kind.change, tuple(images), data)


def _members(bitmap: memoryview, count: int) -> Sequence[int]:
    bits = int.from_bytes(bitmap, "little")
    return range(count) if bits & (1 << count) - 1 == (1 << count) - 1 else [i for i in range(count) if bits >> i & 1]


def number_at(body: memoryview, at: int) -> tuple[int, int]:
    """A number of varying length, and the place behind it."""
    first = body[at]
    if first < 0xFB:
        return first, at + 1
    width = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
    return int.from_bytes(body[at + 1 : at + 1 + width], "little"), at + 1 + width


def _inflated(data: memoryview) -> bytes:
    """What MariaDB compressed: a byte that says how long the length is, the length, a zlib stream."""
    return zlib.decompress(data[1 + (data[0] & 0x07) :])


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction's id, and whether it is a single statement without an end of its own."""

    gtid: str
    alone: bool = False


def begin(event: Event) -> Begin | None:
    """The transaction that a GTID event opens; None for one without an id."""
    body = event.body
    if event.kind == Kind.MARIA_GTID:
        number, domain, flags = struct.unpack_from("<QIB", body)
        return Begin(f"{domain}-{event.server}-{number}", alone=bool(flags & 0x01))
    if event.kind == Kind.GTID:
        return Begin(f"{uuid.UUID(bytes=bytes(body[1:17]))}:{int.from_bytes(body[17:25], 'little')}")
    return None


def branch(event: Event) -> str:
    """The branch (XA) that was prepared, as XA COMMIT names it: the parts in hexadecimal digits."""
    body = event.body
    form, first, second = struct.unpack_from("<III", body, 1)
    names = bytes(body[13 : 13 + first + second])
    return f"{names[:first].hex()},{names[first:].hex()},{form}"
