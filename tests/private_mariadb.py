"""A private MariaDB server in a temporary folder, for tests and benches.

The binaries come from the system's package `mariadb-server`, which root installs on first use where it is
missing. The server listens on loopback only, needs a password, writes a row binlog and is stopped by its pid.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType

import pymysql

from tests.private_postgres import free_port

_PLACES = ("/usr/sbin", "/usr/bin", "/usr/libexec", "/usr/local/sbin", "/usr/local/bin")


def _binary(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *_PLACES)))


def install() -> None:
    """Installs the package when the server is missing; one process at a time."""
    if _binary("mariadbd") and _binary("mariadb-install-db"):
        return
    with Path(tempfile.gettempdir(), "install-mariadb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _binary("mariadbd"):
            return
        assert os.geteuid() == 0, "install the package mariadb-server"
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        policy = Path("/usr/sbin/policy-rc.d")
        ours = not policy.exists()
        if ours:  # the package would start a server of its own
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            wanted = ["apt-get", "install", "-y", "--no-install-recommends", "mariadb-server"]
            if subprocess.run(wanted, env=environment, capture_output=True).returncode != 0:
                subprocess.run(["apt-get", "update"], env=environment, capture_output=True, check=True)
                subprocess.run(wanted, env=environment, capture_output=True, check=True)
        finally:
            if ours:
                policy.unlink()


@cache
def shared() -> PrivateMariaDB:
    """One server for everything this process tests; it is stopped when the process ends."""
    server = PrivateMariaDB()
    atexit.register(server.close)
    return server


class PrivateMariaDB:
    """One running server; `url(database)` is how to reach it. Use as a context manager."""

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        install()
        self.root = Path(tempfile.mkdtemp(prefix="maria-", dir="/tmp"))
        self.port = free_port()
        self.password = secrets.token_hex(8)
        self.settings = {
            "innodb-flush-log-at-trx-commit": "0",
            "innodb-buffer-pool-size": "128M",
            "innodb-log-file-size": "64M",
            "performance-schema": "OFF",
            "character-set-server": "utf8mb4",
            "log-bin": "mysql-bin",
            "binlog-format": "ROW",
            "binlog-row-image": "FULL",
            "binlog-row-metadata": "FULL",
            "server-id": "1",
            **(settings or {}),
        }
        self._user = "mysql" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self._server: subprocess.Popen[bytes] | None = None
        # a server that starts deletes the temporary tables of all others in its temporary folder
        self._environment = {**os.environ, "TMPDIR": str(self.root)}
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise

    def _initialise(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.root, self._user)
        command = [
            _binary("mariadb-install-db") or "mariadb-install-db", "--no-defaults",
            f"--datadir={self.root}/data", "--auth-root-authentication-method=normal", "--skip-test-db",
            f"--user={self._user}",
        ]  # fmt: skip
        for left in (2, 1, 0):  # where many servers start at once, one now and then gives up
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=self._environment)
            if done.returncode == 0:
                break
            if not left:
                raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
            shutil.rmtree(self.root / "data", ignore_errors=True)
            time.sleep(1)
        begin = self.root / "begin.sql"
        begin.write_text(
            f"ALTER USER root@localhost IDENTIFIED BY '{self.password}';\n"
            f"CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY '{self.password}';\n"
            "GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n"
        )

    def start(self) -> None:
        """Starts the server (again) and waits until it answers."""
        command = [
            _binary("mariadbd") or "mariadbd", "--no-defaults", f"--user={self._user}",
            f"--datadir={self.root}/data", f"--socket={self.root}/s.sock", f"--pid-file={self.root}/pid",
            f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve",
            f"--init-file={self.root}/begin.sql", *(f"--{name}={value}" for name, value in self.settings.items()),
        ]  # fmt: skip
        with (self.root / "log").open("ab") as log:
            self._server = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd=self.root, env=self._environment
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.person().close()
                return
            except pymysql.err.OperationalError:
                if self._server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.root / "log").read_text()) from None
                time.sleep(0.05)

    def stop(self, *, kill: bool = False) -> None:
        """Stops the server: orderly, or with SIGKILL."""
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            self._server.wait(timeout=60)

    def close(self) -> None:
        """Kills the server and removes its folder."""
        self.stop(kill=True)
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._server is not None, "it does not run"
        return self._server.pid

    def url(self, database: str = "", *, user: str = "root", password: str | None = None) -> str:
        """The connection string of a database."""
        return f"mysql://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def person(self, database: str | None = None) -> pymysql.Connection[pymysql.cursors.Cursor]:
        """A person at the server: every statement commits at once."""
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", password=self.password, database=database,
            charset="utf8mb4", autocommit=True, connect_timeout=5,
        )  # fmt: skip

    def create(self, database: str) -> str:
        """A new empty database's connection string (one of that name is dropped first)."""
        with self.person() as db, db.cursor() as cursor:
            cursor.execute("SET foreign_key_checks = 0")
            cursor.execute(f"CREATE OR REPLACE DATABASE `{database}` CHARACTER SET utf8mb4")
        return self.url(database)

    @contextlib.contextmanager
    def setting(self, name: str, value: int | str) -> Iterator[None]:
        """Runs the server with another global setting, which new sessions get, and puts back what there was."""
        with self.person() as db, db.cursor() as cursor:
            cursor.execute(f"SELECT @@GLOBAL.{name}")
            (was,) = cursor.fetchone() or ()
            cursor.execute(f"SET GLOBAL {name} = %s", [value])
            try:
                yield
            finally:
                cursor.execute(f"SET GLOBAL {name} = %s", [was])

    def drop(self, database: str) -> None:
        """Drops a database and whoever is connected to it."""
        with self.person() as db, db.cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", [database])
            for (session,) in cursor.fetchall():
                with contextlib.suppress(pymysql.err.OperationalError):  # it ended in between
                    cursor.execute(f"KILL {session}")
            cursor.execute(f"DROP DATABASE IF EXISTS `{database}`")

    def __enter__(self) -> PrivateMariaDB:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
