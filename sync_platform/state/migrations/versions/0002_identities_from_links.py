"""Identities are read from the links of every sync of a pair instead of being stored a second time."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

_PAIRS = """
CREATE TABLE sync.pairs (
    sync text PRIMARY KEY, source_connection text NOT NULL, source_object text NOT NULL,
    target_connection text NOT NULL, target_object text NOT NULL);
CREATE INDEX pairs_objects ON sync.pairs (source_connection, source_object, target_connection, target_object);

INSERT INTO sync.pairs
    SELECT DISTINCT ON (l.sync) l.sync, i.source_connection, i.source_object, i.target_connection, i.target_object
    FROM sync.links l JOIN sync.identities i ON i.source_key = l.source_key AND i.target_id = l.target_id
    ORDER BY l.sync, i.created_at DESC;

DROP TABLE sync.identities;
CREATE VIEW sync.identities AS
    SELECT p.source_connection, p.source_object, l.source_key, p.target_connection, p.target_object, l.target_id,
           NULL::text AS merged_into, l.updated_at AS created_at
    FROM sync.pairs p JOIN sync.links l ON l.sync = p.sync;

-- The column that differs decides first: every comparison of a key within one sync begins with it.
ALTER TABLE sync.links DROP CONSTRAINT links_pkey, ADD PRIMARY KEY (source_key, sync);
DROP INDEX sync.links_target;
CREATE INDEX links_target ON sync.links (target_id, sync);
"""


def upgrade() -> None:
    """Which two objects each sync keeps in step is remembered once, not with every record."""
    op.execute(_PAIRS)
