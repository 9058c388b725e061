"""The table all database benches move: ten columns, as many rows as wanted, made by the server itself."""

from __future__ import annotations

import psycopg

COLUMNS = ("id", "email", "first_name", "last_name", "company", "phone", "status", "amount", "created_at", "updated_at")
DDL = """CREATE TABLE {name} (id bigint PRIMARY KEY, email text NOT NULL, first_name text, last_name text, company text,
         phone text, status text, amount numeric(12,2), created_at timestamptz, updated_at timestamptz NOT NULL)"""
_FILL = """
INSERT INTO customers
SELECT g, 'user' || g || '@example.com', 'First' || g %% 5000, 'Last' || g %% 70000, 'Company ' || g %% 20000,
       '+49 30 ' || 1000000 + g, (ARRAY['new', 'open', 'won', 'lost'])[1 + g %% 4], (g %% 1000000) / 100.0,
       timestamptz '2024-01-01Z' + g * interval '7 s', timestamptz '2025-01-01Z' + g * interval '3 s'
FROM generate_series(1, %s) g
"""


def make_source(url: str, rows: int) -> None:
    """The table `customers` with that many rows, indexed by its cursor, and the empty table `nobody`."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(DDL.format(name="customers").encode())
        db.execute(DDL.format(name="nobody").encode())
        db.execute(_FILL, [rows])
        db.execute("CREATE INDEX ON customers (updated_at)")
        db.execute("VACUUM ANALYZE customers")


def make_target(url: str) -> None:
    """The empty tables `customers` and `nobody`, with the same constraints for every tool."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(DDL.format(name="customers").encode())
        db.execute(DDL.format(name="nobody").encode())


def change(url: str, one_in: int, offset: int) -> int:
    """Changes every `one_in`-th row; how many they were."""
    with psycopg.connect(url, autocommit=True) as db:
        return db.execute(
            "UPDATE customers SET status = 'changed', amount = amount + 1, updated_at = clock_timestamp() "
            "WHERE id %% %s = %s", [one_in, offset % one_in],
        ).rowcount  # fmt: skip


def checksum(url: str) -> tuple[int, int]:
    """Rows and a sum over all values of all ten columns, whatever types a tool chose for them."""
    told = "id, email, first_name, last_name, company, phone, status, amount::numeric(12,2), created_at, updated_at"
    total = f"coalesce(sum(hashtextextended(ROW({told})::text, 0)::numeric), 0)"
    with psycopg.connect(url, options="-c timezone=UTC") as db:
        found = db.execute(f"SELECT count(*), {total} FROM customers".encode()).fetchone()
    assert found is not None
    return int(found[0]), int(found[1])


def text_checksum(url: str) -> tuple[int, int]:
    """The same from the values' texts, comparable with another kind of database (`customers_mysql.checksum`)."""
    told = (
        "concat_ws('|', id, email, first_name, last_name, company, phone, status, amount::numeric(12,2), "
        "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), "
        "to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'))"
    )
    total = f"coalesce(sum(('x' || left(md5({told}), 12))::bit(48)::bigint::numeric), 0)"
    with psycopg.connect(url) as db:
        found = db.execute(f"SELECT count(*), {total} FROM customers".encode()).fetchone()
    assert found is not None
    return int(found[0]), int(found[1])
