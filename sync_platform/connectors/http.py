"""The HTTP client of every connector: paced, retried only where harmless, honest about lost answers.

    http = Http("https://api.example.com", system="example", auth=StaticToken("..."), quota=quota)
    rows = http.get("/things", params={"after": "42"}, bucket="list").data["results"]
    http.post("/things", json={"name": "x"}, write=True)         # never sent twice
    http.post("/things/search", json={...}, repeatable=True)     # a read by POST may be

What is repeated, until `deadline` seconds have passed or `attempts` are used up:

- a *harmless* call (GET, HEAD, or `repeatable=True`) after a 5xx, a timeout, a lost or truncated answer;
- any call that was certainly not executed: no byte sent, 429, or a fault with `executed=False`;
- any call, once, after a 401 for which `auth` found a newer credential.

Everything else raises at once; UnknownOutcome when a call that is not harmless may have happened.
"""

from __future__ import annotations

import datetime as dt
import gzip
import io
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TypeAlias, TypeVar
from urllib.parse import urljoin

import requests
import urllib3

from sync_platform.connectors.body import Download, HalfAnswer, encode, parse
from sync_platform.connectors.credentials import Auth, Credential
from sync_platform.connectors.faults import LATER, Answer, Fault, FaultReader, fault_of, nothing_was_done
from sync_platform.connectors.shared import Quota, Traffic
from sync_platform.connectors.wire import Params, Wire, origin, send, session, watched, with_query, without_query
from sync_platform.crash import crash_point
from sync_platform.errors import (
    ConfigError,
    ContractError,
    RateLimitError,
    SyncError,
    TransientError,
    UnknownOutcome,
)

T = TypeVar("T")
_Reader: TypeAlias = Callable[["_Call", requests.Response, dt.datetime], T]

CONNECT_TIMEOUT: Final = 10.0
READ_TIMEOUT: Final = 60.0
HARMLESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_MOVED: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    method: str
    path: str
    headers: Mapping[str, str]
    bucket: str
    cost: float
    write: bool
    harmless: bool
    params: Params | None = None
    body: bytes | None = None
    expect_json: bool = True
    exact: bool = False


class _Refused(Exception):
    """An answer with a status of 300 or more."""

    def __init__(self, fault: Fault, status: int) -> None:
        super().__init__(status)
        self.fault, self.status = fault, status


class _Lost(Exception):
    """No usable answer; `wire` says how far the request got."""

    def __init__(self, how: str, wire: Wire) -> None:
        super().__init__(how)
        self.how, self.wire = how, wire


class Http:
    """HTTP calls to one account. Safe to share between threads.

    `faults` reads the vendor's error bodies; `observe(answer, quota)` sees every answer (for limit
    headers); `gzip_over` compresses bodies above that many bytes (None: never); `clock` is wall time.
    """

    def __init__(
        self,
        base_url: str,
        *,
        system: str,
        auth: Auth | None = None,
        quota: Quota | None = None,
        traffic: Traffic | None = None,
        faults: FaultReader | None = None,
        observe: Callable[[Answer, Quota | None], None] | None = None,
        headers: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        gzip_over: int | None = None,
        timeout: tuple[float, float] = (CONNECT_TIMEOUT, READ_TIMEOUT),
        deadline: float = 300.0,
        attempts: int = 6,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ConfigError(
                f"{system}: base_url is not an http or https address",
                field="base_url",
                value=without_query(base_url),
                mend="write it as https://host[/path]",
            )
        self.base_url = base_url.rstrip("/")
        self.system = system
        self.traffic = traffic if traffic is not None else Traffic()
        self._auth, self._quota, self._faults, self._observe = auth, quota, faults, observe
        self._secrets = tuple(secrets)
        self._gzip_over, self._timeout = gzip_over, timeout
        self._deadline, self._attempts = deadline, attempts
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        base = {"User-Agent": "sync-platform", "Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
        self._reached: set[tuple[str, str, int]] = set()
        self._session = session(self.base_url, {**base, **(headers or {})})

    def get(self, path: str, **options: Any) -> Answer:
        """`call("GET", ...)`."""
        return self.call("GET", path, **options)

    def post(self, path: str, **options: Any) -> Answer:
        """`call("POST", ...)`."""
        return self.call("POST", path, **options)

    def patch(self, path: str, **options: Any) -> Answer:
        """`call("PATCH", ...)`."""
        return self.call("PATCH", path, **options)

    def put(self, path: str, **options: Any) -> Answer:
        """`call("PUT", ...)`."""
        return self.call("PUT", path, **options)

    def delete(self, path: str, **options: Any) -> Answer:
        """`call("DELETE", ...)`."""
        return self.call("DELETE", path, **options)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        bucket: str = "default",
        cost: float = 1.0,
        repeatable: bool = False,
        write: bool = False,
        expect_json: bool = True,
        exact: bool = False,
    ) -> Answer:
        """The answer of one call; a status of 300 or more is an error of `sync_platform.errors`.

        `path` is joined to the credential's base URL or ours; an absolute URL of another origin is
        refused. `write` marks a call that changes the other side (it passes the crash points).
        `exact` parses JSON numbers with a point as Decimal.
        """
        body, kind = encode(json, form, content)
        sent = dict(headers or {})
        if kind and not any(name.lower() == "content-type" for name in sent):
            sent["Content-Type"] = kind
        if body is not None and self._gzip_over is not None and len(body) > self._gzip_over:
            body = gzip.compress(body, compresslevel=1, mtime=0)
            sent["Content-Encoding"] = "gzip"
        call = _Call(
            method=method.upper(),
            path=path,
            headers=sent,
            bucket=bucket,
            cost=cost,
            write=write,
            harmless=repeatable or method.upper() in HARMLESS,
            params=params,
            body=body,
            expect_json=expect_json,
            exact=exact,
        )
        return self._repeat(call, self._whole)

    def download(
        self,
        path: str,
        read: Callable[[BinaryIO, Mapping[str, str]], T],
        *,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        bucket: str = "default",
        cost: float = 1.0,
    ) -> T:
        """What `read(stream, headers)` makes of a GET's body, streamed and decompressed.

        A body that ends early (fewer bytes than Content-Length, no last chunk) raises TransientError
        inside `read`, and the whole download is repeated: `read` starts afresh each time and must have
        no lasting effect before it returns. It may raise TransientError itself when rows do not add up.
        """
        call = _Call(
            method="GET",
            path=path,
            headers={"Accept": "*/*", **(headers or {})},
            bucket=bucket,
            cost=cost,
            write=False,
            harmless=True,
            params=params,
            expect_json=False,
        )

        def streamed(call: _Call, answer: requests.Response, started: dt.datetime) -> T:
            if answer.status_code >= 300:
                self._whole(call, answer, started)
            try:
                return read(io.BufferedReader(Download(answer, self._where(call)), 1 << 18), answer.headers)
            except TransientError as half:
                raise HalfAnswer(half.message) from None

        return self._repeat(call, streamed, stream=True)

    def absolute(self, reference: str) -> str:
        """A URL for `call` from a reference the vendor gave, such as a link to the next page."""
        credential = self._auth.current() if self._auth is not None else Credential(headers={})
        return urljoin((credential.base_url or self.base_url).rstrip("/") + "/", reference)

    def close(self) -> None:
        """Closes the kept-alive connections."""
        self._session.close()

    def _repeat(self, call: _Call, read: _Reader[T], *, stream: bool = False) -> T:
        begun, attempt, renewed = self._clock(), 0, False
        while True:
            attempt += 1
            credential = self._auth.current() if self._auth is not None else Credential(headers={})
            left = self._deadline - (self._clock() - begun)
            try:
                return self._once(call, credential, read, left=left, stream=stream)
            except _Refused as refused:
                if refused.status == 401 and self._auth is not None and not renewed:
                    renewed = True
                    if self._auth.renew(credential) is not None:
                        continue
                problem, tries = self._judged(call, refused)
            except _Lost as lost:
                problem, tries = self._judged_lost(call, lost)
            pause = self._pause(problem, attempt)
            if isinstance(problem, RateLimitError) and self._quota is not None:
                self._quota.penalize(call.bucket, min(pause, 3600.0))
            if attempt >= tries or self._clock() - begun + pause > self._deadline:
                raise problem
            self._sleep(pause)

    def _once(self, call: _Call, credential: Credential, read: _Reader[T], *, left: float, stream: bool) -> T:
        url = self._url(call, credential)
        if self._quota is not None:
            self.traffic.seconds_waiting_for_quota += self._quota.acquire(call.bucket, call.cost)
        started = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        wire = Wire(write=call.write)
        connect, silence = self._timeout
        try:
            with (
                watched(wire),
                self._send(call, url, credential, (connect, max(1.0, min(silence, left))), stream) as got,
            ):
                return read(call, got, started)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as broken:
            wrong = (requests.exceptions.InvalidURL, requests.exceptions.SSLError)
            if isinstance(broken, wrong) and not wire.touched:
                raise self._misconfigured(call, type(broken).__name__) from None
            raise _Lost(type(broken).__name__, wire) from None
        except HalfAnswer as half:
            raise _Lost(str(half), wire) from None
        finally:
            if wire.touched:
                self.traffic.api_calls += 1
                self.traffic.bytes_sent += len(call.body or b"")

    def _send(
        self, call: _Call, url: str, credential: Credential, timeout: tuple[float, float], stream: bool
    ) -> requests.Response:
        for _ in range(5):
            place, told = origin(url), {**call.headers, **credential.headers}
            if place in self._reached:
                answer = send(self._session, call.method, url, call.body, told, timeout=timeout, stream=stream)
            else:  # `requests` says what is wrong with an address
                answer = self._session.request(
                    call.method, url, data=call.body, headers=told, timeout=timeout, allow_redirects=False,
                    stream=stream,
                )  # fmt: skip
                self._reached.add(place)
            target = answer.headers.get("Location")
            if not target or answer.status_code not in _MOVED or call.method not in HARMLESS:
                break
            if origin(onward := urljoin(url, target)) != origin(url):
                break
            url = onward
        return answer

    def _whole(self, call: _Call, got: requests.Response, started: dt.datetime) -> Answer:
        body = got.content
        if call.write:
            crash_point("answer_received")
        fine, kind = got.status_code < 300, got.headers.get("Content-Type", "")
        answer = Answer(
            method=call.method,
            path=without_query(call.path),
            status=got.status_code,
            headers=got.headers,
            body=body,
            data=self._parsed(call, body, kind, fine=fine) if call.expect_json or not fine else None,
            started=started,
        )
        if self._observe is not None:
            self._observe(answer, self._quota)
        if not fine:
            raise _Refused(fault_of(answer, self._faults, now=self._clock()), answer.status)
        return answer

    def _parsed(self, call: _Call, body: bytes, kind: str, *, fine: bool) -> Any:
        try:
            return parse(body, kind, exact=call.exact, strict=fine)
        except ContractError as wrong:
            if not call.harmless:
                raise HalfAnswer(wrong.message) from None
            raise ContractError(f"{self._where(call)}: {self._clean(wrong.message)}", mend=wrong.mend) from None

    def _judged(self, call: _Call, refused: _Refused) -> tuple[SyncError, int]:
        """The error of a refusal, and after how many attempts it is final."""
        fault, passing = refused.fault, issubclass(refused.fault.error, TransientError)
        message = self._clean(f"{self._where(call)}: {fault.message} (HTTP {refused.status})")
        untouched = nothing_was_done(fault, refused.status)
        if not (call.harmless or untouched):
            return UnknownOutcome(message + "; it may have been carried out", field=fault.field, mend=fault.mend), 1
        if issubclass(fault.error, TransientError):
            problem: SyncError = fault.error(message, retry_after=fault.retry_after, field=fault.field, mend=fault.mend)
        else:
            problem = fault.error(message, field=fault.field, mend=fault.mend)
        return problem, self._attempts if passing else 1

    def _judged_lost(self, call: _Call, lost: _Lost) -> tuple[SyncError, int]:
        """The error of a call without a usable answer, and after how many attempts it is final."""
        where, how = self._where(call), self._clean(lost.how)
        if not lost.wire.touched:
            message = f"{where}: could not be reached ({how}); nothing was sent"
            return TransientError(message, mend="check base_url and the network"), min(3, self._attempts)
        if call.harmless:
            return TransientError(f"{where}: no whole answer ({how})", mend=LATER), self._attempts
        return UnknownOutcome(f"{where}: the answer was lost ({how}); it may have been carried out"), 1

    def _misconfigured(self, call: _Call, how: str) -> ConfigError:
        return ConfigError(
            f"{self._where(call)}: the address or its certificate was refused ({how})",
            field="base_url",
            mend="check base_url; for a private certificate authority set REQUESTS_CA_BUNDLE",
        )

    def _pause(self, problem: SyncError, attempt: int) -> float:
        """Seconds before the next attempt: what the vendor asked for, else exponential, with jitter."""
        wait = problem.retry_after if isinstance(problem, TransientError) else None
        if wait is not None:
            return wait + 0.1 * self._jitter()
        return float(min(30.0, 0.5 * 2 ** (attempt - 1)) * (0.5 + 0.5 * self._jitter()))

    def _url(self, call: _Call, credential: Credential) -> str:
        base = (credential.base_url or self.base_url).rstrip("/")
        url = call.path
        if not url.startswith(("http://", "https://")):
            url = f"{base}/{url.lstrip('/')}" if url else base
        elif origin(url) not in {origin(base), origin(self.base_url)}:
            raise ContractError(
                f"{self.system}: was sent on to another host, {without_query(url)}, where our credentials must not go",
                mend="if that host is right, make it the base_url",
            )
        return with_query(url, call.params)

    def _where(self, call: _Call) -> str:
        return f"{self.system}: {call.method} {without_query(call.path)}"

    def _clean(self, text: str) -> str:
        """The text without any secret of this connection."""
        for secret in (*self._secrets, *(self._auth.secrets() if self._auth is not None else ())):
            if len(secret) >= 4:
                text = text.replace(secret, "***")
        return text
