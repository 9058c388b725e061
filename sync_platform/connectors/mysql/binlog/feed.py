"""The feed: whole transactions out of the binlog, as keys of the streams that are followed.

A position is the set of transactions told, so a feed begins exactly at the border of one, on this server or on
another of its family. Nothing is kept at the server for us: what is read late may have been purged, which is
`PositionLostError`. A column's name and sign come from the catalogue as it is now; rows that were logged before a
table was altered may not fit it, and are told as `altered`, as are changes that the log holds as statements only.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sync_platform.connectors.capture import Behind, PositionLostError, Told
from sync_platform.connectors.hiding import hide
from sync_platform.connectors.mysql.binlog import events as log
from sync_platform.connectors.mysql.binlog.keys import KeyReader
from sync_platform.connectors.mysql.binlog.position import MariaSeen, MySQLSeen, Seen
from sync_platform.connectors.mysql.binlog.problems import end_of_log, problems
from sync_platform.connectors.mysql.binlog.spool import Events, Joined
from sync_platform.connectors.mysql.binlog.statements import Effect, branch_of, effect_of, naming
from sync_platform.connectors.mysql.binlog.values import Misfit
from sync_platform.connectors.mysql.binlog.wire import Dump
from sync_platform.connectors.mysql.catalog import StoredTable
from sync_platform.connectors.mysql.faults import DriverError, code_of, is_denied, translated, words_of
from sync_platform.connectors.mysql.session import Server
from sync_platform.errors import AccessError, AuthError, ConfigError, ContractError, SyncError, TransientError

#: Changes that are told at once, about, and seconds in which a server answers that it has the position.
_ENOUGH: Final = 5_000
_ANSWER: Final = 20.0
_GONE: Final = 1236  # what a server says that cannot send from where it was asked to
_KINDS: Final = {log.Change.WRITE: "created", log.Change.UPDATE: "updated", log.Change.DELETE: "deleted"}

_Place = tuple[str, int]  # a file of the binlog, and an offset in it
Describe = Callable[[str], StoredTable]


@dataclass(slots=True)
class _Transaction:
    """What one transaction changed."""

    gtid: str
    alone: bool
    events: Events
    begun: bool = False
    emptied: set[str] = field(default_factory=set)
    altered: set[str] = field(default_factory=set)
    stamp: int = 0
    place: _Place | None = None

    @property
    def says(self) -> int:
        """How much it has to tell."""
        return len(self.events) + len(self.emptied) + len(self.altered)


def follow(server: Server, describe: Describe, streams: Sequence[str], since: str | None, server_id: int) -> BinlogFeed:
    """The feed of these streams; see `capture.Captures.follow`. `describe` answers a table as it is now."""
    found = problems(server, describe, streams)
    if found:
        raise ConfigError(
            f"{server.place}: the binlog cannot be followed: {found[0]}", field="capture",
            mend="; ".join(found[1:]) or "see docs/systems.md for what capture needs",
        )  # fmt: skip
    place: _Place | None = None
    with server.session() as session:
        maria = session.about.is_mariadb
        if since is None:
            place, since = end_of_log(session)
    seen = MariaSeen.parse(since) if maria else MySQLSeen.parse(since)
    feed = BinlogFeed(server, describe, streams, seen, place)
    feed.open(server_id)
    return feed


class BinlogFeed:
    """One open stream of changes; see `capture.Feed`."""

    def __init__(
        self, server: Server, describe: Describe, streams: Sequence[str], seen: Seen, place: _Place | None
    ) -> None:
        self._server, self._describe = server, describe
        self._maria = isinstance(seen, MariaSeen)
        self._seen, self._start = seen, seen.text
        self._told = self._start
        self._tables = {stream: describe(stream) for stream in streams}
        self._folded = False
        self._streams: dict[tuple[str, str], list[str]] = {}
        self._dump: Dump | None = None
        self._checksums = log.Checksums()
        self._file = place[0] if place else ""
        self._maps: dict[int, log.TableMap | None] = {}
        self._readers: dict[tuple[str, log.TableMap], KeyReader | None] = {}
        self._open: _Transaction | None = None
        self._prepared: dict[str, tuple[_Transaction, str]] = {}  # XA branches, and the position before each
        self._whole: list[_Transaction] = []
        self._unconfirmed: deque[tuple[str, _Place | None]] = deque()
        self._confirmed = place

    @property
    def start(self) -> str:
        """The position it began at."""
        return self._start

    def open(self, server_id: int) -> None:
        """Asks the server for its log; PositionLostError when it no longer reaches back so far."""
        with self._server.session() as session:
            self._folded = session.about.folding
        for stream, table in self._tables.items():
            self._streams.setdefault(self._named(table.schema, table.name), []).append(stream)
        try:
            self._dump = Dump.begin(self._server.connect(), self._seen, server_id)
            first = self._dump.next(_ANSWER)
        except DriverError as error:
            self.close()
            raise self._fault(error) from None
        if first is not None:
            self._take(first)

    def _named(self, schema: str, name: str) -> tuple[str, str]:
        return (schema.lower(), name.lower()) if self._folded else (schema, name)

    def next(self, seconds: float) -> Told | None:
        """What was committed since the last call; None when nothing came for so long."""
        deadline = time.monotonic() + seconds
        while (gathered := sum(one.says for one in self._whole)) < _ENOUGH:
            left = deadline - time.monotonic()
            packet = self._packet(0.0 if gathered else max(left, 0.0))
            if packet is None:
                break
            self._take(packet)
            if left <= 0 and self._whole:
                break
        return self._tell()

    def _packet(self, seconds: float) -> memoryview | None:
        if self._dump is None:
            raise AccessError(f"{self._server.place}: the feed is closed", mend="open another one")
        try:
            return self._dump.next(seconds)
        except DriverError as error:
            self.close()
            raise self._fault(error) from None

    def _tell(self) -> Told | None:
        whole, self._whole = self._whole, []
        for one in whole:
            self._seen.add(one.gtid)
        position = next((before for _, before in self._prepared.values()), self._seen.text)
        if position == self._told and not any(one.says for one in whole):
            return None
        self._told = position
        self._unconfirmed.append((position, whole[-1].place if whole and not self._prepared else None))
        stamp = max((one.stamp for one in whole), default=0)
        return Told(
            events=Joined([one.events for one in whole]),
            position=position,
            committed_at=dt.datetime.fromtimestamp(stamp, dt.UTC) if stamp else None,
            emptied=frozenset(stream for one in whole for stream in one.emptied),
            altered=frozenset(stream for one in whole for stream in one.altered),
        )

    def confirm(self, position: str) -> None:
        """The position is stored. The server keeps its log by age, whoever reads it: nothing is said to it."""
        while any(told == position for told, _ in self._unconfirmed):
            told, place = self._unconfirmed.popleft()
            self._confirmed = place or self._confirmed
            if told == position:
                break

    def behind(self) -> Behind:
        """Bytes of log behind the confirmed position. The server gives logs up by age, or beyond a total size."""
        with self._server.session() as session:
            logs = session.rows("SHOW BINARY LOGS", "asking for the binlog's size")
            most = session.rows("SHOW GLOBAL VARIABLES LIKE 'max_binlog_total_size'", "asking for the binlog's limit")
        limit = int(most[0]["Value"] or 0) if most else 0
        size = None
        if self._confirmed is not None:
            file, offset = self._confirmed
            names = [row["Log_name"] for row in logs]
            later = logs[names.index(file) :] if file in names else logs
            size = max(sum(int(row["File_size"] or 0) for row in later) - (offset if file in names else 0), 0)
        return Behind(size=size, limit=limit or None)

    def close(self) -> None:
        """Ends the connection; nothing of ours is left at the server."""
        if self._dump is not None:
            self._dump.close()
            self._dump = None

    def _fault(self, error: DriverError) -> SyncError:
        said = hide(words_of(error), self._server.secrets)
        doing = f"{self._server.place}: following the binlog"
        if "same server_uuid/server_id" in said:
            return TransientError(
                f"{doing}: another reader with our server_id took over ({said})",
                mend="let one installation follow at a time, or give each connection a server_id of its own",
            )
        if code_of(error) == _GONE and "max_allowed_packet" in said:
            return AccessError(f"{doing}: {said}", mend="SET GLOBAL max_allowed_packet to more than the largest row")
        if code_of(error) == _GONE:
            return PositionLostError(
                f"{doing}: the server's log no longer has what follows {self._told or 'its beginning'} ({said})",
                mend="following begins anew and a full compare finds what was missed; keep the log longer "
                "(binlog_expire_logs_seconds, expire_logs_days)",
            )
        if is_denied(error):
            return AuthError(f"{doing}: {said}", mend="GRANT REPLICATION SLAVE ON *.* to the connection's user")
        return translated(error, doing, self._server.secrets)

    def _take(self, packet: memoryview) -> None:
        """Takes one event in."""
        try:
            self._absorb(log.Event.of(self._checksums.without(packet)))
        except log.Unreadable as error:
            self.close()
            raise ContractError(f"{self._server.place}: {error}") from None

    def _absorb(self, event: log.Event) -> None:
        kind = event.kind
        if kind in log.ROWS:
            self._rows(event)
        elif kind == log.Kind.TABLE_MAP:
            number, told = log.table_map(event.body)
            self._maps[number] = told if self._named(told.schema, told.name) in self._streams else None
        elif kind in (log.Kind.MARIA_GTID, log.Kind.GTID, log.Kind.ANONYMOUS_GTID):
            self._begin(event)
        elif kind == log.Kind.XID:
            self._end(event)
        elif kind in (log.Kind.QUERY, log.Kind.QUERY_COMPRESSED):
            self._statement(event)
        elif kind == log.Kind.XA_PREPARE:
            self._prepare(event)
        elif kind == log.Kind.ROTATE:
            self._file = bytes(event.body[8:]).decode()
        elif kind == log.Kind.HEARTBEAT:
            self._rest(event)
        elif kind != log.Kind.OTHER:
            raise self._unfollowable(kind)

    def _unfollowable(self, kind: int) -> SyncError:
        place = self._server.place
        if kind == log.Kind.INCIDENT:
            return PositionLostError(
                f"{place}: the server says that its log lacks changes",
                mend="following begins anew and a full compare finds what was missed",
            )
        name = "binlog_row_value_options" if kind == log.Kind.PARTIAL_UPDATE else "binlog_transaction_compression"
        return ConfigError(
            f"{place}: the binlog is written in a form that is not read", field=name,
            mend=f"SET GLOBAL {name} = {'DEFAULT' if kind == log.Kind.PARTIAL_UPDATE else 'OFF'}",
        )  # fmt: skip

    def _rest(self, event: log.Event) -> None:
        """An idle server tells where its log ends: everything before it has been told."""
        if self._open is None and not self._whole and not self._unconfirmed and not self._prepared and event.place:
            self._confirmed = bytes(event.body).decode(), event.place

    def _begin(self, event: log.Event) -> None:
        began = log.begin(event)
        if began is None:
            raise ConfigError(
                f"{self._server.place}: a transaction has no global id", field="gtid_mode",
                mend="SET GLOBAL gtid_mode = ON",
            )  # fmt: skip
        self._maps.clear()
        self._open = _Transaction(gtid=began.gtid, alone=began.alone, events=Events(began.gtid))

    def _end(self, event: log.Event) -> None:
        if self._open is not None:
            one, self._open = self._open, None
            one.stamp, one.place = event.stamp, (self._file, event.place)
            one.events.committed(dt.datetime.fromtimestamp(event.stamp, dt.UTC))
            self._whole.append(one)

    def _statement(self, event: log.Event) -> None:
        if self._open is None:
            return
        one, said = self._open, log.statement(event)
        effect = effect_of(said.text)
        if effect is Effect.BEGIN:
            one.begun = True
            return
        if effect in (Effect.XA_COMMIT, Effect.XA_ROLLBACK):
            self._decided(one, said.text, committed=effect is Effect.XA_COMMIT)
        elif effect not in (Effect.END, Effect.NOTHING):
            self._touched(one, effect, naming(said, folded=self._folded), said)
        if effect is Effect.END or (one.alone if self._maria else not one.begun):
            self._end(event)

    def _touched(
        self, one: _Transaction, effect: Effect, names: Callable[[str, str], bool], said: log.Statement
    ) -> None:
        for (schema, table), streams in self._streams.items():
            whole = effect is Effect.DROPS_DATABASE and names(schema, schema)
            if not whole and (effect is Effect.DROPS_DATABASE or not names(schema, table)):
                continue
            if effect is not Effect.ALTERS:
                one.emptied.update(streams)
            if effect is not Effect.EMPTIES:
                one.altered.update(streams)
                self._forget(streams)

    def _forget(self, streams: Sequence[str]) -> None:
        """The tables' descriptions no longer hold."""
        self._readers = {at: reader for at, reader in self._readers.items() if at[0] not in streams}

    def _prepare(self, event: log.Event) -> None:
        """A branch of a distributed transaction waits for its end: no position may be behind it until then."""
        if self._open is None:
            return
        if event.body[0]:  # it is committed in the same breath
            self._end(event)
            return
        one, self._open = self._open, None
        seen = self._seen.copy()
        for done in self._whole:
            seen.add(done.gtid)
        self._prepared[log.branch(event)] = one, seen.text
        self._whole.append(_Transaction(gtid=one.gtid, alone=False, events=Events(one.gtid)))

    def _decided(self, one: _Transaction, text: str, *, committed: bool) -> None:
        branch = branch_of(text)
        known = self._prepared.pop(branch, None) if branch else None
        if not committed:
            return
        if known is None:  # prepared before we began: which rows it changed is not known
            one.altered.update(self._tables)
            return
        one.events, one.emptied, one.altered = known[0].events, known[0].emptied, known[0].altered

    def _rows(self, event: log.Event) -> None:
        found = log.rows(event)
        told = self._maps.get(found.table)
        if told is None or self._open is None:
            return
        for stream in self._streams[self._named(told.schema, told.name)]:
            try:
                self._keys(self._reader(stream, told), stream, found)
            except Misfit:
                self._open.altered.add(stream)

    def _keys(self, reader: KeyReader, stream: str, found: log.Rows) -> None:
        assert self._open is not None
        add, kind = self._open.events.add, _KINDS[found.change]
        for before, after in reader.keys(found):
            if before is not None and before != after:
                add(stream, "deleted", before)
            if after is not None:
                add(stream, kind, after)

    def _reader(self, stream: str, told: log.TableMap) -> KeyReader:
        """What reads the keys of rows of this shape; the table is described anew for a shape not met before."""
        if (stream, told) not in self._readers:
            self._readers[stream, told] = None
            try:
                self._tables[stream] = self._describe(stream)
            except ConfigError:  # dropped meanwhile: the log will say so
                raise Misfit(f"{stream} is gone") from None
            self._readers[stream, told] = KeyReader(self._tables[stream], told)
        reader = self._readers[stream, told]
        if reader is None:
            raise Misfit(f"{stream} had other columns")
        return reader
