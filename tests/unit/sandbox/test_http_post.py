"""The client that webhooks are sent with, against a server that answers byte by byte as told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sync_platform.sandbox.http_post import Answer, Exchange, Poster


class RawServer:
    """Answers each request with the same bytes; closes after it when told to, or says nothing at all."""

    def __init__(self, answer: bytes | None, *, closes: bool = False) -> None:
        self.answer = answer
        self.closes = closes
        self.connections = 0
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(4)
                if self.answer is None:
                    await reader.read()
                    return
                for at in range(len(self.answer)):
                    writer.write(self.answer[at : at + 1])
                if self.closes:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


def talk(server: RawServer, count: int, *, use: Callable[[Exchange], None] = lambda exchange: None) -> list[Answer]:
    """The answers to `count` posts, one after the other."""

    async def run() -> list[Answer]:
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        poster = Poster(f"http://127.0.0.1:{port}/a%20b?c=d")
        answers = []
        for _ in range(count):
            came: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            use(poster.post({"X-One": "1"}, b"body", came.set_result))
            answers.append(await asyncio.wait_for(came, 10))
        poster.close()
        listener.close()
        return answers

    return asyncio.run(run())


def test_answers_are_read_and_the_connection_is_kept() -> None:
    server = RawServer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
    assert talk(server, 3) == [Answer(200, b"OK", None)] * 3
    assert server.connections == 1
    assert server.heads[0].startswith(b"POST /a%20b?c=d HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nX-One: 1\r\nContent-Length: 4\r\n\r\n" in server.heads[0]


def test_chunks_are_put_together_and_an_interim_answer_is_passed_over() -> None:
    chunks = b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"
    server = RawServer(b"HTTP/1.1 100 Continue\r\n\r\n" + chunks)
    assert talk(server, 2) == [Answer(202, b"abcde", None)] * 2


@pytest.mark.parametrize("head", [b"Connection: close\r\nContent-Length: 0\r\n", b"Connection: close\r\n"])
def test_a_closed_connection_is_not_used_again(head: bytes) -> None:
    server = RawServer(b"HTTP/1.1 500 Oops\r\n" + head + b"\r\n", closes=True)
    assert [answer.status for answer in talk(server, 2)] == [500, 500]
    assert server.connections == 2


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"])
def test_a_broken_off_answer_is_none_and_nothing_is_sent_twice(answer: bytes) -> None:
    server = RawServer(answer, closes=True)
    (broken,) = talk(server, 1)
    assert broken.status is None
    assert broken.error
    assert len(server.heads) == 1


def test_what_is_not_http_is_no_answer() -> None:
    (odd,) = talk(RawServer(b"SSH-2.0-OpenSSH_9.6\r\n"), 1)
    assert odd.status is None
    assert str(odd.error).startswith("not HTTP")


def test_a_request_given_up_takes_its_connection_with_it() -> None:
    server = RawServer(None)
    assert talk(server, 2, use=lambda exchange: exchange.abandon("enough")) == [Answer(None, b"", "enough")] * 2


def test_a_refused_connection_is_no_answer() -> None:
    async def run() -> Answer:
        listener = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        listener.close()
        await listener.wait_closed()
        came: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        Poster(f"http://127.0.0.1:{port}/").post({}, b"", came.set_result)
        return await asyncio.wait_for(came, 10)

    answer = asyncio.run(run())
    assert answer.status is None
    assert str(answer.error).startswith("no connection")
