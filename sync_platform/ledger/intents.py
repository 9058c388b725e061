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
    """Records what a batch is about to write durably, before it is sent.

    Creates, and the updates of a two-way sync, whose rows also tell the values sent and the bases they settle.
    """
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
            row["_target_id"],
            _json({name: row.get(f"new:{name}") for name in spec.match}),
            _json(
                {
                    "fields": {name: [row.get(f"old:{name}"), row[f"new:{name}"]] for name in row["_fields"]},
                    "base": row["_base"],
                    "version_cursor": row["_cursor"],
                    "version_read_at": row["_read_at"],
                    **{name: row[name] for name in ("_sent", "_bases", "_partner", "_replaces") if name in row},
                }
            ),
        )
        for row in rows
    ]
    with database.connection() as connection, connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO sync.intents (token, sync, plan_id, run_id, source_key, op, target_connection,
                                         target_object, target_id, match, fields, created_at)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s::jsonb, now())
               ON CONFLICT (token) DO UPDATE SET run_id = excluded.run_id, created_at = excluded.created_at""",
            values,
        )


def open_intents(
    connection: psycopg.Connection[Any], sync: str, *, keys: Sequence[str] | None = None, alive: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The unsettled intents of a sync (or of these source keys): calls that may or may not have happened.

    Without those of records that a worker in `alive` is working on.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            """SELECT i.token, i.plan_id::text, i.run_id, i.source_key, i.op, i.match, i.fields, i.created_at,
                      i.target_connection, i.target_object, i.target_id
               FROM sync.intents i
               WHERE i.sync = %(sync)s AND (%(keys)s::text[] IS NULL OR i.source_key = ANY(%(keys)s))
                 AND NOT EXISTS (SELECT 1 FROM sync.queue q WHERE q.sync = i.sync AND q.key = i.source_key
                                   AND q.owner = ANY(%(alive)s::uuid[]))
                 AND NOT EXISTS (SELECT 1 FROM sync.queue q WHERE q.plan_id::text = i.run_id
                                   AND q.owner = ANY(%(alive)s::uuid[]))
               ORDER BY i.created_at, i.token""",
            {"sync": sync, "keys": None if keys is None else list(keys), "alive": list(alive)},
        ).fetchall()


def any_intents(database: Database, sync: str) -> bool:
    """Whether any call of a sync is unsettled."""
    row = database.statement("SELECT EXISTS (SELECT 1 FROM sync.intents WHERE sync = %(sync)s)", {"sync": sync})
    return row is not None and bool(row[0])


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()
