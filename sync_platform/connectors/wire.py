"""A `requests` session that knows how far each request got, so that nobody has to guess after a failure.

urllib3 reports a lost answer and a refused connection alike as exceptions. Here the connection itself
notes in the current `Wire` whether a byte was handed to the socket, whether all of it was, and passes
the crash points between sending and reading.
"""

from __future__ import annotations

import contextvars
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

from sync_platform.crash import crash_point

Params: TypeAlias = Mapping[str, Any] | Sequence[tuple[str, str]]


@dataclass(slots=True)
class Wire:
    """How far one request got."""

    write: bool = False
    touched: bool = False  # at least one byte was handed to the socket
    sent: bool = False  # the whole request was handed to the socket


_current: Final[contextvars.ContextVar[Wire | None]] = contextvars.ContextVar("wire", default=None)


@contextmanager
def watched(wire: Wire) -> Iterator[Wire]:
    """Notes the progress of the request made inside the block."""
    token = _current.set(wire)
    try:
        yield wire
    finally:
        _current.reset(token)


def _about_to_send() -> None:
    wire = _current.get()
    if wire is not None:
        wire.touched = True


def _all_sent() -> None:
    wire = _current.get()
    if wire is not None:
        wire.sent = True
        if wire.write:
            crash_point("request_sent")


class _Connection(HTTPConnection):
    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()  # a refused connection has sent nothing
        _about_to_send()
        super().send(data)

    def request(self, *args: Any, **options: Any) -> None:
        super().request(*args, **options)
        _all_sent()


class _SecureConnection(HTTPSConnection):
    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        _about_to_send()
        super().send(data)

    def request(self, *args: Any, **options: Any) -> None:
        super().request(*args, **options)
        _all_sent()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    """Connections that note their progress; never a retry of its own."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self._ours(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        self._ours(manager)
        return manager

    @staticmethod
    def _ours(manager: PoolManager) -> None:
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


class _Scrubbed(logging.Filter):
    """Cuts query strings (they hold filters, and with some vendors keys) out of urllib3's log lines."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                without_query(value) if isinstance(value, str) and "?" in value else value for value in record.args
            )
        return True


_SCRUB: Final = _Scrubbed()


def without_query(url: str) -> str:
    """The URL with its query string and user part cut off, fit for a message."""
    bare = url.partition("?")[0]
    head, at, tail = bare.rpartition("@")
    return f"{head.partition('//')[0]}//{tail}" if at and "//" in head else bare


def with_query(url: str, params: Params | None) -> str:
    """The URL with these parameters, percent-encoded throughout; a None value is left out."""
    pairs = params.items() if isinstance(params, Mapping) else params or ()
    query = urlencode([(name, str(value)) for name, value in pairs if value is not None], quote_via=quote)
    return f"{url}{'&' if '?' in url else '?'}{query}" if query else url


def session(base_url: str, headers: Mapping[str, str], *, pool: int = 10) -> requests.Session:
    """A kept-alive session without retries, cookies or .netrc credentials.

    Proxies and the CA bundle come from the environment, as it is now.
    """
    for name in ("urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry"):
        logger = logging.getLogger(name)
        if _SCRUB not in logger.filters:
            logger.addFilter(_SCRUB)
    made = requests.Session()
    made.trust_env = False  # else requests puts a .netrc entry in the place of our Authorization header
    made.proxies = dict(requests.utils.get_environ_proxies(base_url))
    made.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    made.headers.update(headers)
    made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(max_retries=0, pool_connections=4, pool_maxsize=pool)
    made.mount("https://", adapter)
    made.mount("http://", adapter)
    return made


def send(
    own: requests.Session,
    method: str,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    *,
    timeout: tuple[float, float],
    stream: bool,
) -> requests.Response:
    """The answer of one request over a session of ours, redirects not followed.

    What `requests` does besides for every request (cookies, redirects, hooks, settings merged from four places) is
    nothing that our sessions use, and takes longer than the request itself. `url` is encoded throughout.
    """
    request = requests.PreparedRequest()
    request.method, request.url, request.body, request.hooks = method, url, body, {}
    request.headers = CaseInsensitiveDict({name: str(value) for name, value in {**own.headers, **headers}.items()})
    if body is not None or method not in ("GET", "HEAD"):
        request.headers["Content-Length"] = str(len(body or b""))
    answer = own.get_adapter(url).send(
        request, stream=stream, timeout=timeout, verify=own.verify or False, cert=None, proxies=own.proxies
    )
    if not stream:
        answer.content  # noqa: B018  (reads it, so that the connection is free again)
    return answer


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what must be equal for credentials to travel along."""
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or default
