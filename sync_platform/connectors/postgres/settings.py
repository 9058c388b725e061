"""What a connection to PostgreSQL may say, and the servers that it stands for."""

from __future__ import annotations

import threading

from pydantic import Field as Setting
from pydantic import PrivateAttr

from sync_platform.connectors.connector import Connector
from sync_platform.connectors.postgres.connections import Connections
from sync_platform.connectors.postgres.replica import Replica
from sync_platform.connectors.postgres.session import Server, session_settings
from sync_platform.connectors.postgres.table import PostgresOptions


class PostgresSettings(Connector):
    """What a connection to PostgreSQL may say, and the servers it stands for."""

    url: str = Setting(repr=False, description="postgresql://user:password@host:port/database?sslmode=…")
    schema_name: str = Setting(
        default="public", alias="schema", description="Schema of tables that are named without one."
    )
    tables: dict[str, PostgresOptions] = Setting(default_factory=dict, description="Options by stream name.")
    statement_timeout_seconds: float = Setting(default=3600.0, description="0 means no limit.")
    lock_timeout_seconds: float = Setting(default=60.0, description="0 means no limit.")
    page_bytes: int = Setting(default=8 << 20, description="Size of one page of a read, about.")
    capture: bool = Setting(default=False, description="Follow the database's log (logical replication).")
    notify: str = Setting(
        default="", description="Instead of the log, listen on this channel, on which a trigger tells `table:key`."
    )
    capture_name: str = Setting(default="", description="Name of slot and publication; default: one of our own.")
    capture_publication: str = Setting(
        default="", description="A publication somebody else made and changes; default: one we make."
    )
    slot_limit_bytes: int = Setting(
        default=10 << 30, description="Log the server may keep for us before it is told loudly; 0 means no limit."
    )
    slot_limit_drops: bool = Setting(default=False, description="Beyond that limit, give the slot up.")

    replica_url: str = Setting(
        default="",
        repr=False,
        description="A streaming replica of the url's server that whole and incremental reads ask.",
    )
    replica_patience_seconds: float = Setting(
        default=60.0, description="How long a read waits for the replica to have what the primary had when it began."
    )

    _server: Server | None = PrivateAttr(default=None)
    _standby: Replica | None = PrivateAttr(default=None)
    _plain: Connections | None = PrivateAttr(default=None)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def server(self) -> Server:
        """The server and its idle connections."""
        with self._lock:
            if self._server is None:
                settings = session_settings(self.statement_timeout_seconds, self.lock_timeout_seconds)
                self._server = Server(self.url, settings, self._traffic)
            return self._server

    def plain(self) -> Connections:
        """Connections to the same server for short statements and for COPY."""
        server = self.server()
        with self._lock:
            if self._plain is None:
                settings = session_settings(self.statement_timeout_seconds, self.lock_timeout_seconds)
                self._plain = Connections(server.conninfo, server.place, settings)
            return self._plain

    def _replica(self) -> Replica | None:
        """The replica to read from, where there is one."""
        if not self.replica_url:
            return None
        primary = self.server()
        with self._lock:
            if self._standby is None:
                settings = session_settings(self.statement_timeout_seconds, self.lock_timeout_seconds)
                server = Server(self.replica_url, settings, self._traffic)
                self._standby = Replica(primary, server, self.replica_patience_seconds)
            return self._standby

    def close(self) -> None:
        """Closes the idle connections; the next call opens new ones."""
        if self._server is not None:
            self._server.close()
        if self._plain is not None:
            self._plain.close()
        if self._standby is not None:
            self._standby.server.close()
