"""`sync.captures`: how far each connection was followed, by whom, and how it goes."""

from __future__ import annotations

import datetime as dt
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sync_platform.errors import SyncError

if TYPE_CHECKING:
    from sync_platform.connectors.capture import Behind, Told
    from sync_platform.state.database import Connection, Database

#: A capture that said nothing for so long is not there.
ALIVE_SECONDS: Final = 30.0
_COLUMNS: Final = """connection, position, streams, state, reason, told_at, committed_at, stored, behind_bytes,
    limit_bytes, warn_bytes, host, pid, owner IS NOT NULL AND updated_at > now() - make_interval(secs => %(alive)s)"""


class NotTheHolderError(SyncError):
    """Another process follows this connection by now."""

    code = "not_the_holder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a connection is followed. `position` None: not yet, or it was lost."""

    connection: str
    position: str | None
    streams: tuple[str, ...]
    state: str  # following | waiting (tries again) | refused (a person must act)
    reason: str | None
    told_at: dt.datetime | None  # when changes were last stored
    committed_at: dt.datetime | None  # when the newest of them was committed at the source
    stored: int  # events that were new
    behind: int | None  # bytes the database keeps for us
    limit: int | None
    warn: int | None
    host: str | None
    pid: int | None
    alive: bool  # a process follows it, or tries to

    @property
    def follows(self) -> bool:
        """Whether changes come in now."""
        return self.alive and self.state == "following"


def standings(db: Database) -> dict[str, Standing]:
    """Every connection that is or was followed, by name."""
    with db.reading() as own:
        rows = own.execute(
            f"SELECT {_COLUMNS} FROM sync.captures ORDER BY connection", {"alive": ALIVE_SECONDS}
        ).fetchall()
    names = Standing.__slots__
    found = [Standing(**dict(zip(names, row, strict=True)) | {"streams": tuple(row[2])}) for row in rows]
    return {one.connection: one for one in found}


def begin(connection: Connection, name: str, owner: str, position: str, streams: Sequence[str]) -> None:
    """This process follows from a position on; whoever did before may not write any more."""
    connection.execute(
        """INSERT INTO sync.captures (connection, owner, position, streams, host, pid)
           VALUES (%(name)s, %(owner)s, %(position)s, %(streams)s, %(host)s, %(pid)s)
           ON CONFLICT (connection) DO UPDATE SET owner = excluded.owner, position = excluded.position,
              streams = excluded.streams, host = excluded.host, pid = excluded.pid, state = 'following', reason = NULL,
              updated_at = now()""",
        {"name": name, "owner": owner, "position": position, "streams": list(streams), "host": socket.gethostname(),
         "pid": os.getpid()},
    )  # fmt: skip


def moved(connection: Connection, name: str, owner: str, told: Told, new: int) -> None:
    """Stores the position behind what was told, in the transaction that stores its `new` events.

    Raises NotTheHolderError, and the transaction fails as a whole, when another process follows by now.
    """
    mine = connection.execute(
        """UPDATE sync.captures SET position = %(position)s, stored = stored + %(new)s, updated_at = now(),
              told_at = CASE WHEN %(told)s THEN now() ELSE told_at END,
              committed_at = coalesce(%(committed)s, committed_at)
           WHERE connection = %(name)s AND owner = %(owner)s""",
        {"position": told.position, "new": new, "told": bool(told.events), "committed": told.committed_at,
         "name": name, "owner": owner},
    )  # fmt: skip
    if mine.rowcount != 1:
        raise NotTheHolderError(f"{name} is followed by another process by now")


def beat(db: Database, name: str, owner: str, behind: Behind, reason: str | None) -> None:
    """Says that this process follows, and how far it is behind."""
    with db.reading() as own:
        own.execute(
            """UPDATE sync.captures SET state = 'following', reason = %s, behind_bytes = %s, limit_bytes = %s,
                  warn_bytes = %s, updated_at = now() WHERE connection = %s AND owner = %s""",
            (reason, behind.size, behind.limit, behind.warn, name, owner),
        )


def troubled(db: Database, name: str, owner: str, state: str, reason: str) -> None:
    """Notes why a connection is not followed at the moment."""
    with db.reading() as own:
        own.execute(
            """INSERT INTO sync.captures (connection, owner, state, reason, host, pid)
               VALUES (%(name)s, %(owner)s, %(state)s, %(reason)s, %(host)s, %(pid)s)
               ON CONFLICT (connection) DO UPDATE SET owner = excluded.owner, state = excluded.state,
                  reason = excluded.reason, host = excluded.host, pid = excluded.pid, updated_at = now()""",
            {"name": name, "owner": owner, "state": state, "reason": reason, "host": socket.gethostname(),
             "pid": os.getpid()},
        )  # fmt: skip


def stopped(db: Database, name: str, owner: str) -> None:
    """This process does not follow any more."""
    with db.reading() as own:
        own.execute("UPDATE sync.captures SET owner = NULL WHERE connection = %s AND owner = %s", (name, owner))


def lost(connection: Connection, name: str, reason: str) -> None:
    """The position is worth nothing any more."""
    connection.execute(
        "UPDATE sync.captures SET position = NULL, reason = %s, updated_at = now() WHERE connection = %s",
        (reason, name),
    )


def forget(connection: Connection, name: str) -> bool:
    """Forgets that a connection was followed; whether it was."""
    return connection.execute("DELETE FROM sync.captures WHERE connection = %s", (name,)).rowcount > 0
