"""A parsed SOQL statement. `pos` is an offset into the statement, for error messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Path:
    """`Email`, `Account.Name`."""

    parts: tuple[str, ...]
    pos: int

    def __str__(self) -> str:
        return ".".join(self.parts)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`COUNT(Id) total`; `path` None: `COUNT()`."""

    function: str
    path: Path | None
    pos: int
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class FieldsGroup:
    """`FIELDS(ALL)`, `FIELDS(STANDARD)`, `FIELDS(CUSTOM)`."""

    group: str
    pos: int


@dataclass(frozen=True, slots=True)
class Column:
    """A selected field, with an alias when grouped."""

    path: Path
    alias: str | None = None


SelectItem: TypeAlias = Column | Aggregate | FieldsGroup


@dataclass(frozen=True, slots=True)
class Literal:
    """A value in a condition: kind is string | number | boolean | null | date | datetime | word."""

    kind: str
    value: str | float | bool | None
    pos: int
    n: int | None = None  # of LAST_N_DAYS:n


@dataclass(frozen=True, slots=True)
class Compare:
    """`field op literal`; op is one of = != < <= > >= like."""

    left: Path | Aggregate
    op: str
    right: Literal


@dataclass(frozen=True, slots=True)
class Among:
    """`field IN (...)`, INCLUDES, and their opposites."""

    left: Path
    op: str  # in | not in | includes | excludes
    values: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """`NOT condition`."""

    inner: Condition


@dataclass(frozen=True, slots=True)
class Every:
    """Conditions joined by AND."""

    items: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """Conditions joined by OR."""

    items: tuple[Condition, ...]


Condition: TypeAlias = Compare | Among | Not | Every | Some


@dataclass(frozen=True, slots=True)
class Order:
    """One ORDER BY term."""

    by: Path | Aggregate
    descending: bool = False
    nulls_last: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A whole SELECT."""

    text: str
    items: tuple[SelectItem, ...]
    object: str
    object_pos: int
    alias: str | None = None
    where: Condition | None = None
    group: tuple[Path, ...] = ()
    having: Condition | None = None
    order: tuple[Order, ...] = field(default=())
    limit: int | None = None
    offset: int | None = None
