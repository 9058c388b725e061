"""A real HTTP server that receives webhooks, in a thread of its own, and what it was sent."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import orjson
import uvicorn

from sync_platform.sandbox.server import Control

SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"
OUTBOUND = "{http://soap.sforce.com/2005/09/outbound}"
SOBJECT = "{urn:sobject.enterprise.soap.sforce.com}"
XSI = "{http://www.w3.org/2001/XMLSchema-instance}"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in. Header names are lower-case."""

    target: str
    headers: dict[str, str]
    body: bytes
    connection: Any

    @property
    def events(self) -> list[dict[str, Any]]:
        """HubSpot's events."""
        events: list[dict[str, Any]] = orjson.loads(self.body)
        return events

    @property
    def notifications(self) -> list[tuple[str, str | None, dict[str, str]]]:
        """Salesforce's notifications: (id, type, fields with Id)."""
        found = []
        for notice in ElementTree.fromstring(self.body).iter(f"{OUTBOUND}Notification"):
            record = notice.find(f"{OUTBOUND}sObject")
            assert record is not None
            fields = {child.tag.removeprefix(SOBJECT): child.text or "" for child in record}
            found.append((notice.findtext(f"{OUTBOUND}Id") or "", record.get(f"{XSI}type"), fields))
        return found

    def text(self, name: str) -> str | None:
        """The text of an element of Salesforce's envelope."""
        return ElementTree.fromstring(self.body).findtext(f".//{OUTBOUND}{name}")


def ack(value: str = "true") -> tuple[int, bytes]:
    """The answer Salesforce wants."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
        f'<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>{value}</Ack>'
        "</notificationsResponse></s:Body></s:Envelope>"
    )
    return 200, body.encode()


class Receiver:
    """`reply` makes the answer to each request: (status, body), or None to stay silent until the sender hangs up."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hooks/one?key=a%20b"
        self.requests: list[Request] = []
        self.reply: Callable[[Request], tuple[int, bytes] | None] = lambda request: (204, b"")
        self._changed = threading.Condition()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serves one request."""
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        target = scope["raw_path"].decode() + "?" + scope["query_string"].decode()
        request = Request(target, headers, body, tuple(scope["client"]))
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        answer = self.reply(request)
        if answer is None:
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        status, content = answer
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/xml")]})
        await send({"type": "http.response.body", "body": content})

    def wait(self, count: int) -> list[Request]:
        """The requests, once there are at least `count`."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= count, 20), f"{len(self.requests)} of {count}"
            return list(self.requests)

    @property
    def events(self) -> list[dict[str, Any]]:
        """All of HubSpot's events, in the order they came."""
        return [event for request in self.requests for event in request.events]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A running receiver."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = Receiver(listener.getsockname()[1])
        config = uvicorn.Config(app, ws="none", lifespan="off", log_level="critical", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
        listener.listen(256)
        thread.start()
        try:
            yield app
        finally:
            server.should_exit = True
            thread.join(10)


def only(control: Control) -> dict[str, Any]:
    """The only webhook as it is now."""
    (webhook,) = control.get("webhooks")["webhooks"]
    return dict(webhook)


def settled(control: Control, *, waiting: int | None = 0) -> dict[str, Any]:
    """The only webhook, once no request flies and `waiting` notices (None: however many) wait for a later one."""
    for _ in range(4_000):
        webhook = only(control)
        if webhook["in_flight"] == 0 and waiting in (None, webhook["waiting"]):
            break
    else:
        raise AssertionError(f"never settled: {webhook}")
    known = webhook["dropped"] + webhook["acknowledged"] + webhook["failed"] + webhook["waiting"]
    assert webhook["made"] + webhook["duplicated"] == known
    return webhook
