"""Which columns of a table are its key and its cursor, where nobody says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sync_platform.connectors.sql import Table
from sync_platform.errors import ConfigError

#: Names that people give to "when was this row last changed", most usual first.
CURSOR_NAMES: Final = (
    "updated_at", "modified_at", "last_modified_at", "last_updated_at", "changed_at", "last_modified",
    "last_updated", "updated_on", "modified_on", "date_updated", "date_modified", "updated", "modified",
)  # fmt: skip


def chosen_key(table: Table, indexes: Iterable[Sequence[str | None]]) -> tuple[str, ...]:
    """The columns of the first of these unique indexes whose columns are never null; ConfigError without one."""
    for names in indexes:
        if all(name in table.columns and table.columns[name].not_null for name in names if name) and all(names):
            return tuple(name for name in names if name)
    raise ConfigError(
        f"{table} has neither a primary key nor a unique index over columns that are never null",
        field="object",
        value=str(table),
        mend=f"say which columns identify a row: tables={{{table.name!r}: {{'key': [...]}}}} in the connection",
    )


def chosen_cursor(table: Table, types: Sequence[str]) -> str | None:
    """The configured cursor, else a usual one of these types, indexed ones first; ConfigError for a wrong type."""
    wanted = table.options.cursor
    if wanted is not None:
        if wanted and table.columns[wanted].type not in types:
            raise ConfigError(
                f"{table}: the cursor {wanted} is a {table.columns[wanted].declared}",
                field="cursor",
                value=wanted,
                mend="name a timestamp or a whole-number column that grows with every change",
            )
        return wanted or None
    usual = {name: place for place, name in enumerate(CURSOR_NAMES)}
    found = [c for c in table.columns.values() if c.name.lower() in usual and c.type in types]
    found.sort(key=lambda c: (not c.indexed, usual[c.name.lower()]))
    return found[0].name if found else None
