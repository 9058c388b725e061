"""Tables and views as `pg_catalog` describes them.

https://www.postgresql.org/docs/current/catalogs.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa

from sync_platform.connectors.choosing import chosen_cursor, chosen_key
from sync_platform.connectors.postgres.procedure import Procedure, find
from sync_platform.connectors.postgres.session import Session, identifier, literal
from sync_platform.connectors.postgres.table import PgTable, PostgresOptions, references_of, uniques_of
from sync_platform.connectors.sql import NOT_FINITE, ODD_UUIDS, ZERO_BYTES, Column, TableOptions, did_you_mean
from sync_platform.errors import AuthError, ConfigError
from sync_platform.model import Field

#: Types that arrive as they are. Everything else is read as the text PostgreSQL prints for it.
_NATIVE: Final[Mapping[str, pa.DataType]] = {
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "bool": pa.bool_(),
    "text": pa.string(),
    "varchar": pa.string(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "bytea": pa.binary(),
}
#: Types that hold texts of any kind.
_TEXTS: Final = ("text", "varchar", "bpchar", "citext", "name", "char")
_MOST_BYTES: Final = {"name": 63, "char": 1}
_MICROS: Final = 6

#: Cursor types: instants and whole numbers.
CURSOR_TYPES: Final = ("timestamptz", "timestamp", "int8", "int4")

_DESCRIBE: Final = """
SELECT json_build_object(
  'kind', c.relkind, 'rules', c.relhasrules AND c.relkind <> 'v',
  'readable', has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'),
  'rewrites', EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgtype & 7 = 7),
  'writes', pg_relation_is_updatable(c.oid, true) & 28,
  'columns', (
    SELECT coalesce(json_agg(json_build_object(
      'name', a.attname, 'type', coalesce(b.typname, t.typname), 'declared', format_type(a.atttypid, a.atttypmod),
      'cast', format_type(coalesce(b.oid, t.oid), -1),
      'typmod', CASE WHEN a.atttypmod = -1 AND t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
      'not_null', a.attnotnull OR t.typnotnull, 'identity', a.attidentity, 'generated', a.attgenerated <> '',
      'default', pg_get_expr(d.adbin, d.adrelid),
      'sequence', CASE WHEN a.attidentity <> '' THEN
          pg_get_serial_sequence(quote_ident(n.nspname) || '.' || quote_ident(c.relname), a.attname) END,
      'values', (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e
                 WHERE e.enumtypid = coalesce(b.oid, t.oid)),
      'comment', col_description(c.oid, a.attnum)) ORDER BY a.attnum), '[]')
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      AND has_column_privilege(c.oid, a.attnum, 'SELECT')),
  'indexes', (
    SELECT coalesce(json_agg(json_build_object(
      'name', i.indexrelid::regclass::text, 'primary', i.indisprimary, 'is_unique', i.indisunique,
      'unique', i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indimmediate,
      'predicate', pg_get_expr(i.indpred, i.indrelid), 'deferrable', NOT i.indimmediate, 'valid', i.indisvalid,
      'nulls_equal', coalesce(to_jsonb(i) -> 'indnullsnotdistinct', 'false'),
      'columns', (SELECT json_agg(k.attname ORDER BY o.place)
                  FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS o(number, place)
                  LEFT JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum = o.number
                  WHERE o.place <= i.indnkeyatts)) ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid), '[]')
    FROM pg_index i WHERE i.indrelid = c.oid),
  'references', {references}, 'referenced', {referenced})::text AS described
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname = {schema} AND c.relname = {name}
"""

# Of a partitioned table its own constraints, not the copies that its partitions have.
_REFERENCES: Final = """(
    SELECT coalesce(json_agg(json_build_object(
      'name', f.conname, 'schema', hn.nspname, 'table', h.relname, 'parent_schema', pn.nspname, 'parent', p.relname,
      'columns', (SELECT json_agg(k.attname ORDER BY o.place) FROM unnest(f.conkey) WITH ORDINALITY AS o(number, place)
                  JOIN pg_attribute k ON k.attrelid = f.conrelid AND k.attnum = o.number),
      'parent_columns', (SELECT json_agg(k.attname ORDER BY o.place)
                         FROM unnest(f.confkey) WITH ORDINALITY AS o(number, place)
                         JOIN pg_attribute k ON k.attrelid = f.confrelid AND k.attnum = o.number)
      ) ORDER BY f.oid), '[]')
    FROM pg_constraint f JOIN pg_class h ON h.oid = f.conrelid JOIN pg_namespace hn ON hn.oid = h.relnamespace
    JOIN pg_class p ON p.oid = f.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
    WHERE f.contype = 'f' AND f.conparentid = 0 AND {which})"""

_NAMES: Final = """
SELECT n.nspname::text AS schema, c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' AND left(c.relname, 1) <> '_'
ORDER BY 1, 2 LIMIT 2000
"""


def described_query(stream: str, query: str, columns: Sequence[Mapping[str, Any]], options: PostgresOptions) -> PgTable:
    """A query as a table that is only read; see `queries`."""
    nothing: dict[str, Any] = {name: [] for name in ("indexes", "references", "referenced")}
    told = {**nothing, "kind": "query", "columns": columns, "writes": 0, "rewrites": False, "rules": False}
    return replace(_table("", stream, told, options), query=query)


def describe(session: Session, stream: str, schema: str, options: Mapping[str, PostgresOptions]) -> PgTable:
    """The table a stream's name means: `name` in the default schema, or `schema.name`.

    Raises ConfigError with the nearest names when there is none, AuthError when it cannot be read.
    """
    session.begin(read_only=True)
    candidates = [(schema, stream)]
    if "." in stream:
        first, _, rest = stream.partition(".")
        candidates.append((first, rest))
    for place, name in candidates:
        sql = _DESCRIBE.format(
            schema=literal(place),
            name=literal(name),
            references=_REFERENCES.format(which="f.conrelid = c.oid"),
            referenced=_REFERENCES.format(which="f.confrelid = c.oid AND f.confdeltype IN ('a', 'r')"),
        )
        found = session.rows(sql, f"describing {stream}").column("described").to_pylist()
        if found:
            told: dict[str, Any] = json.loads(found[0])
            if not told["readable"]:
                raise AuthError(
                    f"{session.place}: permission denied for table {place}.{name}",
                    field="object",
                    value=stream,
                    mend=f"GRANT SELECT ON {identifier(place, name)} TO the connection's role",
                )
            chosen = options.get(stream) or options.get(f"{place}.{name}") or PostgresOptions()
            table = _table(place, name, told, chosen)
            return table if chosen.procedure is None else _called(table, find(session, chosen.procedure, schema))
    raise _unknown(session, stream, schema)


def _called(table: PgTable, procedure: Procedure) -> PgTable:
    """A table whose batches a procedure takes: what its columns require is the procedure's affair."""
    columns = {name: replace(column, not_null=False) for name, column in table.columns.items()}
    return replace(table, procedure=procedure, columns=columns, writable=True, plain_inserts=False)


def _unknown(session: Session, stream: str, schema: str) -> ConfigError:
    known = session.rows(_NAMES, "listing tables").to_pylist()
    names = [row["name"] if row["schema"] == schema else f"{row['schema']}.{row['name']}" for row in known]
    elsewhere = [name for name in names if name.partition(".")[2] == stream]
    return ConfigError(
        f"{session.place}: there is no table or view {stream!r} in schema {schema!r}",
        field="object",
        value=stream,
        mend=f"did you mean {' or '.join(elsewhere)}?" if elsewhere else did_you_mean(stream, names),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerColumn(Column):
    """A column with what only PostgreSQL says about it."""

    typmod: int = -1  # what the type's own parentheses hold; -1: nothing

    def field(self) -> Field:
        """The column as the platform's field, with what PostgreSQL does to odd values."""
        texts = pa.types.is_string(self.arrow)
        return replace(
            Column.field(self),
            reads=_reads(self),
            keeps=_keeps(self),
            odd=_odd(self),
            refuses=(ZERO_BYTES,) if texts else (),
        )


def _reads(column: ServerColumn) -> str:
    """What becomes of values that the type in which the column is read does not have."""
    kind, arrow = column.type, column.arrow
    if pa.types.is_decimal(arrow):
        return "NaN stops the read; `as_text` keeps it"
    if pa.types.is_time(arrow):
        return "the time 24:00 stops the read; `as_text` keeps it"
    if pa.types.is_date(arrow) or pa.types.is_timestamp(arrow):
        return (
            "infinity and -infinity are read as the last moment of the year 9999 and the first of the year 1, and what "
            "is outside these years stops the read; `as_text` keeps both"
        )
    return "amounts are read the way `lc_monetary` writes them, which must be the same at both ends" * (kind == "money")


def _odd(column: ServerColumn) -> tuple[str, ...]:
    if pa.types.is_floating(column.arrow) or (column.type == "numeric" and pa.types.is_string(column.arrow)):
        return (NOT_FINITE,)
    return (ODD_UUIDS,) if column.type == "uuid" else ()


def _keeps(column: ServerColumn) -> str:
    if column.type == "bpchar":
        return "texts with spaces at the end are refused"
    if column.form and column.typmod >= 0 and column.decimals is None and column.type not in ("bit", "varbit"):
        return f"values finer or longer than {column.declared} may be rounded by the database"
    return ""


def _form(kind: str, told: Mapping[str, Any]) -> str:
    """What the texts of a column that is read as text, but holds something else, are written like."""
    if kind in _TEXTS or told["values"]:
        return ""
    return str(told["declared"] if told["typmod"] >= 0 else told["cast"])


def _column(told: Mapping[str, Any], options: TableOptions, unique: bool, indexed: bool) -> ServerColumn:
    name, kind, typmod = told["name"], told["type"], told["typmod"]
    quoted = identifier(name)
    arrow = _decimal(typmod) if kind == "numeric" else _NATIVE.get(kind, pa.string())
    expression = quoted
    if name in options.as_text or (pa.types.is_string(arrow) and kind not in _NATIVE):
        arrow, expression = pa.string(), f"{quoted}::text"
    elif kind == "timestamp" and options.timezone:
        arrow, expression = pa.timestamp("us", tz="UTC"), f"({quoted} AT TIME ZONE {literal(options.timezone)})"
    default = told["default"]
    if told["sequence"]:
        default = f"nextval({literal(told['sequence'])}::regclass)"
    elif told["generated"]:
        default = None
    return ServerColumn(
        name=name,
        type=kind,
        declared=told["declared"],
        cast=told["cast"],
        arrow=arrow,
        expression=expression,
        not_null=bool(told["not_null"]),
        default=default,
        readonly=bool(told["generated"]) or told["identity"] == "a",
        unique=unique,
        indexed=indexed,
        folded=kind == "citext",
        values=tuple(told["values"] or ()),
        max_length=typmod - 4 if kind in ("varchar", "bpchar") and typmod > 4 else None,
        max_bytes=_MOST_BYTES.get(kind),
        fraction=typmod if kind in ("time", "timestamp", "timestamptz") and typmod >= 0 else _MICROS,
        form=_form(kind, told) if pa.types.is_string(arrow) else "",
        decimals=_decimals(typmod) if kind == "numeric" and pa.types.is_string(arrow) else None,
        rounds=typmod >= 0 and kind not in (*_TEXTS, "bit", "varbit") and not pa.types.is_decimal(arrow),
        typmod=typmod,
        comment=told["comment"] or "",
        made_by=_made_by(told),
    )


def _made_by(told: Mapping[str, Any]) -> str:
    """Why no value can be given to a column."""
    if told["generated"]:
        return f"the database computes it as {told['default']}"
    if told["identity"] == "a":
        return (
            "the database numbers its rows (GENERATED ALWAYS AS IDENTITY); match by other columns, or let a sync give "
            f"numbers: ALTER COLUMN {identifier(told['name'])} SET GENERATED BY DEFAULT"
        )
    return ""


def _decimal(typmod: int) -> pa.DataType:
    """The Arrow type of a numeric: decimal where precision and scale are declared and fit, else text."""
    if typmod < 4:
        return pa.string()
    precision, scale = _digits(typmod)
    return pa.decimal128(precision, scale) if precision <= 38 and 0 <= scale <= precision else pa.string()


def _decimals(typmod: int) -> int | None:
    """The decimals that a numeric keeps, where that is said; None also where it keeps not even whole numbers."""
    scale = _digits(typmod)[1] if typmod >= 4 else -1
    return scale if scale >= 0 else None


def _digits(typmod: int) -> tuple[int, int]:
    """Precision and scale; the scale may be below zero."""
    scale = (typmod - 4) & 0x7FF
    return ((typmod - 4) >> 16) & 0xFFFF, scale - 2048 if scale >= 1024 else scale


def _table(schema: str, name: str, told: Mapping[str, Any], options: TableOptions) -> PgTable:
    unique = {i["columns"][0] for i in told["indexes"] if i["unique"] and len(i["columns"]) == 1}
    indexed = {i["columns"][0] for i in told["indexes"] if i["valid"]}
    columns = {
        c["name"]: _column(c, options, c["name"] in unique, c["name"] in indexed) for c in told["columns"]
    }  # fmt: skip
    bare = PgTable(
        schema=schema,
        name=name,
        columns=columns,
        key=(),
        cursor=None,
        options=options,
        row_versions=told["kind"] in ("r", "p", "m"),
        writable=told["writes"] == 28,
        plain_inserts=told["kind"] in ("r", "p") and not told["rewrites"],
        uniques=uniques_of(told["indexes"]) if not told["rules"] else (),  # a table with rules takes no ON CONFLICT
        references=references_of(told["references"]),
        referenced=references_of(told["referenced"]),
    )
    for column in (*options.key, *options.as_text, *filter(None, [options.cursor, options.tombstone])):
        bare.column(column)
    if options.tombstone and columns[options.tombstone].type not in ("bool", "timestamp", "timestamptz", "date"):
        raise ConfigError(
            f"{bare}: the tombstone column {options.tombstone} is a {columns[options.tombstone].declared}",
            field="tombstone",
            value=options.tombstone,
            mend="name a boolean or a time column",
        )
    unique_indexes = [i["columns"] for i in told["indexes"] if i["valid"] and (i["primary"] or i["unique"])]
    return replace(
        bare,
        key=tuple(options.key) or chosen_key(bare, unique_indexes),
        cursor=chosen_cursor(bare, CURSOR_TYPES) if options.query is None or options.cursor else None,
    )
