"""The gateway: webhooks in by HTTP. An event is answered 2xx only once it is committed to the inbox.

`POST /webhooks/{connection}` (and `/webhooks/{connection}/{secret}` where the vendor signs nothing),
`GET /healthz` (this process), `/readyz` (the state answers), `/metrics` (Prometheus).

A vendor repeats what is not answered 2xx, so everything that may pass is a 5xx or a 429, and only what can
never be right is another 4xx: 401 not proved, 400 malformed, 404 nobody, 413 too large.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psycopg
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sync_platform.connectors.shared import Shared
from sync_platform.connectors.webhook import Acknowledgement, Proof, StaleWebhookError
from sync_platform.crash import crash_point
from sync_platform.errors import AccessError, AuthError, ConfigError, ContractError, SyncError
from sync_platform.model import Event
from sync_platform.project import Project
from sync_platform.realtime.inbox import TARGET_SIDE, Arrival, storable, syncs_of
from sync_platform.realtime.limits import Bucket, Voice
from sync_platform.realtime.metrics import Metrics
from sync_platform.realtime.routes import RouteTable
from sync_platform.realtime.writer import Link, Writer, dial
from sync_platform.state.database import Database, translated
from sync_platform.state.quota import PostgresQuota
from sync_platform.state.vault import PostgresTokens

if TYPE_CHECKING:
    from sync_platform.connectors.connector import Connector

LOG: Final = logging.getLogger("sync_platform.gateway")
#: Seconds between two looks at the project's files.
LOOK: Final = 1.0
#: Seconds the state has to answer a question about itself.
PROBE: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator may choose. `public_url`: what vendors call, where a proxy stands before the gateway."""

    public_url: str | None = None
    max_body: int = 1_048_576
    rate: float = 10_000.0  # requests a second of one connection
    body_seconds: float = 10.0  # until a body must have arrived


class Refused(Exception):
    """A request that is answered without being stored."""

    def __init__(self, status: int, reason: str, *, said: str = "", retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.said, self.retry_after = status, reason, said, retry_after


@dataclass(kw_only=True)
class Gateway:
    """One gateway of one project; `app` is what a server runs."""

    project: Project
    database: Database
    settings: Settings = field(default_factory=Settings)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.writer = Writer(database=self.database, committed=self.metrics.batch.observe)
        self.table = RouteTable(root=self.project.root)
        self.table.refresh()
        self._connections = self._connect()
        self._buckets = {name: Bucket(rate=self.settings.rate, clock=time.monotonic) for name in self._connections}
        self._tasks: list[asyncio.Task[None]] = []
        self._voice = Voice(log=LOG, clock=time.monotonic)
        methods = ["POST", "GET"]
        self.app = Starlette(
            routes=[
                Route("/webhooks/{connection}", self.webhook, methods=methods),
                Route("/webhooks/{connection}/{secret}", self.webhook, methods=methods),
                Route("/healthz", self.healthz),
                Route("/readyz", self.readyz),
                Route("/metrics", self.page),
            ],
            lifespan=self._lifespan,
        )
        self.app.router.redirect_slashes = False

    async def webhook(self, request: Request) -> Response:
        """Verifies, stores, then answers."""
        received = time.perf_counter()
        name = request.path_params["connection"]
        shown = name if name in self._connections else ""  # a stranger's name makes no series of its own
        try:
            answer = await self._taken(request, name, received)
        except Refused as refused:
            self.metrics.refused.labels(shown, refused.reason).inc()
            who = shown or "a connection nobody knows"
            self._voice.warn((shown, refused.reason), f"{who}: {refused.reason}. {refused.said}".rstrip(". "))
            headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
            return JSONResponse({"error": refused.reason}, refused.status, headers)
        self.metrics.requests.labels(name).inc()
        return Response(answer.body, answer.status, media_type=answer.content_type)

    async def _taken(self, request: Request, name: str, received: float) -> Acknowledgement:
        """The vendor's answer, once everything the request brought is committed; Refused otherwise."""
        connector = self._connector(request, name)
        body = await self._body(request)
        url = self._url(request)
        asked = connector.handshake(request.method, request.headers, body, url)
        if asked is not None:
            return asked
        if request.method != "POST":
            raise Refused(405, "method")
        events = _verified(connector, request, body, url)
        self.metrics.received.labels(name).inc(len(events))
        if events:
            crash_point("event_verified")
            await self._store(name, events, received)
            crash_point("event_stored")
        return connector.acknowledge()

    def _connector(self, request: Request, name: str) -> Connector:
        found = self._connections.get(name)
        if found is None:
            raise Refused(404, "unknown_connection")
        wait = self._buckets[name].wait()
        if wait:
            raise Refused(429, "rate_limited", retry_after=wait)
        if isinstance(found, ConfigError):
            raise Refused(503, "unconfigured", said=str(found), retry_after=60)
        if found.proof is not Proof.PATH and "secret" in request.path_params:
            raise Refused(404, "unknown_path")
        return found

    async def _body(self, request: Request) -> bytes:
        most = self.settings.max_body
        told = request.headers.get("content-length", "")
        if told.isascii() and told.isdigit() and int(told) > most:
            raise Refused(413, "too_large")
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise Refused(413, "too_large")
                    parts.append(part)
        except ClientDisconnect:
            raise Refused(400, "truncated") from None
        except TimeoutError:
            raise Refused(408, "too_slow") from None
        return b"".join(parts)

    def _url(self, request: Request) -> str:
        """The address the vendor called, as it wrote it: this is what it signed."""
        base = self.settings.public_url or f"{request.scope['scheme']}://{request.headers.get('host', '')}"
        path: str = request.scope["raw_path"].decode("latin-1")
        query: str = request.scope["query_string"].decode("latin-1")
        return base.rstrip("/") + path + (f"?{query}" if query else "")

    async def _store(self, name: str, events: Sequence[Event], received: float) -> None:
        routes = self.table.routes
        arrivals = [
            Arrival(connection=name, event=each, syncs=syncs_of(routes, name, each.stream), received=received)
            for each in events
        ]
        try:
            new = await self.writer.store(arrivals)
        except ContractError as error:
            raise Refused(400, "malformed", said=error.message) from None
        except SyncError as error:
            raise Refused(503, "state_down", said=error.message, retry_after=5) from None
        self.metrics.seconds.labels(name).observe(time.perf_counter() - received)
        self.metrics.stored.labels(name).inc(len(new))
        self.metrics.doubled.labels(name).inc(len(arrivals) - len(new))
        self.metrics.unrouted.labels(name).inc(sum(not arrivals[place].syncs for place in new))

    async def healthz(self, request: Request) -> Response:
        """200 while this process works; what must be running besides has not ended."""
        fine = not any(task.done() for task in self._tasks)
        return JSONResponse({"status": "ok" if fine else "failed"}, 200 if fine else 500)

    async def readyz(self, request: Request) -> Response:
        """200 while the state answers, so that webhooks can be stored."""
        try:
            async with self._probe() as connection:
                await connection.execute("SELECT FROM sync.inbox LIMIT 1")
        except SyncError as error:
            return JSONResponse({"ready": False, "reason": error.message}, 503)
        return JSONResponse({"ready": True})

    async def page(self, request: Request) -> Response:
        """The metrics, with the queue as it is now. Without the state the counters are still told."""
        try:
            async with self._probe() as connection:
                await self.metrics.read_state(
                    connection,
                    sorted({n.removeprefix(TARGET_SIDE) for each in self.table.routes.values() for n in each}),
                )
        except SyncError:
            await self.metrics.read_state(None, [])
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @contextlib.asynccontextmanager
    async def _probe(self) -> AsyncIterator[Link]:
        """A short-lived connection beside the writer's; AccessError when the state does not answer in time."""
        try:
            async with asyncio.timeout(PROBE):
                connection = await dial(self.database, "sync-platform gateway probe")
                try:
                    with translated(self.database.shown):
                        yield connection
                finally:
                    await connection.close()
        except TimeoutError:
            raise AccessError(f"the state did not answer within {PROBE:.0f} seconds") from None
        except psycopg.Error as error:
            raise AccessError(f"the state cannot be read: {error.diag.message_primary}") from None

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._tasks = [asyncio.create_task(self.writer.run()), asyncio.create_task(self._watch())]
        for task in self._tasks:
            task.add_done_callback(_mourn)
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self) -> None:
        """Takes a changed project over without a restart; a broken one is told and the routes stay."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                if await asyncio.to_thread(self.table.refresh):
                    LOG.info("the project changed: events of %d streams feed syncs", len(self.table.routes))
            except (SyncError, OSError, UnicodeDecodeError) as error:
                LOG.error("the project cannot be read, the routes stay as they were: %s", error)

    def _connect(self) -> dict[str, Connector | ConfigError]:
        """The connections whose vendor sends webhooks, ready, or with what they lack."""
        found: dict[str, Connector | ConfigError] = {}
        for name, declared in self.project.connectors.items():
            if declared.proof is Proof.NONE:
                continue
            shared = Shared(
                name=name, tokens=PostgresTokens(self.database, name), quota=PostgresQuota(self.database, name)
            )
            try:
                found[name] = self.project.connect(name, shared)
            except ConfigError as error:
                LOG.error("webhooks of %s are refused until it is configured: %s", name, error)
                found[name] = error
        return found


def _mourn(task: asyncio.Task[None]) -> None:
    """Says why a task ended that never should; /healthz shows it from then on."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        LOG.critical("the gateway cannot go on and must be started again", exc_info=error)


def _verified(connector: Connector, request: Request, body: bytes, url: str) -> list[Event]:
    """The events of a proved request, each as it can be stored."""
    given = request.path_params.get("secret")
    try:
        return [storable(each) for each in connector.verify(request.headers, body, url, path_secret=given)]
    except StaleWebhookError as error:
        raise Refused(401, "stale", said=error.message) from None
    except AuthError as error:
        raise Refused(401, "forged", said=error.message) from None
    except ContractError as error:
        raise Refused(400, "malformed", said=error.message) from None
    except ConfigError as error:
        raise Refused(503, "unconfigured", said=str(error), retry_after=60) from None
