"""One sync in the warm lane: a handful of records, the same engine, outcomes within milliseconds.

    events -> newest state -> filter, dedupe -> mapping, contract -> claims -> diff -> write -> outcomes

Everything that can be prepared once (schemas, mapping, conditions) is; nothing of it touches staging.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa

from sync_platform.engine.desired import compiled, fields_read, looked_up, with_payload
from sync_platform.engine.drift import heed_drift
from sync_platform.engine.handful import MODES
from sync_platform.engine.judging import Judge
from sync_platform.engine.lookups import folded_fields
from sync_platform.engine.reconcile import Rules, desired_hash
from sync_platform.engine.row_rules import NotPlain, RowRules
from sync_platform.engine.spec import Lookup
from sync_platform.engine.validation import Validated, validate
from sync_platform.ledger.members import mates_of
from sync_platform.ledger.taking_up import TakenUp, release, take_up
from sync_platform.model import KEY
from sync_platform.realtime.circuit import calling
from sync_platform.realtime.delivery import CLAIM_SECONDS, Delivery, Terms
from sync_platform.realtime.observed import Observed, Watched
from sync_platform.realtime.prepared import Conditions, paced, schema_of
from sync_platform.realtime.queue import Batch
from sync_platform.realtime.quick import NotUsualError, QuickDelivery, Wanted, by_row, target_held
from sync_platform.staging.overlay import rows_of

if TYPE_CHECKING:
    from sync_platform.engine.spec import Endpoint, SyncSpec
    from sync_platform.session import Session

#: Batches of one sync whose target records are read ahead at a time.
READERS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What became of a batch: every settled row, records that must be tried again (with why), and counts.

    `usual` counts the outcomes (op, status) that went well and whose rows nobody needs any more.
    """

    settled: list[pl.DataFrame]
    usual: Mapping[tuple[str, str], int] = field(default_factory=dict)
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
    others: Callable[[], frozenset[str]] = frozenset  # the fields that other syncs of the source's stream make use of
    _conditions: Conditions = field(default_factory=Conditions, repr=False)

    def __post_init__(self) -> None:
        self.declared = self.spec
        self.spec = paced(self.spec)
        heed_drift(self.session, self.spec, self.schema)
        self.target_connector = self.session.connector(self.spec.target.connection)
        self.target_stream = self.target_connector.stream(self.spec.target.object)
        self.folded = folded_fields(self.target_connector, self.target_stream)
        self.mapping = compiled(self.session, self.spec, self.schema)
        project = self.session.project
        self.contract = project.load(self.spec.contract, field_name="contract") if self.spec.contract else None
        self.judge = Judge.of(self.spec, self.schema, project.stream_options(self.spec.source).filter)
        self.required = self.mapping.required
        self.row_rules = RowRules.of(self.spec, self.mapping) if self.judge.where is None else None
        read = fields_read(self.judge, self.mapping)
        self.used = pa.schema([one for one in self.schema if one.name in read])  # what a batch's frames hold

    @cached_property
    def schema(self) -> pa.Schema:
        """The source's columns."""
        return schema_of(self.session, self.spec.source)

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
            used=lambda: self.others().union(self.used.names),
        )

    @cached_property
    def _ahead(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(READERS, thread_name_prefix="reading targets")

    def uses(self, stream: Endpoint) -> frozenset[str]:
        """The fields of a stream that this sync makes use of."""
        return frozenset(self.used.names) if self.spec.source == stream else frozenset()

    def _terms(self) -> Terms:
        return Terms(
            spec=self.spec,
            worker=self.worker,
            run_of=self.run_of,
            may_delete=self.may_delete,
            connector=self.target_connector,
            stream=self.target_stream,
            folded=self.folded,
            con=self._conditions.con,
        )

    def deliver(self, batch: Batch) -> Delivered:
        """Brings the target up to date with these records and settles their events.

        Raises SystemAwayError, BusyError, FencedError, or what is wrong with a record; what was settled before stays.
        """
        return self._quickly(batch) or self._in_general(batch)

    # -- the usual batch -------------------------------------------------------------------------

    def _quickly(self, batch: Batch) -> Delivered | None:
        """As `deliver`, when every record is linked, wanted and accepted (see `quick`); else None, and nothing done."""
        if self.spec.mode not in MODES:
            return None
        database, source = self.session.database, self.watched.stream.name
        taken = take_up(database, self.spec, source, batch.keys, batch.plan_id, CLAIM_SECONDS)
        work: QuickDelivery | None = None
        try:
            if not taken.usual:
                return None
            # source and target are asked at the same time: each costs a round trip
            held = self._ahead.submit(
                target_held, self._terms(), [one.target_id for one in taken.links.values()], self.mapping.fields
            )
            with calling(self.spec.source.connection):
                wanted = self._wanted(batch, taken)
            work = QuickDelivery(
                terms=self._terms(),
                batch=batch,
                session=replace(self.session, run_id=batch.plan_id),
                taken=taken,
                rules=Rules(
                    mode=self.spec.mode,
                    fields=tuple(wanted.types),
                    empty_is_null=self.target_stream.empty_is_null,
                    folded=frozenset(self.folded),
                ),
            )
            with calling(self.spec.target.connection):
                work.run(wanted, held.result())
        except (NotUsualError, NotPlain):
            return None
        finally:
            if work is None or not work.closed:
                release(database, self.spec, taken.claims, batch.plan_id)
        return Delivered(
            settled=work.settled,
            usual=work.outcomes,
            again=work.again,
            counts={
                "processed": len(batch.keys) - len(work.again),
                "unchanged": work.unchanged,
                "invalid": 0,
                "duplicates": 0,
            },
            cells=wanted.cells,
        )

    def _wanted(self, batch: Batch, taken: TakenUp) -> Wanted:
        """What the target should hold of these records. Raises NotUsualError or NotPlain."""
        known = {key: Observed.of((key, *row)) for key, row in taken.known.items() if row is not None}
        told = {key: self.watched.overlaid(known.get(key), list(events)) for key, events in batch.events.items()}
        laid = {key: one for key, one in told.items() if one is not None}
        asked = [key for key in told if key not in laid]
        read, read_at = self.watched.look(asked)
        try:
            if len(read) < len(asked):
                raise NotUsualError
            wanted = self._mapped([laid[key] if key in laid else read[key] for key in told])
            dedupe = [row["_dedupe_key"] for row in wanted.rows if row["_dedupe_key"] is not None]
            if len(set(dedupe)) < len(dedupe):
                raise NotUsualError
        except (NotUsualError, NotPlain):
            self.watched.keep(asked, read, read_at)  # so that the general way need not read again
            raise
        changed = [one for key, one in laid.items() if one != known[key]]
        was = {key: row[6] for key, row in taken.known.items() if row is not None}
        rows = list(read.values())
        if (rows or changed or self.spec.dedupe is not None) and not self.watched.keep_usual(
            rows, changed, was, self.spec.name, batch.keys, dedupe
        ):
            raise NotUsualError
        return wanted

    def _mapped(self, records: Sequence[Observed]) -> Wanted:
        """The records mapped and accepted, row by row where the rules allow it."""
        present = {frozenset(name for name in self.used.names if name in one.values) for one in records}
        if (
            any(one.deleted for one in records)
            or len(present) != 1
            or not self.judge.fields <= (names := present.pop())
        ):
            raise NotUsualError
        if self.row_rules is not None:
            found = by_row(self.row_rules, records, names, self.required, self.contract)
            if found is not None:
                return found
        judged = self.judge.judge(
            self._conditions.con, self.judge.mark(self._conditions.con, self._rows(records), dt.datetime.now(dt.UTC))
        )
        wanted = judged.wanted.drop([name for name in self.used.names if name not in names])
        mapped = self.mapping.apply(wanted, self._lookups(wanted))
        checked = validate(mapped, self.contract, required=self.required)
        if judged.left.height or checked.invalid.height:
            raise NotUsualError
        types = {name: kind for name, kind in checked.valid.schema.items() if not name.startswith("_")}
        hashes = desired_hash(checked.valid, list(types)).to_list()
        cells = (checked.cells_filled, checked.cells_total)
        return Wanted(rows=checked.valid.to_dicts(), hashes=hashes, types=types, cells=cells)

    # -- any batch -------------------------------------------------------------------------------

    def _in_general(self, batch: Batch) -> Delivered:
        now = dt.datetime.now(dt.UTC)
        with calling(self.spec.source.connection):
            records = self.watched.resolve(batch.events)
            marked = self.judge.mark(self._conditions.con, self._rows(list(records.values())), now)
            mates = self._mates(records, marked)
            if mates:
                marked = self.judge.mark(self._conditions.con, self._rows([*records.values(), *mates]), now)
        judged = self.judge.judge(self._conditions.con, marked)
        parts = [self._checked(part) for part in self._parted(judged.wanted, [*records.values(), *mates])]
        invalid = [invalid for _, invalid in parts if invalid is not None]
        work = Delivery(
            terms=self._terms(),
            batch=batch,
            session=replace(self.session, run_id=batch.plan_id),
            judged=judged,
            desired=[checked.valid for checked, _ in parts],
            invalid=pl.concat(invalid) if invalid else None,
        )
        with calling(self.spec.target.connection):
            settled = list(work.run())
        return Delivered(
            settled=settled,
            again=work.again,
            counts={
                "processed": len(batch.keys) - len(work.again),
                "unchanged": work.unchanged,
                "invalid": sum(part.height for part in invalid),
                "duplicates": judged.left.filter(pl.col("_why") == "duplicate").height,
            },
            cells=(sum(one.cells_filled for one, _ in parts), sum(one.cells_total for one, _ in parts)),
        )

    def _checked(self, wanted: pl.DataFrame) -> tuple[Validated, pl.DataFrame | None]:
        """Wanted rows mapped and judged by the contract; those it refused, with their payload."""
        mapped = self.mapping.apply(wanted, self._lookups(wanted))
        checked = validate(mapped, self.contract, required=self.required)
        refused = mapped.join(checked.invalid.select(KEY).unique(), on=KEY, how="semi")
        return checked, with_payload(refused, checked.invalid) if refused.height else None

    def _parted(self, wanted: pl.DataFrame, records: Sequence[Observed]) -> list[pl.DataFrame]:
        """The wanted rows by the fields their records were told: absent is not null, so nothing is sent for it."""
        absent: dict[tuple[str, ...], list[str]] = {}
        for one in records:
            missing = tuple(name for name in self.used.names if name not in one.values)
            absent.setdefault(missing, []).append(one.key)
        if len(absent) == 1:
            return [wanted.drop(next(iter(absent)))]
        parts = [wanted.filter(pl.col(KEY).is_in(keys)).drop(missing) for missing, keys in absent.items()]
        return [part for part in parts if part.height] or [wanted]

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

    def _lookups(self, wanted: pl.DataFrame) -> Mapping[str, pl.DataFrame]:
        if not any(isinstance(rule, Lookup) for rule in self.spec.mapping.values()):
            return {}
        with self.session.lake.connect() as con:
            return looked_up(con, self.spec, self.mapping, wanted)
