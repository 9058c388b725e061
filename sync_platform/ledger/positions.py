"""How far a sync has delivered each stream it reads. Moves only with a delivery."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.types.json import Jsonb


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPosition:
    """`streams` maps "<connection>/<object>" to the last delivered `_seq`."""

    streams: Mapping[str, int] = field(default_factory=dict)
    evaluated_at: dt.datetime | None = None
    config_hash: str | None = None

    @property
    def fresh(self) -> bool:
        """True before the first delivery."""
        return self.evaluated_at is None


def read_position(connection: psycopg.Connection[Any], sync: str) -> SyncPosition:
    """The sync's position, fresh if it never delivered."""
    row = connection.execute(
        "SELECT positions, evaluated_at, config_hash FROM sync.positions WHERE sync = %s", (sync,)
    ).fetchone()
    if row is None:
        return SyncPosition()
    return SyncPosition(streams=row[0], evaluated_at=row[1], config_hash=row[2])


def write_position(connection: psycopg.Connection[Any], sync: str, position: SyncPosition, run_id: str) -> None:
    """Moves the sync's position, inside the caller's transaction."""
    connection.execute(
        """INSERT INTO sync.positions (sync, positions, evaluated_at, config_hash, run_id, updated_at)
           VALUES (%s, %s, %s, %s, %s, now())
           ON CONFLICT (sync) DO UPDATE SET positions = excluded.positions, evaluated_at = excluded.evaluated_at,
               config_hash = excluded.config_hash, run_id = excluded.run_id, updated_at = now()""",
        (sync, Jsonb(dict(position.streams)), position.evaluated_at, position.config_hash, run_id),
    )
