"""How far a stream was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

#: The landing table, unless a column was widened.
ROWS: Final = "rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is remembered of a stream's reading, stored with every chunk. Plain JSON values."""

    position: Mapping[str, Any] | None = None  # resumes after everything merged so far
    where: str | None = None  # the Source's filter this position belongs to
    fields: list[str] | None = None  # ... and its columns (None: all)
    finished: bool = False  # the read that set the position came to its end
    owed: str | None = None  # why everything must be read again, if it must
    chunk: int = 0  # of the last package
    table: str = ROWS  # where its rows landed
    columns: list[str] = field(default_factory=list)  # the vendor columns its pages had

    def moved_from(self, before: Reading) -> bool:
        """Whether this says anything new about how far the read got."""
        return (self.position, self.where, self.fields, self.finished, self.owed) != (
            before.position, before.where, before.fields, before.finished, before.owed
        )  # fmt: skip

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Reading:
        """What was stored, be it by another release."""
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in stored.items() if name in known})
