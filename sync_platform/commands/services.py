"""`up`, `down`, `status`: the processes of an installation. `down` stops what `up` started and nothing else."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sync_platform.commands.sandbox_webhooks import WEBHOOK_SECRET, sandbox_environment, send_webhooks
from sync_platform.errors import AccessError, ConfigError
from sync_platform.home import Home

if TYPE_CHECKING:
    from sync_platform.project import Project
    from sync_platform.state.database import Database

PATIENCE = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One process of the installation. `born` guards against a pid that was given to another process."""

    name: str
    pid: int
    born: float
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the services listen; no sandbox without a port for it."""

    ui: int
    gateway: int
    sandbox: int | None = None


def _birth(pid: int) -> float | None:
    """When a process started, in clock ticks since boot; None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else float(fields[19])


def _alive(service: Service) -> bool:
    return _birth(service.pid) == service.born


def _record(home: Home) -> Path:
    return home.run / "services.json"


def running(home: Home) -> list[Service]:
    """The services `up` started that still live."""
    try:
        told = json.loads(_record(home).read_text())
    except (OSError, ValueError):
        return []
    return [service for service in (Service(**one) for one in told) if _alive(service)]


def start_all(project: Project, ports: Ports) -> list[dict[str, Any]]:
    """Starts state, sandbox (when a port is given), gateway, worker, UI and daemon; waits until each answers.

    Raises ConfigError when they run already or a port is taken; stops what it started when one fails.
    """
    from sync_platform.state.filelock import locked_file

    home = Home.current().create()
    with locked_file(home.run / "services.lock"):
        return _start_all(home, project, ports)


def _start_all(home: Home, project: Project, ports: Ports) -> list[dict[str, Any]]:
    from sync_platform.state.dagster_home import dagster_environment
    from sync_platform.state.database import open_state

    already = running(home)
    if already:
        raise ConfigError(
            "already up: " + ", ".join(f"{one.name} (pid {one.pid})" for one in already),
            mend="stop it with `sync-platform down`, or look with `sync-platform status`",
        )
    named = {"--port": ports.ui, "--gateway-port": ports.gateway, "--sandbox-port": ports.sandbox}
    for option, number in named.items():
        if number is not None:
            _refuse_taken(option, number)
    database = open_state()
    environment = {
        **os.environ,
        **dagster_environment(database),
        "SYNC_HOME": str(home.root),
        "SYNC_PROJECT": str(project.root),
    }
    started: list[Service] = []
    words = len(_words(home, "capture"))
    try:
        if ports.sandbox is not None:
            started.append(_command(home, "sandbox", ports.sandbox, environment))
            _wait(home, started[-1], lambda: _answers(f"{started[-1].url}/__control__/health"))
            environment.update(sandbox_environment(ports.sandbox))
        started.append(_command(home, "gateway", ports.gateway, environment, project.root))
        _wait(home, started[-1], lambda: _answers(f"{started[-1].url}/readyz"))
        if ports.sandbox is not None:
            send_webhooks(project, ports.sandbox, ports.gateway, environment[WEBHOOK_SECRET])
        since = time.time()
        started.append(
            _start(
                home, "worker", [sys.executable, "-m", "sync_platform.cli", "worker"], environment, None, project.root
            )
        )
        _wait(home, started[-1], lambda: _worker_seen(database) >= since)
        if _followed(project):
            capture = [sys.executable, "-m", "sync_platform.cli", "capture"]
            started.append(_start(home, "capture", capture, environment, None, project.root))
            _wait(home, started[-1], lambda: "follows" in _words(home, "capture")[words:])
        workspace = str(project.root / "workspace.yaml")
        scripts = Path(sys.executable).parent
        ui = [str(scripts / "dagster-webserver"), "-h", "127.0.0.1", "-p", str(ports.ui), "-w", workspace]
        ui_address = f"http://127.0.0.1:{ports.ui}"
        started.append(_start(home, "dagster-ui", ui, environment, ui_address, project.root))
        _wait(home, started[-1], lambda: _answers(f"{ui_address}/server_info"))
        since = time.time()
        daemon = [str(scripts / "dagster-daemon"), "run", "-w", workspace]
        started.append(_start(home, "dagster-daemon", daemon, environment, None, project.root))
        _wait(home, started[-1], lambda: _scheduler_beat(ui_address) >= since)
    except BaseException:
        _stop(started)
        raise
    _record(home).write_text(json.dumps([asdict(one) for one in started]))
    return status_of_services(database, home)


def _followed(project: Project) -> bool:
    """Whether the log of any connection is to be followed."""
    from sync_platform.connectors.capture import captures

    return any(captures(one) for one in project.connectors.values())


def _words(home: Home, name: str) -> str:
    """What a service has logged so far."""
    log = home.logs / f"{name}.log"
    return log.read_text(errors="replace") if log.exists() else ""


def _refuse_taken(option: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise ConfigError(
                f"port {port} is taken by another program", field=option, value=port, mend=f"choose another {option}"
            ) from None


def _command(home: Home, name: str, port: int, environment: dict[str, str], folder: Path | None = None) -> Service:
    """A service that is a command of ours."""
    command = [sys.executable, "-m", "sync_platform.cli", name, "--port", str(port)]
    return _start(home, name, command, environment, f"http://127.0.0.1:{port}", folder)


def _start(
    home: Home,
    name: str,
    command: list[str],
    environment: dict[str, str],
    url: str | None,
    folder: Path | None = None,
) -> Service:
    with (home.logs / f"{name}.log").open("ab") as out:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Service(name=name, pid=process.pid, born=_birth(process.pid) or 0.0, url=url)


def _wait(home: Home, service: Service, ready: Callable[[], bool]) -> None:
    """Returns once the service is ready; AccessError with its last words when it ended or takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if not _alive(service) or time.monotonic() > deadline:
            log = home.logs / f"{service.name}.log"
            tail = " ".join(log.read_text(errors="replace").splitlines()[-3:])
            raise AccessError(f"{service.name} did not start: {tail}", mend=f"see {log}")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _scheduler_beat(ui: str) -> float:
    """When the daemon's scheduler last said that it lives, in seconds since 1970; 0 for never."""
    query = '{instance{daemonHealth{daemonStatus(daemonType:"SCHEDULER"){lastHeartbeatTime}}}}'
    request = urllib.request.Request(
        f"{ui}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            told = json.load(answer)["data"]["instance"]["daemonHealth"]["daemonStatus"]["lastHeartbeatTime"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
    return float(told or 0.0)


def _worker_seen(database: Database) -> float:
    """When a worker last said that it lives, in seconds since 1970; 0 for never."""
    with database.connection() as connection:
        row = connection.execute("SELECT extract(epoch FROM max(seen_at))::float8 FROM sync.workers").fetchone()
    return float(row[0]) if row and row[0] is not None else 0.0


def _stop(services: list[Service]) -> None:
    """Ends services with their process groups: first asked, then, after ten seconds, killed."""
    for service in services:
        _signal(service, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while any(_alive(one) for one in services) and time.monotonic() < deadline:
        _reap(services)
        time.sleep(0.05)
    for service in services:
        _signal(service, signal.SIGKILL)
    _reap(services)


def _signal(service: Service, number: signal.Signals) -> None:
    if number is signal.SIGTERM and not _alive(service):
        return
    try:
        os.killpg(service.pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _reap(services: list[Service]) -> None:
    for service in services:
        try:
            os.waitpid(service.pid, os.WNOHANG)
        except ChildProcessError:
            continue


def stop_all() -> list[str]:
    """Stops the services of `up` and the embedded PostgreSQL; returns their names."""
    from sync_platform.state import server
    from sync_platform.state.filelock import locked_file

    home = Home.current()
    if not home.run.is_dir():
        return []
    with locked_file(home.run / "services.lock"):
        services = running(home)
        _stop(services)
        _record(home).unlink(missing_ok=True)
        stopped = [one.name for one in services]
        if server.stop(home):
            stopped.append("postgresql")
    return stopped


def status_of_services(database: Database, home: Home) -> list[dict[str, Any]]:
    """One row per service: name, state, url, pid."""
    from sync_platform.state import server

    own = server.running_pid(home) if server.running_url(home) == database.url else None
    rows: list[dict[str, Any]] = [{"name": "postgresql", "state": "running", "url": database.shown, "pid": own}]
    rows += [{"name": one.name, "state": "running", "url": one.url, "pid": one.pid} for one in running(home)]
    return rows


def status_document(project: Project) -> dict[str, Any]:
    """The services and, per sync, its last run, next run and open dead letters."""
    import datetime as dt

    from sync_platform.commands.capturing import standings
    from sync_platform.components.frequency import next_tick
    from sync_platform.ledger.runs import last_report
    from sync_platform.ledger.unsettled import count_open
    from sync_platform.state.database import open_state

    database = open_state()
    rows = []
    with database.connection() as connection:
        for name, declared in project.syncs.items():
            report = last_report(connection, name)
            following = next_tick(declared.spec.frequency, declared.spec.timezone, dt.datetime.now(dt.UTC))
            rows.append(
                {
                    "name": name,
                    "last_run_id": report["run_id"] if report else None,
                    "next_sync": following.strftime("%Y-%m-%dT%H:%M:%SZ") if following else None,
                    "dead_letters_open": count_open(connection, name),
                }
            )
    return {
        "services": status_of_services(database, Home.current()),
        "syncs": rows,
        "captures": standings(project, database),
    }


def show_services(services: list[dict[str, Any]]) -> None:
    """Prints one line per service."""
    for one in services:
        print(f"{one['name']:<16} {one['state']:<8} {one['url'] or ''}")


def show_status(document: dict[str, Any]) -> None:
    """Prints services and syncs for people."""
    from sync_platform.commands.output import table

    show_services(document["services"])
    columns = ["name", "last_run_id", "next_sync", "dead_letters_open"]
    table("syncs", columns, [[one[c] for c in columns] for one in document["syncs"]])
    if document["captures"]:
        columns = ["connection", "state", "stored", "told_at", "behind_bytes", "reason"]
        table("captures", columns, [[one[c] for c in columns] for one in document["captures"]])
