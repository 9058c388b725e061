"""What each sync still has to do about received events: claimed in order per record, leased, fenced.

A claim takes *all* waiting events of a record at once, and no record of which an earlier event is
still being worked on or waits for its next try: what is delivered is the record's newest state, so
its events can neither overtake each other nor be worked on twice.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sync_platform.errors import SyncError

if TYPE_CHECKING:
    from sync_platform.state.database import Connection, Database

LEASE_SECONDS: Final = 30.0
#: For thousands of events: PostgreSQL is kept from looking each of them up by itself, which its estimates make it do.
NO_LOOPS: Final = "SELECT set_config('enable_nestloop', 'off', true)"

#: The state answers both at once, in one trip; the claim sees what the one before it took, because it waits its turn.
#: It need not outlive a crash of the server: whoever lost it is fenced, and what is written needs a claim that does.
_TURN: Final = """
    SELECT set_config('synchronous_commit', 'off', true), pg_advisory_xact_lock(hashtextextended('claiming', 7))"""
_CLAIM: Final = """
    WITH head AS MATERIALIZED (
        SELECT s.sync FROM unnest(%(syncs)s::text[]) AS s(sync)
        CROSS JOIN LATERAL (
            SELECT q.seq FROM sync.queue q
            WHERE q.sync = s.sync AND q.state = 'waiting' AND q.owner IS NULL
              AND (q.not_before IS NULL OR q.not_before <= now())
              AND NOT EXISTS (SELECT 1 FROM sync.queue b WHERE b.sync = q.sync AND b.key = q.key AND b.state = 'waiting'
                                AND (b.owner IS NOT NULL OR b.not_before > now()) OFFSET 0)
            ORDER BY q.seq LIMIT 1) AS first
        ORDER BY first.seq LIMIT 1),
    candidates AS (
        SELECT DISTINCT oldest.sync, oldest.key FROM head
        CROSS JOIN LATERAL (
            SELECT q.sync, q.key FROM sync.queue q
            WHERE q.sync = head.sync AND q.state = 'waiting' AND q.owner IS NULL
              AND (q.not_before IS NULL OR q.not_before <= now())
              AND NOT EXISTS (SELECT 1 FROM sync.queue b WHERE b.sync = q.sync AND b.key = q.key AND b.state = 'waiting'
                                AND (b.owner IS NOT NULL OR b.not_before > now()) OFFSET 0)
            ORDER BY q.seq LIMIT %(limit)s) AS oldest),
    taken AS (
        UPDATE sync.queue q SET owner = %(worker)s, plan_id = %(plan_id)s, attempts = q.attempts + 1,
               lease_until = now() + make_interval(secs => %(lease)s)
        FROM candidates c WHERE q.sync = c.sync AND q.key = c.key AND q.state = 'waiting'
        RETURNING q.sync, q.seq, q.key, q.attempts)
    SELECT t.sync, t.key, t.seq, t.attempts, i.event_id, i.kind, i.occurred_at, i.received_at, i.fields
    FROM taken t JOIN sync.inbox i USING (seq) ORDER BY t.seq"""
#: What waits of one sync, for a delivery in bulk: only the keys are told, and what bars a record is looked up once for
#: all of them.
_CLAIM_ALL: Final = """
    WITH barred AS MATERIALIZED (
        SELECT DISTINCT key FROM sync.queue
        WHERE sync = %(sync)s AND state = 'waiting' AND (owner IS NOT NULL OR not_before > now())),
    candidates AS (
        SELECT DISTINCT oldest.key FROM (
            SELECT q.key FROM sync.queue q
            WHERE q.sync = %(sync)s AND q.state = 'waiting' AND q.owner IS NULL
              AND (q.not_before IS NULL OR q.not_before <= now())
              AND NOT EXISTS (SELECT 1 FROM barred b WHERE b.key = q.key)
            ORDER BY q.seq LIMIT %(limit)s) AS oldest),
    taken AS (
        UPDATE sync.queue q SET owner = %(worker)s, plan_id = %(plan_id)s, attempts = q.attempts + 1,
               lease_until = now() + make_interval(secs => %(lease)s)
        FROM candidates c WHERE q.sync = %(sync)s AND q.key = c.key AND q.state = 'waiting'
        RETURNING q.key, q.seq)
    SELECT key FROM taken GROUP BY key ORDER BY min(seq)"""
_FINISH_ALL: Final = """
    WITH finished AS (
        UPDATE sync.queue SET state = 'done', owner = NULL, lease_until = NULL, not_before = NULL,
               finished_at = clock_timestamp(), outcome = %(outcome)s, reason = %(reason)s
        WHERE owner = %(worker)s AND plan_id = %(plan_id)s AND sync = %(sync)s AND state = 'waiting'
        RETURNING key)
    SELECT count(DISTINCT key) FROM finished"""
_FINISH: Final = """
    UPDATE sync.queue q SET state = %(state)s, owner = NULL, lease_until = NULL, not_before = NULL,
           finished_at = clock_timestamp(), outcome = d.outcome, reason = d.reason
    FROM unnest(%(keys)s::text[], %(outcomes)s::text[], %(reasons)s::text[]) AS d(key, outcome, reason)
    WHERE q.sync = %(sync)s AND q.key = d.key AND q.owner = %(worker)s AND q.state = 'waiting'
    RETURNING q.key"""
_RELEASE: Final = """
    UPDATE sync.queue SET owner = NULL, lease_until = NULL, reason = %(reason)s,
           attempts = attempts - CASE WHEN %(counted)s THEN 0 ELSE 1 END,
           not_before = CASE WHEN %(delay)s > 0 THEN now() + make_interval(secs => %(delay)s) END
    WHERE sync = %(sync)s AND key = ANY(%(keys)s) AND owner = %(worker)s AND state = 'waiting'"""


class FencedError(SyncError):
    """Another worker has this one's events: whatever it was about to record no longer counts."""

    code = "fenced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One event of a claimed record."""

    seq: int
    event_id: str
    kind: str  # created | updated | deleted | merged
    occurred_at: dt.datetime
    received_at: dt.datetime
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The claimed records of one sync, each with all its waiting events in order of arrival.

    `plan_id` names the batch: it owns the claims on the target, its intents and its outcomes.
    """

    sync: str
    plan_id: str
    events: Mapping[str, Sequence[Told]]
    attempts: Mapping[str, int] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """The source records, oldest event first."""
        return list(self.events)


def claim(database: Database, worker: str, syncs: Sequence[str], limit: int) -> Batch | None:
    """The oldest waiting records of the sync that waits longest, at most `limit` events' worth; None: nothing waits.

    Counts an attempt for each event: a record that kills its worker is tried only so often.
    """
    plan_id = str(uuid.uuid4())
    told = {"syncs": list(syncs), "worker": worker, "limit": limit, "lease": LEASE_SECONDS, "plan_id": plan_id}
    with database.connection() as connection, connection.pipeline():
        connection.execute(_TURN)
        answer = connection.execute(_CLAIM, told)
        connection.commit()
        rows = answer.fetchall()
    if not rows:
        return None
    events: dict[str, list[Told]] = {}
    attempts: dict[str, int] = {}
    for _, key, seq, tried, event_id, kind, occurred_at, received_at, fields in rows:
        events.setdefault(key, []).append(
            Told(seq=seq, event_id=event_id, kind=kind, occurred_at=occurred_at, received_at=received_at, fields=fields)
        )
        attempts[key] = max(tried, attempts.get(key, 0))
    return Batch(sync=str(rows[0][0]), plan_id=plan_id, events=events, attempts=attempts)


def claim_all(database: Database, worker: str, sync: str, limit: int) -> Batch | None:
    """As `claim`, for the records of one sync; what their events tell is left out."""
    plan_id = str(uuid.uuid4())
    told = {"sync": sync, "worker": worker, "limit": limit, "lease": LEASE_SECONDS, "plan_id": plan_id}
    with database.connection() as connection, connection.pipeline():
        connection.execute(_TURN)
        connection.execute(NO_LOOPS)
        answer = connection.execute(_CLAIM_ALL, told)
        connection.commit()
        rows = answer.fetchall()
    return Batch(sync=sync, plan_id=plan_id, events={row[0]: () for row in rows}) if rows else None


def finish_all(connection: Connection, worker: str, batch: Batch, outcome: str, reason: str) -> None:
    """As `finish`, for every record of a batch."""
    told = {"worker": worker, "plan_id": batch.plan_id, "sync": batch.sync, "outcome": outcome, "reason": reason}
    row = connection.execute(_FINISH_ALL, told).fetchone()
    lost = len(batch.events) - (int(row[0]) if row else 0)
    if lost:
        raise FencedError(f"{batch.sync}: {lost} records are another worker's by now")


def finish(
    connection: Connection,
    worker: str,
    sync: str,
    results: Mapping[str, tuple[str, str | None]],
    *,
    state: str = "done",
) -> None:
    """Marks the claimed events of these records done (key -> outcome, reason) in the caller's transaction.

    Raises FencedError when one of them is no longer this worker's, so that the transaction fails as a whole.
    """
    if not results:
        return
    keys = list(results)
    mine = connection.execute(
        _FINISH,
        {
            "state": state,
            "keys": keys,
            "outcomes": [results[key][0] for key in keys],
            "reasons": [results[key][1] for key in keys],
            "sync": sync,
            "worker": worker,
        },
    ).fetchall()
    lost = set(keys) - {row[0] for row in mine}
    if lost:
        raise FencedError(f"{sync}: {len(lost)} records are another worker's by now, e.g. {sorted(lost)[0]}")


def release(
    database: Database, worker: str, sync: str, keys: Sequence[str], *, delay: float, counted: bool, reason: str
) -> None:
    """Gives claimed events back, to be tried again in `delay` seconds; `counted`: the try was one of theirs."""
    told = {"worker": worker, "sync": sync, "keys": list(keys), "delay": delay, "counted": counted, "reason": reason}
    with database.connection() as connection:
        connection.execute(_RELEASE, told)


def alone(connection: Connection, worker: str) -> None:
    """Until the transaction ends, nothing else of this worker changes many queue rows: two orders would deadlock."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 8))", (worker,))


def renew(database: Database, worker: str, batches: Sequence[str]) -> None:
    """Extends the leases of the batches this worker is busy with (events, claims on targets), and says that it lives.

    What it claimed and lost sight of is not renewed: it comes back when its lease runs out. A lease of which half is
    left is let be: a deep backlog's are tens of thousands of rows.
    """
    with database.connection() as connection:
        alone(connection, worker)
        connection.execute(
            """UPDATE sync.queue SET lease_until = now() + make_interval(secs => %s)
               WHERE owner = %s AND plan_id = ANY(%s::uuid[]) AND lease_until < now() + make_interval(secs => %s)""",
            (LEASE_SECONDS, worker, list(batches), LEASE_SECONDS / 2),
        )
        connection.execute(
            "UPDATE sync.claims SET lease_until = now() + make_interval(secs => %s) WHERE owner = ANY(%s::uuid[])",
            (LEASE_SECONDS, list(batches)),
        )
        connection.execute("UPDATE sync.workers SET seen_at = now() WHERE worker_id = %s", (worker,))


def take_back(connection: Connection, dead: Sequence[str]) -> int:
    """Frees the events of dead workers with their claims on targets, and events whose lease ran out; how many."""
    connection.execute(
        """DELETE FROM sync.claims c USING sync.queue q
           WHERE c.owner = q.plan_id AND q.owner = ANY(%s::uuid[])""",
        (list(dead),),
    )
    return connection.execute(
        """UPDATE sync.queue SET owner = NULL, lease_until = NULL
           WHERE owner IS NOT NULL AND (owner = ANY(%s::uuid[]) OR lease_until < now())""",
        (list(dead),),
    ).rowcount
