"""A MariaDB of the demo's own: on loopback alone, with a password, stopped and deleted with the demo.

It lies in the system's folder for temporary files, which the server's own user can reach when root starts it. It needs
the system's package `mariadb-server`: no package index has the server.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final

import pymysql

from sync_platform.errors import AccessError

_PLACES: Final = ("/usr/sbin", "/usr/bin", "/usr/libexec", "/usr/local/sbin", "/usr/local/bin")
_PATIENCE: Final = 60.0


def _binary(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *_PLACES)))
    if found is None:
        raise AccessError(
            f"{name} is not installed, and this demo needs a MariaDB of its own",
            mend="install the system's package mariadb-server, e.g. apt-get install mariadb-server",
        )
    return found


class LocalMariaDB:
    """One server, up for the length of the block, that writes a row binlog."""

    def __init__(self) -> None:
        self._password = secrets.token_hex(16)
        self._user = "mysql" if os.geteuid() == 0 else getpass.getuser()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self._server: subprocess.Popen[bytes] | None = None
        self._folder: Path

    def create(self, database: str) -> str:
        """The url of a new, empty database."""
        with self._connection() as wire, wire.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{database}` CHARACTER SET utf8mb4")
        return f"mysql://root:{self._password}@127.0.0.1:{self._port}/{database}"

    def _connection(self) -> pymysql.Connection[pymysql.cursors.Cursor]:
        return pymysql.connect(
            host="127.0.0.1", port=self._port, user="root", password=self._password, connect_timeout=5, autocommit=True
        )

    def __enter__(self) -> LocalMariaDB:
        server, maker = _binary("mariadbd"), _binary("mariadb-install-db")
        self._folder = Path(tempfile.mkdtemp(prefix="sync-mariadb-"))
        if os.geteuid() == 0:
            shutil.chown(self._folder, self._user)
        # a server that starts deletes the temporary tables of all others in its temporary folder
        environment = {**os.environ, "TMPDIR": str(self._folder)}
        made = subprocess.run(
            [
                maker, "--no-defaults", f"--datadir={self._folder}/data", "--auth-root-authentication-method=normal",
                "--skip-test-db", f"--user={self._user}",
            ],
            capture_output=True, check=False, env=environment,
        )  # fmt: skip
        if made.returncode != 0:
            self.__exit__(None, None, None)
            raise AccessError(f"MariaDB could not be set up: {made.stderr.decode(errors='replace')[-300:]}")
        begin = self._folder / "begin.sql"
        begin.write_text(
            f"ALTER USER root@localhost IDENTIFIED BY '{self._password}';\n"
            f"CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY '{self._password}';\n"
            "GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [
                    server, "--no-defaults", f"--user={self._user}", f"--datadir={self._folder}/data",
                    f"--socket={self._folder}/socket", f"--pid-file={self._folder}/pid", f"--port={self._port}",
                    "--bind-address=127.0.0.1", "--skip-name-resolve", f"--init-file={begin}",
                    "--character-set-server=utf8mb4", "--log-bin=mysql-bin", "--binlog-format=ROW", "--server-id=1",
                ],
                stdout=log, stderr=log, start_new_session=True, env=environment,
            )  # fmt: skip
        try:
            self._wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _wait(self) -> None:
        assert self._server is not None
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._connection().close()
                return
            except pymysql.err.OperationalError:
                if self._server.poll() is not None or time.monotonic() > deadline:
                    log = (self._folder / "log").read_text(errors="replace")
                    raise AccessError(f"MariaDB did not start: {log[-300:]}", mend="see its log") from None
                time.sleep(0.05)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._server is not None and self._server.poll() is None:
            self._server.kill()
            self._server.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
