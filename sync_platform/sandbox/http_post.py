"""Posts to one URL over kept-alive connections, without a task per request.

A small HTTP/1.1 client for the server's own event loop: `Poster.post` returns at once, and the answer (or why there is
none) arrives at a callback. Redirects are not followed, nothing is sent twice on its own.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

import httptools

#: A connection idle for longer is not used again: the other end may be closing it (uvicorn does after 5 s).
IDLE_SECONDS: Final = 2.0
#: As much of an answer's body is kept.
MOST_BODY: Final = 1 << 16


class Answer(NamedTuple):
    """What came back. `status` None: no answer, and `error` says why."""

    status: int | None
    body: bytes
    error: str | None


class Exchange:
    """One request under way. `finish` is called once; what comes later is ignored."""

    __slots__ = ("_done", "link", "payload")

    def __init__(self, payload: bytes, done: Callable[[Answer], None]) -> None:
        self.payload = payload
        self.link: Link | None = None
        self._done: Callable[[Answer], None] | None = done

    @property
    def over(self) -> bool:
        """Whether it was answered or given up."""
        return self._done is None

    def finish(self, answer: Answer) -> None:
        """Hands the answer on."""
        done, self._done = self._done, None
        if done is not None:
            done(answer)

    def abandon(self, reason: str) -> None:
        """Gives up waiting, and closes the connection: its answer would be taken for another's."""
        link = self.link
        self.finish(Answer(None, b"", reason))
        if link is not None:
            link.close()


class Link(asyncio.Protocol):
    """One connection; it carries one exchange at a time."""

    def __init__(self, poster: Poster) -> None:
        self._poster = poster
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._sized = False
        self._until_eof = False  # neither a length nor chunks: the answer ends with the connection
        self.idle_since = 0.0

    def start(self, exchange: Exchange) -> None:
        """Sends a request."""
        assert self._transport is not None
        self._exchange, exchange.link = exchange, self
        self._parser = httptools.HttpResponseParser(self)
        self._body, self._size, self._until_eof = [], 0, False
        self._transport.write(exchange.payload)

    def close(self) -> None:
        """Drops the connection."""
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, but not by inheritance

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.close()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(Answer(None, b"", f"not HTTP: {error}"))
            self.close()

    def eof_received(self) -> bool:
        if self._until_eof and self._parser is not None:
            self._end(Answer(self._parser.get_status_code(), b"".join(self._body)[:MOST_BODY], None))
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._poster.lost(self)
        self._end(Answer(None, b"", str(error) if error else "the connection was closed without an answer"))

    # ---- the parser's callbacks

    def on_message_begin(self) -> None:
        """A status line comes."""
        self._until_eof, self._sized = False, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._sized = self._sized or name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        """The body comes."""
        self._until_eof = not self._sized

    def on_body(self, chunk: bytes) -> None:
        """A piece of the body."""
        if self._size < MOST_BODY:
            self._body.append(chunk)
            self._size += len(chunk)

    def on_message_complete(self) -> None:
        """The answer is there."""
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        if status < 200:
            return
        keep = parser.should_keep_alive()
        answer = Answer(status, b"".join(self._body)[:MOST_BODY], None)
        exchange, self._exchange, self._parser = self._exchange, None, None
        if keep:
            self._poster.free(self)
        else:
            self.close()
        if exchange is not None:
            exchange.link = None
            exchange.finish(answer)

    def _end(self, answer: Answer) -> None:
        exchange, self._exchange, self._parser = self._exchange, None, None
        if exchange is not None:
            exchange.link = None
            exchange.finish(answer)


class Poster:
    """A client of one URL, on the running event loop."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._head = f"POST {target} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"
        self._loop = asyncio.get_running_loop()
        self._idle: list[Link] = []
        self._links: set[Link] = set()
        self._connecting: set[asyncio.Task[None]] = set()

    def post(self, headers: Mapping[str, str], body: bytes, done: Callable[[Answer], None]) -> Exchange:
        """Sends a request; `done` is called with its answer, never before this returns."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        payload = f"{self._head}{lines}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body
        exchange = Exchange(payload, done)
        link = self._take()
        if link is None:
            task = self._loop.create_task(self._connect(exchange))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        else:
            link.start(exchange)
        return exchange

    def close(self) -> None:
        """Drops every connection."""
        for task in self._connecting:
            task.cancel()
        links, self._links, self._idle = self._links, set(), []
        for link in links:
            link.close()

    def free(self, link: Link) -> None:
        """Takes back a connection that may be used again."""
        link.idle_since = self._loop.time()
        self._idle.append(link)

    def lost(self, link: Link) -> None:
        """Forgets a connection that is gone."""
        self._links.discard(link)
        if link in self._idle:
            self._idle.remove(link)

    def _take(self) -> Link | None:
        oldest = self._loop.time() - IDLE_SECONDS
        while self._idle:
            link = self._idle.pop()  # the one used last
            if link.idle_since >= oldest:
                return link
            link.close()
        return None

    async def _connect(self, exchange: Exchange) -> None:
        try:
            _, link = await self._loop.create_connection(lambda: Link(self), self._host, self._port, ssl=self._tls)
        except OSError as error:
            exchange.finish(Answer(None, b"", f"no connection: {error}"))
            return
        self._links.add(link)
        if exchange.over:
            link.close()  # given up while connecting
        else:
            link.start(exchange)
