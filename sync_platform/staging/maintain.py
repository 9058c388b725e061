"""Upkeep of the lake: many small files become few, and what no snapshot needs is deleted.

Nothing here changes a row: not `_seq`, not a value, not the number of rows. So a plan made before
and one made after are the same.
"""

from __future__ import annotations

import datetime as dt
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sync_platform.errors import TransientError
from sync_platform.staging.lake import CATALOG, Lake, literal
from sync_platform.staging.ledger import streams_loaded
from sync_platform.staging.load import lock_name
from sync_platform.staging.merge import APPENDED, retried
from sync_platform.staging.outcomes import SCHEMA as OUTCOMES
from sync_platform.staging.tables import exists

if TYPE_CHECKING:
    import duckdb

    from sync_platform.state.database import Connection

#: A file with a larger part of deleted rows is rewritten without them.
REWRITE_AT: Final = 0.1
KEEP: Final = dt.timedelta(days=1)


#: How long `upkeep` waits for whoever is writing a table before it leaves the table for the next time.
PATIENCE: Final = dt.timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """What `expire` removed."""

    snapshots: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """What one `upkeep` did. Tables are "<connection>/<stream>" and "_outcomes/<sync>"; `busy` ones were locked."""

    compacted: tuple[str, ...]
    busy: tuple[str, ...]
    expired: Expired


def upkeep(lake: Lake, *, keep: dt.timedelta = KEEP, patience: dt.timedelta = PATIENCE) -> Upkeep:
    """Compacts every staged stream and every sync's outcomes, each under its lock, then expires.

    A table that is being written for longer than `patience` is left for the next time.
    """
    work = {"/".join(one): partial(compact, lake, *one) for one in streams_loaded(lake.db)}
    work |= {f"{OUTCOMES}/{sync}": partial(compact_outcomes, lake, sync) for sync in _with_outcomes(lake)}
    compacted, busy = [], []
    for name, run in work.items():
        try:
            run(patience=patience)
        except TransientError:  # locked
            busy.append(name)
        else:
            compacted.append(name)
    return Upkeep(compacted=tuple(compacted), busy=tuple(busy), expired=expire(lake, keep=keep))


def compact_outcomes(lake: Lake, sync: str, *, patience: dt.timedelta | None = None) -> None:
    """Merges the small files of a sync's bulk outcomes, under the sync's lock."""
    with _locked(lake, f"sync:{sync}", patience), lake.errors(), lake.connect() as con:
        _compact(con, OUTCOMES, sync)


def compact(lake: Lake, connection: str, stream: str, *, patience: dt.timedelta | None = None) -> None:
    """Merges the small files of a stream's staged table and dlt's bookkeeping, under the stream's lock.

    Old snapshots keep their files until `expire`. TransientError when the lock is not to be had within `patience`.
    """
    with _locked(lake, lock_name(connection, stream), patience), lake.errors(), lake.connect() as con:
        if exists(con, connection, stream):
            _compact(con, connection, stream)
        landing = f"landing__{connection}__{stream}"
        for name in _tables(con, landing):
            _compact(con, landing, name)


def expire(lake: Lake, *, keep: dt.timedelta = KEEP) -> Expired:
    """Forgets snapshots older than `keep` and deletes files that nobody has needed for as long.

    The newest snapshot always stays. A file goes at the first `expire` that finds it unused for `keep`,
    which must therefore be longer than any reader takes.
    """

    def since() -> str:
        return f"older_than => TIMESTAMPTZ {literal((dt.datetime.now(dt.UTC) - keep).isoformat())}"

    catalog = literal(CATALOG)
    with lake.errors(), lake.connect() as con:
        gone = retried(lambda: con.execute(f"CALL ducklake_expire_snapshots({catalog}, {since()})").fetchall())
        files = con.execute(f"CALL ducklake_cleanup_old_files({catalog}, {since()})").fetchall()
        lost = con.execute(f"CALL ducklake_delete_orphaned_files({catalog}, {since()}, dry_run => true)").fetchall()
    ours = [file for row in lost if _is_ours(file := Path(str(row[0])), lake.db.home.lake)]
    for file in ours:
        file.unlink(missing_ok=True)
    return Expired(snapshots=len(gone), files=len(files) + len(ours))


def _locked(lake: Lake, name: str, patience: dt.timedelta | None) -> AbstractContextManager[Connection]:
    from sync_platform.state.locks import advisory_lock

    return advisory_lock(lake.db, name, timeout=None if patience is None else patience.total_seconds())


def _with_outcomes(lake: Lake) -> list[str]:
    with lake.errors(), lake.connect() as con:
        return _tables(con, OUTCOMES)


def _compact(con: duckdb.DuckDBPyConnection, schema: str, table: str) -> None:
    where = f"{literal(CATALOG)}, {literal(table)}, schema => {literal(schema)}"
    retried(lambda: con.execute(f"CALL ducklake_rewrite_data_files({where}, delete_threshold => {REWRITE_AT})"))
    retried(lambda: con.execute(f"CALL ducklake_merge_adjacent_files({where})"))


def _tables(con: duckdb.DuckDBPyConnection, schema: str) -> list[str]:
    rows = con.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = ? AND schema_name = ?", [CATALOG, schema]
    ).fetchall()
    return [str(row[0]) for row in rows]


def _is_ours(file: Path, lake: Path) -> bool:
    """A file of a load that was killed before it was registered; other orphans are not ours to judge."""
    return file.is_relative_to(lake) and (
        file.relative_to(lake).parts[0].startswith("landing__") or file.name.startswith(APPENDED)
    )
