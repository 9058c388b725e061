"""The newest state of source records that events are about.

An event is a hint. When it tells the values of text fields of a record we know, they are laid over the
record; otherwise the record is read back by id. Either way a value that is older than what is known is
left alone, whatever order events arrive in. What is found is kept in `sync.observed`, so that twenty
syncs of one stream read a record back once, and so that plans see it before staging does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from sync_platform.engine.lookups import with_target_id
from sync_platform.errors import ConfigError
from sync_platform.model import DELETED
from sync_platform.staging.canonical import fit
from sync_platform.staging.overlay import encoded

if TYPE_CHECKING:
    from sync_platform.connectors.connector import Connector
    from sync_platform.model import Stream
    from sync_platform.realtime.queue import Told
    from sync_platform.state.database import Connection, Database

_EPOCH: Final = dt.datetime.fromtimestamp(0, dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_KNOWN: Final = """
    SELECT key, row, deleted, version_cursor, version_read_at, read_cursor, field_times FROM sync.observed
    WHERE connection = %s AND stream = %s AND key = ANY(%s) ORDER BY key FOR UPDATE"""
#: A read that is older than what is known meanwhile changes nothing. What a crash of the server loses is read again.
_KEEP: Final = """
    INSERT INTO sync.observed AS o (connection, stream, key, row, deleted, version_cursor, version_read_at, read_cursor,
                                    field_times, observed_at)
    SELECT %(connection)s, %(stream)s, d.key, d.row::jsonb, d.deleted, d.cursor, d.read_at, d.read_cursor,
           d.field_times::jsonb, now()
    FROM unnest(%(keys)s::text[], %(rows)s::text[], %(deleted)s::boolean[], %(cursors)s::bigint[],
                %(read_ats)s::bigint[], %(read_cursors)s::bigint[], %(field_times)s::text[])
         AS d(key, row, deleted, cursor, read_at, read_cursor, field_times) ORDER BY d.key
    ON CONFLICT (connection, stream, key) DO UPDATE
       SET row = excluded.row, deleted = excluded.deleted, version_cursor = excluded.version_cursor,
           version_read_at = excluded.version_read_at, read_cursor = excluded.read_cursor,
           field_times = excluded.field_times, observed_at = now()
       WHERE (coalesce(excluded.version_cursor, 0), excluded.version_read_at)
          >= (coalesce(o.version_cursor, 0), o.version_read_at)
    RETURNING key, set_config('synchronous_commit', 'off', true)"""
#: Rows are locked in key order, and one that changed since it was read (another `xmin`) is left alone. The answer: how
#: many were kept, and whether other records share an old or a new dedupe key with these. Everything is looked up by
#: key, whatever the statistics say, and what is compared with a list is joined with it: the work grows with the batch.
_OVERLAY: Final = """
    WITH locked AS MATERIALIZED (
        SELECT d.*, o.xmin, o.place FROM (
            SELECT * FROM unnest(%(keys)s::text[], %(rows)s::text[], %(cursors)s::bigint[], %(field_times)s::text[],
                                 %(was)s::text[]) AS d(key, row, cursor, field_times, was) ORDER BY key) AS d
        CROSS JOIN LATERAL (
            SELECT xmin::text AS xmin, ctid AS place FROM sync.observed
            WHERE connection = %(connection)s AND stream = %(stream)s AND key = d.key FOR UPDATE) AS o),
    kept AS (
        UPDATE sync.observed o SET row = l.row::jsonb, version_cursor = l.cursor, field_times = l.field_times::jsonb,
               observed_at = now()
        FROM locked l
        WHERE o.ctid = l.place AND l.xmin = l.was
        RETURNING o.key),
    mine AS MATERIALIZED (SELECT unnest(%(all)s::text[]) AS key),
    shared AS MATERIALIZED (
        SELECT unnest(%(dedupe_keys)s::text[]) AS dedupe_key
        UNION SELECT was.dedupe_key FROM mine CROSS JOIN LATERAL (
            SELECT dedupe_key FROM sync.members WHERE sync = %(sync)s AND source_key = mine.key OFFSET 0) AS was),
    sharing AS MATERIALIZED (
        SELECT m.source_key FROM shared CROSS JOIN LATERAL (
            SELECT source_key FROM sync.members WHERE sync = %(sync)s AND dedupe_key = shared.dedupe_key OFFSET 0) AS m)
    SELECT set_config('synchronous_commit', 'off', true), (SELECT count(*) FROM kept),
           EXISTS (SELECT source_key FROM sharing EXCEPT SELECT key FROM mine)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One record as last seen: `values` in JSON's types, times in microseconds since the epoch."""

    key: str
    values: Mapping[str, Any]
    deleted: bool
    cursor: int | None  # the newest change it holds
    read_at: int  # when it was last read as a whole
    read_cursor: int | None  # its cursor at that read
    field_times: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, row: Sequence[Any]) -> Observed:
        """From a row of `sync.observed`: key, row, deleted, version's cursor and time, read cursor, field times."""
        key, values, deleted, cursor, read_at, read_cursor, times = row[:7]
        return cls(
            key=key, values=values, deleted=deleted, cursor=cursor, read_at=read_at, read_cursor=read_cursor,
            field_times=times,
        )  # fmt: skip


def micros(moment: dt.datetime) -> int:
    """Microseconds since the epoch."""
    return (moment - _EPOCH) // _MICROSECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One source stream as workers watch it; `types` are its staged columns.

    `used`: those that a sync of the stream makes use of, and so all that is read back (None: every one).
    """

    database: Database
    connector: Connector
    connection: str
    stream: Stream
    types: Mapping[str, pa.DataType]
    used: Callable[[], frozenset[str]] | None = None

    def resolve(self, events: Mapping[str, Sequence[Told]]) -> dict[str, Observed]:
        """The newest state of each record, which is at least as new as its events."""
        with self.database.connection() as connection:
            known = self._known(connection, list(events))
            told = {key: self.overlaid(known.get(key), list(events[key])) for key in events}
            done = {key: one for key, one in told.items() if one is not None}
            self._keep(connection, [one for key, one in done.items() if one != known.get(key)])
        asked = [key for key in events if key not in done]
        return done | self.read_back(asked)

    def keep_usual(
        self,
        read: Sequence[Observed],
        laid: Sequence[Observed],
        was: Mapping[str, str],
        sync: str,
        keys: Sequence[str],
        dedupe: Sequence[str],
    ) -> bool:
        """Stores records read and records over which events were laid; False when that is not all there is to do.

        `was`: the version (`xmin`) of the row that each was laid over. Not all: something newer is known meanwhile, or
        another record shares a dedupe key of the sync with one of `keys`, whose keys now are `dedupe`.
        """
        told = {
            "connection": self.connection, "stream": self.stream.name, "sync": sync, "all": list(keys),
            "keys": [one.key for one in laid], "rows": [orjson.dumps(one.values).decode() for one in laid],
            "cursors": [one.cursor for one in laid], "was": [was[one.key] for one in laid],
            "field_times": [orjson.dumps(one.field_times).decode() for one in laid], "dedupe_keys": list(dedupe),
        }  # fmt: skip
        with self.database.reading() as connection, connection.pipeline():
            kept = connection.execute(_KEEP, self._told_of(read)) if read else None
            row = connection.execute(_OVERLAY, told).fetchone()
            beaten = kept is not None and len(kept.fetchall()) < len(read)
        return not beaten and row is not None and row[1] == len(laid) and not row[2]

    def newest(self, keys: Sequence[str]) -> dict[str, Observed]:
        """The state of records without an event of their own: as last observed, else read back."""
        with self.database.connection() as connection:
            known = self._known(connection, keys)
        known = {key: one for key, one in known.items() if self._whole(one)}
        return known | self.read_back([key for key in keys if key not in known])

    def read_back(self, keys: Sequence[str]) -> dict[str, Observed]:
        """Reads these records by id; one that is not there is deleted."""
        if not keys:
            return {}
        return self.keep(keys, *self.look(keys))

    def look(self, keys: Sequence[str]) -> tuple[dict[str, Observed], int]:
        """The records of these ids that there are, and when they were read; nothing is stored yet."""
        read_at = micros(dt.datetime.now(dt.UTC))
        found = self._read(list(keys)) if keys else None
        return {one.key: one for one in self._rows(found, read_at)} if found is not None else {}, read_at

    def keep(self, keys: Sequence[str], found: Mapping[str, Observed], read_at: int) -> dict[str, Observed]:
        """Stores what `look` found of these records; the newest state of each, which may be another's by now."""
        rows = dict(found)
        missing = [key for key in keys if key not in rows]
        if not missing:
            with self.database.reading() as connection:  # one trip
                beaten = set(rows) - self._keep(connection, list(rows.values()))
            return rows | self._newest(beaten) if beaten else rows
        with self.database.connection() as connection:
            known = self._known(connection, missing)
            rows |= {key: _gone(key, known.get(key), read_at) for key in missing}
            beaten = set(rows) - self._keep(connection, list(rows.values()))
            return rows | self._known(connection, sorted(beaten)) if beaten else rows

    def _read(self, keys: list[str]) -> pa.Table:
        """These records as the source has them; a staged field that the source has no more is absent."""
        names = self._asked()
        try:
            return self.connector.get(self.stream.name, keys, names)
        except ConfigError:
            there = set(self.connector.discover(self.stream.name).names)
            if there.issuperset(names):
                raise
            return self.connector.get(self.stream.name, keys, [name for name in names if name in there])

    def _newest(self, keys: Collection[str]) -> dict[str, Observed]:
        with self.database.connection() as connection:
            return self._known(connection, sorted(keys))

    def _rows(self, found: pa.Table, read_at: int) -> list[Observed]:
        if not found.num_rows:
            return []
        named = found.select([name for name in found.column_names if name in self.types])
        table = fit(named, dict(self.types), f"{self.connection}/{self.stream.name}")
        keys = with_target_id(found.select(list(self.stream.key)), self.stream)["_target_id"].to_list()
        cursors = _cursors(table, self.stream)
        gone = found.column(DELETED).to_pylist() if DELETED in found.column_names else [False] * len(keys)
        columns = {name: encoded(table.column(name)) for name in table.column_names}
        return [
            Observed(
                key=key,
                values={name: values[at] for name, values in columns.items()},
                deleted=gone[at],
                cursor=cursors[at],
                read_at=read_at,
                read_cursor=cursors[at],
            )
            for at, key in enumerate(keys)
        ]

    def overlaid(self, known: Observed | None, events: list[Told]) -> Observed | None:
        """What is known with the values its events tell; None when the record must be read back.

        A record that was read as a whole after all its events had arrived needs nothing.
        """
        if known is None or not self._whole(known):
            return None
        if known.read_at >= max(micros(one.received_at) for one in events):
            return known
        if known.deleted or not self._tellable:
            return None
        values, times, cursor = dict(known.values), dict(known.field_times), known.cursor
        for event in events:
            moment = micros(event.occurred_at)
            for name, value in self._told(event) or ():
                if moment <= (known.read_cursor or 0) or moment < times.get(name, 0):
                    continue
                values[name], times[name] = value, moment
                cursor = max(cursor or 0, moment)
            if self._told(event) is None:
                return None
        return replace(known, values=values, field_times=times, cursor=cursor)

    def _asked(self) -> list[str]:
        """The fields to read: those used, the key, the cursor and what marks a row as deleted."""
        if self.used is None:
            return list(self.types)
        cursor = self.stream.cursor.field if self.stream.cursor else None
        wanted = self.used().union(self.stream.key, (cursor, self.stream.tombstone))
        return [name for name in self.types if name in wanted]

    def _whole(self, known: Observed) -> bool:
        """Whether all that is used was read of a record: another sync may have been added since."""
        return known.deleted or self.used is None or known.values.keys() >= self.used()

    @property
    def _tellable(self) -> bool:
        """Whether values of events can be ordered with reads: the cursor must be a time."""
        kind = self.types.get(self.stream.cursor.field) if self.stream.cursor else None
        return self.connector.events_carry_values and kind is not None and bool(pa.types.is_timestamp(kind))

    def _told(self, event: Told) -> list[tuple[str, Any]] | None:
        """The values an event tells; None when it does not tell all of what it is about."""
        if event.kind != "updated" or not event.fields:
            return None
        cursor = self.stream.cursor.field if self.stream.cursor else None
        # a vendor that keeps no difference between empty text and nothing reads back as null what an event calls ''
        empty = "" if self.stream.empty_is_null else None
        told = [(name, None if value == empty else value) for name, value in event.fields.items() if name != cursor]
        usable = all(
            name not in self.types or (pa.types.is_string(self.types[name]) and isinstance(value, str | None))
            for name, value in told
        )
        return [(name, value) for name, value in told if name in self.types] if usable else None

    def _known(self, connection: Connection, keys: Sequence[str]) -> dict[str, Observed]:
        rows = connection.execute(_KNOWN, (self.connection, self.stream.name, list(keys))).fetchall()
        return {row[0]: Observed.of(row) for row in rows}

    def _keep(self, connection: Connection, records: Sequence[Observed]) -> set[str]:
        """Stores records; the keys of those of which nothing newer was known."""
        if not records:
            return set()
        return {str(row[0]) for row in connection.execute(_KEEP, self._told_of(records)).fetchall()}

    def _told_of(self, records: Sequence[Observed]) -> dict[str, Any]:
        return {
            "connection": self.connection,
            "stream": self.stream.name,
            "keys": [one.key for one in records],
            "rows": [orjson.dumps(one.values).decode() for one in records],
            "deleted": [one.deleted for one in records],
            "cursors": [one.cursor for one in records],
            "read_ats": [one.read_at for one in records],
            "read_cursors": [one.read_cursor for one in records],
            "field_times": [orjson.dumps(one.field_times).decode() for one in records],
        }


def _gone(key: str, known: Observed | None, read_at: int) -> Observed:
    """A record found missing: its last version, seen later than before."""
    cursor = known.cursor if known else None
    values = known.values if known else {}
    return Observed(key=key, values=values, deleted=True, cursor=cursor, read_at=read_at, read_cursor=cursor)


def _cursors(table: pa.Table, stream: Stream) -> list[int | None]:
    """As `staging.fingerprint.cursor_sql`: microseconds since the epoch, or the number itself."""
    name = stream.cursor.field if stream.cursor else None
    if name is None or name not in table.column_names:
        return [None] * table.num_rows
    column = table.column(name)
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if pa.types.is_string(column.type):
        column = pc.strptime(column, format="%Y-%m-%dT%H:%M:%S.%fZ", unit="us", error_is_null=True)
    return [None if value is None else int(value) for value in column.cast(pa.int64(), safe=False).to_pylist()]
