"""One transaction per delivered batch: outcomes, links, dead letters and intents change together or not at all.

The frame to settle has one row per change, with the columns of `SETTLED`. It is copied into a
temporary table and folded into the ledger by set-based statements, so one row and 100,000 rows take
the same path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl
import psycopg

from sync_platform.ledger.copying import copy_in
from sync_platform.ledger.links import names_of

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec

SETTLED = pl.Schema(
    {
        "source_key": pl.String,
        "target_id": pl.String,
        "op": pl.String,
        "status": pl.String,
        "fields": pl.String,  # JSON {"field": [old, new]}
        "field": pl.String,
        "reason": pl.String,
        "resolution": pl.String,
        "request_id": pl.String,
        "token": pl.String,
        "base": pl.Int64,  # hash of what was delivered
        "version_cursor": pl.Int64,
        "version_read_at": pl.Int64,
        "payload": pl.String,  # JSON of the values that were refused
        "reasons": pl.String,  # JSON list of every reason
        "kind": pl.String,  # contract | rejected | transient, for failures
    }
)

_TABLE = """
    CREATE TEMP TABLE IF NOT EXISTS settling (
        source_key text, target_id text, op text, status text, fields jsonb, field text, reason text,
        resolution text, request_id text, token text, base bigint, version_cursor bigint,
        version_read_at bigint, payload jsonb, reasons jsonb, kind text
    ) ON COMMIT DELETE ROWS"""

_KINDS = {"fields": "jsonb", "payload": "jsonb", "reasons": "jsonb", "base": "bigint", "version_cursor": "bigint",
          "version_read_at": "bigint"}  # fmt: skip
_FEW = (
    f"INSERT INTO settling ({', '.join(SETTLED)}) SELECT "
    + ", ".join(f"d.{name}::{_KINDS.get(name, 'text')}" for name in SETTLED)
    + " FROM unnest("
    + ", ".join("%s::bigint[]" if _KINDS.get(name) == "bigint" else "%s::text[]" for name in SETTLED)
    + f") AS d({', '.join(SETTLED)})"
)

_OUTCOMES = """
    INSERT INTO sync.outcomes (time, sync, run_id, plan_id, lane, source_key, target_id, op, status, fields,
                               reason, resolution, request_id, side)
    SELECT clock_timestamp(), %(sync)s, %(run_id)s, %(plan_id)s, %(lane)s, source_key, target_id, op, status, fields,
           reason, resolution, request_id, %(side)s
    FROM settling"""

# Which objects a sync links; a sync that was pointed to others forgets what it linked before.
_PAIR = """
    SELECT (source_connection, source_object, target_connection, target_object)
           = (%(source_connection)s, %(source_object)s, %(target_connection)s, %(target_object)s)
    FROM sync.pairs WHERE sync = %(sync)s"""
_OTHER_LINKS = "DELETE FROM sync.links WHERE sync = %(sync)s"
_NEW_PAIR = """
    INSERT INTO sync.pairs (sync, source_connection, source_object, target_connection, target_object)
    VALUES (%(sync)s, %(source_connection)s, %(source_object)s, %(target_connection)s, %(target_object)s)
    ON CONFLICT (sync) DO UPDATE
       SET source_connection = excluded.source_connection, source_object = excluded.source_object,
           target_connection = excluded.target_connection, target_object = excluded.target_object"""

# What was superseded meanwhile does not take the link back to the older version.
_LINKS = """
    INSERT INTO sync.links AS l (sync, source_key, target_id, base, version_cursor, version_read_at, updated_at)
    SELECT %(sync)s, source_key, target_id, base, version_cursor, version_read_at, now()
    FROM settling WHERE status IN ('applied', 'noop') AND op IN ('create', 'update', 'skip') AND target_id IS NOT NULL
    ON CONFLICT (sync, source_key) DO UPDATE
       SET target_id = excluded.target_id, base = excluded.base, version_cursor = excluded.version_cursor,
           version_read_at = excluded.version_read_at, updated_at = now()
       WHERE l.version_cursor IS NULL OR excluded.version_cursor IS NULL
          OR (l.version_cursor, coalesce(l.version_read_at, 0))
             <= (excluded.version_cursor, coalesce(excluded.version_read_at, 0))"""

# Who had the target record before is nobody's there any more; who has the target's own key is found by that.
# Looked up one by one (OFFSET 0) in an index that is often empty: a join would read every link of every sync.
_TAKEN_OVER = """
    DELETE FROM sync.links WHERE sync = %(sync)s AND target_id <> source_key AND source_key = ANY(ARRAY(
        SELECT l.source_key FROM settling s CROSS JOIN LATERAL (
            SELECT source_key FROM sync.links
            WHERE target_id = s.target_id AND sync = %(sync)s AND target_id <> source_key OFFSET 0) AS l
        WHERE l.source_key <> s.source_key AND s.status IN ('applied', 'noop') AND s.op IN ('update', 'skip')))"""
_TAKEN_OVER_FROM_ITS_NAMESAKE = """
    DELETE FROM sync.links l USING settling s
    WHERE l.sync = %(sync)s AND l.source_key = s.target_id AND l.target_id = l.source_key
      AND s.target_id <> s.source_key AND s.status IN ('applied', 'noop') AND s.op IN ('update', 'skip')"""

_UNLINKED = """
    DELETE FROM sync.links l USING settling s
    WHERE l.sync = %(sync)s AND l.source_key = s.source_key
      AND s.status IN ('applied', 'noop') AND s.op IN ('delete', 'archive')"""

_INTENTS = "DELETE FROM sync.intents i USING settling s WHERE i.token = s.token AND s.status <> 'unknown'"

_LETTERS_SETTLED = """
    UPDATE sync.dead_letters d SET state = 'settled', last_at = now() FROM settling s
    WHERE d.sync = %(sync)s AND d.source_key = s.source_key AND d.state IN ('open', 'retry')
      AND s.status IN ('applied', 'noop')"""

_LETTERS = """
    INSERT INTO sync.dead_letters AS d (sync, source_key, kind, field, reason, resolution, reasons, payload, attempts,
                                        state, config_hash, first_at, last_at)
    SELECT %(sync)s, source_key, kind, field, reason, resolution, reasons, payload, 1,
           CASE WHEN kind = 'transient' THEN 'retry' ELSE 'open' END, %(config_hash)s, now(), now()
    FROM settling WHERE status IN ('failed', 'retry')
    ON CONFLICT (sync, source_key) WHERE state IN ('open', 'retry') DO UPDATE
       SET kind = excluded.kind, field = excluded.field, reason = excluded.reason, resolution = excluded.resolution,
           reasons = excluded.reasons, payload = excluded.payload, attempts = d.attempts + 1, state = excluded.state,
           config_hash = excluded.config_hash, last_at = now()"""

_HELD_SETTLED = """
    DELETE FROM sync.held h USING settling s
    WHERE h.sync = %(sync)s AND h.source_key = s.source_key AND s.status NOT IN ('held', 'refused', 'unknown')"""

_HELD = """
    INSERT INTO sync.held AS h (sync, source_key, kind, reason, detail, since)
    SELECT %(sync)s, source_key, status, reason, fields, now()
    FROM settling WHERE status IN ('held', 'refused', 'unknown')
    ON CONFLICT (sync, source_key) DO UPDATE
       SET kind = CASE WHEN h.kind = 'unknown' THEN h.kind ELSE excluded.kind END,  -- until a person or a look-up knows
           reason = excluded.reason, detail = excluded.detail"""

_Names: TypeAlias = "dict[str, str | None]"

_WAITING = """
    SELECT EXISTS (SELECT 1 FROM sync.dead_letters WHERE sync = %(sync)s AND state IN ('open', 'retry'))
        OR EXISTS (SELECT 1 FROM sync.held WHERE sync = %(sync)s)"""

_LINKING = ("create", "update", "skip")
#: The rows that make or renew a link.
_LINKED = pl.col("status").is_in(["applied", "noop"]) & pl.col("op").is_in(_LINKING) & pl.col("target_id").is_not_null()
#: Each statement with the ops it is about: a million creates need no look for what a delete leaves behind.
_STATEMENTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (_TAKEN_OVER, ("update", "skip")),
    (_TAKEN_OVER_FROM_ITS_NAMESAKE, ("update", "skip")),
    (_LINKS, _LINKING),
    (_UNLINKED, ("delete", "archive")),
    (_INTENTS, ("create",)),
    (_LETTERS_SETTLED, ()),
    (_LETTERS, ()),
    (_HELD_SETTLED, ()),
    (_HELD, ()),
)
#: From here on hash joins: the tables just filled have no statistics, and a nested loop over them never ends.
_MANY = 1_000


def settle(
    connection: psycopg.Connection[Any],
    spec: SyncSpec,
    rows: pl.DataFrame,
    *,
    run_id: str,
    plan_id: str,
    lane: str = "batch",
    record_outcomes: bool = True,
    side: str | None = None,
) -> None:
    """Folds a batch's outcomes into the ledger, inside the caller's transaction.

    `side` says which side of a two-way sync was written. `record_outcomes=False` is for a bulk delivery whose outcome
    rows are in the lake already.
    """
    if rows.is_empty():
        return
    names: _Names = {
        **names_of(spec), "run_id": run_id, "plan_id": plan_id, "lane": lane, "config_hash": spec.config_hash(),
        "side": side,
    }  # fmt: skip
    if not rows.filter(_LINKED).is_empty():
        _remember_pair(connection, names)
    if not record_outcomes:
        rows = _without_new_links(connection, names, rows)
        if rows.is_empty():
            return
    if rows.height < _MANY:
        with connection.pipeline():  # one trip for all of it
            connection.execute(_TABLE)
            connection.execute(_FEW, [rows[name].to_list() for name in SETTLED])
            _fold(connection, rows, names, record_outcomes)
        return
    connection.execute(_TABLE)
    told = [name for name in SETTLED if rows[name].null_count() < rows.height]
    copy_in(connection, "settling", rows.select(told), documents=("fields", "payload", "reasons"))
    connection.execute("ANALYZE settling")
    connection.execute("SET LOCAL enable_nestloop = off")
    _fold(connection, rows, names, record_outcomes)


def _fold(connection: psycopg.Connection[Any], rows: pl.DataFrame, names: _Names, record_outcomes: bool) -> None:
    """From the temporary table into the ledger."""
    if record_outcomes:
        connection.execute(_OUTCOMES, names)
    present = set(rows["op"])
    for statement, ops in _STATEMENTS:
        if not ops or present.intersection(ops):
            connection.execute(statement, names)
    if names["side"] is not None and "create" not in present:  # a two-way sync writes intents of its updates, too
        connection.execute(_INTENTS)


def _remember_pair(connection: psycopg.Connection[Any], names: _Names) -> None:
    known = connection.execute(_PAIR, names).fetchone()
    if known is not None and known[0]:
        return
    if known is not None:
        connection.execute(_OTHER_LINKS, names)
    connection.execute(_NEW_PAIR, names)


def _without_new_links(connection: psycopg.Connection[Any], names: _Names, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows left after many creates went straight into the table of links, which is all there is to do for them.

    That needs that no letter, hold or intent of theirs waits, and that the table takes them as new.
    """
    new = _LINKED & (pl.col("op") == "create") & pl.col("token").is_null()
    fresh = rows.filter(new)
    if fresh.height < _MANY:
        return rows
    waiting = connection.execute(_WAITING, names).fetchone()
    if waiting is None or waiting[0]:
        return rows
    links = fresh.sort("source_key").select(
        pl.lit(names["sync"]).alias("sync"), "source_key", "target_id", "base", "version_cursor", "version_read_at"
    )
    try:
        with connection.transaction():
            copy_in(connection, "sync.links", links)
    except psycopg.errors.UniqueViolation:  # some were linked before
        return rows
    return rows.filter(~new)


def settled_frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """A frame of `SETTLED` from dictionaries; missing columns are null."""
    return pl.DataFrame([{name: row.get(name) for name in SETTLED} for row in rows], schema=SETTLED)
