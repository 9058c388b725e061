"""Plans: what would change, exactly. The row lives in PostgreSQL, the changes in Parquet parts of the lake."""

from __future__ import annotations

import datetime as dt
import hashlib
import shutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import polars as pl
import psycopg
from psycopg.types.json import Jsonb

from sync_platform.errors import AccessError, BlockedError, ConfigError
from sync_platform.model import Op
from sync_platform.staging.lake import link

PART_ROWS = 100_000
LIFETIME = dt.timedelta(days=7)
#: What a change has besides its values, in this order; a desired record may lack some of it.
_CARRIED: Final = {
    "_cursor": pl.Int64, "_read_at": pl.Int64, "_desired_hash": pl.UInt64, "_dedupe_key": pl.String,
    "_changed": pl.Boolean,
}  # fmt: skip


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
    """The Parquet parts of one plan, by kind: desired, invalid, duplicates, left, changes; two-way: back and merges.

    A part of changes may be a desired part's own file under a second name: then it is nothing but creates of all its
    records, and read as such (see `create_all`).
    """

    def __init__(self, lake: Path, plan_id: str) -> None:
        self.folder = lake / "plans" / plan_id

    def write(self, kind: str, number: int, frame: pl.DataFrame) -> None:
        """Writes one part; a repeated write replaces it."""
        path = self.folder / f"{kind}-{number:05d}.parquet"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # it may be the second name of another part
            frame.write_parquet(path, compression="lz4")
        except (OSError, pl.exceptions.ComputeError) as error:
            raise AccessError(
                f"{path} cannot be written: {error}", mend="free some space or correct its permissions, then run again"
            ) from error

    def create_all(self, number: int, desired: Path) -> None:
        """Makes a desired part a part of changes as it is: each of its records is created, nothing is written again."""
        path = self.folder / f"changes-{number:05d}.parquet"
        try:
            path.unlink(missing_ok=True)
            link(desired, path)
        except OSError as error:
            raise AccessError(
                f"{path} cannot be written: {error}", mend="free some space or correct its permissions, then run again"
            ) from error

    def fields(self) -> tuple[str, ...]:
        """The target fields that the changes have values of; none when nothing changes."""
        for path in self.paths("changes"):
            return tuple(name[4:] for name in _rows(path).collect_schema().names() if name.startswith("new:"))
        return ()

    def paths(self, kind: str) -> list[Path]:
        """The parts of a kind in order."""
        return sorted(self.folder.glob(f"{kind}-*.parquet"))

    def parts(self, kind: str) -> Iterator[pl.DataFrame]:
        """The parts of a kind in order, one in memory at a time."""
        for path in self.paths(kind):
            yield _rows(path).collect()

    def beside(self, kind: str, path: Path) -> pl.DataFrame | None:
        """The part of a kind that has the number of another one's file; None when there is none."""
        other = path.with_name(f"{kind}-{path.stem.rpartition('-')[2]}{path.suffix}")
        return _rows(other).collect() if other.exists() else None

    def chosen(self, kind: str, wanted: pl.Expr, *columns: str) -> Iterator[pl.DataFrame]:
        """The rows of each part that a predicate chooses, where there are any; all columns, or only these."""
        for path in self.paths(kind):
            rows = _rows(path)
            if columns:
                found = rows.filter(wanted).select(columns).collect()
            elif rows.select(wanted.any()).collect().item():  # which reads less than all columns
                found = rows.filter(wanted).collect()
            else:
                continue
            if found.height:
                yield found

    def numbered(self, kind: str, wanted: pl.Expr) -> Iterator[tuple[int, pl.DataFrame]]:
        """The rows of each part that a predicate chooses, be there any or not, with the part's place in the order."""
        for number, path in enumerate(self.paths(kind)):
            yield number, _rows(path).filter(wanted).collect()

    def digest(self) -> str:
        """A digest over the bytes of every part that a delivery acts on."""
        total = hashlib.sha256()
        with ThreadPoolExecutor(2, thread_name_prefix="digesting") as workers:
            for digest in workers.map(_digest, [p for kind in ("changes", "back", "merges") for p in self.paths(kind)]):
                total.update(digest)
        return total.hexdigest()

    def remove(self) -> None:
        """Deletes the parts."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _digest(path: Path) -> bytes:
    told = path.stat()
    return _digest_of(path, (told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns))


@lru_cache(maxsize=4096)  # a run plans and delivers: what it digested and nobody touched since is not read again
def _digest_of(path: Path, _as_it_is: tuple[int, ...]) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _rows(path: Path) -> pl.LazyFrame:
    """The rows of a part; a desired part that is one of changes, too, as its creates."""
    rows = pl.scan_parquet(path)
    if not path.name.startswith("changes-") or "_op" in rows.collect_schema():
        return rows
    return as_creates(rows)


def as_creates(desired: pl.LazyFrame) -> pl.LazyFrame:
    """Desired records as `planning` plans them where all are to be created, without `_fields` (all that have a value).

    Columns as of `reconcile.plan`, and `_base`, `_replaces` and `_relink`.
    """
    known = desired.collect_schema()
    nothing = pl.lit(None, dtype=pl.String)
    fields = [name for name in known if not name.startswith("_")]
    carried = [
        pl.col(name) if name in known else pl.lit(None, dtype=kind).alias(name) for name, kind in _CARRIED.items()
    ]
    return desired.select(
        pl.lit(str(Op.CREATE)).alias("_op"), "_key", nothing.alias("_target_id"), nothing.alias("_reason"), *carried,
        pl.lit(None, dtype=pl.List(pl.String)).alias("_fields"),
        *[pl.col(name).alias(f"new:{name}") for name in fields],
        *[pl.lit(None, dtype=known[name]).alias(f"old:{name}") for name in fields],
        pl.col("_desired_hash").reinterpret(signed=True).alias("_base"),
        nothing.alias("_replaces"),
        pl.lit(False).alias("_relink"),
    )  # fmt: skip


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
