"""The ASGI application: reads a request, acts out its fault, lets the simulator answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from sync_platform.sandbox.control import CONTROL, ControlApi
from sync_platform.sandbox.faults import HANDLED_BY_SIMULATOR, KINDS, Fault
from sync_platform.sandbox.kit import Call, JSONResponse, Simulator, World
from sync_platform.sandbox.request_log import Entry

_HERE: Final = frozenset(KINDS) - HANDLED_BY_SIMULATOR - {"expire_token"}


@dataclass(slots=True, eq=False)
class Wait:
    """A request that is kept waiting, by a hold or by real seconds."""

    entry: Entry
    held: bool
    over: asyncio.Event = field(default_factory=asyncio.Event)
    interrupted: bool = False

    def end(self, *, interrupted: bool) -> None:
        """Lets it go on, or drops it."""
        self.interrupted = self.interrupted or interrupted
        self.over.set()


class Client:
    """The other end of one connection: its body, whether it is still there, and how to hang up."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._close: Callable[[], None] | None = scope.get("state", {}).get("close")
        self._watch: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()

    async def body(self) -> bytes | None:
        """The whole request body; None when the client left while sending it."""
        chunks = []
        while True:
            message: Message = await self._receive()
            if message["type"] == "http.disconnect":
                return None
            chunks.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(chunks)

    def watch(self) -> None:
        """Starts noticing when the client leaves. Only after `body`."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone.set()

    async def hang_up(self) -> None:
        """Closes the TCP connection without an answer."""
        if self._close is None:
            raise RuntimeError("this server cannot close connections: serve it with sandbox.server")
        self.watch()
        self._close()
        await self.gone.wait()

    def forget(self) -> None:
        """Stops watching."""
        if self._watch is not None:
            self._watch.cancel()


class FrontDoor:
    """The application. `world` is everything behind it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.waits: dict[int, Wait] = {}
        self.control = ControlApi(world, waits=self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one HTTP request."""
        if scope["type"] != "http":
            raise RuntimeError(f"only http is served, not {scope['type']}")
        client = Client(scope, receive)
        body = await client.body()
        if body is None:
            return
        path: str = scope["path"]
        head, _, rest = path.lstrip("/").partition("/")
        try:
            if head == CONTROL:
                query = scope["query_string"].decode("latin-1")
                self.world.origin = f"{scope['scheme']}://{_host(scope)}"
                await self.control.answer(scope["method"], rest, query, body)(scope, receive, send)
            elif head in self.world.systems:
                await self._vendor(self.world.systems[head], "/" + rest, scope, client, body, receive, send)
            else:
                known = ", ".join(self.world.systems)
                error = {"error": f"no system {head!r}; there are: {known}", "field": "system"}
                await JSONResponse(error, 404)(scope, receive, send)
        finally:
            client.forget()

    # ---- held requests, as the control API sees them

    def held(self) -> list[Entry]:
        """The requests that wait for a release."""
        return [wait.entry for wait in self.waits.values() if wait.held]

    def release(self) -> int:
        """Lets every held request go on; how many."""
        waits = [wait for wait in self.waits.values() if wait.held]
        for wait in waits:
            wait.end(interrupted=False)
        return len(waits)

    def interrupt(self, system: str | None) -> None:
        """Drops every request of a system (None: all) that is kept waiting."""
        for wait in list(self.waits.values()):
            if system in (None, wait.entry.system):
                wait.end(interrupted=True)

    # ---- vendor requests

    async def _vendor(
        self, simulator: Simulator, path: str, scope: Scope, client: Client, body: bytes, receive: Receive, send: Send
    ) -> None:
        world = self.world
        world.run_due()
        query = scope["query_string"].decode("latin-1")
        method: str = scope["method"]
        entry = world.log.open(at=world.now_ms(), system=simulator.system, method=method, path=path, query=query)
        headers = Headers(scope=scope)
        call = Call(
            world=world, system=simulator.system, entry=entry, method=method, path=path, query_string=query,
            headers=headers, body=body, root=f"{scope['scheme']}://{_host(scope)}/{simulator.system}",
        )  # fmt: skip
        expiry = world.faults.take(simulator.system, method, path, {"expire_token"}, world.chance)
        fault = world.faults.take(simulator.system, method, path, _HERE, world.chance)
        if expiry is not None:
            simulator.expire_tokens()
        if fault is not None or expiry is not None:
            entry.fault = (fault or expiry).kind  # type: ignore[union-attr]
        try:
            response = await self._act(simulator, call, client, fault)
            if response is None:
                await client.hang_up()
                return
            entry.status = response.status_code
            await response(scope, receive, send)
        finally:
            world.log.close(entry)

    async def _act(self, simulator: Simulator, call: Call, client: Client, fault: Fault | None) -> Response | None:
        """The answer under a fault; None: hang up."""
        if fault is None:
            return await self._handle(simulator, call)
        entry = call.entry
        if fault.kind in ("429", "500", "503"):
            return simulator.error(int(fault.kind))
        if fault.kind == "disconnect_before":
            return None
        if fault.kind == "timeout":
            await self._pause(entry, client, fault.seconds, held=False)
            return None
        if fault.kind == "hold_before":
            if not await self._pause(entry, client, None, held=True):
                return None
            self.world.run_due()
            return await self._handle(simulator, call)
        response = await self._handle(simulator, call)
        if fault.kind == "disconnect_after":
            return None
        seconds = None if fault.kind == "hold_after" else fault.seconds
        return response if await self._pause(entry, client, seconds, held=seconds is None) else None

    async def _handle(self, simulator: Simulator, call: Call) -> Response:
        try:
            return await simulator.handle(call)
        except BaseException as error:
            call.entry.status = 500
            call.violation(f"the simulator failed: {type(error).__name__}: {error}")
            raise

    async def _pause(self, entry: Entry, client: Client, seconds: float | None, *, held: bool) -> bool:
        """Waits for a release or for real seconds; False when the client left or a reset dropped it."""
        client.watch()
        wait = self.waits[entry.seq] = Wait(entry, held)
        over = asyncio.create_task(wait.over.wait())
        gone = asyncio.create_task(client.gone.wait())
        try:
            await asyncio.wait((over, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            gone.cancel()
            del self.waits[entry.seq]
        return not wait.interrupted and not client.gone.is_set()


def _host(scope: Scope) -> str:
    """Host and port as the client named them."""
    return Headers(scope=scope).get("host") or "{}:{}".format(*(scope.get("server") or ("127.0.0.1", 0)))
