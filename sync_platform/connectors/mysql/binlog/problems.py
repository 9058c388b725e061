"""Why a server's binlog, or a table in it, cannot be followed; each with what to do.

https://mariadb.com/docs/server/server-management/server-monitoring-logs/binary-log/binary-log-formats
https://dev.mysql.com/doc/refman/8.4/en/replication-options-binary-log.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from sync_platform.connectors.mysql.binlog.values import KEY_TYPES
from sync_platform.connectors.mysql.catalog import StoredTable
from sync_platform.connectors.mysql.charsets import is_known
from sync_platform.connectors.mysql.session import Server, Session, identifier, literal
from sync_platform.errors import AuthError, ConfigError

_FILTERED: Final = ("Binlog_Do_DB", "Binlog_Ignore_DB")
_CASCADES: Final = """
SELECT CONSTRAINT_NAME AS name FROM information_schema.REFERENTIAL_CONSTRAINTS
WHERE CONSTRAINT_SCHEMA = {schema} AND TABLE_NAME = {table}
      AND (DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION') OR UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION'))
"""
_KIND: Final = """
SELECT TABLE_TYPE AS kind FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {table}
"""


def problems(server: Server, describe: Callable[[str], StoredTable], streams: Sequence[str]) -> list[str]:
    """All of them, as sentences; those of the server first."""
    with server.session() as session:
        found = list(_of_server(session))
        minimal = not found and _variable(session, "binlog_row_image") != "FULL"
    tables: list[StoredTable] = []
    for stream in streams:
        try:
            tables.append(describe(stream))
        except ConfigError as error:
            found.append(str(error))
    if tables:
        with server.session() as session:
            schemas = {table.schema for table in tables}
            found += [] if found else _filtered(session, schemas)
            for table in tables:
                found += _of_table(session, table, minimal=minimal)
    return found


def _variable(session: Session, name: str) -> str:
    told = session.rows(f"SHOW GLOBAL VARIABLES LIKE {literal(name)}", "asking for the binlog's settings")
    return (told[0]["Value"] or "").upper() if told else ""


def _of_server(session: Session) -> Iterator[str]:
    if _variable(session, "log_bin") != "ON":
        yield (
            f"{session.place}: the server writes no binlog -> start it with the options log_bin, server_id=1 and "
            "binlog_format=ROW"
        )
        return
    form = _variable(session, "binlog_format")
    if form not in ("ROW", ""):
        yield (
            f"{session.place}: binlog_format is {form}, which logs statements and not rows -> SET GLOBAL binlog_format "
            "= 'ROW', write it into the server's options, and let the applications connect anew"
        )
    if not session.about.is_mariadb:
        for name, wanted in (
            ("gtid_mode", "ON"),
            ("binlog_transaction_compression", "OFF"),
            ("binlog_row_value_options", ""),
        ):
            if _variable(session, name) not in (wanted, ""):
                yield f"{session.place}: {name} is {_variable(session, name)} -> SET GLOBAL {name} = '{wanted}'"
    yield from _lacking_rights(session)


def _lacking_rights(session: Session) -> Iterator[str]:
    grants = " ".join(str(v) for row in session.rows("SHOW GRANTS", "asking for our rights") for v in row.values())
    who = session.rows("SELECT current_user() AS who", "asking who we are")[0]["who"]
    if "ALL PRIVILEGES ON *.*" not in grants and not _granted(grants, "REPLICATION SLAVE"):
        yield f"{session.place}: {who} may not read the binlog -> GRANT REPLICATION SLAVE ON *.* TO {who}"
    try:
        session.rows(_status(session), "asking where the binlog ends")
    except AuthError:
        yield f"{session.place}: {who} may not see where the binlog ends -> GRANT REPLICATION CLIENT ON *.* TO {who}"


def _granted(grants: str, right: str) -> bool:
    return any(part.strip().removeprefix("GRANT ") == right for part in grants.replace(" ON ", ",").split(","))


def _status(session: Session) -> str:
    """MySQL 8.4 renamed the question."""
    if session.about.is_mariadb:
        return "SHOW MASTER STATUS"
    major, minor = (int(part) for part in session.about.version.split(".")[:2])
    return "SHOW BINARY LOG STATUS" if (major, minor) >= (8, 2) else "SHOW MASTER STATUS"


def end_of_log(session: Session) -> tuple[tuple[str, int] | None, str]:
    """Where the log ends at this moment: file and offset, and the transactions in it."""
    name = "gtid_binlog_pos" if session.about.is_mariadb else "gtid_executed"
    asked = f"SELECT @@global.{name} AS seen"
    seen = (session.rows(asked, "asking where the binlog ends")[0]["seen"] or "").replace("\n", "")
    told = session.rows(_status(session), "asking where the binlog ends")
    return ((told[0]["File"] or "", int(told[0]["Position"] or 0)) if told else None), seen


def _filtered(session: Session, schemas: set[str]) -> Iterator[str]:
    for row in session.rows(_status(session), "asking what the binlog leaves out"):
        only, never = ({s.strip() for s in (row[name] or "").split(",") if s.strip()} for name in _FILTERED)
        for schema in sorted(schemas):
            if schema in never or (only and schema not in only):
                yield (
                    f"{session.place}: the binlog leaves the database {schema} out -> take binlog_do_db and "
                    "binlog_ignore_db out of the server's options"
                )


def _of_table(session: Session, table: StoredTable, *, minimal: bool) -> Iterator[str]:
    asked = {"schema": literal(table.schema), "table": literal(table.name)}
    kind = session.rows(_KIND.format(**asked), f"asking about {table}")[0]
    if kind["kind"] != "BASE TABLE":
        what = "a view" if kind["kind"] == "VIEW" else f"a table of the kind {str(kind['kind']).lower()}"
        yield f"{table} is {what}, whose changes the binlog does not tell -> follow the tables it is made of"
    for name in table.key:
        column = table.columns[name]
        if column.type not in KEY_TYPES:
            yield f"{table}: its key {name} is a {column.declared}, which is not followed -> use a key of another type"
        elif column.is_text and not is_known(column.charset):
            yield (
                f"{table}: its key {name} has the charset {column.charset} -> ALTER TABLE "
                f"{identifier(table.schema, table.name)} CONVERT TO CHARACTER SET utf8mb4"
            )
    if minimal and table.uniques.get("PRIMARY") != table.key:
        yield (
            f"{table}: its key {', '.join(table.key)} is not its primary key, and the log holds only that of each row "
            "(binlog_row_image) -> SET GLOBAL binlog_row_image = 'FULL'"
        )
    for row in session.rows(_CASCADES.format(**asked), f"asking about the foreign keys of {table}"):
        yield (
            f"{table}: rows change through the foreign key {row['name']} (CASCADE or SET NULL), and the binlog does "
            "not tell which -> declare it RESTRICT and change the rows by statements, or read the table by its cursor"
        )
