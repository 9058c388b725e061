"""PostgreSQL 12 and newer: the connector."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar, Final

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import PrivateAttr

from sync_platform.connectors import lock_holders
from sync_platform.connectors.capture import Behind, Feed
from sync_platform.connectors.postgres import adding, digests, holders, notices, probing, queries, reading, replication
from sync_platform.connectors.postgres.catalog import describe
from sync_platform.connectors.postgres.few import updated
from sync_platform.connectors.postgres.marker import Markers
from sync_platform.connectors.postgres.replication import Kept
from sync_platform.connectors.postgres.session import Server, identifier, literal
from sync_platform.connectors.postgres.settings import PostgresSettings
from sync_platform.connectors.postgres.statements import MOST_COLUMNS
from sync_platform.connectors.postgres.storing import as_texts
from sync_platform.connectors.postgres.straight import written
from sync_platform.connectors.postgres.table import PgTable, PostgresOptions, uniqueness
from sync_platform.connectors.postgres.writing import (
    TECHNICAL,
    apply_part,
    deliver_part,
    outdated,
    refuse_keyless,
)
from sync_platform.connectors.query import unfollowable_query
from sync_platform.connectors.sql import TableOptions, translate
from sync_platform.connectors.uniqueness import Uniqueness
from sync_platform.crash import crash_point
from sync_platform.errors import ConfigError
from sync_platform.model import (
    Change,
    Cursor,
    Deletes,
    Health,
    Op,
    Outcome,
    Page,
    Position,
    Repeat,
    Status,
    Stream,
    schema_of,
)

_MICROSECOND: Final = dt.timedelta(microseconds=1)
_RESOLUTIONS: Final[Mapping[str, str]] = {
    Status.FAILED: "correct the value at the source, or the mapping",
    Status.RETRY: "every run tries it again",
}
_HEALTH: Final = """
SELECT current_setting('server_version') AS version, current_user::text AS who, pg_is_in_recovery() AS replica,
       pg_has_role('pg_read_all_stats', 'usage') AS sees, to_regnamespace({schema}) IS NOT NULL AS there,
       coalesce(has_schema_privilege(to_regnamespace({schema}), 'USAGE'), false) AS usable
"""


class Postgres(PostgresSettings):
    """One PostgreSQL database. Every table and view of it is a stream, named `table` or `schema.table`.

    `tables` says about a table what its catalogue does not, by the stream's name:
    `tables={"orders": {"cursor": "changed_on", "tombstone": "deleted_at"}}`, see `TableOptions` and
    `PostgresOptions`; a `query` there is a stream of its own:
    `tables={"big": {"query": "SELECT …", "key": ["id"], "cursor": "updated_at"}}`.
    """

    system: ClassVar[str] = "postgres"
    api_version: ClassVar[str] = "PostgreSQL 12 or newer"
    streams: ClassVar[Mapping[str, Stream]] = {}
    tells_every_field: ClassVar[bool] = True

    _markers: dict[str, Markers] = PrivateAttr(default_factory=dict)
    _described: dict[str, PgTable] = PrivateAttr(default_factory=dict)

    def table(self, stream: str, *, fresh: bool = False) -> PgTable:
        """The table a stream's name means, as described last (or now, with `fresh`)."""
        if fresh or stream not in self._described:
            options = self.tables.get(stream)
            if options is not None and options.query is not None:
                self._described[stream] = queries.describe(self.server(), stream, options)
                return self._described[stream]
            with self.server().session() as session:
                self._described[stream] = describe(session, stream, self.schema_name, self.tables)
        return self._described[stream]

    def _table_for(self, stream: str, names: Iterable[str], texts: Callable[[str], Iterable[str | None]]) -> PgTable:
        """The table as it must be known to write these values: what a person added to it since is looked up."""
        table = self.table(stream)
        return self.table(stream, fresh=True) if outdated(table, names, texts) else table

    def _table_of(self, stream: str, rows: pa.Table) -> PgTable:
        """The table as it must be known to write these rows."""
        names = [name for name in rows.column_names if name not in TECHNICAL]
        return self._table_for(stream, names, lambda name: pc.unique(rows[name].cast(pa.string())).to_pylist())

    def stream(self, name: str) -> Stream:
        """The stream of a table or view; ConfigError with the nearest names when there is none.

        Before `connect` (the url is still the name of a variable) nothing is asked of the database: the
        answer then holds what every table has in common, and key and cursor only where they are configured.
        """
        if isinstance(self.url, dg.EnvVar):
            options = self.tables.get(name, PostgresOptions())
            return _stream(name, options, key=tuple(options.key), cursor=options.cursor or None)
        table = self.table(name)
        unique = tuple(c.name for c in table.columns.values() if c.unique and (c.name,) != table.key)
        found = _stream(name, table.options, key=table.key, cursor=table.cursor)
        return replace(found, natural_keys=unique, writable=table.writable)

    def check(self) -> Health:
        """Logs in and asks for version and rights."""
        with self.server().session() as session:
            told = session.rows(_HEALTH.format(schema=literal(self.schema_name)), "checking").to_pylist()[0]
            place = session.place
        problems = []
        if not told["there"]:
            problems.append(f"there is no schema {self.schema_name!r}")
        elif not told["usable"]:
            problems.append(f"role {told['who']} may not use schema {self.schema_name!r}: GRANT USAGE ON SCHEMA to it")
        replica = self._replica()
        problems += filter(None, [replica.trouble() if replica is not None else None])
        return Health(
            ok=not problems,
            account=f"{told['who']} at {place.removeprefix('postgres ')}",
            api_version=f"PostgreSQL {told['version']}",
            problems=tuple(problems),
        )

    def discover(self, stream: str) -> pa.Schema:
        """The columns of a table or view, as the catalogue describes them now."""
        return schema_of(tuple(c.field() for c in self.table(stream, fresh=True).columns.values()))

    def read(
        self,
        stream: str,
        since: Position | None = None,
        *,
        fields: Sequence[str] | None = None,
        where: str | None = None,
    ) -> Iterator[Page]:
        """Rows changed since a position, from one snapshot; see `watermark` for what makes it safe."""
        table, read_at, server = self._to_read(stream)
        return reading.read(server, table, since, fields, where, self.page_bytes, read_at)

    def read_digested(
        self,
        stream: str,
        since: Position | None = None,
        *,
        fields: Sequence[str] | None = None,
        where: str | None = None,
    ) -> Iterator[Page]:
        """As `read`, with a digest of each row where the table can be compared; see `TellsDigests`."""
        table, read_at, server = self._to_read(stream)
        made = digests.digested(server, table, fields)
        return reading.read(server, table, since, fields, where, self.page_bytes, read_at, made)

    def compare(
        self, stream: str, bits: int, *, fields: Sequence[str] | None = None, where: str | None = None
    ) -> digests.TableBlocks | None:
        """The table by blocks of digests, in one snapshot; see `TellsDigests`."""
        table, read_at, server = self._to_read(stream)
        return digests.compare(server, table, fields, where, bits, read_at, self.page_bytes)

    def _to_read(self, stream: str) -> tuple[PgTable, dt.datetime, Server]:
        """A table as it is now, and a server that has all that was committed before the time."""
        table, read_at, replica = self.table(stream, fresh=True), dt.datetime.now(dt.UTC), self._replica()
        return table, read_at, self.server() if replica is None else replica.caught_up()

    def get(self, stream: str, ids: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The rows of these keys (texts; JSON arrays of texts for composite keys)."""
        return reading.get(self.server(), self.table(stream), ids, fields)

    def find(self, stream: str, field: str, values: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The rows whose `field` equals one of the values."""
        return reading.find(self.server(), self.table(stream), field, values, fields)

    def probe(self, stream: str) -> str | None:
        """The counters of a table's written rows, or the newest cursor and the number of rows."""
        replica, table = self._replica(), self.table(stream)  # what a read would not see yet is no change yet
        with (self.server() if replica is None else replica.server).session() as session:
            return probing.probe(session, table)

    def preview(self, stream: str, predicate: str) -> str | None:
        """The predicate as PostgreSQL is asked it; None when it cannot be said there."""
        try:
            return translate(predicate, self.table(stream), "postgres")
        except ConfigError:
            return None

    def write(self, stream: str, changes: Sequence[Change]) -> Iterator[Outcome]:
        """One outcome per change, all in one transaction; a create is repeated harmlessly by its token."""
        if changes:
            yield from self._write(stream, changes)

    def _write(self, stream: str, changes: Sequence[Change]) -> list[Outcome]:
        names, op = sorted({name for change in changes for name in change.fields}), changes[0].op
        table = self._table_for(stream, names, lambda name: [change.fields.get(name) for change in changes])
        marked = op is Op.CREATE or table.procedure is not None  # a repeated update by key is harmless by itself
        if op is Op.UPDATE and not marked:
            short = updated(self.plain(), table, changes)
            if short is not None:
                self._traffic.api_calls += 1
                return short
        found: dict[int, pa.Table] = {}
        with self.server().session() as session:
            markers = self._markers_of()
            if marked:
                markers.prepare(session)
            session.begin(read_only=False)
            session.run("SET CONSTRAINTS ALL IMMEDIATE", f"writing {stream}")
            if marked:
                recorded = markers.claim_all(session, [c.token for c in changes], stream)
                found = {i: recorded[c.token] for i, c in enumerate(changes) if c.token in recorded}
            groups: dict[tuple[str, ...], list[int]] = {}
            for i, change in enumerate(changes):
                if i not in found:
                    groups.setdefault(tuple(sorted(change.fields)), []).append(i)
            for same, places in groups.items():
                part = as_texts(table, same, [changes[i] for i in places])
                answer = apply_part(session, table, op, part, changes[0].match)
                found |= {place: answer.slice(row, 1) for row, place in enumerate(places)}
            if marked and groups:
                markers.record_all(session, {changes[i].token: found[i] for p in groups.values() for i in p})
            crash_point("request_sent")
            session.commit(f"writing {stream}")
            crash_point("answer_received")
        return [_outcome(change, found[i]) for i, change in enumerate(changes)]

    def write_bulk(self, stream: str, op: str, rows: pa.Table, delivery: str, match: Sequence[str] = ()) -> pa.Table:
        """Writes a part and its marker in one transaction; see `BulkTarget` and `UniqueTarget`.

        An update or delete whose row is gone comes back REFUSED, an update that changes nothing NOOP.
        """
        table, markers = self._table_of(stream, rows), self._markers_of()
        with lock_holders.telling(partial(holders.longest, self.server(), table)), self.server().session() as session:
            markers.prepare(session)
            if op == Op.CREATE and table.plain_inserts:
                self._traffic.api_calls += 1
                self._traffic.bytes_sent += rows.nbytes
                done = written(self.plain(), markers, table, rows, delivery, stream)
                if done is not None:
                    return done
            return deliver_part(
                session, markers, table, delivery, partial(apply_part, session, table, Op(op), rows, match)
            )

    def updates_unmoved(self, stream: str) -> bool:
        """Whether a part has room for what rows were; a procedure does what it does."""
        table = self.table(stream)
        return table.procedure is None and len(table.columns) <= MOST_COLUMNS // 2

    def update_unmoved(self, stream: str, rows: pa.Table, was: pa.Table, delivery: str) -> pa.Table:
        """Updates rows that are as they were, and writes the marker, in one transaction; see `ConditionalTarget`."""
        table, markers = self._table_of(stream, rows), self._markers_of()
        apply = partial(apply_part, table=table, op=Op.UPDATE, rows=rows, was=was)
        with lock_holders.telling(partial(holders.longest, self.server(), table)), self.server().session() as session:
            markers.prepare(session)
            return deliver_part(session, markers, table, delivery, partial(apply, session))

    def uniqueness(self, stream: str, match: Sequence[str]) -> Uniqueness:
        """Whether a unique constraint of the table covers exactly these columns; see `UniqueTarget`."""
        return uniqueness(self.table(stream, fresh=True), match)

    def refers_to(self, stream: str, others: Sequence[str]) -> list[str]:
        """Those of `others` to whose rows this table's foreign keys refer; see `Related`."""
        table = self.table(stream)
        parents = {f"{one.parent_schema}.{one.parent}" for one in table.references} - {str(table)}
        return [other for other in others if str(self.table(other)) in parents]

    def refuse_creates(self, stream: str, given: Sequence[str]) -> None:
        """ConfigError when a new row of these columns would have no key; see `ChecksCreates`."""
        refuse_keyless(self.table(stream), given)

    def column_ddl(self, stream: str, fields: Mapping[str, pa.DataType]) -> list[str]:
        """`ALTER TABLE … ADD COLUMN` for each field; see `AddsColumns`."""
        return adding.statements(self.table(stream), fields)

    def add_columns(self, stream: str, fields: Mapping[str, pa.DataType]) -> None:
        """Adds columns that are not there yet, in one transaction."""
        with self.server().session() as session:
            adding.add(session, self.table(stream), fields)

    def delivered(self, stream: str, delivery: str) -> bool:
        """Whether the delivery's marker is in the database."""
        with self.server().session() as session:
            return self._markers_of().seen(session, delivery)

    def is_empty(self, stream: str) -> bool:
        """Whether the table holds no row at this moment."""
        table = self.table(stream)
        sql = f"SELECT NOT EXISTS (SELECT 1 FROM {identifier(table.schema, table.name)}) AS empty"
        with self.server().session() as session:
            return bool(session.rows(sql, f"looking into {table}")["empty"][0].as_py())

    # -- change capture --------------------------------------------------------------------------

    def capture_problems(self, streams: Sequence[str]) -> list[str]:
        """Why these tables cannot be followed, each with its mend; see `replication`."""
        tables = [self.table(name, fresh=True) for name in streams]
        if self.notify:
            return notices.problems(self.server(), self.notify, logged=self.capture)
        found = [unfollowable_query(table) for table in tables if table.query is not None]
        plain = [table for table in tables if table.query is None]
        return found + (replication.problems(self.server(), self._kept(), plain) if plain or not found else [])

    def follow(self, streams: Sequence[str], since: str | None) -> Feed:
        """The changes of these tables through our slot; see `following`."""
        from sync_platform.connectors.postgres.following import SlotFeed

        problems = self.capture_problems(streams)
        if problems:
            raise ConfigError(f"{self.server().place} cannot be followed: {'; '.join(problems)}", field="capture")
        tables = {name: self.table(name) for name in streams}
        if self.notify:
            return notices.NoticeFeed.open(self.server(), self.notify, tables, since, self.page_bytes)
        return SlotFeed.open(self.server(), self._kept(), tables, since, lambda name: self.table(name, fresh=True))

    def kept(self) -> Behind | None:
        """How much of its log the server keeps for our slot; None without one."""
        with self.server().session() as session:
            slot = replication.slot_of(session, self._kept())
        return None if slot is None else replication.behind_of(slot, self._kept())

    def forget(self) -> None:
        """Drops slot and publication, if they are there; TransientError while somebody follows."""
        replication.forget(self.server(), self._kept(), patience=5.0)

    def _kept(self) -> Kept:
        shared = self._shared
        name = self.capture_name or replication.name_of(
            shared.installation if shared else "", shared.name if shared else self.system
        )
        return Kept.named(name, self.capture_publication, self.slot_limit_bytes, drops=self.slot_limit_drops)

    def _markers_of(self) -> Markers:
        return self._markers.setdefault(self.schema_name, Markers(self.schema_name))


def _stream(name: str, options: TableOptions, *, key: tuple[str, ...], cursor: str | None) -> Stream:
    return Stream(
        name=name,
        key=key,
        cursor=Cursor(field=cursor, granularity=_MICROSECOND) if cursor else None,
        deletes=Deletes.TOMBSTONE if options.tombstone else Deletes.ABSENCE,
        tombstone=options.tombstone,
        batch_size=1000,
        repeat=Repeat.KEY,
        transactional=True,
        compare="links",
        empty_is_null=False,
    )


def _outcome(change: Change, told: pa.Table) -> Outcome:
    row = told.to_pylist()[0]
    return Outcome(
        key=change.key,
        op=change.op,
        status=Status(row["_status"]),
        target_id=row["_target_id"],
        field=row["_field"],
        reason=row["_reason"],
        resolution=_RESOLUTIONS.get(row["_status"]),
        waits=row["_status"] == Status.RETRY,
    )
