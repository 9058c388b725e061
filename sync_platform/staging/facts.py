"""What is known of a source's digests: which staged content a row with some digest is read as.

A fact is a pair of numbers, the `_hash` of a row's content as it is staged and the digest that its source gave the
same row. It says nothing of when, or of what is staged now, and so it never becomes wrong: a fact that is lost, or of
content that is staged no longer, only has rows read again. That is why no order between facts and rows need be kept
when a load is killed, and why facts are plain Parquet files (`h`, `d`) beside the lake:

    $SYNC_HOME/digests/<connection>__<stream>/<name of the digests>/<generation>-<part>.parquet

The first generation holds a whole read, one fact a row; later ones what later reads brought.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sync_platform.model import DELETED, HASH
from sync_platform.staging.lake import Lake, literal
from sync_platform.staging.landing import pipeline_name

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

_PLAIN: Final = "FORMAT parquet, COMPRESSION uncompressed, DICTIONARY_SIZE_LIMIT 1"
_FACT: Final = 16  # bytes
#: Generations after which those behind the first are put together.
_MANY: Final = 24


class Facts:
    """The facts of one stream. Only what holds the stream's lock may change them."""

    def __init__(self, lake: Lake, connection: str, stream: str) -> None:
        self._folder = lake.db.home.root / "digests" / pipeline_name(connection, stream)
        self._generation: int | None = None
        self._part = 0

    @property
    def digests(self) -> str | None:
        """What the digests that facts are known of are called; None without any."""
        with contextlib.suppress(OSError):
            names = [one.name for one in self._folder.iterdir() if any(one.glob("*.parquet"))]
            return names[0] if len(names) == 1 else None
        return None

    def rows(self) -> int:
        """About how many facts there are."""
        return sum(path.stat().st_size for path in self._files()) // _FACT

    def begin(self) -> None:
        """Facts noted from now on are of another read than those before."""
        self._generation = None

    def note(self, con: duckdb.DuckDBPyConnection, digests: str, pairs: str) -> None:
        """Notes what a query of `h` (UBIGINT) and `d` (BIGINT) answers; facts of other digests are dropped."""
        import duckdb

        if self.digests not in (None, digests):
            self.forget()
        try:
            self._note(con, digests, pairs)
        except (duckdb.IOException, OSError):  # a full disk, say: rows are staged without facts as well
            self.forget()

    def _note(self, con: duckdb.DuckDBPyConnection, digests: str, pairs: str) -> None:
        folder = self._folder / digests
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._generation is None:
            self._generation = max(map(_generation, self._files()), default=0) + 1
            self._part = 0
        self._part += 1
        _write(con, pairs, folder / f"{self._generation:08d}-{self._part:06d}.parquet")

    def sql(self) -> str | None:
        """A query of `h` and `d` with one fact for each content, the latest; None without facts."""
        files = self._files()
        if not files:
            return None
        first = _generation(files[0])
        base, later = [f for f in files if _generation(f) == first], [f for f in files if _generation(f) != first]
        if not later:
            return f"SELECT h, d FROM {_read(base)}"
        newest = f"SELECT h, arg_max(d, filename) AS d FROM {_read(later, named=True)} GROUP BY h"
        return (
            f"(WITH newest AS MATERIALIZED ({newest}) SELECT h, d FROM newest UNION ALL "
            f"SELECT h, d FROM {_read(base)} b ANTI JOIN newest USING (h))"
        )

    def settle(self, con: duckdb.DuckDBPyConnection, staged: str | None) -> None:
        """Keeps small what many reads left behind; after a complete read only what `staged`, a table, holds is kept."""
        files, known = self._files(), self.sql()
        if known is None or _generation(files[0]) == _generation(files[-1]):
            return
        if staged is not None:
            live = f"(SELECT {HASH} AS h FROM {staged} WHERE NOT {DELETED})"
            self._replace(con, f"SELECT h, d FROM ({known}) SEMI JOIN {live} USING (h)", files)
            return
        later = [f for f in files if _generation(f) != _generation(files[0])]
        if len({_generation(f) for f in later}) < _MANY:
            return
        if sum(f.stat().st_size for f in later) > sum(f.stat().st_size for f in files) // 2:
            self.forget()  # more of it is old than not: the next whole read begins anew
            return
        newest = f"SELECT h, arg_max(d, filename) AS d FROM {_read(later, named=True)} GROUP BY h"
        self._replace(con, newest, later)

    def forget(self) -> None:
        """Drops everything: the next full read reads all rows."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._generation = None

    def _replace(self, con: duckdb.DuckDBPyConnection, pairs: str, files: Sequence[Path]) -> None:
        """Puts one file in the place of several; killed in between, both are there, which says the same."""
        place = files[-1].with_name(f"{_generation(files[-1]) + 1:08d}-000001.parquet")
        _write(con, pairs, place)
        for file in files:
            file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        digests = self.digests
        return [] if digests is None else sorted((self._folder / digests).glob("*.parquet"))


def _generation(file: Path) -> int:
    return int(file.name.partition("-")[0])


def _read(files: Sequence[Path], *, named: bool = False) -> str:
    paths = ", ".join(literal(str(file)) for file in files)
    return f"read_parquet([{paths}]{', filename = true' if named else ''})"


def _write(con: duckdb.DuckDBPyConnection, pairs: str, place: Path) -> None:
    """Writes a file that is there when it is whole."""
    part = place.with_suffix(".part")
    con.execute(f"COPY ({pairs}) TO {literal(str(part))} ({_PLAIN})")
    os.replace(part, place)
