"""A TCP proxy before a server that breaks a connection off when one side says a certain thing."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from types import TracebackType


class CutProxy:
    """Forwards to a port of loopback; `cut_at`, `halve` and `after` arm what goes wrong. `cuts` counts what did."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._word: bytes | None = None
        self._answered = False
        self._half: bytes | None = None
        self._keep = 0
        self._halves = 0
        self._after: tuple[int, Callable[[], None]] | None = None
        self._counting = threading.Lock()
        self.carried = 0
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_at(self, word: bytes, *, answered: bool) -> None:
        """Cuts once: before the client's `word` reaches the server or, `answered`, the server's reaches the client."""
        self._word, self._answered = word, answered

    def halve(self, word: bytes, *, times: int, keep: int = 900) -> None:
        """Answers to requests that say `word` end after `keep` bytes, `times` times."""
        self._half, self._halves, self._keep = word, times, keep

    def after(self, size: int, do: Callable[[], None]) -> None:
        """Calls `do` once, in mid-talk, when so many bytes were carried from now on; those at hand are lost."""
        with self._counting:
            self.carried, self._after = 0, (size, do)

    def disarm(self) -> None:
        """Takes back what has not happened yet."""
        with self._counting:
            self.carried, self._after = 0, None

    def _moment(self, size: int) -> Callable[[], None] | None:
        """Counts what is carried; what is to be done now."""
        with self._counting:
            self.carried += size
            if self._after is None or self.carried < self._after[0]:
                return None
            do, self._after = self._after[1], None
        self.cuts += 1
        return do

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        halving = False
        with (
            contextlib.suppress(OSError),
            client,
            socket.create_connection(("127.0.0.1", self._target)) as server,
        ):
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for side in ready:
                    data = side.recv(65536)
                    if not data:
                        return
                    do = self._moment(len(data))
                    if do is not None:
                        do()
                        return
                    if self._word is not None and self._word in data and (side is server) is self._answered:
                        self._word = None
                        self.cuts += 1
                        return
                    if side is client and self._halves and self._half is not None and self._half in data:
                        halving, self._halves = True, self._halves - 1
                    if side is server and halving:
                        self.cuts += 1
                        client.sendall(data[: self._keep])
                        return
                    (server if side is client else client).sendall(data)

    def __enter__(self) -> CutProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.close()
