"""A connection over which the server sends its binlog: packets as they come, waited for as long as wanted.

https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication.html
"""

from __future__ import annotations

import contextlib
import ssl
import struct
import time
from typing import Any, Final

import pymysql
from pymysql.constants import CR

from sync_platform.connectors.mysql.binlog.position import MySQLSeen, Seen
from sync_platform.connectors.mysql.faults import DriverError
from sync_platform.connectors.mysql.session import literal

#: Seconds between signs of life of an idle server, and how long none may come.
_HEARTBEAT: Final = 5
_SILENCE: Final = 30.0
_HEADER: Final = 4
_LONGEST: Final = 0xFFFFFF
_CHUNK: Final = 1 << 18
_DUMP, _DUMP_GTID = 0x12, 0x1E
_THROUGH_GTID: Final = 0x04


class Dump:
    """The packets of one binlog dump. Raises the driver's errors."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._socket = connection._sock
        self._buffer = bytearray()
        self._at = 0
        self._heard = time.monotonic()

    @classmethod
    def begin(cls, connection: Any, seen: Seen, server_id: int) -> Dump:
        """Asks for everything behind these transactions."""
        settings = (
            f"@master_heartbeat_period = {_HEARTBEAT * 10**9}, @master_binlog_checksum = @@global.binlog_checksum"
        )
        connection.query(f"SET {settings}, SESSION net_write_timeout = 3600, SESSION net_read_timeout = 3600")
        if isinstance(seen, MySQLSeen):
            known = seen.packed()
            asked = struct.pack("<HIIQI", _THROUGH_GTID, server_id, 0, 4, len(known)) + known
            connection._execute_command(_DUMP_GTID, asked)
        else:
            connection.query(
                "SET @mariadb_slave_capability = 4, @slave_gtid_strict_mode = 0, @slave_gtid_ignore_duplicates = 0, "
                f"@slave_connect_state = {literal(seen.text)}"
            )
            connection._execute_command(_DUMP, struct.pack("<IHI", 4, 0, server_id))
        return cls(connection)

    def next(self, seconds: float) -> memoryview | None:
        """The next packet behind its first byte; None when none came for so long (0: none is here already)."""
        deadline = time.monotonic() + seconds
        while (packet := self._cut()) is None:
            if not self._fill(deadline - time.monotonic()):
                return None
        if packet[0] == 0xFF:
            pymysql.err.raise_mysql_exception(bytes(packet))
        if packet[0] == 0xFE and len(packet) < 9:
            raise pymysql.err.OperationalError(CR.CR_SERVER_LOST, "the server ended its binlog")
        return packet[1:]

    def _cut(self) -> memoryview | None:
        """A whole packet out of the buffer (its own copy); one of 16 MB goes on in the next."""
        pieces, at = [], self._at
        while True:
            if len(self._buffer) - at < _HEADER:
                return None
            length = int.from_bytes(self._buffer[at : at + 3], "little")
            pieces.append(slice(at + _HEADER, at + _HEADER + length))
            at += _HEADER + length
            if len(self._buffer) < at:
                return None
            if length < _LONGEST:
                break
        self._at = at
        return memoryview(b"".join([self._buffer[piece] for piece in pieces]))

    def _fill(self, seconds: float) -> bool:
        """Takes what has come into the buffer; False when nothing came in time."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._socket.settimeout(max(seconds, 0.0))
        try:
            got = self._socket.recv(_CHUNK)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
            if seconds > 0 and time.monotonic() - self._heard > _SILENCE:
                raise pymysql.err.OperationalError(
                    CR.CR_SERVER_LOST, f"the server sent no sign of life for {_SILENCE:.0f} seconds"
                ) from None
            return False
        except OSError as error:
            raise pymysql.err.OperationalError(CR.CR_SERVER_LOST, f"the connection was lost ({error})") from None
        if not got:
            raise pymysql.err.OperationalError(CR.CR_SERVER_LOST, "the server closed the connection")
        self._heard = time.monotonic()
        self._buffer += got
        return True

    def close(self) -> None:
        """Closes the connection."""
        with contextlib.suppress(DriverError, OSError):
            self._connection._force_close()
