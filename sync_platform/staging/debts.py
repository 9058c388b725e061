"""Full reads that streams owe: something happened that no event tells whole, so only a compare finds what changed.

A debt is paid by a complete read that began after it: rows that changed are staged, rows that are gone show by their
absence. The sieve lets only what differs through, so paying it does not send everything again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sync_platform.staging.ledger import StagedLoad
    from sync_platform.state.database import Connection, Database

_OWE: Final = """
    INSERT INTO sync.owed_reads AS o (connection, stream, reason, emptied)
    SELECT %s, stream, %s, %s FROM unnest(%s::text[]) AS stream
    ON CONFLICT (connection, stream) DO UPDATE
       SET since = clock_timestamp(), reason = excluded.reason, emptied = o.emptied OR excluded.emptied"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    """Since when a stream owes a full read, and why. `emptied`: a read that finds nothing may be right."""

    since: dt.datetime
    reason: str
    emptied: bool


def owe(connection: Connection, name: str, streams: Iterable[str], reason: str, *, emptied: bool = False) -> None:
    """Streams of the connection `name` owe a full read from now on, in the caller's transaction."""
    connection.execute(_OWE, (name, reason, emptied, list(streams)))


def owed(db: Database, name: str, stream: str) -> Debt | None:
    """What a stream owes, or None."""
    return debts(db, [(name, stream)]).get((name, stream))


def debts(db: Database, places: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], Debt]:
    """What these streams (connection, stream) owe."""
    wanted = list(places)
    with db.reading() as own:
        rows = own.execute(
            """SELECT connection, stream, since, reason, emptied FROM sync.owed_reads
               JOIN unnest(%s::text[], %s::text[]) AS w(connection, stream) USING (connection, stream)""",
            ([name for name, _ in wanted], [stream for _, stream in wanted]),
        ).fetchall()
    return {(row[0], row[1]): Debt(since=row[2], reason=row[3], emptied=row[4]) for row in rows}


def pay(db: Database, name: str, stream: str, load: StagedLoad) -> None:
    """A load ended: a complete one pays what was owed before it began."""
    if load.complete:
        with db.connection() as own:
            own.execute(
                "DELETE FROM sync.owed_reads WHERE connection = %s AND stream = %s AND since <= %s",
                (name, stream, load.started_at),
            )
