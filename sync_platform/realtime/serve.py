"""Runs the gateway behind uvicorn until it is told to stop; requests under way are answered first."""

from __future__ import annotations

import logging
import signal
import sys
from typing import Final
from urllib.parse import urlsplit

import uvicorn

from sync_platform.errors import AccessError, ConfigError
from sync_platform.project import Project
from sync_platform.realtime.gateway import Gateway, Settings
from sync_platform.state.database import open_state

#: Seconds a stop waits for requests under way: more than one needs to be stored or refused.
GRACE: Final = 10


def serve(project: Project, settings: Settings, *, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT. Raises AccessError when the port cannot be had or the state is away."""
    if settings.public_url is not None:
        _check_url(settings.public_url)
    _log_to_stderr()
    gateway = Gateway(project=project, database=open_state(), settings=settings)
    config = uvicorn.Config(
        gateway.app,
        host=host,
        port=port,
        access_log=False,  # addresses may end in a secret
        log_config=None,
        server_header=False,
        proxy_headers=False,  # the public address is set, not believed
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again after it stopped in good order
        signal.signal(number, lambda *_: None)
    try:
        server.run()
    except SystemExit as error:
        raise AccessError(
            f"the gateway could not listen on {host}:{port}", mend="choose another --port or --host"
        ) from error
    if not server.started:
        raise AccessError(f"the gateway could not listen on {host}:{port}", mend="choose another --port or --host")


def _log_to_stderr() -> None:
    """Our own words and uvicorn's; other libraries keep quiet."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name, level in (("sync_platform", logging.INFO), ("uvicorn", logging.WARNING)):
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(level)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"the public URL {url!r} is not an address", field="--public-url", value=url, mend="write https://host/path"
        )
