"""A scripted HTTP server on a local port, and a clock that only moves when someone sleeps."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request the server received, wholly read."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> Mapping[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the server does: answer, answer a part of it, or hang up without a word."""

    status: int = 200
    data: Any = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None  # send only so many bytes of the body, then hang up
    framed: bool = True  # whether Content-Length tells how long the body is
    chunked: bool = False
    zipped: bool = False
    hang_up: bool = False


Script = Callable[[Asked], Reply]


class LocalServer:
    """The running server: its address, and every request in order."""

    def __init__(self, url: str, asked: list[Asked]) -> None:
        self.url = url
        self.asked = asked

    def of(self, method: str, path: str = "") -> list[Asked]:
        return [one for one in self.asked if one.method == method and one.path.startswith(path)]


class _Handler(BaseHTTPRequestHandler):
    reply_to: ClassVar[Callable[[Asked], Reply]]  # a static method of the class that is served

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        return

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        request = Asked(
            method=self.command, path=parts.path, query=query, headers=dict(self.headers.items()), body=body
        )
        self._answer(type(self).reply_to(request))

    def _answer(self, reply: Reply) -> None:
        if reply.hang_up:
            self._hang_up()
            return
        body = reply.body if reply.body is not None else b"" if reply.data is None else json.dumps(reply.data).encode()
        if reply.zipped:
            body = gzip.compress(body)
        self.send_response(reply.status)
        if reply.body is None:
            self.send_header("Content-Type", "application/json")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.zipped:
            self.send_header("Content-Encoding", "gzip")
        if reply.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif reply.framed:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        sent = body if reply.cut is None else body[: reply.cut]
        self.wfile.write(b"%x\r\n%b\r\n" % (len(sent), sent) if reply.chunked and sent else sent)
        if reply.cut is not None or not (reply.framed or reply.chunked):
            self._hang_up()
        elif reply.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve  # noqa: N815


@contextmanager
def serving(script: Script | Sequence[Reply]) -> Iterator[LocalServer]:
    """Serves what `script` says; a list of replies is used up in order, its last one for ever."""
    asked: list[Asked] = []
    lock = threading.Lock()
    queue = list(script) if not callable(script) else []

    def reply_to(request: Asked) -> Reply:
        with lock:
            asked.append(request)
            if not callable(script):
                return queue.pop(0) if len(queue) > 1 else queue[0]
        return script(request)

    handler = type("Handler", (_Handler,), {"reply_to": staticmethod(reply_to)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield LocalServer(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
