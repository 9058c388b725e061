"""The open stream of a slot: which rows changed, told once they can be read.

A commit is in the log before its rows are visible to others (much earlier where it waits for a standby). A hint that
came too early would be answered with the old row and be used up, so a change is told only when the transaction's
number says that a read sees it.

A position is `LSN~streams~partitions`. The second part says for which streams the transactions that were open when
their table was published have ended: such a transaction may have changed rows that the log does not tell and that a
read did not see yet. The third says of which partitions the partitioned tables consisted: they are attached, detached
and emptied without a message. Where a part is not as it is now, the streams owe a full compare.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sync_platform.connectors.capture import Behind, PositionLostError, Told
from sync_platform.connectors.hiding import hide
from sync_platform.connectors.postgres import replication
from sync_platform.connectors.postgres.changes import Changes
from sync_platform.connectors.postgres.faults import refused_login
from sync_platform.connectors.postgres.log_stream import OBJECT_IN_USE, UNDEFINED_OBJECT, LogStream, LogStreamError
from sync_platform.connectors.postgres.replication import Followed, Kept, lsn, lsn_text
from sync_platform.connectors.postgres.session import Server, Session, identifier, literal
from sync_platform.connectors.sql import Table
from sync_platform.errors import SyncError, TransientError
from sync_platform.model import Event

#: Rows of one answer at most; a larger transaction is told in parts, under the position before it.
MOST: Final = 5_000
#: Seconds between looks at what has no message (partitions, old transactions).
_LOOK: Final = 15.0
#: The log moved so far, or so long ago, that a position without changes is worth storing.
_WORTH_BYTES: Final = 1 << 20
_WORTH_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 5.0
_QUICKLY: Final = 2.0
_SETTINGS: Final = (
    "-c datestyle=ISO,YMD -c timezone=UTC -c intervalstyle=iso_8601 -c bytea_output=hex -c extra_float_digits=3"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A position of ours; see the module."""

    lsn: int
    settled: str = ""
    partitions: str = ""

    @classmethod
    def of(cls, position: str) -> _Place:
        where, settled, partitions = (*position.split("~"), "", "")[:3]
        return cls(lsn=lsn(where), settled=settled, partitions=partitions)

    def at(self, where: int) -> str:
        """The same, further on in the log."""
        return f"{lsn_text(where)}~{self.settled}~{self.partitions}"


@dataclass
class SlotFeed:
    """A `Feed` of a slot. `describe` gives a stream's table as the catalogue has it now."""

    server: Server
    kept: Kept
    followed: Mapping[str, Followed]
    place: _Place
    changes: Changes
    answering: float = _ANSWER_SECONDS
    _open_until: int | None = None  # transactions before it may have begun before their table was published
    _stream: LogStream | None = None
    _ready: Told | None = None
    _confirmed: int = 0
    _told_at: float = 0.0
    _answered: float = 0.0
    _looked: float = 0.0
    _read: int = 0

    # -- opening ---------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        server: Server,
        kept: Kept,
        tables: Mapping[str, Table],
        since: str | None,
        describe: Callable[[str], Table],
    ) -> SlotFeed:
        """Publishes the tables, makes the slot where there is none to go on from, and begins to read."""
        streams = _digest(sorted((name, str(table), table.key) for name, table in tables.items()))
        with server.session() as session:
            if since is not None:
                replication.check_position(session, kept, _Place.of(since).lsn)
            replication.publish(session, kept, list(tables.values()))
            start = _Place.of(since).lsn if since is not None else replication.make_slot(session, kept)
            followed = {name: replication.looked_at(session, table)[0] for name, table in tables.items()}
            partitions = _partitions(followed)
            place = _Place.of(since) if since is not None else _Place(lsn=start, partitions=partitions)
            until = None
            if place.settled != streams:
                until = replication.open_until(session)
                if replication.ended_before(session, until, _QUICKLY):
                    place, until = _Place(lsn=start, settled=streams, partitions=place.partitions), None
            timeout = session.rows(
                "SELECT setting::int AS ms FROM pg_settings WHERE name = 'wal_sender_timeout'", "asking"
            )
            milliseconds = timeout["ms"][0].as_py()
        answering = min(_ANSWER_SECONDS, milliseconds / 3000) if milliseconds else _ANSWER_SECONDS
        feed = cls(server, kept, followed, place, Changes(followed, describe, start), answering, until)
        feed._confirmed = start
        feed._begin()
        return feed

    def _begin(self) -> None:
        publication = literal(identifier(self.kept.publication))
        command = (
            f"START_REPLICATION SLOT {identifier(self.kept.slot)} LOGICAL {lsn_text(self.changes.end)} "
            f"(proto_version '1', publication_names {publication})"
        )
        try:
            self._stream = LogStream.open(self.server.conninfo_with(options=_SETTINGS), command)
        except LogStreamError as error:
            if error.sqlstate is None:
                raise refused_login(error, self.server.place, self.server.secrets) from None
            raise self._translated(error) from None
        self._told_at = self._answered = self._looked = time.monotonic()

    @property
    def _log(self) -> LogStream:
        assert self._stream is not None  # `open` begins it
        return self._stream

    @property
    def start(self) -> str:
        """The position it began at."""
        return self.place.at(self.place.lsn)

    # -- telling ---------------------------------------------------------------------------------

    def next(self, seconds: float) -> Told | None:
        """What was committed and can be read; see `Feed`."""
        deadline = time.monotonic() + seconds
        while True:
            if self._ready is None:
                self._collect(deadline)
            if self._ready is not None and self._visible(deadline):
                told, self._ready = self._ready, None
                return told
            if time.monotonic() >= deadline:
                return None

    def _collect(self, deadline: float) -> None:
        """Reads until there is something to tell or the deadline passed."""
        changes = self.changes
        while True:
            message = self._message()
            if message is not None:
                begin, payload = message
                changes.take(payload, begin)
                late = changes.transaction is None and bool(changes) and time.monotonic() >= deadline
                if len(changes.rows) >= MOST or late:
                    self._tell()
                    return
                continue
            if changes.transaction is None and self._worth_telling():
                self._tell()
                return
            left = min(deadline - time.monotonic(), self._answered + self.answering - time.monotonic())
            self._log.wait(left)
            self._answer()
            if time.monotonic() >= deadline:
                return

    def _message(self) -> tuple[int, bytes] | None:
        self._read += 1
        if self._read % 1000 == 0:
            self._answer()
        try:
            return self._log.read()
        except LogStreamError as error:
            raise self._translated(error) from None

    def _worth_telling(self) -> bool:
        """Whether there are changes, or the log went on without any for long enough; not within a transaction."""
        now = time.monotonic()
        if now - self._looked >= _LOOK:
            self._looked = now
            self._look()
        if self.changes:
            return True
        passed = max(self.changes.end, self._log.end)
        moved = passed - self.changes.end
        # a server that shuts down asks, and ends only when all it sent is confirmed
        if moved >= _WORTH_BYTES or (moved > 0 and (self._log.asked or now - self._told_at >= _WORTH_SECONDS)):
            self.changes.end = passed
            return True
        return False

    def _tell(self) -> None:
        changes = self.changes
        events = [
            Event(
                id=f"{hint.lsn:X}:{_mark(stream, key)}", stream=stream, key=key, kind=hint.kind, occurred_at=hint.at
            )
            for (stream, key), hint in changes.rows.items()
        ]  # fmt: skip
        self._ready = Told(
            events=events, position=self.place.at(changes.end), committed_at=changes.newest,
            emptied=frozenset(changes.emptied), altered=frozenset(changes.altered),
        )  # fmt: skip
        changes.told()
        self._told_at = time.monotonic()

    def _visible(self, deadline: float) -> bool:
        """Whether a read now sees all that is about to be told; waits for it until the deadline."""
        while self.changes.xids:
            with self.server.session() as session:
                sql = "SELECT txid_current_snapshot()::text AS told"
                self.changes.xids = _unseen(
                    self.changes.xids, session.rows(sql, "looking at transactions")["told"][0].as_py()
                )
            if not self.changes.xids:
                break
            self._answer()
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.002)
        return True

    # -- what has no message ---------------------------------------------------------------------

    def _look(self) -> None:
        """Old transactions that have ended, and partitions that are others than before."""
        with self.server.session() as session:
            if self._open_until is not None and replication.ended_before(session, self._open_until):
                self._open_until = None
                streams = _digest(sorted((name, str(f.table), f.table.key) for name, f in self.followed.items()))
                self.place = _Place(lsn=self.place.lsn, settled=streams, partitions=self.place.partitions)
                self.changes.emptied |= self.followed.keys()
            if not any(one.partitioned for one in self.followed.values()):
                return
            self._looked_at_partitions(session)

    def _looked_at_partitions(self, session: Session) -> None:
        found = {name: replication.looked_at(session, one.table)[0] for name, one in self.followed.items()}
        partitions = _partitions(found)
        if partitions != self.place.partitions:
            self.place = _Place(lsn=self.place.lsn, settled=self.place.settled, partitions=partitions)
            self.changes.emptied |= {name for name, one in found.items() if one.partitioned}

    # -- the server ------------------------------------------------------------------------------

    def confirm(self, position: str) -> None:
        """The server may forget what is before it."""
        self._confirmed = max(self._confirmed, _Place.of(position).lsn)
        self._answer(now=True)

    def _answer(self, *, now: bool = False) -> None:
        """Tells the server how far we are, so that it neither gives us up nor keeps more than it must."""
        if not now and not self._log.asked and time.monotonic() - self._answered < self.answering:
            return
        self._answered = time.monotonic()
        try:
            self._log.answer(max(self.changes.end, self._confirmed), self._confirmed)
        except LogStreamError as error:
            raise self._translated(error) from None

    def behind(self) -> Behind:
        """How much the server keeps for the slot. Beyond a limit that says so it is dropped: PositionLostError."""
        with self.server.session() as session:
            slot = replication.slot_of(session, self.kept)
        if slot is None:
            raise PositionLostError(f"{self.server.place}: the replication slot {self.kept.slot} is gone")
        if self.kept.drops and self.kept.limit is not None and (slot.kept or 0) > self.kept.limit:
            self.close()
            replication.forget(self.server, self.kept, patience=_QUICKLY)
            raise PositionLostError(
                f"{self.server.place}: {slot.kept:,} bytes of log were kept for the slot {self.kept.slot}, more than "
                f"the limit of {self.kept.limit:,}: it was dropped",
                mend="capture begins anew, and a full compare finds what was missed",
            )
        return replication.behind_of(slot, self.kept)

    def close(self) -> None:
        """Ends the connection; the slot stays."""
        if self._stream is not None:
            self._stream.close()

    def _translated(self, error: LogStreamError) -> SyncError:
        """What an error means for the position. Whether a slot was given up tells the slot itself, which `follow` looks
        at before it reads on: the same code (55000) is that of a server that is only shutting down."""
        said = hide(" ".join(str(error).split()), self.server.secrets) or type(error).__name__
        if error.sqlstate == UNDEFINED_OBJECT:  # the publication, as it was at some change
            return PositionLostError(f"{self.server.place}: the slot {self.kept.slot} cannot be read on ({said})")
        if error.sqlstate == OBJECT_IN_USE:
            return TransientError(
                f"{self.server.place}: {said}", mend="that process is another capture of this connection, or a dead one"
            )
        return TransientError(f"{self.server.place}: following: {said}", mend="capture connects again by itself")


def _partitions(followed: Mapping[str, Followed]) -> str:
    """What tells that some partition came, went or was emptied."""
    parts = [
        (name, [(part["oid"], part["file"]) for part in one.parts]) for name, one in followed.items() if one.partitioned
    ]
    return _digest(sorted(parts)) if parts else ""


def _digest(told: object) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def _mark(stream: str, key: str) -> str:
    return hashlib.blake2b(f"{stream}\0{key}".encode(), digest_size=8).hexdigest()


def _unseen(xids: Sequence[int] | set[int], snapshot: str) -> set[int]:
    """Of these transaction numbers (32 bits) those whose changes a snapshot `xmin:xmax:xip` does not see."""
    lowest, highest, running = snapshot.split(":")
    first, end = int(lowest), int(highest)
    open_ones = {int(one) & 0xFFFFFFFF for one in running.split(",") if one}
    unseen = set()
    for xid in xids:
        ahead = (xid - end) & 0xFFFFFFFF  # small: not given yet; large: before the end
        if ahead < 0x80000000 or (first < end and xid in open_ones):
            unseen.add(xid)
    return unseen
