"""The shops whose orders the capture bench follows: a server, its table of orders, rows made in it, and their sum."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import psycopg
import pymysql

from tests.private_mariadb import PrivateMariaDB
from tests.private_postgres import PrivateServer

Sum = tuple[int, int]

#: The rows as one text each, the same in both databases and at the target.
_POSTGRES_TEXT = (
    "concat_ws('|', id, lower(customer), total, note, to_char(made_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'))"
)
_MARIADB_TEXT = "concat_ws('|', id, lower(customer), total, note, date_format(made_at, '%Y-%m-%d %H:%i:%s.%f'))"


def postgres_sum(url: str, table: str) -> Sum:
    """Rows and a sum over all values of a table of orders or bills."""
    total = f"coalesce(sum(('x' || left(md5({_POSTGRES_TEXT}), 12))::bit(48)::bigint::numeric), 0)"
    with psycopg.connect(url) as db:
        found = db.execute(f"SELECT count(*), {total} FROM {table}".encode()).fetchone()
    assert found is not None
    return int(found[0]), int(found[1])


class Shop(Protocol):
    """One shop while the bench runs; `pids` are those of its own server, if it has one."""

    connection: str  # how resources/ names it
    url: str
    pids: tuple[int, ...]

    def person(self) -> contextlib.AbstractContextManager[Callable[[int, int], None]]:
        """Somebody who makes the orders `first` to `last` in one transaction."""
        ...

    def sum(self) -> Sum:
        """Rows and a sum over all their values."""
        ...


@dataclass(frozen=True, slots=True)
class PostgresShop:
    """Orders in PostgreSQL."""

    url: str
    pids: tuple[int, ...] = ()
    connection: str = "Postgres"

    @classmethod
    @contextlib.contextmanager
    def on(cls, server: PrivateServer) -> Iterator[PostgresShop]:
        """A shop on the server that the target is on as well."""
        made = cls(server.create("shop"))
        with psycopg.connect(made.url, autocommit=True) as db:
            db.execute("""
                CREATE TABLE orders (id bigint PRIMARY KEY, customer text, total numeric(12,2), note text,
                    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
                    updated_at timestamptz NOT NULL DEFAULT clock_timestamp())""")
        yield made

    @contextlib.contextmanager
    def person(self) -> Iterator[Callable[[int, int], None]]:
        """As `Shop` says."""
        with psycopg.connect(self.url, autocommit=True) as db:

            def make(first: int, last: int) -> None:
                db.execute(
                    "INSERT INTO orders (id, customer, total, note) "
                    "SELECT n, 'Customer ' || n, n * 0.01, md5(n::text) FROM generate_series(%s::bigint, %s::bigint) n",
                    (first, last),
                )

            yield make

    def sum(self) -> Sum:
        """As `Shop` says."""
        return postgres_sum(self.url, "orders")


@dataclass(frozen=True, slots=True)
class MariaDBShop:
    """Orders in MariaDB, which keeps every commit as durably as PostgreSQL does, its binlog included."""

    url: str
    pids: tuple[int, ...]
    connection: str = "MySQL"

    @classmethod
    @contextlib.contextmanager
    def on(cls, server: PrivateServer) -> Iterator[MariaDBShop]:
        """A shop on a server of its own."""
        with PrivateMariaDB(settings={"innodb-flush-log-at-trx-commit": "1", "sync-binlog": "1"}) as own:
            made = cls(own.create("shop"), (own.pid,))
            with made._session() as db, db.cursor() as cursor:
                cursor.execute("""
                    CREATE TABLE orders (id BIGINT PRIMARY KEY, customer VARCHAR(100), total DECIMAL(12,2),
                        note VARCHAR(100), made_at TIMESTAMP(6) NOT NULL DEFAULT now(6),
                        updated_at TIMESTAMP(6) NOT NULL DEFAULT now(6) ON UPDATE now(6))""")
            yield made

    def _session(self) -> pymysql.Connection[Any]:
        parts = urlsplit(self.url)
        return pymysql.connect(
            host=parts.hostname or "", port=parts.port or 0, user=parts.username, password=parts.password or "",
            database=parts.path.removeprefix("/"), autocommit=True, init_command="SET time_zone = '+00:00'",
        )  # fmt: skip

    @contextlib.contextmanager
    def person(self) -> Iterator[Callable[[int, int], None]]:
        """As `Shop` says."""
        with self._session() as db, db.cursor() as cursor:

            def make(first: int, last: int) -> None:
                cursor.execute(
                    "INSERT INTO orders (id, customer, total, note) "
                    f"SELECT seq, concat('Customer ', seq), seq * 0.01, md5(seq) FROM seq_{first}_to_{last}"
                )

            yield make

    def sum(self) -> Sum:
        """As `Shop` says."""
        with self._session() as db, db.cursor() as cursor:
            cursor.execute(
                f"SELECT count(*), coalesce(sum(CAST(conv(left(md5({_MARIADB_TEXT}), 12), 16, 10) AS UNSIGNED)), 0) "
                "FROM orders"
            )
            found = cursor.fetchone()
        assert found is not None
        return int(found[0]), int(found[1])


SHOPS: dict[str, Callable[[PrivateServer], contextlib.AbstractContextManager[Shop]]] = {
    "PostgreSQL": PostgresShop.on,
    "MariaDB": MariaDBShop.on,
}
