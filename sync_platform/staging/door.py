"""The locked door of `sync-platform sql`: one SELECT over the staged data and the platform's own records.

`staging.<connection>.<Stream>` shows the vendor's columns of the rows that exist, `sync.outcomes`,
`sync.reports`, `sync.links`, `sync.match_decisions` and `sync.dead_letters` what the platform did, `sync.events`
what was received and what each sync made of it. Nothing else can be
reached, by three walls that each hold alone: PostgreSQL lets the reader's role see those views and
the lake's catalog only; DuckDB may read files below the lake only, attach nothing and change no
setting; and a statement is parsed and refused unless it is one SELECT over those names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

from sync_platform.errors import AccessError, ConfigError, SyncError
from sync_platform.home import Home
from sync_platform.model import CURSOR, DELETED, HASH, KEY, READ_AT, SEQ
from sync_platform.staging.lake import CATALOG, Lake, literal, quoted

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import pyarrow as pa

    from sync_platform.state.database import Database

Answer = TypeVar("Answer")

#: The views of PostgreSQL's schema `sync_public`, which become `sync.<name>`, and their JSON columns.
RECORDS: Final = {
    "outcomes": ("fields",),
    "reports": ("report",),
    "links": (),
    "dead_letters": ("reasons", "payload"),
    "events": (),
    "match_decisions": (),
    "conflicts": ("base", "source", "target"),
}
_TECHNICAL: Final = frozenset({KEY, HASH, SEQ, DELETED, CURSOR, READ_AT})
_BULK_OUTCOMES: Final = "_outcomes"  # see staging.outcomes
_FUNCTIONS: Final = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree", "repeat"})
_BARRED: Final = frozenset({"json_serialize_plan", "json_execute_serialized_sql", "getenv", "write_log"})
_SCHEMAS: Final = frozenset({("", "sync"), ("memory", "sync"), ("", "information_schema")})
_NAMES: Final = "staging.<connection>.<Stream> and " + ", ".join(f"sync.{name}" for name in RECORDS)
_EXPLAIN: Final = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*explain\b(?:\s+analyze\b|\s*\([^)]*\))?", re.I | re.S)
_LOCKS: Final = (
    "SET python_enable_replacements = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET allow_community_extensions = false",
)


def open_door(lake: Lake) -> duckdb.DuckDBPyConnection:
    """A locked connection with the views `staging.*` and `sync.*`, as the lake's tables are now.

    The caller closes it. Raises AccessError when the state cannot be reached, AuthError when the
    reader's role is missing and may not be made. No message repeats a connection string.
    """
    import duckdb

    con = lake.reader()
    try:
        con.execute(f"CREATE SECRET reader (TYPE postgres, {_secret(lake.db.reader_url)})")
        con.execute("ATTACH '' AS state (TYPE postgres, READ_ONLY, SCHEMA 'sync_public', SECRET reader)")
        tables = _tables(con)
        _make_staging(con, tables)
        _make_records(con, tables)
        for setting in _LOCKS:
            con.execute(setting)
        con.execute(f"SET allowed_directories = [{literal(str(lake.db.home.lake))}]")
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
    except duckdb.Error as error:
        con.close()
        raise _scrubbed(lake, error) from None
    return con


def run_sql(home: Home, query: str) -> pa.Table:
    """The answer of one SELECT (also EXPLAIN, DESCRIBE, SHOW, SUMMARIZE) as an Arrow table.

    Raises ConfigError when the statement is wrong or reaches for something that is not offered.
    """
    from sync_platform.state.database import open_state

    refuse_unless_one_select(query)
    return answer(open_state(home), query)


def answer(db: Database, query: str) -> pa.Table:
    """As `run_sql`, on a state that is open already."""
    return _read(Lake(db), query, lambda con: _executed(con, query).read_all())


def export_sql(home: Home, query: str, file: Path) -> int:
    """Writes the answer to a .csv, .json or .parquet file, piece by piece; returns the number of rows."""
    from sync_platform.staging.export import writer_for
    from sync_platform.state.database import open_state

    write = writer_for(file)
    refuse_unless_one_select(query)
    return _read(Lake(open_state(home)), query, lambda con: write(_executed(con, query)))


def _executed(con: duckdb.DuckDBPyConnection, query: str) -> pa.RecordBatchReader:
    """The answer, its JSON columns marked: Arrow itself knows them as text only."""
    from sync_platform.staging.export import marked

    done = con.execute(query)
    documents = {name for name, kind, *_ in done.description or () if str(kind) == "JSON"}
    return marked(done.to_arrow_reader(50_000), documents)


def _read(lake: Lake, query: str, use: Callable[[duckdb.DuckDBPyConnection], Answer]) -> Answer:
    import duckdb

    refuse_unless_one_select(query)
    try:
        with open_door(lake) as con:
            return use(con)
    except duckdb.Error as error:
        raise _scrubbed(lake, error) from None
    finally:
        lake.close()


def refuse_unless_one_select(query: str) -> None:
    """Raises ConfigError unless the text is one reading statement over the names that are offered."""
    import duckdb
    import orjson

    with duckdb.connect() as parser:
        try:
            statements = parser.extract_statements(query)
        except duckdb.Error as error:
            raise _refused(f"the statement cannot be read: {_first_line(str(error))}", query) from None
        if len(statements) != 1:
            raise _refused(f"one statement is wanted, but there are {len(statements)}", query)
        text = query
        if statements[0].type == duckdb.StatementType.EXPLAIN:
            found = _EXPLAIN.match(query)
            text = query[found.end() :] if found else query
        elif statements[0].type != duckdb.StatementType.SELECT:
            raise _refused(f"{statements[0].type.name} is not allowed: only SELECT reads", query)
        row = parser.execute("SELECT json_serialize_sql(?)", [text]).fetchone()
    tree: dict[str, Any] = orjson.loads(row[0]) if row else {"error": True}
    if tree["error"] or len(tree["statements"]) != 1:
        raise _refused("only one SELECT, EXPLAIN, DESCRIBE, SHOW or SUMMARIZE is allowed", query)
    nodes = list(_nodes(tree))
    ctes = {entry["key"].lower() for node in nodes for entry in _entries(node)}
    for name in ctes:
        if name.startswith(("duckdb_", "pragma_", "pg_", "sqlite_")):
            raise _refused(f"the name {name!r} is reserved", query)
    for node in nodes:
        _refuse_node(node, ctes, query)


def _refuse_node(node: dict[str, Any], ctes: set[str], query: str) -> None:
    kind = node.get("type")
    if kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).lower()
        if name not in _FUNCTIONS:
            raise _refused(f"the table function {name!r} is not allowed", query)
    elif kind == "FUNCTION":
        name = str(node.get("function_name", "")).lower()
        if name in _BARRED:
            raise _refused(f"the function {name!r} is not allowed", query)
    elif kind == "BASE_TABLE":
        catalog, schema, table = (str(node[part]).lower() for part in ("catalog_name", "schema_name", "table_name"))
        offered = catalog in ("staging", CATALOG) or (catalog, schema) in _SCHEMAS
        if not offered and not (catalog == schema == "" and table in ctes):
            shown = ".".join(part for part in (catalog, schema, table) if part)
            raise _refused(f"there is no table {shown!r}", query, f"read {_NAMES}")


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Every object of a parsed statement, however deep."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _entries(node: dict[str, Any]) -> list[dict[str, Any]]:
    ctes = node.get("cte_map")
    return list(ctes.get("map", ())) if isinstance(ctes, dict) else []


def _tables(con: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], list[str]]:
    """The lake's tables with their columns, in order."""
    found: dict[tuple[str, str], list[str]] = {}
    rows = con.execute(
        "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE database_name = ? "
        "ORDER BY schema_name, table_name, column_index",
        [CATALOG],
    ).fetchall()
    for schema, table, column in rows:
        found.setdefault((schema, table), []).append(column)
    return found


def _make_staging(con: duckdb.DuckDBPyConnection, tables: dict[tuple[str, str], list[str]]) -> None:
    con.execute("ATTACH ':memory:' AS staging")
    for (schema, table), columns in tables.items():
        if schema.startswith("_") or not {KEY, HASH, SEQ, DELETED} <= set(columns):
            continue  # not a staged table: a landing, dlt's own, outcomes
        shown = ", ".join(quoted(column) for column in columns if column not in _TECHNICAL)
        name = f"{quoted(schema)}.{quoted(table)}"
        con.execute(f"CREATE SCHEMA IF NOT EXISTS staging.{quoted(schema)}")
        con.execute(f"CREATE VIEW staging.{name} AS SELECT {shown} FROM {CATALOG}.{name} WHERE {DELETED} IS NOT TRUE")


def _make_records(con: duckdb.DuckDBPyConnection, tables: dict[tuple[str, str], list[str]]) -> None:
    con.execute("CREATE SCHEMA sync")
    for name, documents in RECORDS.items():
        casts = ", ".join(f"{column}::JSON AS {column}" for column in documents)
        parts = [f"SELECT *{f' REPLACE ({casts})' if casts else ''} FROM state.sync_public.{name}"]
        if name == "outcomes":
            parts += [_bulk(sync, columns) for (schema, sync), columns in tables.items() if schema == _BULK_OUTCOMES]
        con.execute(f"CREATE VIEW sync.{name} AS {' UNION ALL BY NAME '.join(parts)}")


def _bulk(sync: str, columns: list[str]) -> str:
    """A bulk delivery's outcomes in the columns of PostgreSQL's: only the fields that changed, as JSON."""
    changed = [
        f"CASE WHEN {quoted('old:' + name)} IS DISTINCT FROM {quoted('new:' + name)} THEN "
        f"{{'k': {literal(name)}, 'v': json_array({quoted('old:' + name)}, {quoted('new:' + name)})}} END"
        for name in (column[4:] for column in columns if column.startswith("new:"))
        if "old:" + name in columns
    ]
    pairs = f"list_filter([{', '.join(changed)}], lambda pair: pair IS NOT NULL)"
    fields = f"to_json(map_from_entries({pairs}))" if changed else "NULL::JSON"
    return (
        f"SELECT time, {literal(sync)} AS sync, run_id, plan_id::UUID AS plan_id, 'batch' AS lane, source_key, "
        f"target_id, op, status, {fields} AS fields, reason FROM {CATALOG}.{_BULK_OUTCOMES}.{quoted(sync)}"
    )


def _secret(url: str) -> str:
    """The reader's login as a DuckDB secret's options, so that no attached path shows it."""
    from psycopg.conninfo import conninfo_to_dict

    names = {"host": "HOST", "port": "PORT", "dbname": "DATABASE", "user": "USER", "password": "PASSWORD"}
    known = conninfo_to_dict(url)
    return ", ".join(f"{option} {literal(str(known[name]))}" for name, option in names.items() if known.get(name))


def _scrubbed(lake: Lake, error: Exception) -> SyncError:
    """DuckDB's error as ours, without any password or connection string."""
    import duckdb

    text = str(error)
    for url in (lake.db.url, lake.db.reader_url):
        password = urlsplit(url).password or ""
        for secret in {url, password, unquote(password)} - {""}:
            text = text.replace(secret, "***")
    first = _first_line(text)
    if isinstance(error, duckdb.PermissionException):
        return _refused(f"it reaches for something that is not offered: {first}", "")
    about_the_query = (
        duckdb.BinderException,
        duckdb.CatalogException,
        duckdb.ParserException,
        duckdb.ConversionException,
        duckdb.InvalidInputException,
        duckdb.OutOfRangeException,
        duckdb.SyntaxException,
        duckdb.NotImplementedException,
    )
    if isinstance(error, about_the_query):
        return _refused(first, "")
    known = lake.translate(error)
    if isinstance(known, AccessError | ConfigError):
        return known
    return AccessError(f"the query could not be answered: {first}", mend="check the disk and `sync-platform status`")


def _refused(message: str, query: str, mend: str | None = None) -> ConfigError:
    return ConfigError(
        message, field="query", value=query[:200] or None, mend=mend or f"write one SELECT over {_NAMES}"
    )


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no reason given"
