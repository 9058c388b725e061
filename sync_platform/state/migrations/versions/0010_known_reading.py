"""A load notes how far it read, so that the next one can ask its source before it has opened the lake."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Text, because a position may hold what jsonb does not (a key with a NUL in it)."""
    op.execute("ALTER TABLE sync.loads ADD COLUMN reading text")
