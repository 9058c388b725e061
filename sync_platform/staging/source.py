"""What a load reads: one stream of a connection, and whether what was read of it so far is still good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync_platform.model import Position, Stream

if TYPE_CHECKING:
    from sync_platform.connectors.connector import Connector
    from sync_platform.staging.reading import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A stream, the fields of it that are wanted (None: all) and its own filter."""

    connector: Connector
    stream: Stream
    fields: Sequence[str] | None
    where: str | None

    @property
    def cursor(self) -> str | None:
        return self.stream.cursor.field if self.stream.cursor else None

    def asked(self) -> list[str] | None:
        """The fields to ask for: the Source's, the key and the cursor."""
        if self.fields is None:
            return None
        return list(dict.fromkeys([*self.stream.key, *([self.cursor] if self.cursor else []), *self.fields]))


def needs_full_read(reading: Reading, fields: Sequence[str] | None, where: str | None) -> str | None:
    """Why a stream read so far as `reading` says must be read again from nothing, or None."""
    if reading.position is None:
        return None
    if reading.where != where:
        return f"its filter changed from {reading.where or 'none'} to {where or 'none'}"
    if reading.fields is not None:
        new = "all fields" if fields is None else ", ".join(sorted(set(fields) - set(reading.fields)))
        if new:
            return f"it now reads {new}"
    return reading.owed


def goes_on_from(reading: Reading, source: Source, *, full: bool) -> Position | None:
    """Where the next read of a stream read so far as `reading` says begins; None: it reads everything."""
    if full or reading.position is None or needs_full_read(reading, source.fields, source.where):
        return None
    if source.stream.cursor is None and reading.finished:
        return None  # nothing to move along: only a full read sees changes
    return Position(reading.position)
