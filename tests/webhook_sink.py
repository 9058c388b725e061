"""A local webhook that keeps what it gets: where alerts go in tests."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass
class Sink:
    """Answers 200 and keeps the message, or, `refusing`, 500 and forgets it. Listens while it is entered."""

    got: list[dict[str, Any]] = field(default_factory=list)
    refusing: bool = False
    _server: ThreadingHTTPServer | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The sink as apprise addresses it."""
        assert self._server is not None
        return f"json://127.0.0.1:{self._server.server_port}/"

    @property
    def titles(self) -> list[str]:
        """What was told, in order."""
        return [str(one["title"]) for one in self.got]

    def __enter__(self) -> Sink:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not sink.refusing:
                    sink.got.append(body)
                self.send_response(500 if sink.refusing else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
