"""Foreign keys: which rows of a part wait for rows of other tables (or of their own), and for which.

PostgreSQL checks a foreign key at the end of a statement, so rows that refer to each other go in together, in any
order. A statement that breaks one names a single row, though; here one query finds all of a part.
https://www.postgresql.org/docs/current/ddl-constraints.html#DDL-CONSTRAINTS-FK
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa
from adbc_driver_manager import Error as DriverError

from sync_platform.connectors.postgres import statements
from sync_platform.connectors.postgres.faults import connection_lost, details
from sync_platform.connectors.postgres.session import Session, identifier
from sync_platform.connectors.postgres.table import PgTable, Reference
from sync_platform.connectors.sql import Refusal
from sync_platform.model import Op

BROKEN: Final = "23503"


def waiting_for(table: PgTable, op: Op, error: DriverError) -> Refusal | None:
    """What a row waits for that broke a foreign key; None when the error is about something else."""
    if error.sqlstate != BROKEN:
        return None
    told = details(error)
    name = told.get("constraint")
    values = re.search(r"\)=\((.*)\)", told.get("detail", ""))
    if op in (Op.CREATE, Op.UPDATE):
        outgoing = next((one for one in table.references if one.name == name), None)
        return missing(outgoing, values[1] if values else "") if outgoing else None
    incoming = next((one for one in table.referenced if one.name == name), None)
    return needed(f"{incoming.schema}.{incoming.table}", table) if incoming else None


def missing(reference: Reference, values: str) -> Refusal:
    """The row it refers to isn't there."""
    parent = f"{reference.parent_schema}.{reference.parent}"
    reason = f"the row of {parent} {values} it refers to isn't there"
    return Refusal(reference.columns[0] if len(reference.columns) == 1 else None, reason, passing=True)


def needed(child: str, table: PgTable) -> Refusal:
    """Other rows still refer to it."""
    own = " other" if child == str(table) else ""
    return Refusal(None, f"{own} rows of {child} still refer to it".strip(), passing=True)


def waiting_rows(session: Session, table: PgTable, op: Op, given: Sequence[str]) -> Iterator[tuple[int, Refusal]]:
    """The staged rows that wait for others, by number, and for what. They are no longer staged then.

    Empty where it cannot be told (no right to read the other table, a value that is none of its type): the rows are
    then found by trying.
    """
    if op in (Op.CREATE, Op.UPDATE):
        queries = [(one, _orphans(table, one, given)) for one in table.references if set(one.columns) <= set(given)]
    else:
        queries = [(one, _parents(table, one)) for one in table.referenced]
    again = True
    while again:
        again = False
        for reference, sql in queries:
            found = _asked(session, table, sql)
            rows = found["_n"].to_pylist() if found is not None else []
            if found is None or not rows:
                continue
            for row, values in zip(rows, found["told"].to_pylist(), strict=True):
                yield (
                    row,
                    missing(reference, values)
                    if op in (Op.CREATE, Op.UPDATE)
                    else needed(f"{reference.schema}.{reference.table}", table),
                )
            numbers = ", ".join(map(str, rows))
            session.run(f"DELETE FROM {statements.PART} WHERE _n IN ({numbers})", f"writing {table}")
            again = again or reference.within  # whoever refers to these rows waits, too


def _asked(session: Session, table: PgTable, sql: str) -> pa.Table | None:
    doing = f"writing {table}"
    session.run("SAVEPOINT asking", doing)
    try:
        found = session.raw_rows(sql)
    except DriverError as error:
        if connection_lost(error):
            with session.translating(doing):
                raise
        session.run("ROLLBACK TO SAVEPOINT asking", doing)
        return None
    session.run("RELEASE SAVEPOINT asking", doing)
    return found


def _orphans(table: PgTable, reference: Reference, given: Sequence[str]) -> str:
    """Staged rows whose parent is neither in its table nor, in the same one, staged to be created."""
    values = [statements.typed(table, table.columns[name]) for name in reference.columns]
    parent = identifier(reference.parent_schema, reference.parent)
    at = " AND ".join(f"t.{identifier(n)} = {v}" for n, v in zip(reference.parent_columns, values, strict=True))
    known = " AND ".join(f"{value} IS NOT NULL" for value in values)
    told = " || ', ' || ".join(f"{value}::text" for value in values)
    staged = ""
    if reference.within and set(reference.parent_columns) <= set(given):
        keys = [statements.typed(table, table.columns[name], "q") for name in reference.parent_columns]
        same = " AND ".join(f"{key} = {value}" for key, value in zip(keys, values, strict=True))
        staged = f" AND NOT EXISTS (SELECT 1 FROM {statements.PART} q WHERE {same})"
    return (
        f"SELECT p._n, {told} AS told FROM {statements.PART} p "
        f"WHERE {known} AND NOT EXISTS (SELECT 1 FROM {parent} t WHERE {at}){staged}"
    )


def _parents(table: PgTable, reference: Reference) -> str:
    """Staged deletes of rows to which rows refer that are not staged to be deleted themselves."""
    child = identifier(reference.schema, reference.table)
    pairs = zip(reference.columns, reference.parent_columns, strict=True)
    refers = " AND ".join(f"c.{identifier(here)} = t.{identifier(there)}" for here, there in pairs)
    here, own = (_at(table, "t", "p"), _at(table, "c", "q"))
    staged = f" AND NOT EXISTS (SELECT 1 FROM {statements.PART} q WHERE {own})" if reference.within else ""
    return (
        f"SELECT p._n, '' AS told FROM {statements.PART} p JOIN {identifier(table.schema, table.name)} t ON {here} "
        f"WHERE EXISTS (SELECT 1 FROM {child} c WHERE {refers}{staged})"
    )


def _at(table: PgTable, row: str, part: str) -> str:
    """That a row of the table is the one whose key a staged row holds."""
    keys = zip(table.key, statements.target_key(table, part), strict=True)
    return " AND ".join(f"{row}.{identifier(name)} = {value}" for name, value in keys)
