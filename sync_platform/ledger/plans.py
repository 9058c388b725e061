"""Plans: what would change, exactly. The row lives in PostgreSQL, the changes in Parquet parts of the lake."""

from __future__ import annotations

import datetime as dt
import hashlib
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
from psycopg.types.json import Jsonb

from sync_platform.errors import AccessError, BlockedError, ConfigError

PART_ROWS = 100_000
LIFETIME = dt.timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One plan's row."""

    plan_id: str
    sync: str
    digest: str
    config_hash: str
    compare: str
    positions_from: Mapping[str, int]
    positions_to: Mapping[str, int]
    evaluated_at: dt.datetime
    state: str
    reason: str | None
    summary: dict[str, Any] = field(default_factory=dict)
    created_at: dt.datetime
    expires_at: dt.datetime


class PlanFiles:
    """The Parquet parts of one plan, by kind: desired, invalid, duplicates, left, changes; two-way: back and merges."""

    def __init__(self, lake: Path, plan_id: str) -> None:
        self.folder = lake / "plans" / plan_id

    def write(self, kind: str, number: int, frame: pl.DataFrame) -> None:
        """Writes one part; a repeated write replaces it."""
        path = self.folder / f"{kind}-{number:05d}.parquet"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            frame.write_parquet(path, compression="lz4")
        except (OSError, pl.exceptions.ComputeError) as error:
            raise AccessError(
                f"{path} cannot be written: {error}", mend="free some space or correct its permissions, then run again"
            ) from error

    def paths(self, kind: str) -> list[Path]:
        """The parts of a kind in order."""
        return sorted(self.folder.glob(f"{kind}-*.parquet"))

    def parts(self, kind: str) -> Iterator[pl.DataFrame]:
        """The parts of a kind in order, one in memory at a time."""
        for path in self.paths(kind):
            yield pl.read_parquet(path)

    def beside(self, kind: str, path: Path) -> pl.DataFrame | None:
        """The part of a kind that has the number of another one's file; None when there is none."""
        other = path.with_name(f"{kind}-{path.stem.rpartition('-')[2]}{path.suffix}")
        return pl.read_parquet(other) if other.exists() else None

    def chosen(self, kind: str, wanted: pl.Expr, *columns: str) -> Iterator[pl.DataFrame]:
        """The rows of each part that a predicate chooses, where there are any; all columns, or only these."""
        for path in self.paths(kind):
            rows = pl.scan_parquet(path).filter(wanted)
            found = (rows.select(columns) if columns else rows).collect()
            if found.height:
                yield found

    def digest(self) -> str:
        """A digest over the bytes of every part that a delivery acts on."""
        total = hashlib.sha256()
        for path in [*self.paths("changes"), *self.paths("back"), *self.paths("merges")]:
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()

    def remove(self) -> None:
        """Deletes the parts."""
        shutil.rmtree(self.folder, ignore_errors=True)


def new_plan_id() -> str:
    """A fresh plan id."""
    return str(uuid.uuid4())


def insert_plan(connection: psycopg.Connection[Any], plan: Plan, run_id: str) -> None:
    """Records a plan that is being built."""
    connection.execute(
        """INSERT INTO sync.plans (plan_id, sync, digest, config_hash, compare, positions_from, positions_to,
                                   evaluated_at, state, reason, summary, created_at, expires_at, run_id)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (
            plan.plan_id,
            plan.sync,
            plan.digest,
            plan.config_hash,
            plan.compare,
            Jsonb(dict(plan.positions_from)),
            Jsonb(dict(plan.positions_to)),
            plan.evaluated_at,
            plan.state,
            plan.reason,
            Jsonb(plan.summary),
            plan.created_at,
            plan.expires_at,
            run_id,
        ),
    )


_COLUMNS = """plan_id::text, sync, digest, config_hash, compare, positions_from, positions_to, evaluated_at, state,
              reason, summary, created_at, expires_at"""


def _plan(row: tuple[Any, ...]) -> Plan:
    return Plan(**dict(zip(Plan.__dataclass_fields__, row, strict=True)))


def load_plan(connection: psycopg.Connection[Any], plan_id: str) -> Plan:
    """The plan of that id; ConfigError if this installation never made it."""
    try:
        row = connection.execute(f"SELECT {_COLUMNS} FROM sync.plans WHERE plan_id = %s", (plan_id,)).fetchone()
    except psycopg.errors.InvalidTextRepresentation:
        row = None
    if row is None:
        raise ConfigError(
            f"this installation knows no plan {plan_id}",
            field="plan_id",
            value=plan_id,
            mend="make a plan here with `sync-platform plan SYNC --out FILE`",
        )
    return _plan(row)


def latest_plan(connection: psycopg.Connection[Any], sync: str) -> Plan | None:
    """The newest plan of a sync, whatever its state."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM sync.plans WHERE sync = %s ORDER BY created_at DESC LIMIT 1", (sync,)
    ).fetchone()
    return _plan(row) if row else None


def set_plan(
    connection: psycopg.Connection[Any],
    plan_id: str,
    state: str,
    *,
    reason: str | None = None,
    summary: Mapping[str, Any] | None = None,
    digest: str | None = None,
) -> None:
    """Moves a plan to a state; `summary` and `digest` replace the old ones when given."""
    connection.execute(
        """UPDATE sync.plans SET state = %s, reason = %s, summary = coalesce(%s, summary),
                  digest = coalesce(%s, digest) WHERE plan_id = %s""",
        (state, reason, Jsonb(summary) if summary is not None else None, digest, plan_id),
    )


def supersede_others(connection: psycopg.Connection[Any], plan: Plan) -> None:
    """A delivery moved the position: plans made before it, and one that broke off, describe a world that is gone."""
    connection.execute(
        """UPDATE sync.plans SET state = 'superseded', reason = %s
           WHERE sync = %s AND plan_id <> %s AND state IN ('building', 'ready', 'blocked', 'delivering')""",
        (f"plan {plan.plan_id} was delivered since", plan.sync, plan.plan_id),
    )


def refuse_undeliverable(plan: Plan, now: dt.datetime) -> None:
    """Raises unless the plan may be delivered: a guard's block, a newer delivery or age end it."""
    if plan.state in {"ready", "delivering"}:
        if now <= plan.expires_at:
            return
        raise BlockedError(
            f"plan {plan.plan_id} expired at {plan.expires_at:%Y-%m-%d %H:%M} UTC", mend="make a new plan"
        )
    why = {
        "blocked": f"a guard blocked it: {plan.reason}",
        "superseded": f"it is superseded: {plan.reason}",
        "building": "it was never finished",
        "failed": f"it failed while it was made: {plan.reason}",
        "expired": "it expired",
        "settled": "it was delivered already",
    }[plan.state]
    guarded = "correct the records, or raise the limit under `guards` if this is meant"
    raise BlockedError(
        f"plan {plan.plan_id} of {plan.sync} is not delivered: {why}",
        mend=guarded if plan.state == "blocked" else "make a new plan",
    )
