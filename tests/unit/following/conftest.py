"""A PostgreSQL server whose log can be followed, of each major, with a database and connectors to it."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from log_reading import SETTINGS

from sync_platform.connectors.capture import Feed
from sync_platform.connectors.postgres import Postgres
from tests.private_postgres import PrivateServer


@pytest.fixture(scope="module", params=[18, pytest.param(17, marks=pytest.mark.slow)])
def followed_server(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    """A server of each major that keeps a log one can follow."""
    with PrivateServer(settings=SETTINGS, major=request.param) as server:
        yield server


@pytest.fixture
def url(followed_server: PrivateServer) -> Iterator[str]:
    """An empty database; slots that a test left are dropped after it."""
    name = f"shop_{uuid.uuid4().hex[:8]}"
    yield followed_server.create(name)
    with psycopg.connect(followed_server.url(), autocommit=True) as admin:
        for (slot,) in admin.execute("SELECT slot_name FROM pg_replication_slots WHERE active").fetchall():
            admin.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s", (slot,)
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg.errors.ObjectInUse):
                admin.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
                break
            time.sleep(0.05)
    followed_server.drop(name)


@pytest.fixture
def sql(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A person at that database, every statement committed at once."""
    with psycopg.connect(url, autocommit=True) as person:
        yield person


@pytest.fixture
def shop(url: str) -> Iterator[Callable[..., Postgres]]:
    """Makes connectors to that database."""
    made: list[Postgres] = []

    def make(**settings: Any) -> Postgres:
        made.append(Postgres(**{"url": url, "capture": True} | settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def following(shop: Callable[..., Postgres]) -> Iterator[Callable[..., Feed]]:
    """Opens feeds, which are closed afterwards."""
    made: list[Feed] = []

    def follow(*streams: str, since: str | None = None, **settings: Any) -> Feed:
        made.append(shop(**settings).follow(streams, since))
        return made[-1]

    yield follow
    for one in made:
        one.close()
