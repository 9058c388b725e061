"""Deletes what the warm lane left behind and nobody needs any more: old events, and their traces in Dagster.

A followed log tells of every single change, and only that there was one: such hints are kept for hours, not weeks.

Dagster purges ticks by itself, but events without a run only all at once or never, so its tables are asked
here; a test holds this to the version that is installed. Reports, outcomes and the audit are kept.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final, LiteralString

if TYPE_CHECKING:
    from sync_platform.state.database import Database

KEPT: Final = dt.timedelta(days=14)
HINTS_KEPT: Final = dt.timedelta(hours=6)
#: Rows a transaction deletes at most, so that nobody waits for it.
AT_ONCE: Final = 10_000

#: The assets the warm lane reports on. Reports stay, so that syncs taken out of the project are found, too.
_KEYS: Final = """
    SELECT DISTINCT format('["%%s", "%%s"]', r.sync, step)
    FROM sync.reports r, unnest(ARRAY['delivered', 'desired']) AS step WHERE r.lane = 'realtime'"""

#: Each deletes a bounded number of rows and is repeated until it finds none. The newest event of an asset and of a
#: check stays, however old: a sync that was quiet for weeks was still delivered once.
_STEPS: Final[dict[str, LiteralString]] = {
    "dagster_checks": f"""
        WITH gone AS (
            DELETE FROM dagster.asset_check_executions e WHERE e.id IN (
                SELECT old.id FROM dagster.asset_check_executions old
                WHERE old.run_id = '' AND old.asset_key IN ({_KEYS})
                  AND old.evaluation_event_timestamp < %(before)s AT TIME ZONE 'UTC'
                  AND EXISTS (SELECT 1 FROM dagster.asset_check_executions newer WHERE newer.asset_key = old.asset_key
                              AND newer.check_name = old.check_name AND newer.id > old.id)
                LIMIT %(limit)s)
            RETURNING e.evaluation_event_storage_id AS event_id),
        events AS (DELETE FROM dagster.event_logs l USING gone WHERE l.id = gone.event_id AND l.run_id = '')
        SELECT event_id FROM gone""",
    "dagster_materializations": f"""
        WITH gone AS (
            DELETE FROM dagster.event_logs e WHERE e.id IN (
                SELECT old.id FROM dagster.event_logs old
                WHERE old.run_id = '' AND old.asset_key IN ({_KEYS})
                  AND old.dagster_event_type = 'ASSET_MATERIALIZATION'
                  AND old.timestamp < %(before)s AT TIME ZONE 'UTC'
                  AND EXISTS (SELECT 1 FROM dagster.event_logs newer WHERE newer.asset_key = old.asset_key
                              AND newer.dagster_event_type = old.dagster_event_type AND newer.id > old.id)
                LIMIT %(limit)s)
            RETURNING e.id),
        tags AS (DELETE FROM dagster.asset_event_tags t USING gone WHERE t.event_id = gone.id)
        SELECT id FROM gone""",
    "queue": """
        DELETE FROM sync.queue q USING (
            SELECT sync, seq FROM sync.queue WHERE state IN ('done', 'dead') AND finished_at < %(before)s
            LIMIT %(limit)s) AS old
        WHERE q.sync = old.sync AND q.seq = old.seq""",
    "inbox": """
        DELETE FROM sync.inbox i WHERE i.seq IN (
            SELECT old.seq FROM sync.inbox old WHERE old.received_at < %(before)s
              AND NOT EXISTS (SELECT 1 FROM sync.queue q WHERE q.seq = old.seq)
            LIMIT %(limit)s)""",
    "hints_queue": """
        DELETE FROM sync.queue q USING (
            SELECT f.sync, f.seq FROM sync.queue f JOIN sync.inbox i USING (seq)
            WHERE f.state = 'done' AND f.finished_at < %(hints_before)s
              AND i.connection IN (SELECT connection FROM sync.captures) LIMIT %(limit)s) AS old
        WHERE q.sync = old.sync AND q.seq = old.seq""",
    "hints": """
        DELETE FROM sync.inbox i WHERE i.seq IN (
            SELECT old.seq FROM sync.inbox old
            WHERE old.received_at < %(hints_before)s AND old.connection IN (SELECT connection FROM sync.captures)
              AND NOT EXISTS (SELECT 1 FROM sync.queue q WHERE q.seq = old.seq)
            LIMIT %(limit)s)""",
    # Staging holds a row, too, once a load began after it was seen; a deletion, once a load saw all there is.
    "observed": """
        DELETE FROM sync.observed o USING (
            SELECT connection, stream, key FROM sync.observed seen
            WHERE seen.observed_at < %(before)s AND EXISTS (
                SELECT 1 FROM sync.loads l WHERE l.connection = seen.connection AND l.stream = seen.stream
                  AND l.state = 'finished' AND l.started_at > seen.observed_at AND (l.complete OR NOT seen.deleted))
            LIMIT %(limit)s) AS old
        WHERE o.connection = old.connection AND o.stream = old.stream AND o.key = old.key
          AND o.observed_at < %(before)s""",
}


def purge(
    database: Database, now: dt.datetime, *, kept: dt.timedelta = KEPT, hints_kept: dt.timedelta = HINTS_KEPT
) -> dict[str, int]:
    """Deletes what is older than `kept`, hints of followed logs than `hints_kept`; how many rows of each kind."""
    told = {"before": now - kept, "hints_before": now - hints_kept, "limit": AT_ONCE}
    return {name: _repeated(database, statement, told) for name, statement in _STEPS.items()}


def _repeated(database: Database, statement: LiteralString, told: dict[str, object]) -> int:
    total = 0
    while True:
        with database.connection() as connection:
            deleted = connection.execute(statement, told).rowcount
        total += deleted
        if deleted < AT_ONCE:
            return total
