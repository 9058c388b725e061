"""A process that posts signed HubSpot webhooks, one event each, over kept-alive connections, as fast as they are taken.

`python -m tests.bench.events_load URL COUNT CONNECTIONS` with the signing secret in HUBSPOT_CLIENT_SECRET and the ids
of records on stdin; prints one JSON document.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import sys
import time
from collections import Counter
from statistics import quantiles

from sync_platform.sandbox.http_post import Answer, Poster


class Load:
    """So many requests, at most `connections` at a time."""

    def __init__(self, url: str, records: list[str], count: int, connections: int, secret: bytes) -> None:
        self.url, self.records, self.count, self.connections, self.secret = url, records, count, connections, secret
        self.statuses: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.sent = 0
        self.first_id = time.time_ns()  # another one in every process, and above every id the simulator draws

    async def run(self) -> float:
        """Posts them all; the seconds from the first request to the last answer."""
        self._poster, self._over = Poster(self.url), asyncio.Event()
        begun = time.perf_counter()
        for _ in range(min(self.connections, self.count)):
            self._next()
        await self._over.wait()
        took = time.perf_counter() - begun
        self._poster.close()
        return took

    def _next(self) -> None:
        if self.sent == self.count:
            return
        number, self.sent = self.sent, self.sent + 1
        now = int(time.time() * 1000)
        event = {
            "eventId": self.first_id + number, "subscriptionId": 1, "portalId": 1, "appId": 1, "occurredAt": now,
            "subscriptionType": "contact.propertyChange", "attemptNumber": 0, "changeSource": "CRM_UI",
            "objectId": int(self.records[number % len(self.records)]), "propertyName": "company",
            "propertyValue": f"Load {number:07d}",
        }  # fmt: skip
        body = json.dumps([event]).encode()
        signed = hmac.new(self.secret, b"POST" + self.url.encode() + body + str(now).encode(), hashlib.sha256)
        headers = {
            "Content-Type": "application/json",
            "X-HubSpot-Signature-v3": base64.b64encode(signed.digest()).decode(),
            "X-HubSpot-Request-Timestamp": str(now),
        }
        begun = time.perf_counter()
        self._poster.post(headers, body, lambda answer: self._answered(answer, begun))

    def _answered(self, answer: Answer, begun: float) -> None:
        self.seconds.append(time.perf_counter() - begun)
        self.statuses[str(answer.status)] += 1
        if len(self.seconds) == self.count:
            self._over.set()
        asyncio.get_running_loop().call_soon(self._next)  # not at once: answers would call each other ever deeper


def main() -> None:
    """Runs the load of the command line."""
    url, count, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    load = Load(url, json.load(sys.stdin), count, connections, os.environ["HUBSPOT_CLIENT_SECRET"].encode())
    seconds = asyncio.run(load.run())
    cuts = quantiles(load.seconds, n=100, method="inclusive")
    told = {"seconds": seconds, "statuses": load.statuses, "p50": cuts[49], "p99": cuts[98]}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
