"""Many vendors at once: signed webhooks sent at a steady rate over kept-alive connections, each answer timed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Answers:
    """What came back: how many of each status, and the seconds from when each request was due to its answer."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    def milliseconds(self, share: float) -> float:
        """The latency that this share of the answers did not exceed."""
        ranked = sorted(self.latencies)
        return 1000 * ranked[min(len(ranked) - 1, int(len(ranked) * share))]


def signed_requests(port: int, name: str, secret: str, numbers: Iterable[int], *, records: int = 500) -> list[bytes]:
    """HTTP requests with one event each, signed as HubSpot's page says; good for five minutes."""
    url = f"http://127.0.0.1:{port}/webhooks/{name}"
    stamp, run, made = str(int(time.time() * 1000)), time.time_ns(), []
    for number in numbers:
        event = {
            "eventId": number, "subscriptionId": run, "portalId": 1, "appId": 2, "occurredAt": int(stamp),
            "subscriptionType": "contact.propertyChange", "attemptNumber": 0, "objectId": number % records,
            "propertyName": "email", "propertyValue": f"person{number}@x.example", "changeSource": "CRM",
        }  # fmt: skip
        body = json.dumps([event]).encode()
        proof = hmac.new(secret.encode(), b"POST" + url.encode() + body + stamp.encode(), hashlib.sha256).digest()
        head = (
            f"POST /webhooks/{name} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            f"X-HubSpot-Signature-v3: {base64.b64encode(proof).decode()}\r\n"
            f"X-HubSpot-Request-Timestamp: {stamp}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


class _Line(asyncio.Protocol):
    """One kept-alive connection: a request, its answer, the next request."""

    def __init__(self, free: deque[_Line], room: asyncio.Semaphore, answers: Answers) -> None:
        self._free, self._room, self._answers = free, room, answers
        self._got = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._free.append(self)

    def send(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0]) if end else 0
        if not end or len(body) < length:
            return
        status, self._got = int(head[9:12]), b""
        self._answers.latencies.append(time.perf_counter() - self._due)
        self._answers.statuses[status] = self._answers.statuses.get(status, 0) + 1
        self._free.append(self)
        self._room.release()


async def send_all(port: int, requests: Sequence[bytes], *, rate: float, connections: int = 64) -> Answers:
    """Sends each request when it is due; one that must wait for a free connection is timed from when it was due."""
    answers, free, room = Answers(), deque[_Line](), asyncio.Semaphore(connections)
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: _Line(free, room, answers), "127.0.0.1", port)
    begun = time.perf_counter()
    for number, request in enumerate(requests):
        due = begun + number / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        await room.acquire()
        free.popleft().send(request, due)
    while len(answers.latencies) < len(requests):
        await asyncio.sleep(0.005)
    answers.seconds = time.perf_counter() - begun
    return answers
