"""Changes told by `NOTIFY`: for roles that may not replicate, a trigger of the user's says what changed.

A notification is the hint that the log would have given (ADR 19), and nothing more: it is not kept while nobody
listens. So every feed begins from now, a position of an older one is always lost, and the streams then owe a full
compare. A payload is `table:key` (several columns: a JSON array of texts), `table:*` (it was emptied), `table`, or
nothing. Without a key the rows changed since the last look are found by the cursor; where there is none, the stream
owes a compare.

https://www.postgresql.org/docs/current/sql-notify.html
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
import pyarrow as pa
from psycopg.conninfo import make_conninfo

from sync_platform.connectors.capture import Behind, PositionLostError, Told
from sync_platform.connectors.hiding import hide
from sync_platform.connectors.postgres import reading
from sync_platform.connectors.postgres.faults import refused_login
from sync_platform.connectors.postgres.session import Server, array_literal, identifier
from sync_platform.connectors.postgres.watermark import from_now
from sync_platform.connectors.sql import Table, key_parts, key_texts
from sync_platform.errors import ConfigError, ContractError, RecordError, TransientError
from sync_platform.model import Event, Position

#: Notifications that came together are told together.
_TOGETHER: Final = 0.02
_MOST: Final = 5_000
_EVERYTHING: Final = "*"  # as the key: the table was emptied, or whatever else needs a full compare
#: Seconds of silence after which the connection is asked for a sign of life.
_SILENT: Final = 5.0
_ALIVE: Final = {
    "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "20000",
}  # fmt: skip
_SERVER: Final = "SELECT pg_is_in_recovery() AS replica"


def problems(server: Server, channel: str, *, logged: bool) -> list[str]:
    """Why notifications cannot be followed, each with its mend; any stream can be told of, views and queries too."""
    found = []
    if logged:
        found.append(
            "capture and notify are both set: leave notify out where the log is followed, or set capture=False"
        )
    if len(channel.encode()) > 63:
        found.append(f"the channel {channel!r} is longer than PostgreSQL's names: use at most 63 bytes")
    with server.session() as session:
        if session.rows(_SERVER, "asking whether it is a replica")["replica"][0].as_py():
            found.append(
                f"{session.place} is a read replica, which notifies nobody: let the url name the primary server"
            )
    return found


@dataclass
class NoticeFeed:
    """A `Feed` of one channel's notifications. `start` is of no use to any later feed."""

    server: Server
    channel: str
    tables: Mapping[str, Table]
    page_bytes: int
    start: str = field(default_factory=lambda: f"listening {uuid.uuid4()}")
    _connection: psycopg.Connection[Any] = field(init=False, repr=False)
    _looked: dict[str, Position] = field(default_factory=dict)
    _heard: float = 0.0

    @classmethod
    def open(
        cls, server: Server, channel: str, tables: Mapping[str, Table], since: str | None, page_bytes: int
    ) -> NoticeFeed:
        """Listens from now on. Raises PositionLostError when somebody listened before."""
        if since is not None:
            raise PositionLostError(
                f"{server.place}: what was notified on {channel!r} while nobody listened is not kept",
                mend="a full compare finds what was missed",
            )
        feed = cls(server, channel, tables, page_bytes)
        feed._listen()
        for name, table in tables.items():
            if table.cursor is not None:
                with server.session() as session:
                    feed._looked[name] = from_now(session, table)
        return feed

    def _listen(self) -> None:
        try:
            self._connection = psycopg.connect(make_conninfo(self.server.conninfo, **_ALIVE), autocommit=True)
            self._connection.execute(f"LISTEN {identifier(self.channel)}".encode())
        except psycopg.Error as error:
            raise refused_login(error, self.server.place, self.server.secrets) from None
        self._heard = time.monotonic()

    # -- telling ---------------------------------------------------------------------------------

    def next(self, seconds: float) -> Told | None:
        """What was notified since the last call; see `Feed`."""
        payloads = self._payloads(seconds)
        if not payloads:
            return None
        keyed: dict[str, dict[str, None]] = {}
        unkeyed, emptied = dict[str, None](), set[str]()
        for payload in payloads:
            place, _, key = payload.partition(":")
            for stream in self._streams(place):
                if key == _EVERYTHING:
                    emptied.add(stream)
                elif key:
                    keyed.setdefault(stream, {})[key] = None
                else:
                    unkeyed[stream] = None
        found: dict[str, list[str]] = {}
        for stream, given in keyed.items():
            texts = self._canonical(self.tables[stream], list(given))
            if texts is None:
                unkeyed[stream] = None
            else:
                found[stream] = texts
        blind = {stream for stream in unkeyed if stream not in self._looked}
        for stream in unkeyed.keys() - blind:
            found[stream] = list(dict.fromkeys([*found.get(stream, []), *self._since_last_look(stream)]))
        return self._told(found, frozenset(blind), frozenset(emptied))

    def _payloads(self, seconds: float) -> dict[str, None]:
        """Different payloads that came, in their order; waits for the first one."""
        found: dict[str, None] = {}
        with self._lost_connections():
            for notice in self._connection.notifies(timeout=seconds, stop_after=1):
                found[notice.payload] = None
            while found and len(found) < _MOST:
                more = [notice.payload for notice in self._connection.notifies(timeout=_TOGETHER)]
                found |= dict.fromkeys(more)
                if not more:
                    break
            if found:
                self._heard = time.monotonic()
            elif time.monotonic() - self._heard >= _SILENT:
                self._connection.execute("SELECT 1")
                self._heard = time.monotonic()
        return found

    def _streams(self, place: str) -> Iterator[str]:
        """The streams that a payload's table is; all of them for an empty one."""
        for stream, table in self.tables.items():
            if place in ("", stream, str(table)) or (table.query is None and place == table.name):
                yield stream

    def _canonical(self, table: Table, given: Sequence[str]) -> list[str] | None:
        """Keys in the text under which staging knows them; None when one of them is no key, or is not known so."""
        if any(pa.types.is_temporal(table.columns[name].arrow) for name in table.key):
            return None
        try:
            parts = [key_parts(key, table.key) for key in given]
        except RecordError:
            return None
        names = [f"k{i}" for i in range(len(table.key))]
        arrays = ", ".join(f"{array_literal([part[i] for part in parts])}::text[]" for i in range(len(names)))
        texts = ", ".join(f"{name}::{table.columns[c].cast}::text" for name, c in zip(names, table.key, strict=True))
        sql = f"SELECT {texts} FROM unnest({arrays}) WITH ORDINALITY AS w({', '.join(names)}, place) ORDER BY place"
        try:
            with self.server.session() as session:
                rows = session.rows(sql, f"reading keys of {table}")
        except (ContractError, ConfigError):
            return None
        found: list[str] = key_texts(rows.columns).to_pylist()
        return found

    def _since_last_look(self, stream: str) -> list[str]:
        """The keys of the rows that changed since it was looked at last."""
        table, keys = self.tables[stream], list[str]()
        now = dt.datetime.now(dt.UTC)
        for page in reading.read(self.server, table, self._looked[stream], table.key, None, self.page_bytes, now):
            keys += key_texts([page.table[name] for name in table.key]).to_pylist()
            if page.position is not None:
                self._looked[stream] = page.position
        return keys

    def _told(self, found: Mapping[str, Sequence[str]], blind: frozenset[str], emptied: frozenset[str]) -> Told:
        now, told = dt.datetime.now(dt.UTC), uuid.uuid4().hex
        pairs = ((stream, key) for stream, keys in found.items() for key in keys)
        events = [
            Event(id=f"{told}:{number}", stream=stream, key=key, kind="updated", occurred_at=now)
            for number, (stream, key) in enumerate(pairs)
        ]
        stamp = now if events else None
        return Told(events=events, position=self.start, committed_at=stamp, altered=blind, emptied=emptied)

    # -- the server ------------------------------------------------------------------------------

    def confirm(self, position: str) -> None:
        """The server keeps nothing."""

    def behind(self) -> Behind:
        """The server keeps nothing."""
        return Behind(size=None)

    def close(self) -> None:
        """Ends the connection, and with it the listening."""
        with contextlib.suppress(psycopg.Error):
            self._connection.close()

    @contextlib.contextmanager
    def _lost_connections(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            said = hide(" ".join(str(error).split()), self.server.secrets) or type(error).__name__
            raise TransientError(
                f"{self.server.place}: listening on {self.channel!r}: {said}",
                mend="capture listens again by itself, and the streams are compared",
            ) from None
