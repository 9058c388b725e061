"""The gateway in a thread of this process: its own server, port and connection to the state, as `serve` runs it."""

from __future__ import annotations

import socket
import threading
import time

import uvicorn

from sync_platform.project import Project
from sync_platform.realtime.gateway import Gateway
from sync_platform.state.database import Database


class GatewayThread:
    """A project's gateway on 127.0.0.1. Use as a context manager."""

    def __init__(self, project: Project, database: Database) -> None:
        self.gateway = Gateway(project=project, database=database)
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        config = uvicorn.Config(
            self.gateway.app, access_log=False, log_config=None, server_header=False, proxy_headers=False,
            lifespan="on", timeout_graceful_shutdown=2,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True, name="gateway"
        )

    def __enter__(self) -> GatewayThread:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the gateway did not start"
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._listener.close()
        assert not self._thread.is_alive(), "the gateway did not stop"
