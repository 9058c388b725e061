"""Fields that both sides of a two-way sync changed, waiting for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import orjson
import psycopg
from psycopg.rows import dict_row

from sync_platform.errors import ConfigError

if TYPE_CHECKING:
    from sync_platform.state.database import Database

Take = Literal["source", "target"]
_SHOWN = """id, sync, source_key AS key, target_id, field, reason, base, source, target, state, take,
            found_at, resolved_at, settled_at"""
# The same conflict keeps its number; when a side changed meanwhile, what a person chose was about other values.
_FOUND = """
    INSERT INTO sync.conflicts AS c (sync, source_key, target_id, field, reason, base, source, target)
    SELECT %(sync)s, d.key, d.id, d.field, d.reason, d.base::jsonb, d.source::jsonb, d.target::jsonb
    FROM unnest(%(keys)s::text[], %(ids)s::text[], %(fields)s::text[], %(reasons)s::text[], %(bases)s::text[],
                %(sources)s::text[], %(targets)s::text[]) AS d(key, id, field, reason, base, source, target)
    ON CONFLICT (sync, source_key, field) WHERE state <> 'settled' DO UPDATE
       SET target_id = excluded.target_id, reason = excluded.reason, base = excluded.base, source = excluded.source,
           target = excluded.target, state = 'open', take = NULL, resolved_at = NULL
       WHERE (c.source, c.target, c.target_id)
             IS DISTINCT FROM (excluded.source, excluded.target, excluded.target_id)"""


def found_conflicts(connection: psycopg.Connection[Any], sync: str, conflicts: Sequence[Mapping[str, Any]]) -> None:
    """Notes conflicts: `key`, `target_id`, `field`, `reason`, and `base`, `source`, `target` as {field: value}."""
    if not conflicts:
        return
    connection.execute(
        _FOUND,
        {
            "sync": sync,
            "keys": [one["key"] for one in conflicts],
            "ids": [one["target_id"] for one in conflicts],
            "fields": [one["field"] for one in conflicts],
            "reasons": [one["reason"] for one in conflicts],
            "bases": [orjson.dumps(one["base"]).decode() for one in conflicts],
            "sources": [orjson.dumps(one["source"]).decode() for one in conflicts],
            "targets": [orjson.dumps(one["target"]).decode() for one in conflicts],
        },
    )


def chosen(database: Database, sync: str, keys: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """What people chose for these records: source key -> field -> `take` and the values it was chosen for."""
    if not keys:
        return {}
    with database.reading() as connection:
        rows = connection.execute(
            """SELECT source_key, field, take, source, target FROM sync.conflicts
               WHERE sync = %s AND source_key = ANY(%s) AND state = 'resolved'""",
            (sync, list(keys)),
        ).fetchall()
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for key, field, take, source, target in rows:
        found.setdefault(key, {})[field] = {"take": take, "source": source, "target": target}
    return found


def settle_conflicts(connection: psycopg.Connection[Any], sync: str, settled: Sequence[tuple[str, str]]) -> None:
    """Closes the conflicts of these (source key, field): both sides agree again."""
    if settled:
        connection.execute(
            """UPDATE sync.conflicts c SET state = 'settled', settled_at = now()
               FROM unnest(%s::text[], %s::text[]) AS d(key, field)
               WHERE c.sync = %s AND c.source_key = d.key AND c.field = d.field AND c.state <> 'settled'""",
            ([key for key, _ in settled], [field for _, field in settled], sync),
        )


def resolved_keys(connection: psycopg.Connection[Any], sync: str) -> list[str]:
    """The records for which a person chose and which the next run takes up."""
    rows = connection.execute(
        "SELECT DISTINCT source_key FROM sync.conflicts WHERE sync = %s AND state = 'resolved'", (sync,)
    ).fetchall()
    return [str(row[0]) for row in rows]


def list_conflicts(connection: psycopg.Connection[Any], sync: str | None) -> list[dict[str, Any]]:
    """The conflicts that wait for a person or for the next run, as `conflicts list --json` prints them."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            f"""SELECT {_SHOWN} FROM sync.conflicts
                WHERE state <> 'settled' AND (%(sync)s::text IS NULL OR sync = %(sync)s) ORDER BY id""",
            {"sync": sync},
        ).fetchall()


def show_conflict(connection: psycopg.Connection[Any], number: int) -> dict[str, Any]:
    """One conflict; ConfigError when there is none of that number."""
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(f"SELECT {_SHOWN} FROM sync.conflicts WHERE id = %s", (number,)).fetchone()
    if found is None:
        raise ConfigError(
            f"there is no conflict {number}", field="id", value=str(number), mend="see `sync-platform conflicts list`"
        )
    return found


def resolve_conflict(connection: psycopg.Connection[Any], number: int, take: Take) -> dict[str, Any]:
    """Chooses a side for one conflict; the next run writes it. ConfigError when it is settled already."""
    if show_conflict(connection, number)["state"] == "settled":
        raise ConfigError(
            f"conflict {number} is settled already", field="id", value=str(number), mend="edit the record itself"
        )
    connection.execute(
        "UPDATE sync.conflicts SET state = 'resolved', take = %s, resolved_at = now() WHERE id = %s", (take, number)
    )
    return show_conflict(connection, number)
