"""The messages of PostgreSQL's `pgoutput` plugin, as far as a row's key needs them: what happened, in which table.

https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html (protocol version 1: transactions
come whole, in the order of their commits).
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sync_platform.errors import ContractError

_EPOCH: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_BEGIN: Final = struct.Struct(">QqI")
_COMMIT: Final = struct.Struct(">BQQq")
_INT: Final = struct.Struct(">I")
_SHORT: Final = struct.Struct(">H")
_COLUMN: Final = struct.Struct(">Ii")
_NULL, _SAME, _TEXT, _BINARY = b"nutb"
_KEY, _OLD, _NEW = b"KON"


class Unchanged:
    """A value that the server did not send, because it is stored apart and was not changed."""

    __slots__ = ()


UNCHANGED: Final = Unchanged()
#: The values of some columns: texts, null, or `UNCHANGED`.
Values: TypeAlias = Sequence[str | Unchanged | None]


@dataclass(frozen=True, slots=True)
class Begin:
    """The beginning of a transaction that was committed at this time (the database's clock)."""

    committed_at: dt.datetime
    xid: int  # 32 bits


@dataclass(frozen=True, slots=True)
class Commit:
    """The end of a transaction; `end` is the first byte of the log behind it."""

    end: int


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as the following messages tell its rows."""

    id: int
    schema: str
    name: str
    columns: tuple[tuple[str, int, int], ...]  # name, number of the type, its modifier

    def places(self, names: Sequence[str]) -> tuple[int, ...] | None:
        """Where these columns stand; None when one of them is not told."""
        known = {name: place for place, (name, _, _) in enumerate(self.columns)}
        return tuple(known[name] for name in names) if all(name in known for name in names) else None


@dataclass(frozen=True, slots=True)
class Truncate:
    """Tables that were emptied, by their numbers."""

    relations: tuple[int, ...]


def parse(message: bytes) -> Begin | Commit | Relation | Truncate | None:
    """A message that is about no row; None for one that tells nothing here (types, origins)."""
    kind = message[0:1]
    if kind == b"B":
        _, micros, xid = _BEGIN.unpack_from(message, 1)
        return Begin(_EPOCH + dt.timedelta(microseconds=micros), xid)
    if kind == b"C":
        return Commit(_COMMIT.unpack_from(message, 1)[2])
    if kind == b"R":
        return _relation(message)
    if kind == b"T":
        (count,) = _INT.unpack_from(message, 1)
        return Truncate(struct.unpack_from(f">{count}I", message, 6))
    if kind in (b"Y", b"O", b"M"):
        return None
    raise ContractError(
        f"the server sent a message of kind {kind!r}, which protocol version 1 does not have",
        mend="please report this with the server's version",
    )


def relation_of(message: bytes) -> int:
    """The number of the table whose row an insert, update or delete is about."""
    return int(_INT.unpack_from(message, 1)[0])


def key_of_insert(message: bytes, places: Sequence[int]) -> Values:
    """The key's values of an inserted row."""
    return _values(message, 6, places)[0]


def key_of_delete(message: bytes, places: Sequence[int]) -> Values:
    """The key's values of a deleted row, of which the server told the old values."""
    return _values(message, 6, places)[0]


def keys_of_update(message: bytes, places: Sequence[int]) -> tuple[Values | None, Values]:
    """The key's values before (None: the same, the server told no old values) and after an update."""
    if message[5] == _NEW:
        return None, _values(message, 6, places)[0]
    old, end = _values(message, 6, places, whole=True)
    if message[end] != _NEW:
        raise ContractError("the server told an update without the new row", mend="please report this")
    return old, _values(message, end + 1, places)[0]


def _values(message: bytes, at: int, places: Sequence[int], *, whole: bool = False) -> tuple[Values, int]:
    """The values at these places of the row that begins at `at`; with `whole`, also where the row ends."""
    (count,) = _SHORT.unpack_from(message, at)
    at += 2
    last = count - 1 if whole else max(places)
    found: dict[int, str | Unchanged | None] = {}
    for place in range(last + 1):
        kind = message[at]
        at += 1
        if kind == _TEXT:
            (size,) = _INT.unpack_from(message, at)
            at += 4
            if place in places:
                found[place] = message[at : at + size].decode()
            at += size
        elif kind == _NULL:
            found[place] = None
        elif kind == _SAME:
            found[place] = UNCHANGED
        else:
            raise ContractError(f"the server sent a value of kind {kind!r}", mend="please report this")
    return tuple(found[place] for place in places), at


def _relation(message: bytes) -> Relation:
    (number,) = _INT.unpack_from(message, 1)
    schema, at = _string(message, 5)
    name, at = _string(message, at)
    (count,) = _SHORT.unpack_from(message, at + 1)  # behind the replica identity
    at += 3
    columns = []
    for _ in range(count):
        column, at = _string(message, at + 1)  # behind the flags
        kind, modifier = _COLUMN.unpack_from(message, at)
        at += 8
        columns.append((column, kind, modifier))
    return Relation(number, schema or "pg_catalog", name, tuple(columns))


def _string(message: bytes, at: int) -> tuple[str, int]:
    end = message.index(b"\0", at)
    return message[at:end].decode(), end + 1
