"""The other sides of the connector tests: private databases, emptied for each test, and imitated accounts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pymysql
import pytest
from hubspot_portal import TOKEN, Portal
from hubspot_portal import serving as serving_portal
from local_server import serving
from salesforce_account import Account
from salesforce_org import Org

from sync_platform.connectors.hubspot import HubSpot
from sync_platform.connectors.mysql import MySQL
from sync_platform.connectors.postgres import Postgres
from tests.private_mariadb import PrivateMariaDB, shared
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
        connector = Postgres(**{"url": database, **options})
        made.append(connector)
        return connector

    yield make
    for connector in made:
        connector.close()


@pytest.fixture
def postgres(connect: Callable[..., Postgres]) -> Postgres:
    """A connector with default options."""
    return connect()


@pytest.fixture(scope="session")
def mariadb() -> PrivateMariaDB:
    """One server for all tests of the session."""
    return shared()


@pytest.fixture
def shop(mariadb: PrivateMariaDB) -> str:
    """The URL of a database emptied for this test."""
    return mariadb.create("shop")


@pytest.fixture
def person(mariadb: PrivateMariaDB, shop: str) -> Iterator[pymysql.cursors.Cursor]:
    """A person at that database, every statement committed at once."""
    with mariadb.person("shop") as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        yield cursor


@pytest.fixture
def connect_mysql(shop: str) -> Iterator[Callable[..., MySQL]]:
    """Makes connectors to that database; they are closed afterwards."""
    made: list[MySQL] = []

    def make(**options: object) -> MySQL:
        connector = MySQL(**{"url": shop, **options})
        made.append(connector)
        return connector

    yield make
    for connector in made:
        connector.close()


@pytest.fixture
def mysql(connect_mysql: Callable[..., MySQL]) -> MySQL:
    """A connector with default options."""
    return connect_mysql()


@pytest.fixture
def portal() -> Iterator[Portal]:
    """An empty HubSpot account."""
    with serving_portal(Portal()) as running:
        yield running


@pytest.fixture
def hubspot(portal: Portal) -> HubSpot:
    """A connector to that account that never waits for its quota."""
    return HubSpot(base_url=portal.url, access_token=TOKEN, calls_per_10_seconds=100_000, searches_per_second=100_000)


@pytest.fixture
def account() -> Iterator[Account]:
    """A Salesforce org with a connector to it."""
    org = Org()
    with serving(org) as server:
        yield Account(server, org)
