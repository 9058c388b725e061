"""A function or procedure of the database that takes a batch, instead of INSERT, UPDATE and DELETE.

It is called as `name(op text, rows jsonb)` inside the transaction that also writes the delivery's marker, so however a
run ends, a batch has been given to it once. `op` is create, update, delete or archive; `rows` an array of objects with
`_key` (the source record's key), `_target_id` (null for a create) and the mapped fields in their columns' types.

What a function answers as rows is read by name: `key`, `error` (null: the row was written) and `target_id`. Rows it
does not name were written. Procedures, and functions that answer nothing, refuse a batch by raising an exception; it is
then given to them again in halves until each refused row stands alone.
https://www.postgresql.org/docs/current/functions-json.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from adbc_driver_manager import Error as DriverError

from sync_platform.connectors.postgres.session import Session, identifier, literal
from sync_platform.errors import ConfigError, ContractError

#: Rows given to it at once, at most.
BATCH: Final = 10_000
_COLUMNS: Final = ("key", "error", "target_id")

_FIND: Final = """
SELECT p.prokind::text AS kind, p.proretset AS many, has_function_privilege(p.oid, 'EXECUTE') AS usable,
       CASE WHEN t.typrelid <> 0 THEN
         (SELECT array_agg(a.attname::text) FROM pg_attribute a
          WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)
       ELSE (SELECT array_agg(name) FROM unnest(p.proargnames, p.proargmodes::text[]) AS u(name, mode)
             WHERE mode IN ('o', 'b', 't')) END AS columns
FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype
WHERE p.oid = to_regprocedure({signature})::oid
"""
_ALIKE: Final = """
SELECT p.oid::regprocedure::text AS there FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = {schema} AND p.proname = {name} ORDER BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """A function or procedure with the one signature that can be given batches."""

    schema: str
    name: str
    is_function: bool
    columns: tuple[str, ...]  # what it answers by row; nothing: it answers no rows

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    def call(self, session: Session, op: str, rows: str) -> pa.Table | None:
        """Gives it the objects which the query `rows` answers; the rows it answers. The driver's errors are left.

        Raises ConfigError when it ends the transaction it is called in.
        """
        batch = f"SELECT coalesce(jsonb_agg(to_jsonb(r) - '_n' ORDER BY r._n), '[]') AS batch FROM ({rows}) r"
        name, operation = identifier(self.schema, self.name), f"{literal(op)}::text"
        try:
            if self.is_function:
                wanted = ", ".join(f"f.{identifier(name)}::text" for name in _COLUMNS if name in self.columns)
                return session.raw_rows(f"SELECT {wanted or '1 AS done'} FROM {name}({operation}, ({batch})) AS f")
            given = session.raw_rows(f"SELECT batch::text AS batch FROM ({batch}) b")["batch"][0].as_py()
            session.raw(f"CALL {name}({operation}, {literal(given)}::jsonb)")  # takes no queries as arguments
        except DriverError as error:
            if error.sqlstate == "2D000":
                raise ConfigError(
                    f"{self} ends the transaction it is called in",
                    field="procedure",
                    value=str(self),
                    mend="take COMMIT and ROLLBACK out of it: it is called in the transaction that notes the delivery",
                ) from None
            raise
        return None


def find(session: Session, name: str, schema: str) -> Procedure:
    """The procedure of that name, in the default schema or `schema.name`; ConfigError when it cannot be called."""
    place, _, bare = name.rpartition(".")
    place = place or schema
    signature = f"{identifier(place, bare)}(text, jsonb)"
    doing = f"looking for the procedure {name}"
    found = session.rows(_FIND.format(signature=literal(signature)), doing).to_pylist()
    if not found:
        alike = session.rows(_ALIKE.format(schema=literal(place), name=literal(bare)), doing)["there"].to_pylist()
        there = f"; there is {', '.join(alike)}" if alike else ""
        raise _wrong(
            name,
            f"there is no {signature}{there}",
            f"CREATE FUNCTION {signature} RETURNS TABLE (key text, error text) …",
        )
    (told,) = found
    columns = tuple(told["columns"] or ())
    if not told["usable"]:
        raise _wrong(name, f"the role may not call {signature}", f"GRANT EXECUTE ON FUNCTION {signature} TO it")
    if told["kind"] not in ("f", "p"):
        raise _wrong(name, f"{signature} is neither a function nor a procedure", "name a function")
    if told["many"] and "key" not in columns:
        raise _wrong(
            name,
            f"{signature} answers rows without a column key",
            "RETURNS TABLE (key text, target_id text, error text)",
        )
    return Procedure(schema=place, name=bare, is_function=told["kind"] == "f", columns=columns if told["many"] else ())


def _wrong(name: str, what: str, mend: str) -> ConfigError:
    return ConfigError(what, field="procedure", value=name, mend=mend)


def answered(procedure: Procedure, keys: Sequence[str], answer: pa.Table | None) -> dict[str, dict[str, str | None]]:
    """What the procedure said about rows of a batch, by their key. Raises ContractError for keys it was not given."""
    if answer is None or not procedure.columns:
        return {}
    told: dict[str, dict[str, str | None]] = {}
    known = set(keys)
    for row in answer.to_pylist():
        key = row["key"]
        if key not in known or key in told:
            what = "twice" if key in told else "which it was not given"
            raise ContractError(
                f"{procedure} answered the key {key!r} {what}",
                field="procedure",
                value=str(procedure),
                mend="answer each row's own _key, once at most",
            )
        told[key] = row
    return told
