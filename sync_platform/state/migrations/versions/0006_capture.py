"""Change capture: how far each connection was followed, streams that owe a full compare, this installation's name."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

# Events and the position behind them are one transaction; `owner` is the process that may write here now.
_CAPTURES = """
CREATE TABLE sync.captures (
    connection text PRIMARY KEY, position text, streams text[] NOT NULL DEFAULT '{}', owner uuid,
    state text NOT NULL DEFAULT 'following' CHECK (state IN ('following', 'waiting', 'refused')), reason text,
    told_at timestamptz, committed_at timestamptz, stored bigint NOT NULL DEFAULT 0, behind_bytes bigint,
    limit_bytes bigint, warn_bytes bigint, host text, pid integer, updated_at timestamptz NOT NULL DEFAULT now());
"""

# Something happened to a stream that its events do not tell whole: the next load reads everything and compares.
_DEBTS = """
CREATE TABLE sync.owed_reads (
    connection text NOT NULL, stream text NOT NULL, since timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason text NOT NULL, emptied boolean NOT NULL DEFAULT false, PRIMARY KEY (connection, stream));
"""

# What this installation leaves at a source (a slot) is named after it, so that two of them never share one.
_INSTALLATION = """
CREATE TABLE sync.installation (id uuid NOT NULL DEFAULT gen_random_uuid());
CREATE UNIQUE INDEX installation_is_one ON sync.installation ((true));
INSERT INTO sync.installation DEFAULT VALUES;
"""


def upgrade() -> None:
    """Adds the tables; there is no way down: restore a backup instead."""
    for script in (_CAPTURES, _DEBTS, _INSTALLATION):
        op.execute(script)
