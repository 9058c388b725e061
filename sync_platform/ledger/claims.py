"""Claims: whoever writes a target record claims it first, so that two lanes never write it at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sync_platform.errors import TransientError

if TYPE_CHECKING:
    from sync_platform.engine.spec import Endpoint
    from sync_platform.state.database import Database

LEASE_SECONDS = 300


@contextmanager
def claimed(
    database: Database,
    target: Endpoint,
    keys: Sequence[str],
    owner: str,
    *,
    patience: float = LEASE_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Holds the claims on `keys` (sorted, all or none) for the length of the block.

    Raises TransientError when another writer keeps one of them longer than `patience` seconds.
    """
    wanted = sorted(set(keys))
    waited = 0.0
    while not _take(database, target, wanted, owner):
        pause = random.uniform(0.02, 0.2)
        waited += pause
        if waited > patience:
            raise TransientError(f"{target}: another writer holds one of {len(wanted)} records since {waited:.0f} s")
        sleep(pause)
    try:
        yield
    finally:
        with database.connection() as connection:
            connection.execute(
                """DELETE FROM sync.claims
                   WHERE target_connection = %s AND target_object = %s AND target_key = ANY(%s) AND owner = %s""",
                (target.connection, target.object, wanted, owner),
            )


def _take(database: Database, target: Endpoint, keys: Sequence[str], owner: str) -> bool:
    with database.connection() as connection:
        taken = connection.execute(
            """INSERT INTO sync.claims AS c (target_connection, target_object, target_key, owner, lease_until)
               SELECT %s, %s, key, %s, now() + make_interval(secs => %s) FROM unnest(%s::text[]) AS key
               ON CONFLICT (target_connection, target_object, target_key) DO UPDATE
                  SET owner = excluded.owner, lease_until = excluded.lease_until
                  WHERE c.lease_until < now() OR c.owner = excluded.owner
               RETURNING target_key""",
            (target.connection, target.object, owner, LEASE_SECONDS, list(keys)),
        ).fetchall()
        if len(taken) == len(keys):
            return True
        connection.rollback()
        return False


def release_claims_of(database: Database, owners: Sequence[str]) -> None:
    """Frees the claims of runs that are known to be dead."""
    with database.connection() as connection:
        connection.execute("DELETE FROM sync.claims WHERE owner = ANY(%s::uuid[])", (list(owners),))
