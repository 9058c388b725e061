"""Schema drift: for each sync that pauses at one, the fields it was last told to go on with, and what differs since."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"

_SHAPES = """
CREATE TABLE sync.shapes (
    sync text PRIMARY KEY, accepted jsonb NOT NULL, accepted_at timestamptz NOT NULL DEFAULT now(),
    found jsonb, differences text[] NOT NULL DEFAULT '{}', since timestamptz,
    CHECK ((found IS NULL) = (since IS NULL)));
"""


def upgrade() -> None:
    """Adds the table; there is no way down: restore a backup instead."""
    op.execute(_SHAPES)
