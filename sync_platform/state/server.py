"""The embedded PostgreSQL: started once by whoever needs it first, stopped only by `stop`.

It listens on 127.0.0.1 alone, on a free port kept in `$SYNC_HOME`, with a random password, in a
session of its own: it outlives the command that started it. All starting and stopping happens under
one file lock, so that many processes that start at once share one server.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from sync_platform.errors import AccessError
from sync_platform.home import Home, unwritable
from sync_platform.state.filelock import locked_file, unlocked_file
from sync_platform.state.place import Place, place_of, recorded, remember
from sync_platform.state.postmaster import command_of, forget_other_pid, has_ended, is_ready, pid_file, serves

USER: Final = "sync_owner"  # not "sync": a schema of the user's own name would be searched first
DATABASE: Final = "sync"
_PASSWORD: Final = "postgres.password"
_START_PATIENCE: Final = 300.0  # crash recovery may replay gigabytes
_RETRY_PATIENCE: Final = 60.0
_STOP_PATIENCE: Final = 60.0

_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "cluster_name": "sync-platform",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "work_mem": "32MB",
    "maintenance_work_mem": "256MB",
    "min_dynamic_shared_memory": "64MB",  # /dev/shm is small in containers
    "huge_pages": "off",
    "wal_level": "logical",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_error_statement": "panic",  # a failing statement may hold a record or a token
}


def ensure_running(home: Home, *, fsync: bool | None = None) -> str:
    """The URL (with password) of this home's server, which is started, or made, when it is not running.

    `fsync=False`, or `SYNC_PG_FSYNC=off`, makes a server that may lose data when the *machine* fails:
    for tests. Raises AccessError with PostgreSQL's own reason when it does not start.
    """
    url = running_url(home)
    if url is not None:
        return url
    home.create()
    if fsync is None:
        fsync = os.environ.get("SYNC_PG_FSYNC", "on").lower() not in ("off", "0", "false", "no")
    with _locked(home):
        return running_url(home) or _start(home, fsync=fsync)


def running_url(home: Home) -> str | None:
    """The URL of this home's server if it runs and takes connections; nothing is started."""
    known = recorded(home)
    if known is None:
        return None
    folder, port = known
    lines = pid_file(folder / "data")
    if not is_ready(lines) or int(lines[3]) != port:  # the port is recorded once the database exists
        return None
    return _url(home, port, DATABASE) if serves(int(lines[0]), folder / "data") else None


def running_pid(home: Home) -> int | None:
    """The process id of this home's server, or None."""
    known = recorded(home)
    if known is None:
        return None
    lines = pid_file(known[0] / "data")
    return int(lines[0]) if lines and serves(int(lines[0]), known[0] / "data") else None


def stop(home: Home, *, if_unused: bool = False) -> bool:
    """Stops this home's server and no other; whether one was stopped.

    With `if_unused` it stays up while any process of this home holds `in_use`.
    """
    known = recorded(home)
    if known is None:
        return False
    with _locked(home), contextlib.ExitStack() as held:
        if if_unused and not held.enter_context(unlocked_file(home.run / "postgres.users")):
            return False
        pid = running_pid(home)
        if pid is None:
            return False
        for how in (signal.SIGINT, signal.SIGQUIT):  # fast, then immediate shutdown
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
            if _gone(pid, known[0] / "data"):
                return True
        raise AccessError(f"PostgreSQL (pid {pid}) did not stop within {2 * _STOP_PATIENCE:.0f} s", mend="try again")


def destroy(home: Home) -> None:
    """Stops this home's server and deletes its cluster, wherever it is kept. The lake's files stay."""
    stop(home)
    known = recorded(home)
    if known is not None:
        with _locked(home):
            shutil.rmtree(known[0], ignore_errors=True)
            for name in ("postgres.json", _PASSWORD):
                (home.root / name).unlink(missing_ok=True)


def in_use(home: Home) -> contextlib.AbstractContextManager[None]:
    """While this is held, `stop(if_unused=True)` leaves the server up. Ends with the process, too."""
    return locked_file(home.run / "postgres.users", shared=True)


def _start(home: Home, *, fsync: bool) -> str:
    place = place_of(home)
    password = home.keep_first(_PASSWORD, secrets.token_urlsafe(32))
    if not (place.data / "PG_VERSION").exists():
        _make_cluster(place, password, fsync=fsync)
    _same_major(place)
    if running_pid(home) is not None:
        return _adopt(home, place)
    port, deadline = place.port, time.monotonic() + _RETRY_PATIENCE
    while True:
        port = port if port is not None and _free(port) else _any_free_port()
        refusal = _launch(home, place, port, fsync=fsync)
        if refusal is None:
            return _open_for_use(home, place, port)
        if "Address already in use" in refusal:
            port = None
        elif "still in use" not in refusal:  # else backends of a killed server are on their way out
            raise _failed("PostgreSQL did not start", refusal, place)
        if time.monotonic() > deadline:
            raise _failed("PostgreSQL did not start", refusal, place)
        time.sleep(0.05)


def _adopt(home: Home, place: Place) -> str:
    """Takes over the server that a starter, killed since, left behind."""
    deadline = time.monotonic() + _START_PATIENCE
    while time.monotonic() < deadline and running_pid(home) is not None:
        lines = pid_file(place.data)
        if is_ready(lines):
            return _open_for_use(home, place, int(lines[3]))
        time.sleep(0.01)
    raise AccessError(f"PostgreSQL in {place.data} is neither ready nor ending", mend="run `sync-platform down` first")


def _open_for_use(home: Home, place: Place, port: int) -> str:
    _make_database(home, port)
    remember(home, place.folder, port)
    return _url(home, port, DATABASE)


def _make_cluster(place: Place, password: str, *, fsync: bool) -> None:
    """A new cluster, complete or not there at all."""
    draft = place.folder / "data.new"
    shutil.rmtree(draft, ignore_errors=True)
    secret = place.folder / "password.new"
    secret.unlink(missing_ok=True)
    handle = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(password)
        if place.uid is not None:
            os.chown(secret, place.uid, place.uid)
        arguments = [str(place.programs / "initdb"), "-D", str(draft), "-U", USER, f"--pwfile={secret}"]
        arguments += ["-A", "scram-sha-256", "-E", "UTF8", "--no-instructions"]
        # The password is 256 random bits: there is nothing to guess, and so no reason to make each login slow.
        arguments += ["-c", "scram_iterations=1"]
        arguments += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        done = _run_as(place, arguments if fsync else [*arguments, "--no-sync"])
        if done.returncode != 0:
            raise _failed("the state's PostgreSQL could not be made", done.stderr or done.stdout, place)
        draft.rename(place.data)
    except OSError as error:
        raise unwritable(error, place.folder) from None
    finally:
        secret.unlink(missing_ok=True)


def _run_as(place: Place, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments,
        user=place.uid,
        group=place.uid,
        extra_groups=None if place.uid is None else [],
        cwd=place.folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _environment() -> dict[str, str]:
    """What the server's process may know: no credential of ours."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _launch(home: Home, place: Place, port: int, *, fsync: bool) -> str | None:
    """Starts the server and waits until it is ready; what it printed when it ended instead."""
    forget_other_pid(place.data)
    settings = {**_SETTINGS, "port": str(port)} | ({} if fsync else {"fsync": "off"})
    server = [str(place.programs / "postgres"), "-D", str(place.data)]
    for name, value in settings.items():
        server += ["-c", f"{name}={value}"]
    try:
        with (home.logs / "postgres.log").open("ab") as log:
            begin = log.tell()
            # The shell ends at once, so that init, not this process, becomes the server's parent.
            shell = subprocess.run(
                ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", *server],
                user=place.uid,
                group=place.uid,
                extra_groups=None if place.uid is None else [],
                cwd=place.folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                check=True,
            )
        pid = int(shell.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    deadline = time.monotonic() + _START_PATIENCE
    while time.monotonic() < deadline:
        lines = pid_file(place.data)
        if is_ready(lines) and lines[0].strip() == str(pid):
            return None
        if has_ended(pid):
            return _since(home.logs / "postgres.log", begin)
        time.sleep(0.01)
    return f"it was not ready after {_START_PATIENCE:.0f} s\n" + _since(home.logs / "postgres.log", begin)


def _make_database(home: Home, port: int) -> None:
    """The database of the state, closed to every role but its owner."""
    import psycopg

    try:
        with psycopg.connect(_url(home, port, "postgres"), autocommit=True, connect_timeout=30) as admin:
            if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
                admin.execute(f"CREATE DATABASE {DATABASE}")
                admin.execute(f"REVOKE ALL ON DATABASE {DATABASE}, postgres, template1 FROM PUBLIC")
    except psycopg.Error as error:
        raise AccessError(
            f"the state's PostgreSQL runs on port {port} but refused us: {str(error).strip()}",
            mend=f"{home.root / _PASSWORD} must hold the password it was made with; see {home.logs / 'postgres.log'}",
        ) from None


def _same_major(place: Place) -> None:
    made_with = (place.data / "PG_VERSION").read_text().strip()
    program = _run_as(place, [str(place.programs / "postgres"), "--version"]).stdout.split()
    if program and program[-1].split(".")[0] != made_with:
        raise AccessError(
            f"the state in {place.data} was made by PostgreSQL {made_with}, but {program[-1]} is installed",
            mend="dump it with the old version and restore it with the new one (pg_dumpall), or go back",
        )


def _failed(what: str, output: str, place: Place) -> AccessError:
    lines = [line for line in output.strip().splitlines() if line.strip()]
    telling = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "error:", "ERROR"))]
    cause = "; ".join((telling or lines)[-3:]) or "it printed nothing"
    if "No space left" in output or "could not extend" in output:
        return AccessError(f"{what}: the disk of {place.folder} is full: {cause}", mend="free some space and try again")
    if "could not look up effective user" in output:
        return AccessError(f"{what}: {cause}", mend="run as a user that /etc/passwd knows, or set SYNC_DATABASE_URL")
    return AccessError(f"{what}: {cause}", mend="see logs/postgres.log under SYNC_HOME, or set SYNC_DATABASE_URL")


def _url(home: Home, port: int, database: str) -> str:
    password = home.kept(_PASSWORD)
    if password is None:
        raise AccessError(
            f"{home.root / _PASSWORD} is missing, so nobody can log in to the state's PostgreSQL",
            mend=f"restore that file, or remove {home.root} to begin with an empty state",
        )
    return f"postgresql://{USER}:{password.strip()}@127.0.0.1:{port}/{database}"


def _gone(pid: int, data: Path) -> bool:
    deadline = time.monotonic() + _STOP_PATIENCE
    while time.monotonic() < deadline:
        if has_ended(pid) or (any(command_of(pid)) and not serves(pid, data)):
            return True
        time.sleep(0.01)
    return False


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _any_free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _since(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        return file.read()[-20_000:].decode(errors="replace")


def _locked(home: Home) -> contextlib.AbstractContextManager[None]:
    """The one process of this home that starts or stops the server."""
    return locked_file(home.run / "postgres.lock")
