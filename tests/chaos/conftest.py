"""Databases for chaos: servers of our own, started when asked for, and an empty project between two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.captured import SETTINGS
from tests.chaos.two_databases import Server, TwoDatabases, between
from tests.private_mariadb import PrivateMariaDB
from tests.private_postgres import PrivateServer
from tests.world import World


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], Server]]:
    """Servers of our own that keep what they committed when they are killed, started when asked for."""
    kinds: dict[str, Callable[[], Server]] = {
        "mariadb": lambda: PrivateMariaDB(settings={"innodb-flush-log-at-trx-commit": "1"}),
        "17": lambda: PrivateServer(durable=True, major=17, settings=SETTINGS),
        "18": lambda: PrivateServer(durable=True, major=18, settings=SETTINGS),
    }
    started: dict[str, Server] = {}
    with ExitStack() as stack:

        def server(kind: str) -> Server:
            if kind not in started:
                started[kind] = kinds[kind]()
                stack.callback(started[kind].close)
            return started[kind]

        yield server


@pytest.fixture
def both(world: World, servers: Callable[[str], Server], couple: str, tmp_path: Path) -> Iterator[TwoDatabases]:
    """Two databases with empty tables, and a project between them."""
    first, second = couple.split("-")
    with between(world, servers(first), servers(second)) as made:
        made.prepare(
            tmp_path / "project", settings={"left": "lock_timeout_seconds=3", "right": "lock_timeout_seconds=3"}
        )
        yield made
