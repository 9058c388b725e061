"""The benches' table in MariaDB: the same ten columns and the same values as `customers` makes in PostgreSQL."""

from __future__ import annotations

from urllib.parse import urlsplit

import pymysql

DDL = """CREATE TABLE {name} (id BIGINT PRIMARY KEY, email VARCHAR(255) NOT NULL, first_name VARCHAR(255),
         last_name VARCHAR(255), company VARCHAR(255), phone VARCHAR(255), status VARCHAR(255), amount DECIMAL(12,2),
         created_at TIMESTAMP(6) NULL, updated_at TIMESTAMP(6) NOT NULL DEFAULT '2000-01-01') CHARACTER SET utf8mb4"""
_FILL = """
INSERT INTO customers
SELECT seq, concat('user', seq, '@example.com'), concat('First', seq % 5000), concat('Last', seq % 70000),
       concat('Company ', seq % 20000), concat('+49 30 ', 1000000 + seq),
       elt(1 + seq % 4, 'new', 'open', 'won', 'lost'),
       (seq % 1000000) / 100.0, timestamp('2024-01-01') + INTERVAL seq * 7 SECOND,
       timestamp('2025-01-01') + INTERVAL seq * 3 SECOND
FROM seq_1_to_{rows}
"""
_TOLD = """concat_ws('|', id, email, first_name, last_name, company, phone, status, CAST(amount AS DECIMAL(12,2)),
           date_format(created_at, '%Y-%m-%d %H:%i:%s.%f'), date_format(updated_at, '%Y-%m-%d %H:%i:%s.%f'))"""


def _person(url: str) -> pymysql.Connection[pymysql.cursors.Cursor]:
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname or "", port=parts.port or 0, user=parts.username, password=parts.password or "",
        database=parts.path.removeprefix("/"), charset="utf8mb4", autocommit=True,
        init_command="SET time_zone = '+00:00'",
    )  # fmt: skip


def make_source(url: str, rows: int) -> None:
    """The table `customers` with that many rows, indexed by its cursor, and the empty table `nobody`."""
    make_target(url)
    with _person(url) as db, db.cursor() as cursor:
        cursor.execute(_FILL.format(rows=rows))
        cursor.execute("CREATE INDEX by_change ON customers (updated_at)")
        cursor.execute("ANALYZE TABLE customers")


def make_target(url: str) -> None:
    """The empty tables `customers` and `nobody`, with the same constraints for every tool."""
    with _person(url) as db, db.cursor() as cursor:
        for name in ("customers", "nobody"):
            cursor.execute(DDL.format(name=name))


def change(url: str, one_in: int, offset: int) -> int:
    """Changes every `one_in`-th row; how many they were."""
    with _person(url) as db, db.cursor() as cursor:
        return cursor.execute(
            "UPDATE customers SET status = 'changed', amount = amount + 1, updated_at = now(6) WHERE id %% %s = %s",
            [one_in, offset % one_in],
        )


def checksum(url: str) -> tuple[int, int]:
    """Rows and a sum over all values of all ten columns, as `customers.text_checksum` adds them up."""
    with _person(url) as db, db.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*), coalesce(sum(CAST(conv(left(md5({_TOLD}), 12), 16, 10) AS UNSIGNED)), 0) FROM customers"
        )
        found = cursor.fetchone()
    assert found is not None
    return int(found[0]), int(found[1])
