"""A TCP proxy before the sandbox that breaks off in the middle of chosen answers."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from types import TracebackType


class HalfAnswers:
    """Forwards to a port of loopback; answers to requests that say `word` end after `keep` bytes, `times` times."""

    def __init__(self, port: int, *, word: bytes, times: int, keep: int = 900) -> None:
        self._target, self._word, self._keep = port, word, keep
        self.left, self.cuts = times, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        cutting = False
        with client, socket.create_connection(("127.0.0.1", self._target)) as server, contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for side in ready:
                    data = side.recv(65536)
                    if not data:
                        return
                    if side is client and self._word in data and self.left:
                        cutting, self.left = True, self.left - 1
                    if side is server and cutting:
                        self.cuts += 1
                        client.sendall(data[: self._keep])
                        return
                    (server if side is client else client).sendall(data)

    def __enter__(self) -> HalfAnswers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.close()
