"""A TCP proxy before a server that cuts the connection when the client says a certain thing."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from types import TracebackType


class CutProxy:
    """Forwards to a port of loopback; `cut_at(word, answered)` arms one cut.

    The connection ends before the client's word reaches the server, or, with `answered`, before the
    server's word reaches the client.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._word: bytes | None = None
        self._answered = False
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_at(self, word: bytes, *, answered: bool) -> None:
        """The next time the data of that side hold `word`, the connection is cut."""
        self._word, self._answered = word, answered

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server, contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for side in ready:
                    data = side.recv(65536)
                    if not data:
                        return
                    if self._word is not None and self._word in data and (side is server) is self._answered:
                        self._word = None
                        self.cuts += 1
                        return
                    (server if side is client else client).sendall(data)

    def __enter__(self) -> CutProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.close()
