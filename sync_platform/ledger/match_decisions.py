"""What people decided about records that may be the same, as far as it was applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import psycopg

from sync_platform.ledger.copying import copy_in, fetched
from sync_platform.ledger.links import names_of

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.state.database import Database

DECISIONS: Final = {"_key": pl.String, "_target_id": pl.String, "decision": pl.String}
RECORDED: Final = ("source_key", "target_id", "decision", "class", "score", "evidence")

_APPLIED = """
    SELECT 1 FROM sync.match_plans
    WHERE sync = %(sync)s
      AND (source_connection, source_object, target_connection, target_object)
          = (%(source_connection)s, %(source_object)s, %(target_connection)s, %(target_object)s)"""

_NEW_PLAN = """
    INSERT INTO sync.match_plans (sync, source_connection, source_object, target_connection, target_object, run_id)
    VALUES (%(sync)s, %(source_connection)s, %(source_object)s, %(target_connection)s, %(target_object)s, %(run_id)s)
    ON CONFLICT (sync) DO UPDATE
       SET source_connection = excluded.source_connection, source_object = excluded.source_object,
           target_connection = excluded.target_connection, target_object = excluded.target_object,
           run_id = excluded.run_id, applied_at = now()"""

_RECORD = """
    INSERT INTO sync.match_decisions (sync, source_key, target_id, decision, class, score, evidence, run_id)
    SELECT %(sync)s, source_key, target_id, decision, class, score, evidence, %(run_id)s FROM deciding
    ON CONFLICT (source_key, sync, target_id) DO UPDATE
       SET decision = excluded.decision, class = excluded.class, score = excluded.score, evidence = excluded.evidence,
           run_id = excluded.run_id, decided_at = now()"""

# Whatever was still open about a record is settled by what is said now.
_OPEN = """
    DELETE FROM sync.match_decisions d USING (SELECT DISTINCT source_key FROM deciding) s
    WHERE d.sync = %(sync)s AND d.source_key = s.source_key AND d.decision IN ('undecided', 'create')"""

_LOOK_AGAIN = """
    INSERT INTO sync.held (sync, source_key, kind, reason, since)
    SELECT %(sync)s, key, 'held', %(reason)s, now() FROM unnest(%(keys)s::text[]) AS k(key)
    ON CONFLICT (sync, source_key) DO NOTHING"""


def plan_was_applied(database: Database, spec: SyncSpec) -> bool:
    """Whether somebody applied a match plan of this sync, between the objects it names now."""
    with database.reading() as connection:
        return connection.execute(_APPLIED, names_of(spec)).fetchone() is not None


def has_decisions(database: Database, spec: SyncSpec) -> bool:
    """Whether anything was ever decided about records of this sync."""
    with database.reading() as connection:
        found = connection.execute("SELECT 1 FROM sync.match_decisions WHERE sync = %s LIMIT 1", (spec.name,))
        return found.fetchone() is not None


def decisions_of(database: Database, spec: SyncSpec, keys: Sequence[str] | None = None) -> pl.DataFrame:
    """The decisions about these source records (None: all): `_key`, `_target_id` ('' for none), `decision`."""
    query = """
        SELECT source_key, target_id, decision FROM sync.match_decisions
        WHERE sync = %(sync)s AND (%(every)s OR source_key = ANY(%(keys)s::text[]))"""
    with database.reading() as connection:
        asked = {"sync": spec.name, "every": keys is None, "keys": list(keys or [])}
        if keys is None:
            rows = connection.execute(query, asked).fetchall()
            return pl.DataFrame(rows, schema=DECISIONS, orient="row")
        return fetched(connection, query, asked, DECISIONS)


def record_decisions(connection: psycopg.Connection[Any], spec: SyncSpec, rows: pl.DataFrame, run_id: str) -> None:
    """Stores decisions (columns `RECORDED`) in the caller's transaction, in place of what was open about a record."""
    connection.execute(
        """CREATE TEMP TABLE IF NOT EXISTS deciding (
               source_key text, target_id text, decision text, class text, score double precision, evidence text
           ) ON COMMIT DELETE ROWS"""
    )
    connection.execute("DELETE FROM deciding")
    copy_in(connection, "deciding", rows.select(RECORDED).with_columns(pl.col("target_id").fill_null("")))
    told = {"sync": spec.name, "run_id": run_id}
    connection.execute(_OPEN, told)
    connection.execute(_RECORD, told)


def record_plan(connection: psycopg.Connection[Any], spec: SyncSpec, run_id: str) -> None:
    """Remembers that a match plan of this sync was applied."""
    connection.execute(_NEW_PLAN, names_of(spec) | {"run_id": run_id})


def look_again(connection: psycopg.Connection[Any], spec: SyncSpec, keys: Sequence[str], reason: str) -> None:
    """Has the next plan look at these records although their source did not change."""
    connection.execute(_LOOK_AGAIN, {"sync": spec.name, "keys": list(keys), "reason": reason})
