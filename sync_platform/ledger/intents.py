"""Intents: what we are about to create, written before the call, so that a lost answer can be looked up."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
import psycopg
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.state.database import Database


def write_intents(
    database: Database, spec: SyncSpec, plan_id: str, run_id: str, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Records the creates of a batch durably, before they are sent."""
    values = [
        (
            uuid.uuid5(uuid.UUID(plan_id), row["_key"]).hex,
            spec.name,
            plan_id,
            run_id,
            row["_key"],
            row["_op"],
            spec.target.connection,
            spec.target.object,
            _json({name: row.get(f"new:{name}") for name in spec.match}),
            _json(
                {
                    "fields": {name: [None, row[f"new:{name}"]] for name in row["_fields"]},
                    "base": row["_base"],
                    "version_cursor": row["_cursor"],
                    "version_read_at": row["_read_at"],
                }
            ),
        )
        for row in rows
    ]
    with database.connection() as connection, connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO sync.intents (token, sync, plan_id, run_id, source_key, op, target_connection,
                                         target_object, match, fields, created_at)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s::jsonb, now())
               ON CONFLICT (token) DO UPDATE SET run_id = excluded.run_id, created_at = excluded.created_at""",
            values,
        )


def open_intents(connection: psycopg.Connection[Any], sync: str) -> list[dict[str, Any]]:
    """The unsettled intents of a sync: calls that may or may not have happened."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            """SELECT token, plan_id::text, run_id, source_key, op, match, fields, created_at
               FROM sync.intents WHERE sync = %s ORDER BY created_at, token""",
            (sync,),
        ).fetchall()


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()
