"""MySQL 5.7 and newer, MariaDB 10.4 and newer: the connector."""

from __future__ import annotations

import datetime as dt
import socket
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Final

import dagster as dg
import pyarrow as pa
from pydantic import Field as Setting
from pydantic import PrivateAttr

from sync_platform.connectors import lock_holders
from sync_platform.connectors.connector import Connector
from sync_platform.connectors.mysql import binlog, comparing, holders, probing, reading
from sync_platform.connectors.mysql.catalog import Reading, StoredTable, describe, described_query
from sync_platform.connectors.mysql.marker import Markers
from sync_platform.connectors.mysql.queries import columns_of
from sync_platform.connectors.mysql.session import Server, identifier
from sync_platform.connectors.mysql.statements import MOST_COLUMNS
from sync_platform.connectors.mysql.storing import text_of
from sync_platform.connectors.mysql.writing import apply_part
from sync_platform.connectors.query import refuse_unfit, unfollowable_query
from sync_platform.connectors.sql import TableOptions, translate
from sync_platform.crash import crash_point
from sync_platform.errors import ConfigError
from sync_platform.home import Home
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
_PATIENCE: Final = 3600  # seconds the server waits for us while a page is being staged


class MySQL(Connector):
    """One MySQL or MariaDB database. Every table and view is a stream, named `table` or `database.table`.

    `tables` says about a table what its catalogue does not, by the stream's name:
    `tables={"orders": {"cursor": "changed_on", "tombstone": "deleted_at"}}`, see `TableOptions`; a `query` there
    is a stream of its own: `tables={"big": {"query": "SELECT …", "key": ["id"], "cursor": "updated_at"}}`. What
    becomes of MySQL's types is listed in `decoding`.
    """

    system: ClassVar[str] = "mysql"
    api_version: ClassVar[str] = "MySQL 5.7 or newer, MariaDB 10.4 or newer"
    streams: ClassVar[Mapping[str, Stream]] = {}
    tells_every_field: ClassVar[bool] = True

    url: str = Setting(
        repr=False,
        description="mysql://user:password@host:port/database?ssl-mode=VERIFY_IDENTITY&ssl-ca=/path/ca.pem",
    )
    tables: dict[str, TableOptions] = Setting(default_factory=dict, description="Options by stream name.")
    timezone: str | None = Setting(
        default=None, description="Zone of DATETIME columns, e.g. Europe/Berlin, where a table names none of its own."
    )
    tinyint1_is_boolean: bool = Setting(default=True, description="Read tinyint(1) as true and false.")
    zero_dates_are_null: bool = Setting(default=True, description="Read the date 0000-00-00 as null, else refuse it.")
    statement_timeout_seconds: float = Setting(default=3600.0, description="0 means no limit.")
    lock_timeout_seconds: float = Setting(default=60.0, description="Whole seconds, at least 1.")
    page_bytes: int = Setting(default=8 << 20, description="Size of one page of a read, about.")

    capture: bool = Setting(default=False, description="Follow the binlog: changes are told as they are committed.")
    server_id: int | None = Setting(
        default=None, description="What the feed is called among the server's replicas. Default: one by installation."
    )

    _server: Server | None = PrivateAttr(default=None)
    _markers: Markers | None = PrivateAttr(default=None)
    _described: dict[str, StoredTable] = PrivateAttr(default_factory=dict)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def server(self) -> Server:
        """The server and its idle connections."""
        with self._lock:
            if self._server is None:
                lock = str(max(1, round(self.lock_timeout_seconds)))
                settings = {
                    "statement_timeout": str(self.statement_timeout_seconds),
                    "lock_wait_timeout": lock,
                    "innodb_lock_wait_timeout": lock,
                    "net_write_timeout": str(_PATIENCE),
                    "net_read_timeout": str(_PATIENCE),
                }
                server = Server(self.url, settings, self._traffic)
                if not server.database:
                    raise ConfigError(
                        "mysql: the url names no database", field="url", mend="end it with /database: mysql://…/shop"
                    )
                self._server, self._markers = server, Markers(server.database)
            return self._server

    def close(self) -> None:
        """Closes the idle connections; the next call opens new ones."""
        if self._server is not None:
            self._server.close()

    def table(self, stream: str, *, fresh: bool = False) -> StoredTable:
        """The table a stream's name means, as described last (or now, with `fresh`)."""
        if fresh or stream not in self._described:
            server = self.server()
            meaning = Reading(tinyint1_is_boolean=self.tinyint1_is_boolean, timezone=self.timezone)
            options = self.tables.get(stream)
            with server.session() as session:
                if options is not None and options.query is not None:
                    query = refuse_unfit(stream, options, "mysql")
                    columns = columns_of(session, stream, query, tuple(options.key))
                    self._described[stream] = described_query(stream, query, columns, options, meaning)
                else:
                    self._described[stream] = describe(session, stream, server.database, self.tables, meaning)
        return self._described[stream]

    def stream(self, name: str) -> Stream:
        """The stream of a table or view; ConfigError with the nearest names when there is none.

        Before `connect` (the url is still the name of a variable) nothing is asked of the database: the
        answer then holds what every table has in common, and key and cursor only where they are configured.
        """
        if isinstance(self.url, dg.EnvVar):
            options = self.tables.get(name, TableOptions())
            return _stream(name, options, key=tuple(options.key), cursor=options.cursor or None)
        table = self.table(name)
        unique = tuple(c.name for c in table.columns.values() if c.unique and (c.name,) != table.key)
        found = _stream(name, table.options, key=table.key, cursor=table.cursor)
        return replace(found, natural_keys=unique, writable=table.writable)

    def check(self) -> Health:
        """Logs in and asks for version and rights."""
        server = self.server()
        with server.session() as session:
            who = session.rows("SELECT current_user() AS who", "checking")[0]["who"]
            version = session.about.version
        kind = "MariaDB" if "mariadb" in version.lower() else "MySQL"
        return Health(
            ok=True,
            account=f"{who} at {server.place.removeprefix('mysql ')}",
            api_version=f"{kind} {version.partition('-')[0]}",
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
        return reading.read(self.server(), self.table(stream, fresh=True), since, fields, where, self._manner())

    def read_digested(
        self,
        stream: str,
        since: Position | None = None,
        *,
        fields: Sequence[str] | None = None,
        where: str | None = None,
    ) -> Iterator[Page]:
        """As `read`, with a digest of each row where the table can be compared; see `TellsDigests`."""
        server, table, manner = self.server(), self.table(stream, fresh=True), self._manner()
        made = comparing.row_digests(server, table, fields, manner)
        return reading.read(server, table, since, fields, where, manner, made)

    def compare(
        self, stream: str, bits: int, *, fields: Sequence[str] | None = None, where: str | None = None
    ) -> comparing.TableBlocks | None:
        """The table by blocks of digests, in one snapshot; see `TellsDigests`."""
        return comparing.compare(self.server(), self.table(stream, fresh=True), fields, where, bits, self._manner())

    def get(self, stream: str, ids: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The rows of these keys (texts; JSON arrays of texts for composite keys)."""
        return reading.get(self.server(), self.table(stream), ids, fields, self._manner())

    def find(self, stream: str, field: str, values: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The rows whose `field` equals one of the values, as its collation compares them."""
        return reading.find(self.server(), self.table(stream), field, values, fields, self._manner())

    def probe(self, stream: str) -> str | None:
        """When the table was last written, and the newest cursor."""
        with self.server().session() as session:
            return probing.probe(session, self.table(stream))

    def preview(self, stream: str, predicate: str) -> str | None:
        """The predicate as MySQL is asked it; None when it cannot be said there."""
        try:
            return translate(predicate, self.table(stream), "mysql")
        except ConfigError:
            return None

    def capture_problems(self, streams: Sequence[str]) -> list[str]:
        """Why these tables cannot be followed in the binlog, each with its mend."""
        queries = [name for name in streams if getattr(self.tables.get(name), "query", None) is not None]
        plain = [name for name in streams if name not in queries]
        found = [unfollowable_query(self._fresh(name)) for name in queries]
        return found + (binlog.problems(self.server(), self._fresh, plain) if plain or not found else [])

    def follow(self, streams: Sequence[str], since: str | None) -> binlog.BinlogFeed:
        """The changes of these tables behind a position of the binlog; see `connectors.capture`.

        A server ends the older one of two feeds of the same `server_id`.
        """
        return binlog.follow(self.server(), self._fresh, streams, since, self._replica())

    def forget(self) -> None:
        """The server keeps nothing for us."""

    def _replica(self) -> int:
        """`server_id`, or a number that no other installation and no other connection of this one is likely to have."""
        if self.server_id is not None:
            return self.server_id
        named = f"{socket.gethostname()} {Home.current().root} {self.server().place}"
        return zlib.crc32(named.encode()) | 1 << 31

    def _fresh(self, stream: str) -> StoredTable:
        return self.table(stream, fresh=True)

    def write(self, stream: str, changes: Sequence[Change]) -> Iterator[Outcome]:
        """One outcome per change, all in one transaction; a create is repeated harmlessly by its token."""
        if changes:
            yield from self._write(stream, changes)

    def _write(self, stream: str, changes: Sequence[Change]) -> list[Outcome]:
        table, op = self.table(stream), changes[0].op
        found: dict[int, pa.Table] = {}
        with self.server().session() as session:
            markers = self._markers_of()
            if op is Op.CREATE:
                markers.prepare(session)
            session.begin(read_only=False)
            if op is Op.CREATE:
                recorded = markers.claim_all(session, [c.token for c in changes], stream)
                found = {i: recorded[c.token] for i, c in enumerate(changes) if c.token in recorded}
            groups: dict[tuple[str, ...], list[int]] = {}
            for i, change in enumerate(changes):
                if i not in found:
                    groups.setdefault(tuple(sorted(change.fields)), []).append(i)
            for names, places in groups.items():
                answer = apply_part(session, table, op, _part(names, [changes[i] for i in places]))
                found |= {place: answer.slice(row, 1) for row, place in enumerate(places)}
            if op is Op.CREATE and groups:
                markers.record_all(session, {changes[i].token: found[i] for p in groups.values() for i in p})
            crash_point("request_sent")
            session.commit(f"writing {stream}")
            crash_point("answer_received")
        return [_outcome(change, found[i]) for i, change in enumerate(changes)]

    def write_bulk(self, stream: str, op: str, rows: pa.Table, delivery: str) -> pa.Table:
        """Writes a part and its marker in one transaction; see `BulkTarget`.

        An update whose row is gone comes back REFUSED, an update or delete that changes nothing NOOP.
        """
        return self._delivered(stream, Op(op), rows, None, delivery)

    def updates_unmoved(self, stream: str) -> bool:
        """Whether a part has room for what rows were."""
        return len(self.table(stream).columns) <= MOST_COLUMNS // 2

    def update_unmoved(self, stream: str, rows: pa.Table, was: pa.Table, delivery: str) -> pa.Table:
        """Updates rows that are as they were, and writes the marker, in one transaction; see `ConditionalTarget`."""
        return self._delivered(stream, Op.UPDATE, rows, was, delivery)

    def _delivered(self, stream: str, op: Op, rows: pa.Table, was: pa.Table | None, delivery: str) -> pa.Table:
        table = self.table(stream)
        with lock_holders.telling(partial(holders.longest, self.server())), self.server().session() as session:
            markers = self._markers_of()
            markers.prepare(session)
            session.begin(read_only=False)
            recorded = markers.claim(session, delivery, stream)
            if recorded is not None:
                return recorded
            outcomes = apply_part(session, table, op, rows, was)
            markers.record(session, delivery, outcomes)
            crash_point("request_sent")
            session.commit(f"delivery {delivery} to {stream}")
            crash_point("answer_received")
        return outcomes

    def delivered(self, stream: str, delivery: str) -> bool:
        """Whether the delivery's marker is in the database."""
        with self.server().session() as session:
            return self._markers_of().seen(session, delivery)

    def is_empty(self, stream: str) -> bool:
        """Whether the table holds no row at this moment."""
        table = self.table(stream)
        sql = f"SELECT NOT EXISTS (SELECT 1 FROM {identifier(table.schema, table.name)}) AS empty"
        with self.server().session() as session:
            return session.rows(sql, f"looking into {table}")[0]["empty"] == "1"

    def _markers_of(self) -> Markers:
        self.server()
        assert self._markers is not None
        return self._markers

    def _manner(self) -> reading.Manner:
        return reading.Manner(page_bytes=self.page_bytes, zero_dates=self.zero_dates_are_null)


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


def _part(names: Sequence[str], changes: Sequence[Change]) -> pa.Table:
    """Single changes as a part: columns of bytes as they are, every other value as text."""
    columns: dict[str, pa.Array] = {
        "_key": pa.array([change.key for change in changes], pa.string()),
        "_target_id": pa.array([change.target_id for change in changes], pa.string()),
    }
    for name in names:
        values: list[Any] = [change.fields[name] for change in changes]
        if any(isinstance(value, bytes) for value in values):
            raw = [v if v is None or isinstance(v, bytes) else text_of(v).encode() for v in values]
            columns[name] = pa.array(raw, pa.binary())
        else:
            columns[name] = pa.array([None if v is None else text_of(v) for v in values], pa.string())
    return pa.table(columns)


def _outcome(change: Change, told: pa.Table) -> Outcome:
    row = told.to_pylist()[0]
    return Outcome(
        key=change.key,
        op=change.op,
        status=Status(row["_status"]),
        target_id=row["_target_id"],
        field=row["_field"],
        reason=row["_reason"],
        resolution="correct the value at the source, or the mapping" if row["_status"] == Status.FAILED else None,
    )
