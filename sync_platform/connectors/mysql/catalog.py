"""Tables and views as `information_schema` describes them; MySQL answers names in capitals, so each is aliased.

https://dev.mysql.com/doc/refman/8.4/en/information-schema-columns-table.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from sync_platform.connectors.choosing import chosen_cursor, chosen_key
from sync_platform.connectors.mysql.charsets import is_unicode
from sync_platform.connectors.mysql.session import Session, identifier, literal
from sync_platform.connectors.sql import (
    NOT_FINITE,
    ODD_UUIDS,
    ZERO_BYTES,
    Column,
    Table,
    TableOptions,
    did_you_mean,
)
from sync_platform.errors import ConfigError
from sync_platform.model import Field

_INTEGERS: Final[Mapping[str, tuple[pa.DataType, pa.DataType]]] = {  # signed, unsigned
    "tinyint": (pa.int16(), pa.int16()),
    "smallint": (pa.int16(), pa.int32()),
    "mediumint": (pa.int32(), pa.int32()),
    "int": (pa.int32(), pa.int64()),
    "bigint": (pa.int64(), pa.uint64()),
}
_NATIVE: Final[Mapping[str, pa.DataType]] = {
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us"),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "year": pa.int16(),
}
_BYTES: Final = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector")
#: Types of geometry.
SHAPES: Final = ("geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
                 "geometrycollection", "geomcollection")  # fmt: skip
_DIGITS: Final = 38
_REFUSED: Final[Mapping[str, tuple[str, ...]]] = {
    "float": (NOT_FINITE,), "double": (NOT_FINITE,), "decimal": (NOT_FINITE,), "uuid": (ODD_UUIDS,),
}  # fmt: skip
_MOST_BYTES: Final[Mapping[str, int]] = {
    "tinytext": 2**8 - 1, "text": 2**16 - 1, "mediumtext": 2**24 - 1,
    "tinyblob": 2**8 - 1, "blob": 2**16 - 1, "mediumblob": 2**24 - 1,
}  # fmt: skip

#: Cursor types: instants and whole numbers.
CURSOR_TYPES: Final = ("timestamp", "datetime", "bigint", "int", "mediumint")

#: Every part names the table itself: asked by a join, the server would open every table it has.
_TABLE: Final = """
SELECT t.TABLE_SCHEMA AS `schema`, t.TABLE_NAME AS name, t.TABLE_TYPE AS kind, t.ENGINE AS engine,
       (SELECT e.TRANSACTIONS FROM information_schema.ENGINES e WHERE e.ENGINE = t.ENGINE) AS transactional,
       (SELECT v.IS_UPDATABLE FROM information_schema.VIEWS v
        WHERE v.TABLE_SCHEMA = {schema} AND v.TABLE_NAME = {name}) AS updatable,
       (SELECT count(*) FROM information_schema.TRIGGERS g WHERE g.EVENT_OBJECT_SCHEMA = {schema}
        AND g.EVENT_OBJECT_TABLE = {name} AND g.EVENT_MANIPULATION = 'INSERT'
        AND g.ACTION_TIMING = 'BEFORE') AS rewriting
FROM information_schema.TABLES t WHERE t.TABLE_SCHEMA = {schema} AND t.TABLE_NAME = {name}
"""
_COLUMNS: Final = """
SELECT COLUMN_NAME AS name, DATA_TYPE AS type, COLUMN_TYPE AS declared, IS_NULLABLE AS nullable,
       COLUMN_DEFAULT AS `default`, EXTRA AS extra, GENERATION_EXPRESSION AS generated,
       CHARACTER_MAXIMUM_LENGTH AS length, NUMERIC_PRECISION AS `precision`, NUMERIC_SCALE AS scale,
       DATETIME_PRECISION AS fraction, CHARACTER_SET_NAME AS charset, COLLATION_NAME AS collation,
       COLUMN_COMMENT AS comment
FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {name} ORDER BY ORDINAL_POSITION
"""
_INDEXES: Final = """
SELECT INDEX_NAME AS name, COLUMN_NAME AS `column`, NON_UNIQUE = 0 AND SUB_PART IS NULL AS `unique`
FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {name}
ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX
"""
_NAMES: Final = """
SELECT TABLE_SCHEMA AS `schema`, TABLE_NAME AS name FROM information_schema.TABLES
WHERE TABLE_SCHEMA NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys') AND left(TABLE_NAME, 1) <> '_'
ORDER BY 1, 2 LIMIT 2000
"""
_MEMBER: Final = re.compile(r"'((?:[^']|'')*)'")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredColumn(Column):
    """A column with what only MySQL's catalogue says about it."""

    charset: str | None = None
    collation: str | None = None
    length: int | None = None  # bytes of a binary column

    def field(self) -> Field:
        """The column as the platform's field, with what MySQL does to odd values."""
        kept = (
            f"characters that {self.charset} lacks (such as emoji) are refused"
            if self.is_text and self.charset not in ("utf8mb4", "utf16", "utf16le", "utf32")
            else ""
        )
        if self.type == "char":
            kept = "; ".join(filter(None, [kept, "texts with spaces at the end are refused"]))
        elif self.type == "timestamp":
            kept = "times before 1970-01-01T00:00:01Z and far in the future are refused"
        elif self.type == "year":
            kept = "years but 0 and 1901 to 2155 are refused"
        elif self.type == "json":
            kept = "MySQL (not MariaDB) puts the keys of an object into an order of its own"
        dated = self.type in ("date", "datetime", "timestamp")
        return replace(
            Column.field(self),
            odd=(ZERO_BYTES,) if self.is_text else (),
            refuses=_REFUSED.get(self.type, ()),
            reads="the date 0000-00-00 is read as nothing, or refused" if dated else "",
            keeps=kept,
        )

    @property
    def is_text(self) -> bool:
        """Whether it is compared by a collation."""
        return self.collation is not None

    @property
    def members(self) -> tuple[str, ...]:
        """The values that an enumeration or a set is made of."""
        return _members(self.declared) if self.type in ("enum", "set") else ()

    @property
    def definition(self) -> str:
        """The type for a temporary table that holds the same values."""
        collated = f" CHARACTER SET {self.charset} COLLATE {self.collation}" if self.collation else ""
        return f"{self.declared}{collated} NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTable(Table):
    """A table with what only MySQL's catalogue says about it."""

    columns: Mapping[str, StoredColumn]
    uniques: Mapping[str, tuple[str, ...]]  # columns by the name of their unique index
    drawn: str | None  # the AUTO_INCREMENT column
    why_not: str | None  # what keeps it from being written

    def column(self, name: str) -> StoredColumn:
        """The column of that name; ConfigError with the nearest names otherwise."""
        Table.column(self, name)
        return self.columns[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a connection says about the meaning of values: `tinyint(1)` as boolean, the zone of DATETIME."""

    tinyint1_is_boolean: bool = True
    timezone: str | None = None


def described_query(
    stream: str, query: str, columns: list[dict[str, str | None]], options: TableOptions, meaning: Reading
) -> StoredTable:
    """A query as a table that is only read; see `queries`."""
    told: dict[str, str | None] = {"schema": "", "name": stream, "kind": "QUERY", "rewriting": "0"}
    return replace(_table(told, columns, [], _in_zone(options, meaning), meaning), query=query)


def _in_zone(options: TableOptions, meaning: Reading) -> TableOptions:
    """The options with the connection's zone, where the table names none of its own."""
    if options.timezone is None and meaning.timezone is not None:
        return options.model_copy(update={"timezone": meaning.timezone})
    return options


def describe(
    session: Session, stream: str, schema: str, options: Mapping[str, TableOptions], meaning: Reading
) -> StoredTable:
    """The table a stream's name means: `name` in the url's database, or `database.name`.

    Raises ConfigError with the nearest names when there is none that the user may see.
    """
    candidates = [(schema, stream)]
    if "." in stream:
        first, _, rest = stream.partition(".")
        candidates.append((first, rest))
    for place, name in candidates:
        asked = {"schema": literal(place), "name": literal(name)}
        for told in session.rows(_TABLE.format(**asked), f"describing {stream}"):
            if told["name"] == name or session.about.folding:
                columns = session.rows(_COLUMNS.format(**asked), f"describing {stream}")
                indexes = session.rows(_INDEXES.format(**asked), f"describing {stream}")
                chosen = options.get(stream) or options.get(f"{place}.{name}") or TableOptions()
                return _table(told, columns, indexes, _in_zone(chosen, meaning), meaning)
    raise _unknown(session, stream, schema)


def _unknown(session: Session, stream: str, schema: str) -> ConfigError:
    known = session.rows(_NAMES, "listing tables")
    names = [f"{row['name']}" if row["schema"] == schema else f"{row['schema']}.{row['name']}" for row in known]
    elsewhere = [name for name in names if name.partition(".")[2] == stream]
    return ConfigError(
        f"{session.place}: there is no table or view {stream!r} in database {schema!r} that the user may see",
        field="object",
        value=stream,
        mend=f"did you mean {' or '.join(elsewhere)}?" if elsewhere else did_you_mean(stream, names),
    )


def _arrow(told: Mapping[str, str | None], meaning: Reading, options: TableOptions) -> pa.DataType:
    kind, declared = told["type"] or "", (told["declared"] or "").lower()
    if kind in _INTEGERS:
        if declared.startswith("tinyint(1)") and "unsigned" not in declared and meaning.tinyint1_is_boolean:
            return pa.bool_()
        return _INTEGERS[kind]["unsigned" in declared]
    if kind == "bit":
        return pa.bool_() if told["precision"] == "1" else pa.uint64()
    if kind == "decimal":
        precision, scale = int(told["precision"] or 0), int(told["scale"] or 0)
        return pa.decimal128(precision, scale) if precision <= _DIGITS else pa.string()
    if kind == "datetime" and options.timezone:
        return pa.timestamp("us", tz="UTC")
    if kind in _BYTES or kind in SHAPES:
        return pa.binary()
    return _NATIVE.get(kind, pa.string())


def _column(
    told: Mapping[str, str | None], options: TableOptions, meaning: Reading, unique: bool, indexed: bool
) -> StoredColumn:
    name, kind, extra = told["name"] or "", (told["type"] or "").lower(), (told["extra"] or "").lower()
    quoted, declared = identifier(name), told["declared"] or kind
    arrow, expression = _arrow({**told, "type": kind}, meaning, options), quoted
    if name in options.as_text:
        arrow, expression = pa.string(), f"HEX({quoted})" if pa.types.is_binary(arrow) else quoted
    if kind == "bit":
        expression = f"CAST({quoted} AS UNSIGNED)"
    elif kind == "float":
        expression = f"({quoted} + 0e0)"  # alone, it is printed with six digits
    default = told["default"] if told["default"] != "NULL" else None
    if default is not None and "default_generated" not in extra and not _is_expression(default):
        default = literal(default)
    collation = told["collation"]
    length = int(told["length"]) if told["length"] else None
    return StoredColumn(
        name=name,
        type=kind,
        declared=declared,
        cast=declared,
        arrow=arrow,
        expression=expression,
        not_null=told["nullable"] == "NO",
        default="auto_increment" if "auto_increment" in extra else default,
        readonly=bool(told["generated"]) or kind in SHAPES,
        unique=unique,
        indexed=indexed,
        folded=unique and collation is not None and collation.endswith("_ci"),
        values=_members(declared) if kind == "enum" else (),
        max_length=length if kind in ("varchar", "char") else None,
        max_bytes=_MOST_BYTES.get(kind) if is_unicode(told["charset"]) or not told["charset"] else None,
        form=_form(kind, declared, told),
        comment=told["comment"] or "",
        charset=told["charset"],
        collation=collation,
        fraction=int(told["fraction"] or 0) if told["fraction"] is not None else 6,
        length=length if kind == "binary" else None,
    )


def _form(kind: str, declared: str, told: Mapping[str, str | None]) -> str:
    """What the texts of a column that is read as text, but holds something else, are written like."""
    if kind == "decimal":
        precision, scale = told["precision"], told["scale"]
        return f"numeric({precision},{scale})" if int(precision or 0) > _DIGITS else ""
    return declared if kind in ("time", "set", "json", "uuid", "inet4", "inet6") else ""


def _is_expression(default: str) -> bool:
    """Whether a default is SQL as it stands: MariaDB quotes literals, MySQL shows bare ones except for times."""
    return default.startswith(("'", "b'", "current_timestamp", "CURRENT_TIMESTAMP")) or default.endswith(")")


def _members(declared: str) -> tuple[str, ...]:
    return tuple(member.replace("''", "'") for member in _MEMBER.findall(declared))


def _table(
    told: Mapping[str, str | None],
    columns: list[dict[str, str | None]],
    indexes: list[dict[str, str | None]],
    options: TableOptions,
    meaning: Reading,
) -> StoredTable:
    uniques: dict[str, list[str | None]] = {}
    for row in indexes:
        if row["unique"] == "1":
            uniques.setdefault(row["name"] or "", []).append(row["column"])
    for row in indexes:
        if row["unique"] != "1" or not row["column"]:  # a part that is a prefix or an expression spoils the index
            uniques.pop(row["name"] or "", None)
    leading = {row["name"]: row["column"] for row in reversed(indexes)}.values()
    single = {names[0] for names in uniques.values() if len(names) == 1}
    described = {
        c["name"] or "": _column(c, options, meaning, c["name"] in single, c["name"] in leading) for c in columns
    }
    bare = StoredTable(
        schema=told["schema"] or "",
        name=told["name"] or "",
        columns=described,
        key=(),
        cursor=None,
        options=options,
        row_versions=False,
        writable=True,
        plain_inserts=told["kind"] == "BASE TABLE" and told["rewriting"] == "0",
        uniques={name: tuple(c for c in names if c) for name, names in uniques.items()},
        drawn=next((c.name for c in described.values() if c.default == "auto_increment"), None),
        why_not=_why_not(told),
    )
    for column in (*options.key, *options.as_text, *filter(None, [options.cursor, options.tombstone])):
        bare.column(column)
    if options.tombstone:
        mark = described[options.tombstone]
        if mark.arrow != pa.bool_() and mark.type not in ("timestamp", "datetime", "date"):
            raise ConfigError(
                f"{bare}: the tombstone column {options.tombstone} is a {mark.declared}",
                field="tombstone",
                value=options.tombstone,
                mend="name a tinyint(1), a bit(1) or a time column",
            )
    key = tuple(options.key) or chosen_key(bare, uniques.values())
    guessed = options.query is None or options.cursor  # updated_at may speak of one of several joined rows
    cursor = chosen_cursor(bare, CURSOR_TYPES) if guessed else None
    return replace(bare, key=key, cursor=cursor, writable=bare.why_not is None)


def _why_not(told: Mapping[str, str | None]) -> str | None:
    if told["kind"] == "QUERY":
        return "it is a query"
    if told["kind"] == "VIEW":
        return None if told["updatable"] == "YES" else "it is a view that cannot be updated"
    if told["transactional"] != "YES":
        return f"its engine {told['engine']} has no transactions: ALTER TABLE {told['name']} ENGINE=InnoDB"
    return None
