"""dlt's part of a load: pages become a landing table, and the read position is stored beside it.

Each chunk is one dlt load package: its rows and, in the same package, the state that says how far
the read got. dlt reads a state back only if its package was completed, so a position is never ahead
of its rows. dlt works in an empty directory every time; what it must know it restores from the lake.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from sync_platform.errors import SyncError
from sync_platform.staging.canonical import LANDED_HASH
from sync_platform.staging.lake import CATALOG, Lake, quoted
from sync_platform.staging.reading import ROWS, Reading

if TYPE_CHECKING:
    from pathlib import Path

    import dlt
    import duckdb

_STATE: Final = "reading"


class Landing:
    """The landing dataset of one stream. Use as a context manager, under the stream's lock."""

    def __init__(self, lake: Lake, connection: str, stream: str) -> None:
        self._lake = lake
        self.dataset = f"landing__{connection}__{stream}"
        self._name = pipeline_name(connection, stream)
        self._work = lake.db.home.run / "landing" / self._name
        self._pipeline: dlt.Pipeline | None = None
        self.reading = Reading()

    def __enter__(self) -> Landing:
        shutil.rmtree(self._work, ignore_errors=True)  # of a load that was killed
        self._work.mkdir(parents=True, mode=0o700)
        import_whole()
        import dlt

        from sync_platform.staging.destination import LakeDestination

        destination = LakeDestination(self._lake)
        self._pipeline = dlt.pipeline(
            self._name, pipelines_dir=str(self._work), destination=destination, dataset_name=self.dataset
        )
        with translated(self._lake):
            self._pipeline.sync_destination()
        sources = self._pipeline.state.get("sources", {})
        stored = sources.get(self._pipeline.default_schema_name or "", {}).get(_STATE)
        if stored:
            self.reading = Reading.of(stored)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pipeline is not None:
            self._pipeline.deactivate()
        shutil.rmtree(self._work, ignore_errors=True)

    def table(self, name: str | None = None) -> str:
        """The quoted name of a landing table (default: of the last package)."""
        return f"{CATALOG}.{quoted(self.dataset)}.{quoted(name or self.reading.table)}"

    def tables(self, con: duckdb.DuckDBPyConnection) -> list[str]:
        """The names of the landing tables that exist."""
        found = con.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = ? AND schema_name = ?"
            " AND regexp_matches(table_name, '^rows(_[0-9]+)?$') ORDER BY 1",
            [CATALOG, self.dataset],
        ).fetchall()
        return [str(row[0]) for row in found]

    @property
    def next_chunk(self) -> int:
        """The number of the next package, which its rows carry."""
        return self.reading.chunk + 1

    def files(self, chunk: int) -> list[Path]:
        """Where to write the rows of a package, in as many Parquet files as pays; the caller deletes them."""
        return [self._work / f"chunk-{chunk}-{n}.parquet" for n in range(self._lake.writers)]

    def store(self, schema: pa.Schema | None, files: Mapping[Path, int], reading: Reading) -> None:
        """Lands these files with so many rows each, if any, and stores `reading` with them in one package.

        Their `_hash` stays out of the landing table (see `LakeClient`).
        """
        import dlt
        from dlt.common.libs.pyarrow import py_arrow_to_table_schema_columns

        pipeline = self._pipeline
        assert pipeline is not None, "use it as a context manager"
        stored = replace(reading, chunk=self.next_chunk, table=self._fitting(schema))
        hints = dlt.mark.make_hints(columns=py_arrow_to_table_schema_columns(schema)) if schema is not None else None

        def rows() -> Iterator[Any]:
            for file, count in files.items():
                yield dlt.mark.with_file_import(str(file), "parquet", count, hints)
            dlt.current.source_state()[_STATE] = asdict(stored)

        resource = dlt.resource(rows, name=stored.table, write_disposition="append")
        with translated(self._lake), self._lake.changing:
            pipeline.extract(resource, loader_file_format="parquet", workers=1)
            pipeline.normalize(workers=1)
            pipeline.load(workers=1)
        self.reading = stored

    def _fitting(self, schema: pa.Schema | None) -> str:
        """The landing table whose columns have these types: `rows`, or another after a column was widened.

        One without `_landed_hash` was made when the hash was landed as `_hash`.
        """
        from dlt.common.libs.pyarrow import py_arrow_to_table_schema_columns

        if schema is None:
            return self.reading.table
        assert self._pipeline is not None
        stored = self._pipeline.default_schema if self._pipeline.default_schema_name else None
        wanted = py_arrow_to_table_schema_columns(schema)
        number = 1
        while True:
            name = ROWS if number == 1 else f"{ROWS}_{number}"
            known: Mapping[str, Any] = {}
            if stored is not None and name in stored.tables:
                known = stored.tables[name]["columns"]
            alike = all(_same(known[column], hint) for column, hint in wanted.items() if column in known)
            if alike and (not known or LANDED_HASH in known):
                return name
            number += 1


def pipeline_name(connection: str, stream: str) -> str:
    """`<connection>__<stream>` as dlt and a file system take it: odd or long names end in a digest."""
    name = f"{connection}__{stream}"
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)[:48]
    return name if name == plain else f"{plain}_{hashlib.sha256(name.encode()).hexdigest()[:10]}"


class translated:  # noqa: N801  # reads as the statement it is: with translated(lake):
    """Turns dlt's and DuckDB's errors into the platform's; our own errors come out of dlt's as they went in."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            return
        import dlt  # noqa: F401  # first, as in the thread that may be importing it: modules wait for each other else
        import duckdb
        from dlt.common.exceptions import DltException

        if not isinstance(error, DltException | duckdb.Error):
            return
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, SyncError):
                raise cause
            if isinstance(cause, duckdb.Error):
                raise self._lake.translate(cause) from None
            cause = cause.__cause__ or cause.__context__
        raise self._lake.translate(error) from None


def _same(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(known.get(hint) == wanted.get(hint) for hint in ("data_type", "precision", "scale", "timezone"))


def import_whole() -> None:
    """Imports what a load needs besides its connector: dlt, and polars, which dlt and DuckDB look at if it is there.

    In one order wherever it is called, and to the end: what another thread is half through importing, they cannot bear.
    """
    quiet()
    import dlt  # noqa: F401
    import polars  # noqa: F401

    import sync_platform.staging.destination  # noqa: F401
    from sync_platform.staging.settings import use_our_settings

    use_our_settings()


def quiet() -> None:
    """dlt sends nothing about us anywhere and logs nothing of its own; set before its first import."""
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    os.environ.setdefault("RUNTIME__LOG_LEVEL", "CRITICAL")
