"""A replication connection: the messages of a slot as they come, and our answers.

https://www.postgresql.org/docs/current/protocol-replication.html

libpq's own calls are used: drivers that read replication for their user also answer for him, and what they confirm on
their own is further than what was stored.
"""

from __future__ import annotations

import select
import struct
import time
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

#: https://www.postgresql.org/docs/current/errcodes-appendix.html
UNDEFINED_OBJECT: Final = "42704"
OBJECT_IN_USE: Final = "55006"
_POSTGRES_EPOCH: Final = 946_684_800  # 2000-01-01 in seconds since 1970
_DATA: Final = struct.Struct(">QQq")  # where the data begins, where the log ends, the server's clock
_KEEPALIVE: Final = struct.Struct(">QqB")  # where the log ends, the server's clock, whether an answer is wanted
_ANSWER: Final = struct.Struct(">cQQQqB")


class LogStreamError(Exception):
    """The server ended the stream or refused it. `sqlstate` None: it said nothing, or there was no connection."""

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


@dataclass
class LogStream:
    """One connection that streams a slot's changes; used by one thread."""

    _connection: pq.abc.PGconn = field(repr=False)
    end: int = 0  # of the log, as the server told last
    asked: bool = False  # the server wants an answer

    @classmethod
    def open(cls, conninfo: str, command: str) -> LogStream:
        """Connects and sends a START_REPLICATION command. Raises LogStreamError."""
        connection = pq.PGconn.connect(make_conninfo(conninfo, replication="database").encode())
        if connection.status != pq.ConnStatus.OK:
            refusal = LogStreamError(connection.error_message.decode(errors="replace"))
            connection.finish()
            raise refusal
        result = connection.exec_(command.encode())
        if result.status != pq.ExecStatus.COPY_BOTH:
            refusal = _refusal(result, connection)
            connection.finish()
            raise refusal
        return cls(connection)

    def read(self) -> tuple[int, bytes] | None:
        """The next message (where it begins, its payload); None when none is there now. Raises LogStreamError."""
        looked = False
        while True:
            try:
                size, data = self._connection.get_copy_data(1)
                if size == 0:
                    if looked:
                        return None
                    looked = True
                    self._connection.consume_input()
                    continue
            except psycopg.OperationalError as error:
                raise LogStreamError(str(error)) from None
            if size < 0:
                raise _refusal(self._connection.get_result(), self._connection)
            message = bytes(data)
            if message[:1] == b"w":
                begin, end, _ = _DATA.unpack_from(message, 1)
                self.end = max(self.end, end)
                return begin, message[1 + _DATA.size :]
            end, _, wanted = _KEEPALIVE.unpack_from(message, 1)
            self.end, self.asked = max(self.end, end), self.asked or bool(wanted)

    def wait(self, seconds: float) -> None:
        """Waits for so long, or until there is something to read."""
        if seconds > 0:
            select.select([self._connection.socket], [], [], seconds)

    def answer(self, written: int, confirmed: int) -> None:
        """Tells how far we read, and what the server may forget: no more than that. Raises LogStreamError."""
        clock = int((time.time() - _POSTGRES_EPOCH) * 1_000_000)
        try:
            self._connection.put_copy_data(_ANSWER.pack(b"r", written, confirmed, confirmed, clock, 0))
            self._connection.flush()
        except psycopg.OperationalError as error:
            raise LogStreamError(str(error)) from None
        self.asked = False

    def close(self) -> None:
        """Ends the connection; closing it again does nothing."""
        self._connection.finish()


def _refusal(result: pq.abc.PGresult | None, connection: pq.abc.PGconn) -> LogStreamError:
    """What the server said when it ended or refused the stream."""
    state = result.error_field(pq.DiagnosticField.SQLSTATE) if result is not None else None
    said = (result.error_message if result is not None else b"") or connection.error_message
    return LogStreamError(said.decode(errors="replace"), state.decode() if state else None)
