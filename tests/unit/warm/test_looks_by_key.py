"""What a batch looks up goes by key, whatever PostgreSQL's statistics say of tables that were empty a moment ago."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any, LiteralString

import pytest

from sync_platform.ledger import taking_up
from sync_platform.ledger.links import names_of
from sync_platform.realtime import observed, queue
from sync_platform.realtime.worker import Worker
from tests.unit.warm.office import Office

MANY, BATCH = 3_000, 200
KEYS = [f"l{number}" for number in range(MANY)]


@pytest.fixture
def full(office: Office) -> Worker:
    """Many linked and known records, all waiting, half of them claimed; planned for tables without a row."""
    worker = office.worker()
    with office.database.connection() as connection:
        for table in ("queue", "inbox", "links", "observed", "members"):
            connection.execute(f"ALTER TABLE sync.{table} SET (autovacuum_enabled = false)".encode())
        connection.execute(
            """WITH i AS (INSERT INTO sync.inbox (connection, event_id, stream, key, kind, occurred_at, fields)
                          SELECT 'crm', key, 'Lead', key, 'updated', now(), '{}' FROM unnest(%s::text[]) key
                          RETURNING seq, key)
               INSERT INTO sync.queue (sync, seq, key) SELECT 'leads', seq, key FROM i""",
            (KEYS,),
        )
        connection.execute(
            """INSERT INTO sync.links (sync, source_key, target_id, base, version_cursor, version_read_at, updated_at)
               SELECT 'leads', key, 't' || key, 1, 1, 1, now() FROM unnest(%s::text[]) key""",
            (KEYS,),
        )
        connection.execute(
            """INSERT INTO sync.observed (connection, stream, key, row, deleted, version_read_at, observed_at)
               SELECT 'crm', 'Lead', key, '{}', false, 0, now() FROM unnest(%s::text[]) key""",
            (KEYS,),
        )
        connection.execute(
            "INSERT INTO sync.members (sync, source_key, dedupe_key) SELECT 'leads', k, k FROM unnest(%s::text[]) k",
            (KEYS,),
        )
    assert queue.claim(office.database, str(uuid.uuid4()), ["leads"], MANY // 2) is not None
    return worker


def most_rows(office: Office, statement: LiteralString, told: Mapping[str, Any]) -> int:
    """The most rows that one part of the plan handled, those it threw away included."""
    with office.database.connection() as connection:
        row = connection.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statement, told).fetchone()
        connection.rollback()
    assert row is not None

    def parts(node: Mapping[str, Any]) -> Iterator[float]:
        kept = node["Actual Rows"] * node["Actual Loops"]
        thrown = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Join Filter", "Filter"))
        yield kept + thrown * node["Actual Loops"]
        for inner in node.get("Plans", ()):
            yield from parts(inner)

    return int(max(parts(row[0][0]["Plan"])))


def test_a_claim_compares_no_event_with_all_others(office: Office, full: Worker) -> None:
    me = str(uuid.uuid4())
    told = {"syncs": ["leads"], "worker": me, "limit": BATCH, "lease": 30.0, "plan_id": me}
    assert most_rows(office, queue._CLAIM, told) < 2 * MANY  # not BATCH * MANY / 2


def test_links_and_known_values_are_looked_up_one_by_one(office: Office, full: Worker) -> None:
    told = names_of(office.spec) | {"source_stream": "Lead", "records": KEYS[:BATCH]}
    assert most_rows(office, taking_up._LOOK, told) <= 2 * BATCH


def test_rows_that_events_are_laid_over_and_shared_keys_are_looked_up_one_by_one(office: Office, full: Worker) -> None:
    some = KEYS[:BATCH]
    versions = dict(office.rows("SELECT key, xmin::text FROM sync.observed WHERE key = ANY(%s)", some))
    told = {
        "connection": "crm", "stream": "Lead", "sync": "leads", "keys": some, "rows": ["{}"] * BATCH,
        "cursors": [1] * BATCH, "field_times": ["{}"] * BATCH, "was": [versions[key] for key in some], "all": some,
        "dedupe_keys": some,
    }  # fmt: skip
    assert most_rows(office, observed._OVERLAY, told) <= 3 * BATCH
