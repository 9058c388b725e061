"""A private PostgreSQL for the connector tests, emptied before each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from sync_platform.connectors.postgres import Postgres
from tests.private_postgres import PrivateServer

_EMPTY = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
DO $$ DECLARE found text; BEGIN
  FOR found IN SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema' LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', found);
  END LOOP;
  CREATE SCHEMA public;
  GRANT USAGE ON SCHEMA public TO PUBLIC;
END $$
"""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PrivateServer]:
    """One server for all tests of the session."""
    with PrivateServer() as server:
        yield server


@pytest.fixture
def database(postgres_server: PrivateServer) -> str:
    """The URL of a database emptied for this test (emptying is ten times faster than making one)."""
    url = postgres_server.url("postgres")
    with psycopg.connect(url, autocommit=True) as person:
        person.execute(_EMPTY)
    return url


@pytest.fixture
def sql(database: str) -> Iterator[psycopg.Connection]:
    """A person at that database, every statement committed at once."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def connect(database: str) -> Iterator[Callable[..., Postgres]]:
    """Makes connectors to that database; they are closed afterwards."""
    made: list[Postgres] = []

    def make(**options: object) -> Postgres:
        connector = Postgres(**{"url": database, **options}).process_config_and_initialize()
        made.append(connector)
        return connector

    yield make
    for connector in made:
        connector.close()


@pytest.fixture
def postgres(connect: Callable[..., Postgres]) -> Postgres:
    """A connector with default options."""
    return connect()
