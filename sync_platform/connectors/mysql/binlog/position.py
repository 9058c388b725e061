"""How far a binlog was read: the transactions seen, by their global ids.

MariaDB tells the newest transaction of each domain (`0-1-42,5-2-7`), MySQL every transaction as ranges by server
(`3e11fa47-…:1-5:8`). https://mariadb.com/docs/server/ha-and-performance/standard-replication/gtid
https://dev.mysql.com/doc/refman/8.4/en/replication-gtids-concepts.html
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass, field
from typing import Protocol

from sync_platform.connectors.capture import PositionLostError


class Seen(Protocol):
    """The transactions read so far."""

    @property
    def text(self) -> str:
        """All of them, as the server writes it."""

    def add(self, gtid: str) -> None:
        """One more."""

    def copy(self) -> Seen:
        """The same, to be added to apart."""


@dataclass(slots=True)
class MariaSeen:
    """The newest transaction of each domain."""

    newest: dict[int, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> MariaSeen:
        """The reverse of `text`; PositionLostError for what is no such position."""
        seen = cls()
        for gtid in filter(None, (part.strip() for part in text.split(","))):
            if not all(number.isdigit() for number in gtid.split("-")) or gtid.count("-") != 2:
                raise _unreadable(text)
            seen.add(gtid)
        return seen

    @property
    def text(self) -> str:
        """`domain-server-number` of each domain, in order."""
        return ",".join(self.newest[domain] for domain in sorted(self.newest))

    def copy(self) -> MariaSeen:
        """The same, to be added to apart."""
        return MariaSeen(dict(self.newest))

    def add(self, gtid: str) -> None:
        """The transaction is its domain's newest."""
        self.newest[int(gtid.partition("-")[0])] = gtid


@dataclass(slots=True)
class MySQLSeen:
    """The numbers seen of each server, as ranges `[first, behind the last]` in order."""

    ranges: dict[str, list[list[int]]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> MySQLSeen:
        """The reverse of `text`; PositionLostError for what is no such set."""
        seen = cls()
        try:
            for part in filter(None, (part.strip() for part in text.split(","))):
                server, *ranges = part.split(":")
                for one in ranges:
                    first, _, last = one.partition("-")
                    seen._add(str(uuid.UUID(server)), int(first), int(last or first) + 1)
        except ValueError:
            raise _unreadable(text) from None
        return seen

    @property
    def text(self) -> str:
        """`server:first-last:…` of each server, in order."""
        parts = []
        for server in sorted(self.ranges):
            told = [f"{a}" if b - a == 1 else f"{a}-{b - 1}" for a, b in self.ranges[server]]
            parts.append(":".join([server, *told]))
        return ",".join(parts)

    def copy(self) -> MySQLSeen:
        """The same, to be added to apart."""
        return MySQLSeen.parse(self.text)

    def add(self, gtid: str) -> None:
        """The transaction joins its server's ranges."""
        server, _, number = gtid.partition(":")
        self._add(server, int(number), int(number) + 1)

    def _add(self, server: str, first: int, behind: int) -> None:
        joined: list[list[int]] = []
        for low, high in sorted([*self.ranges.get(server, []), [first, behind]]):
            if joined and low <= joined[-1][1]:
                joined[-1][1] = max(joined[-1][1], high)
            else:
                joined.append([low, high])
        self.ranges[server] = joined

    def packed(self) -> bytes:
        """The set as COM_BINLOG_DUMP_GTID takes it."""
        out = [struct.pack("<Q", len(self.ranges))]
        for server in sorted(self.ranges):
            ranges = self.ranges[server]
            out += [uuid.UUID(server).bytes, struct.pack("<Q", len(ranges))]
            out += [struct.pack("<QQ", first, behind) for first, behind in ranges]
        return b"".join(out)


def _unreadable(text: str) -> PositionLostError:
    return PositionLostError(
        f"mysql: {text[:80]!r} is no position in this server's binlog",
        mend="following begins anew, and a full compare finds what was missed",
    )
