"""A query as a table that is only read: its columns, as the server describes the statement without running it.

https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import psycopg
import pyarrow as pa

from sync_platform.connectors.hiding import hide
from sync_platform.connectors.postgres.catalog import described_query
from sync_platform.connectors.postgres.faults import refused_login
from sync_platform.connectors.postgres.session import Server, identifier
from sync_platform.connectors.postgres.table import PgTable, PostgresOptions
from sync_platform.connectors.query import refuse_unfit
from sync_platform.connectors.sql import Table
from sync_platform.errors import ConfigError

_TYPES: Final = """
SELECT json_agg(json_build_object('type', coalesce(b.typname, t.typname), 'declared', format_type(t.oid, w.typmod),
  'cast', format_type(coalesce(b.oid, t.oid), -1),
  'typmod', CASE WHEN w.typmod = -1 AND t.typtype = 'd' THEN t.typtypmod ELSE w.typmod END,
  'values', (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e
             WHERE e.enumtypid = coalesce(b.oid, t.oid))
) ORDER BY w.place)::text AS told
FROM unnest(ARRAY[{oids}]::oid[], ARRAY[{typmods}]::int[]) WITH ORDINALITY AS w(oid, typmod, place)
JOIN pg_type t ON t.oid = w.oid LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
"""


def describe(server: Server, stream: str, options: PostgresOptions) -> PgTable:
    """The query of a stream's options as a table; ConfigError when it is not one query, or wrong."""
    query = refuse_unfit(stream, options, "postgres")
    return described_query(stream, query, _columns_of(server, stream, query, options.key), options)


def _columns_of(server: Server, stream: str, query: str, key: Sequence[str]) -> list[dict[str, Any]]:
    """What the catalogue's columns would tell of a query's; ConfigError with the server's words when it is wrong."""
    try:
        with psycopg.connect(server.conninfo, options="-c default_transaction_read_only=on") as connection:
            wire = connection.pgconn
            _checked(wire.prepare(b"described", f"SELECT * FROM ({query}\n) AS _query".encode()), stream, query, server)
            told = wire.describe_prepared(b"described")
            _checked(told, stream, query, server)
            names = [(told.fname(at) or b"").decode() for at in range(told.nfields)]
            kinds = [(told.ftype(at), told.fmod(at)) for at in range(told.nfields)]
    except psycopg.Error as error:
        raise refused_login(error, server.place, server.secrets) from None
    twice = sorted({name for name in names if names.count(name) > 1} | {name for name in names if name == "?column?"})
    if twice or not names:
        raise ConfigError(
            f"{stream}: its query has columns without a name of their own: {', '.join(twice) or 'none at all'}",
            field="query",
            value=query,
            mend="name them: SELECT a.id AS order_id, …",
        )
    oids, typmods = (", ".join(str(pair[i]) for pair in kinds) for i in (0, 1))
    with server.session() as session:
        rows: pa.Table = session.rows(_TYPES.format(oids=oids, typmods=typmods), f"describing {stream}")
    types: list[dict[str, Any]] = json.loads(rows["told"][0].as_py())
    nothing = {"identity": "", "generated": True, "default": None, "sequence": None, "comment": None}
    return [{**nothing, **kind, "name": name, "not_null": name in key} for name, kind in zip(names, types, strict=True)]


def _checked(result: psycopg.pq.abc.PGresult, stream: str, query: str, server: Server) -> None:
    if result.status == psycopg.pq.ExecStatus.COMMAND_OK:
        return
    said = hide(result.error_message.decode(errors="replace").strip().splitlines()[0], server.secrets)
    raise ConfigError(
        f"{stream}: PostgreSQL does not take its query: {said}",
        field="query",
        value=query,
        mend="correct it; try it by itself in psql",
    )


def source_of(table: Table, *, alias: str | None = None) -> str:
    """What stands behind FROM: a table's quoted name, or the query in brackets (a comment may end it)."""
    if table.query is not None:
        return f"({table.query}\n) AS {alias or '_query'}"
    return identifier(table.schema, table.name) + (f" {alias}" if alias else "")
