"""What a lane prepares once for all its batches, one way or both ways."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from sync_platform.staging.canonical import canonical
from sync_platform.staging.tables import columns

if TYPE_CHECKING:
    import duckdb

    from sync_platform.engine.spec import Endpoint, SyncSpec
    from sync_platform.session import Session


def paced(spec: SyncSpec) -> SyncSpec:
    """The sync with errors told at once: a worker's circuit paces what a batch run would wait for."""
    errors = replace(spec.errors, retries=1, backoff_seconds=min(spec.errors.backoff_seconds, 0.2))
    return replace(spec, errors=errors)


def schema_of(session: Session, place: Endpoint) -> pa.Schema:
    """A stream's columns as staged, or as its system describes them when it never was."""
    with session.lake.connect() as con:
        staged = columns(con, place.connection, place.object)
    if staged is not None:
        return staged
    described = session.connector(place.connection).discover(place.object)
    kinds = [(one.name, canonical(one.type)) for one in described]
    return pa.schema([(name, kind) for name, kind in kinds if kind is not None])


class Conditions:
    """DuckDB connections that evaluate conditions, one per thread."""

    def __init__(self) -> None:
        self._local = threading.local()

    @property
    def con(self) -> duckdb.DuckDBPyConnection:
        """This thread's connection; its times are in UTC."""
        if not hasattr(self._local, "con"):
            import duckdb

            self._local.con = duckdb.connect(config={"threads": 1})
            self._local.con.execute("SET TimeZone = 'UTC'")
        made: duckdb.DuckDBPyConnection = self._local.con
        return made
