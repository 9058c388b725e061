"""The SQL that applies a range of a part's rows, staged in the temporary table `_part`, to its table.

Every statement answers `_n`, the row's number, with `_done` (written), `_there` (the row existed) and,
for creates, the key it got. https://www.postgresql.org/docs/current/queries-with.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from sync_platform.connectors.postgres.session import identifier, literal
from sync_platform.connectors.postgres.table import PgTable, Unique
from sync_platform.connectors.sql import Column, Table
from sync_platform.errors import ConfigError

#: Columns of a table that the server takes for certain.
MOST_COLUMNS: Final = 1500

PART: Final = "_part"

#: What the values that a row must still have are called in a part, with a number behind.
WAS: Final = "_sync_w"

#: Types whose `=` means "the same value". Others are compared as text.
_COMPARABLE: Final = (
    "int2", "int4", "int8", "float4", "float8", "numeric", "bool", "text", "varchar", "date", "time",
    "timestamp", "timestamptz", "bytea", "uuid", "jsonb",
)  # fmt: skip


def typed(table: Table, column: Column, part: str = "p", *, name: str | None = None) -> str:
    """A staged value as the column's type; a length is left to the assignment, which checks it."""
    staged = f"{part}.{identifier(name or column.name)}"
    if column.type == "timestamp" and table.options.timezone:
        return f"({staged}::timestamptz AT TIME ZONE {literal(table.options.timezone)})"
    return f"{staged}::{column.cast}"


def target_key(table: Table, part: str = "p") -> list[str]:
    """The staged `_target_id` as the key's columns."""
    if len(table.key) == 1:
        return [f"{part}._target_id::{table.columns[table.key[0]].cast}"]
    parts = enumerate(table.key)
    return [f"({part}._target_id::jsonb ->> {place})::{table.columns[name].cast}" for place, name in parts]


def create(table: Table, given: Sequence[str], low: int, high: int, *, unique: Unique | None = None) -> str:
    """Inserts rows, drawing the key's defaults first so that each row's new key is known.

    A row that `unique` says is there already is left alone and not `_done`; see `met`.
    https://www.postgresql.org/docs/current/sql-insert.html#SQL-ON-CONFLICT
    """
    drawn = [name for name in table.key if name not in given]
    refuse_undrawn(table, drawn)
    values = [f"{typed(table, table.columns[name])} AS {identifier(name)}" for name in given]
    values += [f"{table.columns[name].default} AS {identifier(name)}" for name in drawn]
    names = ", ".join(identifier(name) for name in (*given, *drawn))
    keys = ", ".join(identifier(name) for name in table.key)
    names_of_key = [identifier(name) for name in table.key]
    texts = ", ".join(f"coalesce(i.{name}, n.{name})::text AS k{i}" for i, name in enumerate(names_of_key))
    same = " AND ".join(f"i.{identifier(name)} = n.{identifier(name)}" for name in table.key)
    arbiter = ", ".join(identifier(name) for name in unique.columns) if unique else ""
    conflict = f"ON CONFLICT ({arbiter}) DO NOTHING " if unique else ""
    return (
        f"WITH n AS MATERIALIZED (SELECT p._n, {', '.join(values)} FROM {PART} p "
        f"WHERE p._n >= {low} AND p._n < {high}), "
        f"i AS (INSERT INTO {identifier(table.schema, table.name)} ({names}) OVERRIDING SYSTEM VALUE "
        f"SELECT {names} FROM n ORDER BY _n {conflict}RETURNING {keys}) "
        f"SELECT n._n, i.{identifier(table.key[0])} IS NOT NULL AS _done, false AS _there, {texts} "
        f"FROM n LEFT JOIN i ON {same}"
    )


def refuse_undrawn(table: Table, drawn: Sequence[str]) -> None:
    """Raises ConfigError for key columns of a new row that neither the mapping nor a default gives."""
    for name in drawn:
        column = table.columns[name]
        if column.default is None and column.made_by:
            raise ConfigError(
                f"{table}: rows are identified by {name}, and {column.made_by}",
                field=name,
                mend=f"name other columns: tables={{{table.name!r}: {{'key': [...]}}}} in the connection",
            )
        if column.default is None:
            raise ConfigError(
                f"{table}: a new row needs its key column {name}, which the mapping does not give",
                field=name,
                mend=f"map {name}, or give the column a default",
            )


def objects(table: Table, given: Sequence[str], low: int, high: int) -> str:
    """Staged rows as a procedure is given them: `_n`, `_key`, `_target_id` and the fields in their columns' types."""
    values = [f"{typed(table, table.columns[name])} AS {identifier(name)}" for name in given]
    named = ", ".join(["p._n", "p._key", "p._target_id", *values])
    return f"SELECT {named} FROM {PART} p WHERE p._n >= {low} AND p._n < {high}"


def probe(table: Table, name: str, row: int) -> str:
    """Reads one staged value as its column's declared type, domains with their rules."""
    staged = f"p.{identifier(name)}::{table.columns[name].cast}::{table.columns[name].declared}"
    return f"SELECT {staged} IS NULL AS nothing FROM {PART} p WHERE p._n = {row}"


def met(table: Table, unique: Unique, numbers: Sequence[int]) -> str:
    """The keys of the rows that stand where these staged rows were to be created.

    A statement of its own: what another transaction committed meanwhile stopped the insert, yet its snapshot did not
    show it.
    """
    equal = "IS NOT DISTINCT FROM" if unique.nulls_equal else "="
    here = " AND ".join(f"t.{identifier(name)} {equal} {typed(table, table.columns[name])}" for name in unique.columns)
    texts = ", ".join(f"t.{identifier(name)}::text AS k{i}" for i, name in enumerate(table.key))
    wanted = ", ".join(map(str, numbers))
    return (
        f"SELECT p._n, {texts} FROM {PART} p JOIN {identifier(table.schema, table.name)} t ON {here} "
        f"WHERE p._n IN ({wanted})"
    )


def update(table: PgTable, given: Sequence[str], low: int, high: int, *, part: str = PART) -> str:
    """Sets the given columns of rows that differ in one of them; `part`: where the rows come from.

    Only a row that was not updated is looked at again, where an index finds it: OFFSET 0 keeps the condition inside.
    """
    keys = [f"{expression} AS _k{i}" for i, expression in enumerate(target_key(table))]
    values = [f"{typed(table, table.columns[name])} AS {identifier(name)}" for name in given]
    here = " AND ".join(f"t.{identifier(name)} = s._k{i}" for i, name in enumerate(table.key))
    sets = ", ".join(f"{identifier(name)} = s.{identifier(name)}" for name in given)
    differs = " OR ".join(_differs(table.columns[name]) for name in given) or "false"
    place, exists = identifier(table.schema, table.name), f"t.{identifier(table.key[0])} IS NOT NULL"
    again = f"LEFT JOIN {place} t ON {here}"
    if table.found_by_key:
        again = f"LEFT JOIN LATERAL (SELECT * FROM {place} t WHERE {here} AND u._n IS NULL OFFSET 0) t ON true"
    return (
        f"WITH s AS MATERIALIZED (SELECT p._n, {', '.join((*keys, *values))} FROM {part} p "
        f"WHERE p._n >= {low} AND p._n < {high}), "
        f"u AS (UPDATE {place} t SET {sets} FROM s WHERE {here} AND ({differs}) RETURNING s._n) "
        f"SELECT s._n, u._n IS NOT NULL AS _done, {exists} AND NOT ({differs}) AS _there "
        f"FROM s LEFT JOIN u ON u._n = s._n {again}"
    )


def update_unmoved(table: PgTable, given: Sequence[str], was: Sequence[str], low: int, high: int) -> str:
    """Sets the given columns of rows that still have the values that are staged as those of `was`, to the byte."""
    keys = [f"{expression} AS _k{i}" for i, expression in enumerate(target_key(table))]
    values = [f"{typed(table, table.columns[name])} AS {identifier(name)}" for name in given]
    former = [(table.columns[name], f"{WAS}{i}") for i, name in enumerate(was)]
    values += [f"{_former(table, column, staged)} AS {staged}" for column, staged in former]
    here = [f"t.{identifier(name)} = s._k{i}" for i, name in enumerate(table.key)]
    here += [_is_still(column, f"s.{staged}") for column, staged in former]
    sets = ", ".join(f"{identifier(name)} = s.{identifier(name)}" for name in given)
    return (
        f"WITH s AS MATERIALIZED (SELECT p._n, {', '.join((*keys, *values))} FROM {PART} p "
        f"WHERE p._n >= {low} AND p._n < {high}), "
        f"u AS (UPDATE {identifier(table.schema, table.name)} t SET {sets} FROM s WHERE {' AND '.join(here)} "
        "RETURNING s._n) SELECT s._n, u._n IS NOT NULL AS _done, false AS _there FROM s LEFT JOIN u ON u._n = s._n"
    )


def _former(table: Table, column: Column, staged: str) -> str:
    """A value that was read: texts as they were printed, which no change of the type can make wrong."""
    return f"p.{staged}::text" if _by_text(column) else typed(table, column, name=staged)


def _is_still(column: Column, was: str) -> str:
    now = f"t.{identifier(column.name)}"
    if not _by_text(column):
        return f"{now} IS NOT DISTINCT FROM {was}"
    return f'{now}::text COLLATE "C" IS NOT DISTINCT FROM {was} COLLATE "C"'


def _by_text(column: Column) -> bool:
    """Whether its values are told apart by their text: whatever a collation takes for equal, or a number's spelling."""
    return column.type not in _COMPARABLE or pa.types.is_string(column.arrow)


def _differs(column: Column) -> str:
    name = identifier(column.name)
    if column.type in _COMPARABLE:
        return f"t.{name} IS DISTINCT FROM s.{name}"
    return f"t.{name}::text IS DISTINCT FROM s.{name}::text"


def remove(table: Table, low: int, high: int) -> str:
    """Deletes rows, or marks them deleted where the table has a tombstone column."""
    keys = [f"{expression} AS _k{i}" for i, expression in enumerate(target_key(table))]
    here = " AND ".join(f"t.{identifier(name)} = s._k{i}" for i, name in enumerate(table.key))
    place, tombstone = identifier(table.schema, table.name), table.options.tombstone
    if tombstone is None:
        change = f"DELETE FROM {place} t USING s WHERE {here} RETURNING s._n"
    else:
        name, is_bool = identifier(tombstone), table.columns[tombstone].type == "bool"
        alive = f"t.{name} IS NOT TRUE" if is_bool else f"t.{name} IS NULL"
        mark = "true" if is_bool else "now()"
        change = f"UPDATE {place} t SET {name} = {mark} FROM s WHERE {here} AND {alive} RETURNING s._n"
    return (
        f"WITH s AS MATERIALIZED (SELECT p._n, {', '.join(keys)} FROM {PART} p "
        f"WHERE p._n >= {low} AND p._n < {high}), u AS ({change}) "
        "SELECT s._n, u._n IS NOT NULL AS _done, true AS _there FROM s LEFT JOIN u ON u._n = s._n"
    )
