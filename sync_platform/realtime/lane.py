"""One sync in the warm lane: a handful of records, the same engine, outcomes within milliseconds.

    events -> newest state -> filter, dedupe -> mapping, contract -> claims -> diff -> write -> outcomes

Everything that can be prepared once (schemas, mapping, conditions) is; nothing of it touches staging.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from sync_platform.engine.desired import compiled, looked_up, with_payload
from sync_platform.engine.judging import Judge
from sync_platform.engine.lookups import folded_fields
from sync_platform.engine.spec import Lookup
from sync_platform.engine.validation import validate
from sync_platform.ledger.members import mates_of
from sync_platform.model import KEY
from sync_platform.realtime.circuit import calling
from sync_platform.realtime.delivery import Delivery, Terms
from sync_platform.realtime.observed import Observed, Watched
from sync_platform.realtime.queue import Batch
from sync_platform.staging.canonical import canonical
from sync_platform.staging.overlay import rows_of
from sync_platform.staging.tables import columns

if TYPE_CHECKING:
    import duckdb

    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What became of a batch: every settled row, records that must be tried again (with why), and counts."""

    settled: list[pl.DataFrame]
    again: Mapping[str, str]
    counts: Mapping[str, int]
    cells: tuple[int, int]


@dataclass
class Lane:
    """A sync, prepared for events. `run_of(sync)` names the run its outcomes are told under."""

    session: Session
    spec: SyncSpec
    worker: str
    run_of: Callable[[str], str]
    may_delete: Callable[[int], bool]
    _local: threading.local = field(default_factory=threading.local, repr=False)

    def __post_init__(self) -> None:
        self.declared = self.spec
        # a worker's circuit paces what a batch run would wait for
        errors = replace(self.spec.errors, retries=1, backoff_seconds=min(self.spec.errors.backoff_seconds, 0.2))
        self.spec = replace(self.spec, errors=errors)
        self.target_connector = self.session.connector(self.spec.target.connection)
        self.target_stream = self.target_connector.stream(self.spec.target.object)
        self.folded = folded_fields(self.target_connector, self.target_stream)
        self.mapping = compiled(self.session, self.spec, self.schema)
        project = self.session.project
        self.contract = project.load(self.spec.contract, field_name="contract") if self.spec.contract else None
        self.judge = Judge.of(self.spec, self.schema, project.stream_options(self.spec.source).filter)
        read = self.judge.fields.union(*(rule.fields for rule in self.mapping.rules.values()))
        self.used = pa.schema([one for one in self.schema if one.name in read])  # what a batch's frames hold

    @cached_property
    def schema(self) -> pa.Schema:
        """The source's columns as staged, or as the source describes them when it never was."""
        source = self.spec.source
        with self.session.lake.connect() as con:
            staged = columns(con, source.connection, source.object)
        if staged is not None:
            return staged
        described = self.session.connector(source.connection).discover(source.object)
        kinds = [(one.name, canonical(one.type)) for one in described]
        return pa.schema([(name, kind) for name, kind in kinds if kind is not None])

    @cached_property
    def watched(self) -> Watched:
        """The source stream."""
        connector = self.session.connector(self.spec.source.connection)
        return Watched(
            database=self.session.database,
            connector=connector,
            connection=self.spec.source.connection,
            stream=connector.stream(self.spec.source.object),
            types={one.name: one.type for one in self.schema},
        )

    @property
    def con(self) -> duckdb.DuckDBPyConnection:
        """This thread's DuckDB, for conditions only."""
        if not hasattr(self._local, "con"):
            import duckdb

            self._local.con = duckdb.connect(config={"threads": 1})
            self._local.con.execute("SET TimeZone = 'UTC'")
        made: duckdb.DuckDBPyConnection = self._local.con
        return made

    def _terms(self) -> Terms:
        return Terms(
            spec=self.spec,
            worker=self.worker,
            run_of=self.run_of,
            may_delete=self.may_delete,
            connector=self.target_connector,
            stream=self.target_stream,
            folded=self.folded,
            con=self.con,
        )

    # -- what is wanted --------------------------------------------------------------------------

    def deliver(self, batch: Batch) -> Delivered:
        """Brings the target up to date with these records and settles their events.

        Raises SystemAwayError, BusyError, FencedError, or what is wrong with a record; what was settled before stays.
        """
        now = dt.datetime.now(dt.UTC)
        with calling(self.spec.source.connection):
            records = self.watched.resolve(batch.events)
            marked = self.judge.mark(self.con, self._rows(list(records.values())), now)
            mates = self._mates(records, marked)
            if mates:
                marked = self.judge.mark(self.con, self._rows([*records.values(), *mates]), now)
        judged = self.judge.judge(self.con, marked)
        wanted = judged.wanted.drop(self._absent(list(records.values())))
        mapped = self.mapping.apply(wanted, self._lookups(wanted))
        checked = validate(mapped, self.contract, required=self.mapping.required)
        refused = mapped.join(checked.invalid.select(KEY).unique(), on=KEY, how="semi")
        invalid = with_payload(refused, checked.invalid) if refused.height else None
        work = Delivery(
            terms=self._terms(),
            batch=batch,
            session=replace(self.session, run_id=batch.plan_id),
            judged=judged,
            desired=checked.valid,
            invalid=invalid,
        )
        with calling(self.spec.target.connection):
            settled = list(work.run())
        return Delivered(
            settled=settled,
            again=work.again,
            counts={
                "processed": len(batch.keys) - len(work.again),
                "unchanged": work.unchanged,
                "invalid": 0 if invalid is None else invalid.height,
                "duplicates": judged.left.filter(pl.col("_why") == "duplicate").height,
            },
            cells=(checked.cells_filled, checked.cells_total),
        )

    def _mates(self, records: Mapping[str, Observed], marked: pl.DataFrame) -> list[Observed]:
        """The records that share an old or a new dedupe key with one of these."""
        if self.judge.dedupe_key is None:
            return []
        mates = mates_of(self.session.database, self.spec, list(records), marked["_dedupe_key"].drop_nulls().to_list())
        return list(self.watched.newest([key for key in mates if key not in records]).values()) if mates else []

    def _rows(self, records: Sequence[Observed]) -> pl.DataFrame:
        """Records as rows of staging."""
        told = [(one.key, one.values, one.deleted, one.cursor, one.read_at) for one in records]
        frame = pl.from_arrow(rows_of(told, self.used))
        assert isinstance(frame, pl.DataFrame)
        return frame

    def _absent(self, records: Sequence[Observed]) -> list[str]:
        """The fields that some record of the batch was not told: absent is not null, so nothing is sent for them."""
        alive = [one.values for one in records if not one.deleted]
        return [name for name in self.used.names if any(name not in values for values in alive)]

    def _lookups(self, wanted: pl.DataFrame) -> Mapping[str, pl.DataFrame]:
        if not any(isinstance(rule, Lookup) for rule in self.spec.mapping.values()):
            return {}
        with self.session.lake.connect() as con:
            return looked_up(con, self.spec, self.mapping, wanted)
