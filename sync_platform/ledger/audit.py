"""A seal over a run's outcomes: a Merkle root chained to the one before, so that a changed row shows."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import psycopg


def seal(connection: psycopg.Connection[Any], sync: str, run_id: str) -> bytes | None:
    """Seals the outcomes of a run inside the caller's transaction; None when the run wrote none.

    Leaves are salted, so that erasing a value later (and keeping its leaf) does not break the chain.
    """
    row = connection.execute(
        "SELECT min(id), max(id) FROM sync.outcomes WHERE run_id = %s AND sync = %s", (run_id, sync)
    ).fetchone()
    if row is None or row[0] is None:
        return None
    salt = secrets.token_bytes(16)
    root = merkle_root(leaves(connection, sync, run_id, salt))
    before = connection.execute(
        "SELECT root FROM sync.audit_batches WHERE sync = %s ORDER BY id DESC LIMIT 1", (sync,)
    ).fetchone()
    previous = bytes(before[0]) if before else b""
    chained = hashlib.sha256(previous + root).digest()
    connection.execute(
        """INSERT INTO sync.audit_batches (sync, run_id, first_outcome, last_outcome, salt, root, previous, created_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, now())""",
        (sync, run_id, row[0], row[1], salt, chained, previous),
    )
    return chained


def leaves(connection: psycopg.Connection[Any], sync: str, run_id: str, salt: bytes) -> list[bytes]:
    """One salted SHA-256 per outcome, in order, computed by PostgreSQL."""
    rows = connection.execute(
        """SELECT sha256(%s || convert_to(concat_ws('|', id, source_key, target_id, op, status, fields::text, reason),
                                          'UTF8'))
           FROM sync.outcomes WHERE run_id = %s AND sync = %s ORDER BY id""",
        (salt, run_id, sync),
    ).fetchall()
    return [bytes(row[0]) for row in rows]


def merkle_root(level: list[bytes]) -> bytes:
    """The root of a binary hash tree; an odd last node is carried up."""
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        carried = [level[-1]] if len(level) % 2 else []
        level = [hashlib.sha256(left + right).digest() for left, right in pairs] + carried
    return level[0]
