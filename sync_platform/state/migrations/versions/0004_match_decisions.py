"""What people decided about records that may be the same, and for which syncs the match plan was applied."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

# A sync that was pointed to other objects since has applied no plan yet.
_PLANS = """
CREATE TABLE sync.match_plans (
    sync text PRIMARY KEY, source_connection text NOT NULL, source_object text NOT NULL,
    target_connection text NOT NULL, target_object text NOT NULL, run_id text,
    applied_at timestamptz NOT NULL DEFAULT now());
"""

# `target_id` is empty where the decision is about the source record alone (create it, or not yet).
_DECISIONS = """
CREATE TABLE sync.match_decisions (
    sync text NOT NULL, source_key text NOT NULL, target_id text NOT NULL DEFAULT '',
    decision text NOT NULL CHECK (decision IN ('accept', 'reject', 'create', 'undecided')),
    class text, score double precision, evidence text, run_id text, decided_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source_key, sync, target_id));
CREATE INDEX match_decisions_sync ON sync.match_decisions (sync, decision);
"""

_PUBLIC = """
CREATE VIEW sync_public.match_decisions AS
    SELECT sync, source_key, nullif(target_id, '') AS target_id, decision, class, score, evidence, run_id, decided_at
    FROM sync.match_decisions;
"""


def upgrade() -> None:
    """Adds the tables; there is no way down: restore a backup instead."""
    for script in (_PLANS, _DECISIONS, _PUBLIC):
        op.execute(script)
