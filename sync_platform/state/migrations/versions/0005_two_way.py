"""Two-way syncs: what each side held when they last agreed, conflicts for a person, records merged away."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

# Each side in its own terms: {"field": value}; a field that is not in it has no base.
_BASES = """
ALTER TABLE sync.links ADD COLUMN base_source jsonb, ADD COLUMN base_target jsonb;
"""

# `field` names the target fields that are decided together, `*` the record itself (deleted here, edited there).
_CONFLICTS = """
CREATE TABLE sync.conflicts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sync text NOT NULL, source_key text NOT NULL,
    target_id text NOT NULL, field text NOT NULL, reason text, base jsonb NOT NULL, source jsonb NOT NULL,
    target jsonb NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'resolved', 'settled')),
    take text CHECK (take IN ('source', 'target')),
    found_at timestamptz NOT NULL DEFAULT now(), resolved_at timestamptz, settled_at timestamptz);
CREATE UNIQUE INDEX conflicts_waiting ON sync.conflicts (sync, source_key, field) WHERE state <> 'settled';
"""

# A record the vendor merged into another one is neither deleted nor new.
_MERGED = """
CREATE TABLE sync.merged_records (
    connection text NOT NULL, object text NOT NULL, loser text NOT NULL, survivor text NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (connection, object, loser));
CREATE INDEX merged_survivor ON sync.merged_records (connection, object, survivor);

CREATE OR REPLACE VIEW sync.identities AS
    SELECT p.source_connection, p.source_object, l.source_key, p.target_connection, p.target_object, l.target_id,
           coalesce(s.survivor, t.survivor) AS merged_into, l.updated_at AS created_at
    FROM sync.pairs p JOIN sync.links l ON l.sync = p.sync
    LEFT JOIN sync.merged_records s
      ON (s.connection, s.object, s.loser) = (p.source_connection, p.source_object, l.source_key)
    LEFT JOIN sync.merged_records t
      ON (t.connection, t.object, t.loser) = (p.target_connection, p.target_object, l.target_id);
"""

_SIDES = """
ALTER TABLE sync.outcomes ADD COLUMN side text;
CREATE OR REPLACE VIEW sync_public.outcomes AS
    SELECT id, time, sync, run_id, plan_id, lane, source_key, target_id, op, status, fields, reason, resolution,
           request_id, side FROM sync.outcomes;
CREATE VIEW sync_public.conflicts AS
    SELECT id, sync, source_key, target_id, field, reason, base, source, target, state, take, found_at, resolved_at,
           settled_at FROM sync.conflicts;
"""


def upgrade() -> None:
    """Adds columns and tables; there is no way down: restore a backup instead."""
    for script in (_BASES, _CONFLICTS, _MERGED, _SIDES):
        op.execute(script)
