"""The ends of a database bench: a server, and how its table of customers is made, changed and added up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.bench import customers, customers_mysql
from tests.private_mariadb import PrivateMariaDB
from tests.private_postgres import PrivateServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One kind of database. `server` makes and drops databases; the others take the url of one."""

    name: str
    connector: str  # the class, as `from sync_platform.connectors.x import Y` names it
    server: Callable[[], Any]
    make_source: Callable[[str, int], None]
    make_target: Callable[[str], None]
    change: Callable[[str, int, int], int]
    checksum: Callable[[str], tuple[int, int]]


def _durable_mariadb() -> PrivateMariaDB:
    """MariaDB with its own defaults: durable, without a binlog."""
    return PrivateMariaDB(settings={"innodb-flush-log-at-trx-commit": "1", "skip-log-bin": "1"})


POSTGRES = Side(
    name="PostgreSQL",
    connector="postgres import Postgres",
    server=lambda: PrivateServer(durable=True),
    make_source=customers.make_source,
    make_target=customers.make_target,
    change=customers.change,
    checksum=customers.text_checksum,
)
MARIADB = Side(
    name="MariaDB",
    connector="mysql import MySQL",
    server=_durable_mariadb,
    make_source=customers_mysql.make_source,
    make_target=customers_mysql.make_target,
    change=customers_mysql.change,
    checksum=customers_mysql.checksum,
)
#: What each bench moves from where to where.
ROUTES = {
    "database": (POSTGRES, POSTGRES),
    "mysql-to-postgres": (MARIADB, POSTGRES),
    "postgres-to-mysql": (POSTGRES, MARIADB),
}
