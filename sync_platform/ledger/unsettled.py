"""Records that a run left open: dead letters, held records. The next plan looks at them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec


def unsettled_keys(connection: psycopg.Connection[Any], spec: SyncSpec) -> list[str]:
    """The source keys the next plan must look at although their source did not change.

    Transient failures and held records always; what the contract or the target refused only after
    the mapping changed or a person asked (`dead retry` sets the state).
    """
    rows = connection.execute(
        """SELECT source_key FROM sync.dead_letters
           WHERE sync = %(sync)s AND (state = 'retry' OR (state = 'open' AND config_hash <> %(config)s))
           UNION SELECT source_key FROM sync.held WHERE sync = %(sync)s""",
        {"sync": spec.name, "config": spec.config_hash()},
    ).fetchall()
    return [str(row[0]) for row in rows]


def waiting_keys(connection: psycopg.Connection[Any], sync: str) -> list[str]:
    """The source keys that have an open dead letter or are held."""
    rows = connection.execute(
        """SELECT source_key FROM sync.dead_letters WHERE sync = %(sync)s AND state IN ('open', 'retry')
           UNION SELECT source_key FROM sync.held WHERE sync = %(sync)s""",
        {"sync": sync},
    ).fetchall()
    return [str(row[0]) for row in rows]


def close_waiting(connection: psycopg.Connection[Any], sync: str, keys: Sequence[str]) -> None:
    """Closes dead letters and holds of records that need nothing any more: equal by now, deleted, left, duplicate.

    A create whose outcome is unknown stays held until the record is linked: it may be in the target.
    """
    connection.execute(
        """UPDATE sync.dead_letters SET state = 'settled', last_at = now()
           WHERE sync = %s AND source_key = ANY(%s) AND state IN ('open', 'retry')""",
        (sync, list(keys)),
    )
    connection.execute(
        """DELETE FROM sync.held h WHERE sync = %s AND source_key = ANY(%s)
           AND (kind <> 'unknown'
                OR EXISTS (SELECT 1 FROM sync.links l WHERE l.sync = h.sync AND l.source_key = h.source_key))""",
        (sync, list(keys)),
    )


def hold_linked(connection: psycopg.Connection[Any], sync: str, keys: Sequence[str]) -> None:
    """Holds those of these departed records that are still linked, so that the next plan looks at them again."""
    connection.execute(
        """INSERT INTO sync.held (sync, source_key, kind, reason, since)
           SELECT sync, source_key, 'held', 'it left, but its target record was not taken over yet', now()
           FROM sync.links WHERE sync = %s AND source_key = ANY(%s)
           ON CONFLICT (sync, source_key) DO NOTHING""",
        (sync, list(keys)),
    )


def open_dead_letters(connection: psycopg.Connection[Any], sync: str | None) -> list[dict[str, Any]]:
    """The dead letters that wait, as `dead list --json` prints them."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            """SELECT id, sync, source_key AS key, field, reason, resolution, payload, attempts, state, kind, reasons
               FROM sync.dead_letters WHERE state IN ('open', 'retry') AND (%(sync)s::text IS NULL OR sync = %(sync)s)
               ORDER BY id""",
            {"sync": sync},
        ).fetchall()


def count_open(connection: psycopg.Connection[Any], sync: str) -> int:
    """How many dead letters of the sync wait, whichever run set them aside."""
    row = connection.execute(
        "SELECT count(*) FROM sync.dead_letters WHERE sync = %s AND state IN ('open', 'retry')", (sync,)
    ).fetchone()
    return int(row[0]) if row else 0


def set_dead_letters(
    connection: psycopg.Connection[Any], state: str, *, sync: str | None = None, ids: Sequence[int] = ()
) -> int:
    """Sets chosen dead letters (or all of a sync) to `retry` or `discarded`; returns how many."""
    cursor = connection.execute(
        """UPDATE sync.dead_letters SET state = %(state)s, last_at = now()
           WHERE state IN ('open', 'retry') AND (%(sync)s::text IS NULL OR sync = %(sync)s)
             AND (cardinality(%(ids)s::bigint[]) = 0 OR id = ANY(%(ids)s::bigint[]))""",
        {"state": state, "sync": sync, "ids": list(ids)},
    )
    return cursor.rowcount
