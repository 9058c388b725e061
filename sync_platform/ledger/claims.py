"""Claims: whoever writes a target record claims it first, so that two lanes never write it at once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sync_platform.errors import SyncError, TransientError

if TYPE_CHECKING:
    from sync_platform.engine.spec import Endpoint
    from sync_platform.state.database import Database


class BusyError(TransientError):
    """Another writer holds a record; nothing is wrong with the target."""

    code = "busy"


LEASE_SECONDS: Final = 300
#: The claim on every record of a target object, as a bulk delivery takes it.
EVERYTHING: Final = "*"

# Whoever claims everything waits for those who claim records, and they for him: neither sees the other's
# uncommitted row, so a transaction lock (shared by those who claim records) orders them.
ORDER: Final = """
    SELECT CASE WHEN %(all)s THEN pg_advisory_xact_lock(hashtextextended(%(place)s, 7))
                ELSE pg_advisory_xact_lock_shared(hashtextextended(%(place)s, 7)) END"""
#: Takes the claims on the keys that `{wanted}` answers, as far as nobody else has them.
TAKE: Final = """
    INSERT INTO sync.claims AS c (target_connection, target_object, target_key, owner, lease_until)
    SELECT %(connection)s, %(object)s, key, %(owner)s, now() + make_interval(secs => %(lease)s)
    FROM {wanted}
    WHERE NOT EXISTS (
        SELECT 1 FROM sync.claims o
        WHERE o.target_connection = %(connection)s AND o.target_object = %(object)s AND o.owner <> %(owner)s
          AND o.lease_until >= now() AND (%(all)s OR o.target_key = '*'))
    ON CONFLICT (target_connection, target_object, target_key) DO UPDATE
       SET owner = excluded.owner, lease_until = excluded.lease_until
       WHERE c.lease_until < now() OR c.owner = excluded.owner
    RETURNING target_key"""
_TAKE: Final = TAKE.format(wanted="unnest(%(keys)s::text[]) AS key")
RELEASE: Final = """
    DELETE FROM sync.claims
    WHERE target_connection = %s AND target_object = %s AND target_key = ANY(%s) AND owner = %s"""


@contextmanager
def claimed(
    database: Database,
    target: Endpoint,
    keys: Sequence[str],
    owner: str,
    *,
    patience: float = LEASE_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
    lease: float = LEASE_SECONDS,
) -> Iterator[None]:
    """Holds the claims on `keys` (all or none; `["*"]`: on every record) for the length of the block.

    A block that lasts keeps its lease. Raises BusyError when another writer keeps one of them longer
    than `patience` seconds.
    """
    wanted = sorted(set(keys))
    waited = 0.0
    while not _take(database, target, wanted, owner, lease):
        if waited >= patience:
            raise BusyError(f"{target}: another writer holds one of {len(wanted)} records since {waited:.0f} s")
        pause = random.uniform(0.02, 0.2)
        waited += pause
        sleep(pause)
    ended = threading.Event()
    keeper = threading.Timer(lease / 3, _keep, (database, target, wanted, owner, lease, ended))
    keeper.daemon = True
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.cancel()
        with database.reading() as connection:
            connection.execute(RELEASE, (target.connection, target.object, wanted, owner))


def _keep(
    database: Database, target: Endpoint, keys: Sequence[str], owner: str, lease: float, ended: threading.Event
) -> None:
    """Renews the lease until the block ends; a state that is away is tried again in time."""
    while not ended.wait(lease / 6):
        try:
            with database.connection() as connection:
                connection.execute(
                    """UPDATE sync.claims SET lease_until = now() + make_interval(secs => %s)
                       WHERE target_connection = %s AND target_object = %s AND target_key = ANY(%s) AND owner = %s""",
                    (lease, target.connection, target.object, list(keys), owner),
                )
        except SyncError:
            continue


def _take(database: Database, target: Endpoint, keys: Sequence[str], owner: str, lease: float) -> bool:
    told = {
        "all": list(keys) == [EVERYTHING],
        "place": f"claims {target}",
        "connection": target.connection,
        "object": target.object,
        "keys": list(keys),
        "owner": owner,
        "lease": lease,
    }
    with database.connection() as connection:
        with connection.pipeline():
            connection.execute(ORDER, told)
            answer = connection.execute(_TAKE, told)
        taken = answer.fetchall()
        if len(taken) == len(keys):
            return True
        connection.rollback()
        return False


def release_claims_of(database: Database, owners: Sequence[str]) -> None:
    """Frees the claims of runs and workers that are known to be dead."""
    with database.connection() as connection:
        connection.execute("DELETE FROM sync.claims WHERE owner = ANY(%s::uuid[])", (list(owners),))
