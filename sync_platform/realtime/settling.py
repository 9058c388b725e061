"""The usual outcomes of a few records, in one statement: ledger, queue and claims change together or not at all.

Usual is an update that was applied or found done, and an equal record whose link was renewed. Every other outcome
(a create, a delete, a failure, a hold) is settled by `ledger.settle`; both leave the same rows behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sync_platform.model import Op, Status
from sync_platform.realtime.queue import FencedError

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.state.database import Database

_USUAL: Final = frozenset({str(Status.APPLIED), str(Status.NOOP)})
_OPS: Final = frozenset({str(Op.UPDATE), str(Op.SKIP)})
_COLUMNS: Final = {
    "source_key": "text", "target_id": "text", "op": "text", "status": "text", "fields": "text", "reason": "text",
    "request_id": "text", "base": "bigint", "version_cursor": "bigint", "version_read_at": "bigint",
}  # fmt: skip

# Who had the target record before is nobody's there any more, and what was superseded meanwhile does not take the link
# back to the older version: as in `ledger.settle`.
_SETTLE: Final = f"""
    WITH s AS MATERIALIZED (
        SELECT * FROM unnest({", ".join(f"%({name})s::{kind}[]" for name, kind in _COLUMNS.items())})
            AS d({", ".join(_COLUMNS)})),
    told AS (
        INSERT INTO sync.outcomes (time, sync, run_id, plan_id, lane, source_key, target_id, op, status, fields,
                                   reason, request_id)
        SELECT clock_timestamp(), %(sync)s, %(run_id)s, %(plan_id)s, 'realtime', source_key, target_id, op, status,
               fields::jsonb, reason, request_id
        FROM s WHERE op <> 'skip'),
    taken_over AS (
        DELETE FROM sync.links l USING sync.links_by_target t, s
        WHERE t.sync = %(sync)s AND t.target_id = ANY(%(target_id)s::text[]) AND t.target_id = s.target_id
          AND t.source_key <> s.source_key AND l.sync = %(sync)s AND l.source_key = t.source_key
          AND l.target_id = t.target_id),
    linked AS (
        INSERT INTO sync.links AS l (sync, source_key, target_id, base, version_cursor, version_read_at, updated_at)
        SELECT %(sync)s, source_key, target_id, base, version_cursor, version_read_at, now() FROM s ORDER BY source_key
        ON CONFLICT (source_key, sync) DO UPDATE
           SET target_id = excluded.target_id, base = excluded.base, version_cursor = excluded.version_cursor,
               version_read_at = excluded.version_read_at, updated_at = now()
           WHERE l.version_cursor IS NULL OR excluded.version_cursor IS NULL
              OR (l.version_cursor, coalesce(l.version_read_at, 0))
                 <= (excluded.version_cursor, coalesce(excluded.version_read_at, 0))),
    letters AS (
        UPDATE sync.dead_letters d SET state = 'settled', last_at = now() FROM s
        WHERE d.sync = %(sync)s AND d.source_key = s.source_key AND d.state IN ('open', 'retry')),
    held AS (
        DELETE FROM sync.held h USING s WHERE h.sync = %(sync)s AND h.source_key = s.source_key),
    members AS (
        INSERT INTO sync.members AS m (sync, source_key, dedupe_key)
        SELECT %(sync)s, d.key, d.dedupe_key FROM unnest(%(members)s::text[], %(dedupe_keys)s::text[])
            AS d(key, dedupe_key) ORDER BY d.key
        ON CONFLICT (sync, source_key) DO UPDATE SET dedupe_key = excluded.dedupe_key
           WHERE m.dedupe_key IS DISTINCT FROM excluded.dedupe_key),
    released AS (
        DELETE FROM sync.claims
        WHERE target_connection = %(target_connection)s AND target_object = %(target_object)s
          AND target_key = ANY(%(claims)s) AND owner = %(plan_id)s),
    finished AS (
        UPDATE sync.queue q SET state = 'done', owner = NULL, lease_until = NULL, not_before = NULL,
               finished_at = clock_timestamp(), outcome = d.outcome, reason = d.reason
        FROM unnest(%(done)s::text[], %(outcomes)s::text[], %(reasons)s::text[]) AS d(key, outcome, reason)
        WHERE q.sync = %(sync)s AND q.key = d.key AND q.owner = %(worker)s AND q.state = 'waiting'
        RETURNING q.key)
    SELECT count(DISTINCT key) FROM finished"""


def usual(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every one of these settled rows (`ledger.settle.SETTLED`, as dictionaries) is settled here."""
    return all(row["status"] in _USUAL and row["op"] in _OPS for row in rows)


def settle_usual(
    database: Database,
    spec: SyncSpec,
    rows: Sequence[Mapping[str, Any]],
    *,
    run_id: str,
    plan_id: str,
    worker: str,
    done: Mapping[str, tuple[str, str | None]],
    members: Mapping[str, str | None],
    claims: Sequence[str],
) -> None:
    """Settles usual rows and the events of the records in `done` (key -> outcome, reason), and releases claims.

    `members`: the dedupe keys to remember. Raises FencedError, and then nothing has changed.
    """
    told: dict[str, Any] = {name: [row.get(name) for row in rows] for name in _COLUMNS}
    told |= {
        "sync": spec.name, "run_id": run_id, "plan_id": plan_id, "worker": worker, "claims": list(claims),
        "target_connection": spec.target.connection, "target_object": spec.target.object,
        "members": list(members), "dedupe_keys": list(members.values()), "done": list(done),
        "outcomes": [outcome for outcome, _ in done.values()], "reasons": [reason for _, reason in done.values()],
    }  # fmt: skip
    with database.connection() as connection:
        with connection.pipeline():
            answer = connection.execute(_SETTLE, told)
        row = answer.fetchone()
        mine = int(row[0]) if row else 0
        if mine < len(done):
            raise FencedError(f"{spec.name}: {len(done) - mine} records are another worker's by now")
