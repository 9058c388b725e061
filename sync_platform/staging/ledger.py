"""`sync.loads`: what every load of a stream read and changed."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sync_platform.staging.reading import Reading

if TYPE_CHECKING:
    from sync_platform.state.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedLoad:
    """One finished load of a stream, or the one that was joined.

    `rows_read` counts rows as they came (a record on two pages twice), `rows_changed` staged versions
    written, `rows_deleted` records that became `_deleted`. `seq_to` is the stream's `high_seq` after
    the load. `complete` means: this read returned every record the source has, proven by the
    connector, and absent ones were marked where the stream's deletes show so.
    """

    load_id: str
    rows_read: int
    rows_changed: int
    rows_deleted: int
    seq_to: int
    joined: bool
    complete: bool
    started_at: dt.datetime
    finished_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLoad:
    """A load that has begun, and what is known of those before it."""

    load_id: str
    first: bool  # none of this stream is known
    reading: Reading | None  # how far the last one read, if it came to its end: what lies in the lake counts
    seq_to: int  # the stream's `high_seq` after that one


_COLUMNS = "load_id, rows_read, rows_changed, rows_deleted, seq_to, complete, started_at, finished_at"


def start(db: Database, connection: str, stream: str) -> NewLoad:
    """Begins a load. Loads of the stream still `running` were killed and become `failed`."""
    load_id = uuid.uuid4().hex
    with db.connection() as pg:
        pg.execute(
            "UPDATE sync.loads SET state = 'failed', finished_at = now()"
            " WHERE connection = %s AND stream = %s AND state = 'running'",
            (connection, stream),
        )
        last = pg.execute(
            "SELECT state, reading, seq_to FROM sync.loads WHERE connection = %s AND stream = %s"
            " ORDER BY started_at DESC LIMIT 1",
            (connection, stream),
        ).fetchone()
        pg.execute(
            "INSERT INTO sync.loads (load_id, connection, stream, started_at) VALUES (%s, %s, %s, clock_timestamp())",
            (load_id, connection, stream),
        )
    state, known, seq_to = last or (None, None, None)
    reading = Reading.of(json.loads(known)) if state == "finished" and known is not None else None
    return NewLoad(load_id=load_id, first=last is None, reading=reading, seq_to=seq_to or 0)


def progress(db: Database, load_id: str, rows_read: int, rows_changed: int, rows_deleted: int) -> None:
    """Notes how far a running load got."""
    with db.connection() as pg:
        pg.execute(
            "UPDATE sync.loads SET rows_read = %s, rows_changed = %s, rows_deleted = %s WHERE load_id = %s",
            (rows_read, rows_changed, rows_deleted, load_id),
        )


def finish(
    db: Database, load_id: str, reading: Reading, *, rows: tuple[int, int, int], seq_to: int, complete: bool
) -> StagedLoad:
    """Marks a load finished; `rows` are (read, changed, deleted)."""
    with db.connection() as pg:
        row = pg.execute(
            "UPDATE sync.loads SET state = 'finished', finished_at = clock_timestamp(), rows_read = %s,"
            " rows_changed = %s, rows_deleted = %s, seq_to = %s, complete = %s, reading = %s"
            f" WHERE load_id = %s RETURNING {_COLUMNS}",
            (*rows, seq_to, complete, json.dumps(asdict(reading)), load_id),
        ).fetchone()
    assert row is not None
    return _load(row, joined=False)


def fail(db: Database, load_id: str, state: str) -> None:
    """Marks a load `failed` or `blocked`."""
    with db.connection() as pg:
        pg.execute(
            "UPDATE sync.loads SET state = %s, finished_at = clock_timestamp() WHERE load_id = %s", (state, load_id)
        )


def to_join(
    db: Database, connection: str, stream: str, requested_at: dt.datetime, *, complete: bool
) -> StagedLoad | None:
    """The newest finished load that started at or after `requested_at` (a complete one if asked), or None."""
    with db.connection() as pg:
        row = pg.execute(
            f"SELECT {_COLUMNS} FROM sync.loads WHERE connection = %s AND stream = %s AND state = 'finished'"
            " AND started_at >= %s AND (complete OR NOT %s) ORDER BY started_at DESC LIMIT 1",
            (connection, stream, requested_at, complete),
        ).fetchone()
    return _load(row, joined=True) if row else None


def last_complete(db: Database, connection: str, stream: str) -> dt.datetime | None:
    """When the newest complete read of a stream began, or None."""
    with db.connection() as pg:
        row = pg.execute(
            "SELECT max(started_at) FROM sync.loads WHERE connection = %s AND stream = %s AND state = 'finished'"
            " AND complete",
            (connection, stream),
        ).fetchone()
    return row[0] if row else None


def newest(db: Database, connection: str, stream: str) -> str | None:
    """The id of the load of a stream that was begun last, or None."""
    with db.reading() as pg:
        row = pg.execute(
            "SELECT load_id FROM sync.loads WHERE connection = %s AND stream = %s ORDER BY started_at DESC LIMIT 1",
            (connection, stream),
        ).fetchone()
    return str(row[0]) if row else None


def streams_loaded(db: Database) -> list[tuple[str, str]]:
    """Every (connection, stream) that was ever staged, whether or not the project still names it."""
    with db.connection() as pg:
        rows = pg.execute("SELECT DISTINCT connection, stream FROM sync.loads ORDER BY 1, 2").fetchall()
    return [(str(connection), str(stream)) for connection, stream in rows]


def _load(row: tuple[object, ...], *, joined: bool) -> StagedLoad:
    load_id, read, changed, deleted, seq_to, complete, started_at, finished_at = row
    assert isinstance(started_at, dt.datetime)
    assert isinstance(finished_at, dt.datetime)
    return StagedLoad(
        load_id=str(load_id),
        rows_read=int(str(read)),
        rows_changed=int(str(changed)),
        rows_deleted=int(str(deleted)),
        seq_to=int(str(seq_to or 0)),
        joined=joined,
        complete=bool(complete),
        started_at=started_at,
        finished_at=finished_at,
    )
