"""dlt's `ducklake` destination on the connection the platform already has.

dlt opens a DuckDB of its own for every step of a load: it would load both extensions and attach the
catalog each time (2.2 s a load instead of 0.4 s), with a second memory limit and an error text that
holds the password. Here it borrows connections of our `Lake`, and a Parquet file it wrote becomes
part of the landing table as it is instead of being read and written again:
https://ducklake.select/docs/stable/duckdb/metadata/adding_files
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import duckdb
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.destination.client import LoadJob
from dlt.common.destination.typing import PreparedTableSchema
from dlt.common.schema import Schema, TColumnSchema, TTableSchemaColumns
from dlt.common.storages.configuration import FilesystemConfiguration
from dlt.destinations.impl.ducklake.configuration import DuckLakeClientConfiguration, DuckLakeCredentials
from dlt.destinations.impl.ducklake.ducklake import DuckLakeClient, DuckLakeCopyJob
from dlt.destinations.impl.ducklake.factory import ducklake
from dlt.destinations.impl.ducklake.sql_client import DuckLakeSqlClient
from dlt.destinations.sql_client import raise_open_connection_error

from sync_platform.model import HASH
from sync_platform.staging.lake import CATALOG, Lake, link, literal, quoted
from sync_platform.staging.naming import NamingConvention

if TYPE_CHECKING:
    from pathlib import Path

LANDING_TABLE = "rows"


class LakeSqlClient(DuckLakeSqlClient):
    """Runs dlt's statements on connections of a Lake."""

    def __init__(self, lake: Lake, parent: DuckLakeSqlClient) -> None:
        super().__init__(parent.dataset_name, parent.staging_dataset_name, parent.credentials, parent.capabilities)
        self._lake = lake

    @raise_open_connection_error
    def open_connection(self) -> duckdb.DuckDBPyConnection:
        """A connection whose default schema is the stream's landing dataset."""
        self._conn = self._lake.connect()
        self._conn.execute(f"USE {CATALOG}")
        with contextlib.suppress(duckdb.CatalogException):  # before the first load there is no such schema
            self._conn.execute(f"USE {CATALOG}.{quoted(self.dataset_name)}")
        return self._conn

    def close_connection(self) -> None:
        """Gives the connection back."""
        if self._conn:
            self._conn.close()
            self._conn = None  # type: ignore[assignment]  # as dlt itself does


class AddFile(DuckLakeCopyJob):
    """Makes a Parquet file that dlt wrote a data file of the landing table, without rewriting it."""

    _job_client: LakeClient

    def run(self) -> None:
        """Links the file into the lake and registers it; small bookkeeping tables are copied as usual."""
        if not self.load_table_name.startswith(LANDING_TABLE):
            super().run()
            return
        client = self._job_client.sql_client
        place = self._job_client.data / client.dataset_name.replace("/", "_") / self.load_table_name
        place.mkdir(parents=True, exist_ok=True)
        file = place / os.path.basename(self._file_path)
        link(self._file_path, file)  # dlt still moves its file about afterwards, so it keeps a name of its own
        client.execute_sql(
            f"CALL ducklake_add_data_files({literal(CATALOG)}, {literal(self.load_table_name)}, {literal(str(file))},"
            f" schema => {literal(client.dataset_name)}, allow_missing => true, ignore_extra_columns => true)"
        )


class LakeClient(DuckLakeClient):
    """dlt's client of the lake; `lake` is set by the destination."""

    lake: ClassVar[Lake]

    def __init__(
        self, schema: Schema, config: DuckLakeClientConfiguration, capabilities: DestinationCapabilitiesContext
    ) -> None:
        super().__init__(schema, config, capabilities)
        self.data: Path = self.lake.db.home.lake
        self.sql_client = LakeSqlClient(self.lake, self.sql_client)

    def _create_table_update(self, table_name: str, storage_columns: TTableSchemaColumns) -> Sequence[TColumnSchema]:
        """The columns a table lacks. dlt would give `_hash` a sign; the file keeps it without, for the staged table."""
        new = super()._create_table_update(table_name, storage_columns)
        return [column for column in new if column["name"] != HASH]

    def create_load_job(
        self, table: PreparedTableSchema, file_path: str, load_id: str, restore: bool = False
    ) -> LoadJob:
        """The job for one file of a load package."""
        job = super().create_load_job(table, file_path, load_id, restore)
        return AddFile(file_path) if isinstance(job, DuckLakeCopyJob) else job


class LakeDestination(ducklake):
    """The destination `ducklake` bound to a Lake."""

    def __init__(self, lake: Lake) -> None:
        credentials = DuckLakeCredentials(
            CATALOG,
            metadata_schema=CATALOG,
            catalog="postgres://sync-platform@localhost/lake",  # never used: connections come from the Lake
            storage=FilesystemConfiguration(bucket_url=lake.db.home.lake.as_uri()),
        )
        super().__init__(credentials=credentials, destination_name="lake", naming_convention=NamingConvention)
        self._client_class = type("BoundLakeClient", (LakeClient,), {"lake": lake})
        self._resolved = self.configuration(DuckLakeClientConfiguration(credentials=credentials), accept_partial=True)

    def capabilities(
        self, config: DuckLakeClientConfiguration | None = None, naming: Any = None
    ) -> DestinationCapabilitiesContext:
        """As dlt's own, which resolves the same settings again each of the fifty times a load asks without any."""
        return super().capabilities(config or self._resolved, naming)

    @property
    def client_class(self) -> type[Any]:
        """The client class, knowing the Lake."""
        return self._client_class
