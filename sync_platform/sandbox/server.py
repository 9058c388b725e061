"""The sandbox server: every simulator below /<system>, the control API below /__control__.

Served on 127.0.0.1 only. `serve` blocks; `SandboxThread` and `SandboxProcess` are for tests and the demo.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final

import orjson
import requests
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sync_platform.sandbox.frontdoor import FrontDoor
from sync_platform.sandbox.kit import Simulator, World, uncollected

DEFAULT_PORT: Final = 8900
DEFAULT_SEED: Final = 7
#: system -> where its simulator class is
SYSTEMS: Final = {
    "salesforce": "sync_platform.sandbox.salesforce:SalesforceSimulator",
    "hubspot": "sync_platform.sandbox.hubspot:HubSpotSimulator",
}


def simulators(systems: Sequence[str] | None = None) -> list[type[Simulator]]:
    """The simulator classes of these systems (default: all). Raises KeyError for an unknown one."""
    found = []
    for system in SYSTEMS if systems is None else systems:
        module, _, name = SYSTEMS[system].partition(":")
        found.append(getattr(importlib.import_module(module), name))
    return found


def create_app(
    *, seed: int = DEFAULT_SEED, systems: Sequence[str] | None = None, clock: Callable[[], float] = time.time
) -> FrontDoor:
    """The ASGI application over a fresh, empty world."""
    return FrontDoor(World(simulators(systems), seed=seed, clock=clock))


def env_lines(port: int = DEFAULT_PORT, systems: Sequence[str] | None = None) -> list[str]:
    """The `KEY=value` lines of `sandbox --env`: base URLs and credentials the simulators accept."""
    world = World(simulators(systems))
    return [
        f"{key}={value}"
        for name, simulator in world.systems.items()
        for key, value in simulator.env(f"http://127.0.0.1:{port}/{name}").items()
    ]


class _Protocol(HttpToolsProtocol):
    """Lets a fault close the connection without an answer."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["close"] = self.transport.abort


class _Server(uvicorn.Server):
    """Lets go of held requests and of webhooks under way before it waits for open requests to finish."""

    def __init__(self, config: uvicorn.Config, door: FrontDoor) -> None:
        super().__init__(config)
        self._door = door

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._door.interrupt(None)
        for simulator in self._door.world.systems.values():
            simulator.outbox.remove()
        await super().shutdown(sockets)


def _server(door: FrontDoor) -> _Server:
    config = uvicorn.Config(
        door,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
    )
    return _Server(config, door)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else asyncio leaves Nagle on
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        raise
    return listener


def serve(
    port: int = DEFAULT_PORT,
    seed: int = DEFAULT_SEED,
    *,
    systems: Sequence[str] | None = None,
    on_ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serves until interrupted. `on_ready` is given the base URL once requests are accepted.

    Raises OSError when the port is taken. Port 0 takes a free one.
    """
    with contextlib.closing(_listen(port)) as listener:
        listener.listen(2048)
        on_ready(f"http://127.0.0.1:{listener.getsockname()[1]}")
        _server(create_app(seed=seed, systems=systems)).run(sockets=[listener])


class ControlError(Exception):
    """The control API refused; `status` and `body` say why."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


class Control:
    """A client of the control API at `url` (without a trailing slash)."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The decoded answer of one control request. Raises ControlError unless it is a 2xx."""
        data = None if body is None else orjson.dumps(body)
        answer = self._session.request(method, f"{self.url}/__control__/{path}", data=data, timeout=120)
        with uncollected():
            decoded = orjson.loads(answer.content)
        if not answer.ok:
            raise ControlError(answer.status_code, decoded)
        return decoded

    def get(self, path: str) -> Any:
        """GET."""
        return self.call("GET", path)

    def post(self, path: str, body: object = None) -> Any:
        """POST."""
        return self.call("POST", path, {} if body is None else body)

    def delete(self, path: str, body: object) -> Any:
        """DELETE."""
        return self.call("DELETE", path, body)


class SandboxThread:
    """A sandbox in a background thread of this process, as a context manager; `door.world` is its inside."""

    def __init__(
        self,
        *,
        seed: int = DEFAULT_SEED,
        port: int = 0,
        systems: Sequence[str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.door = create_app(seed=seed, systems=systems, clock=clock)
        self._listener = _listen(port)
        self._listener.listen(2048)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.control = Control(self.url)
        self._server = _server(self.door)
        self._thread = threading.Thread(target=self._run, daemon=True, name="sandbox")

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._listener]))

    def start(self) -> SandboxThread:
        """Starts the thread and waits until it answers."""
        self._thread.start()
        self.control.get("health")
        return self

    def stop(self) -> None:
        """Stops serving and waits for the thread."""
        self._server.should_exit = True
        self._thread.join(10)
        self._listener.close()

    def __enter__(self) -> SandboxThread:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class SandboxProcess:
    """A sandbox in a process of its own, as a context manager. It ends with its starter, however that ends."""

    def __init__(self, *, seed: int = DEFAULT_SEED, port: int = 0) -> None:
        module = [sys.executable, "-m", "sync_platform.sandbox"]
        command = [*module, "--port", str(port), "--seed", str(seed), "--until-eof"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"the sandbox did not start (exit code {self._process.wait()}); see its stderr")
        self.port = int(self.url.rpartition(":")[2])
        self.pid = self._process.pid
        self.control = Control(self.url)
        self.control.get("health")

    def stop(self) -> None:
        """Ends the process."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> SandboxProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m sync_platform.sandbox`: prints the base URL once it listens, then serves."""
    parser = argparse.ArgumentParser(prog="sync_platform.sandbox")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    parser.add_argument("--until-eof", action="store_true", help="end when stdin closes")
    options = parser.parse_args(arguments)
    if options.until_eof:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    serve(options.port, options.seed, on_ready=lambda url: print(url, flush=True))
