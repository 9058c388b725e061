"""A query as a table that is only read: its columns, as the server's answer without rows describes them.

https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_text_resultset_column_definition.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pymysql.constants import FIELD_TYPE, FLAG

from sync_platform.connectors.mysql.catalog import StoredTable
from sync_platform.connectors.mysql.session import Session, identifier
from sync_platform.errors import ConfigError

_BINARY: Final = 63  # the number of the charset of bytes
_KINDS: Final[Mapping[int, str]] = {
    FIELD_TYPE.TINY: "tinyint", FIELD_TYPE.SHORT: "smallint", FIELD_TYPE.INT24: "mediumint", FIELD_TYPE.LONG: "int",
    FIELD_TYPE.LONGLONG: "bigint", FIELD_TYPE.FLOAT: "float", FIELD_TYPE.DOUBLE: "double",
    FIELD_TYPE.NEWDECIMAL: "decimal", FIELD_TYPE.DECIMAL: "decimal", FIELD_TYPE.DATE: "date",
    FIELD_TYPE.NEWDATE: "date", FIELD_TYPE.DATETIME: "datetime", FIELD_TYPE.TIMESTAMP: "timestamp",
    FIELD_TYPE.TIME: "time", FIELD_TYPE.YEAR: "year", FIELD_TYPE.BIT: "bit", FIELD_TYPE.JSON: "json",
    FIELD_TYPE.GEOMETRY: "geometry",
}  # fmt: skip
_TIMES: Final = ("datetime", "timestamp", "time")


def columns_of(session: Session, stream: str, query: str, key: tuple[str, ...]) -> list[dict[str, str | None]]:
    """What the catalogue's columns would tell of a query's; ConfigError with the server's words when it is wrong."""
    session.begin(read_only=True)
    try:
        told = session.fields(f"SELECT * FROM ({query}\n) AS _query LIMIT 0", f"describing {stream}")
    except ConfigError as error:
        raise ConfigError(
            f"{stream}: the server does not take its query: {error.message}",
            field="query",
            value=query,
            mend="correct it; columns of the same name need names of their own: SELECT a.id AS order_id, …",
        ) from None
    return [_column(field, key) for field in told]


def _column(field: Any, key: tuple[str, ...]) -> dict[str, str | None]:
    raw = field.charsetnr == _BINARY
    kind = _KINDS.get(field.type_code) or ("varbinary" if raw else "varchar")
    if field.flags & FLAG.SET:
        kind = "varchar"
    unsigned = " unsigned" if field.flags & FLAG.UNSIGNED else ""
    declared = f"{kind}({field.length}){unsigned}" if kind in ("tinyint", "bit") else f"{kind}{unsigned}"
    precision = field.length - (field.scale > 0) - (not unsigned) if kind == "decimal" else field.length
    text = kind == "varchar"
    return {
        "name": field.name,
        "type": kind,
        "declared": declared,
        "nullable": "NO" if field.name in key else "YES",
        "default": None,
        "extra": "",
        "generated": "a query",
        "length": None,
        "precision": str(precision),
        "scale": str(field.scale),
        "fraction": str(min(field.scale, 6)) if kind in _TIMES else None,
        "charset": "utf8mb4" if text else None,
        "collation": "utf8mb4_bin" if text else None,
        "comment": "",
    }


def source_of(table: StoredTable) -> str:
    """What stands behind FROM: a table's quoted name, or the query in brackets (a comment may end it)."""
    return identifier(table.schema, table.name) if table.query is None else f"({table.query}\n) AS _query"
