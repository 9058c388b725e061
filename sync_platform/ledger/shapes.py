"""The fields of source and target that a sync was last told to go on with (`drift: pause`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

#: By side (source, target) the types of its fields, as text.
Shape: TypeAlias = "Mapping[str, Mapping[str, str]]"


def accepted_shape(connection: psycopg.Connection[Any], sync: str) -> Shape | None:
    """The shape that was accepted last; None before the first look."""
    row = connection.execute("SELECT accepted FROM sync.shapes WHERE sync = %s", (sync,)).fetchone()
    return row[0] if row else None


def accept_shape(connection: psycopg.Connection[Any], sync: str, shape: Shape) -> None:
    """Notes a shape in which nothing differs that the sync is paused for."""
    connection.execute(
        """INSERT INTO sync.shapes (sync, accepted) VALUES (%s, %s) ON CONFLICT (sync) DO UPDATE
           SET accepted = excluded.accepted, accepted_at = now(), found = NULL, differences = '{}', since = NULL""",
        (sync, Jsonb(shape)),
    )


def note_drift(connection: psycopg.Connection[Any], sync: str, shape: Shape, differences: Sequence[str]) -> None:
    """Notes what differs from the accepted shape; the sync is paused from the first time on."""
    connection.execute(
        """UPDATE sync.shapes SET found = %s, differences = %s, since = coalesce(since, now()) WHERE sync = %s""",
        (Jsonb(shape), list(differences), sync),
    )


def go_on(connection: psycopg.Connection[Any], sync: str) -> list[str]:
    """Accepts what was found; the differences that were accepted, none where the sync was not paused."""
    row = connection.execute(
        """UPDATE sync.shapes s
           SET accepted = s.found, accepted_at = now(), found = NULL, differences = '{}', since = NULL
           FROM sync.shapes was WHERE s.sync = %s AND was.sync = s.sync AND s.found IS NOT NULL
           RETURNING was.differences""",
        (sync,),
    ).fetchone()
    return list(row[0]) if row else []


def paused(connection: psycopg.Connection[Any], syncs: Collection[str]) -> list[dict[str, Any]]:
    """Those of these syncs that are paused: `sync`, `since`, `differences`."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            """SELECT sync, since, differences FROM sync.shapes WHERE since IS NOT NULL AND sync = ANY(%s)
               ORDER BY since""",
            (list(syncs),),
        ).fetchall()
