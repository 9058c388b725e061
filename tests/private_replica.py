"""A streaming replica of a private PostgreSQL server, made by `pg_basebackup` from the same wheel."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from types import TracebackType

import psycopg

from tests.private_postgres import NOBODY, PrivateServer, free_port


class PrivateReplica:
    """A running replica; `url(database)` is how to reach it. Use as a context manager."""

    def __init__(self, primary: PrivateServer) -> None:
        self.primary = primary
        self.port = free_port()
        self.home = primary.root / f"replica-{self.port}"
        self._user: int | None = NOBODY if os.geteuid() == 0 else None
        self._server: subprocess.Popen[bytes] | None = None
        self.home.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(self.home, self._user, self._user)
        try:
            backup = [
                primary.bin / "pg_basebackup", "-D", self.home / "data", "-d", primary.url("postgres"), "-R",
                "-X", "stream", "-c", "fast", "--no-sync",
            ]  # fmt: skip
            subprocess.run(backup, check=True, capture_output=True, **self._as_user())
            self._start()
        except BaseException:
            self.close()
            raise

    def _as_user(self) -> dict[str, object]:
        groups: list[int] | None = [] if self._user is not None else None
        return {"user": self._user, "group": self._user, "extra_groups": groups, "cwd": self.home}

    def _start(self) -> None:
        command = [
            str(self.primary.bin / "postgres"), "-D", str(self.home / "data"),
            "-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}",
            "-c", f"unix_socket_directories={self.home}", "-c", "fsync=off",
        ]  # fmt: skip
        with (self.home / "log").open("ab") as log:
            self._server = subprocess.Popen(  # type: ignore[call-overload]
                command, stdout=log, stderr=log, start_new_session=True, **self._as_user()
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self._server is None or self._server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.home / "log").read_text()) from None
                time.sleep(0.05)

    def run(self, sql: str) -> None:
        """Executes a statement at the replica."""
        with psycopg.connect(self.url(), autocommit=True) as db:
            db.execute(sql.encode())

    def url(self, database: str = "postgres") -> str:
        """The connection string of a database."""
        return self.primary.url(database).replace(f":{self.primary.port}/", f":{self.port}/")

    def stop(self) -> None:
        """Stops it at once."""
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait(timeout=30)

    def close(self) -> None:
        """Stops it and removes its folder."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> PrivateReplica:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
