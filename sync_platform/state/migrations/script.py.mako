"""${message}"""

from __future__ import annotations

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Describe the change; there is no way down: restore a backup instead."""
    ${upgrades if upgrades else 'op.execute("")'}
