"""Upkeep of the lake: many small files become few, and what no snapshot needs is deleted.

Nothing here changes a row: not `_seq`, not a value, not the number of rows. So a plan made before
and one made after are the same.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sync_platform.staging.lake import CATALOG, Lake, literal
from sync_platform.staging.load import lock_name
from sync_platform.staging.merge import APPENDED, retried
from sync_platform.staging.tables import exists

if TYPE_CHECKING:
    import duckdb

#: A file with a larger part of deleted rows is rewritten without them.
REWRITE_AT: Final = 0.1
KEEP: Final = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """What `expire` removed."""

    snapshots: int
    files: int


def compact(lake: Lake, connection: str, stream: str) -> None:
    """Merges the small files of a stream's staged table and dlt's bookkeeping, under the stream's lock.

    Old snapshots keep their files until `expire`.
    """
    from sync_platform.state.locks import advisory_lock

    with advisory_lock(lake.db, lock_name(connection, stream)), lake.errors(), lake.connect() as con:
        if exists(con, connection, stream):
            _compact(con, connection, stream)
        landing = f"landing__{connection}__{stream}"
        for name in _tables(con, landing):
            _compact(con, landing, name)


def expire(lake: Lake, *, keep: dt.timedelta = KEEP) -> Upkeep:
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
    return Upkeep(snapshots=len(gone), files=len(files) + len(ours))


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
