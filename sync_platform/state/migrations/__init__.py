"""The schema of the state, as alembic migrations that run by themselves when the state is opened."""

from __future__ import annotations

from typing import Final

#: The newest migration. Kept here so that an up-to-date state is recognised without importing alembic.
HEAD: Final = "0010"
