"""What only PostgreSQL's catalogue says about a table: which constraints tell its rows apart and tie them to others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field as Setting

from sync_platform.connectors.postgres.procedure import Procedure
from sync_platform.connectors.sql import Table, TableOptions
from sync_platform.connectors.uniqueness import Uniqueness


class PostgresOptions(TableOptions):
    """What a person says about one table or view of PostgreSQL."""

    procedure: str | None = Setting(
        default=None,
        description="Function (op text, rows jsonb) that takes each batch instead of INSERT, UPDATE and DELETE.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """A unique index or constraint, the primary key too, over plain columns."""

    name: str
    columns: tuple[str, ...]
    why_not: str | None  # why no INSERT can be told by it that its row is there already
    nulls_equal: bool  # NULLS NOT DISTINCT: there is one row without a value at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A foreign key: rows of `table` refer to rows of `parent`."""

    name: str
    schema: str
    table: str
    columns: tuple[str, ...]
    parent_schema: str
    parent: str
    parent_columns: tuple[str, ...]

    @property
    def within(self) -> bool:
        """Whether the table refers to itself."""
        return (self.schema, self.table) == (self.parent_schema, self.parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class PgTable(Table):
    """A table or view with its unique constraints and foreign keys."""

    procedure: Procedure | None = None  # what takes its batches instead of statements of ours
    uniques: tuple[Unique, ...] = ()
    references: tuple[Reference, ...] = ()  # to whom its rows refer
    referenced: tuple[Reference, ...] = ()  # who refers to its rows, and keeps them from being deleted

    def arbiter(self, match: Sequence[str]) -> Unique | None:
        """The unique constraint over exactly these columns, in any order, by which an INSERT can be arbitrated."""
        return next((one for one in self.over(match) if one.why_not is None), None)

    @property
    def found_by_key(self) -> bool:
        """Whether an index finds each row by its key, so that looking up one after the other is the quickest way."""
        return self.arbiter(self.key) is not None

    def over(self, match: Sequence[str]) -> list[Unique]:
        """Every unique constraint over exactly these columns."""
        return [one for one in self.uniques if set(one.columns) == set(match)]


def uniques_of(indexes: Sequence[dict[str, Any]]) -> tuple[Unique, ...]:
    """The unique indexes over plain columns, as `catalog` describes a table's indexes."""
    return tuple(
        Unique(
            name=one["name"],
            columns=tuple(one["columns"]),
            why_not=_why_not(one),
            nulls_equal=bool(one["nulls_equal"]),
        )
        for one in indexes
        if one["is_unique"] and all(one["columns"])
    )


def references_of(told: Sequence[dict[str, Any]]) -> tuple[Reference, ...]:
    """Foreign keys, as `catalog` describes them."""
    return tuple(
        Reference(
            name=one["name"],
            schema=one["schema"],
            table=one["table"],
            columns=tuple(one["columns"]),
            parent_schema=one["parent_schema"],
            parent=one["parent"],
            parent_columns=tuple(one["parent_columns"]),
        )
        for one in told
    )


def _why_not(index: dict[str, Any]) -> str | None:
    if index["predicate"]:
        return f"it covers only the rows where {index['predicate']}"
    if index["deferrable"]:
        return "it is DEFERRABLE, which PostgreSQL lets no INSERT ... ON CONFLICT rely on"
    if not index["valid"]:
        return "it is INVALID: its making was broken off"
    return None


def uniqueness(table: PgTable, match: Sequence[str]) -> Uniqueness:
    """What the table's unique constraints say about matching by these columns."""
    if table.arbiter(match) is not None:
        return Uniqueness(ensured=True)
    columns = ", ".join(match)
    unfit = [
        f"the unique index {one.name} over {columns} cannot be matched by: {one.why_not}" for one in table.over(match)
    ]
    if not unfit:
        return Uniqueness(ensured=False)
    return Uniqueness(
        ensured=False,
        problem=f"{table}: {'; '.join(unfit)}",
        mend=f"match by other columns, or make a plain one: CREATE UNIQUE INDEX ON {table} ({columns})",
    )
