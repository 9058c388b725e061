"""Links of records that have one key in both systems are indexed once: their key finds them by either side."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"

# Between two databases nearly every link is of that kind, and the second index was a third of what a link cost.
_BY_TARGET = """
DROP INDEX sync.links_target;
CREATE INDEX links_target ON sync.links (target_id, sync) WHERE target_id <> source_key;
CREATE VIEW sync.links_by_target AS
    SELECT sync, source_key, target_id, updated_at FROM sync.links WHERE target_id <> source_key
    UNION ALL
    SELECT sync, source_key, source_key, updated_at FROM sync.links WHERE target_id = source_key;
"""


def upgrade() -> None:
    """Whoever looks for a list of target records asks the view, which looks into both indexes; a join cannot."""
    op.execute(_BY_TARGET)
