"""One sync in the warm lane: a handful of records, the same engine, outcomes within milliseconds.

    events -> newest state -> filter, dedupe -> mapping, contract -> claims -> diff -> write -> outcomes

Everything that can be prepared once (schemas, mapping, conditions) is; nothing of it touches staging.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa

from sync_platform.engine.deliver import ORDER, contract_failures
from sync_platform.engine.deliver import _without_call as without_call
from sync_platform.engine.desired import _lookups as looked_up
from sync_platform.engine.desired import _with_payload as with_payload
from sync_platform.engine.desired import compiled
from sync_platform.engine.judging import Judge, Judged
from sync_platform.engine.lookups import folded_fields, target_rows
from sync_platform.engine.planning import _changes as changes_of
from sync_platform.engine.planning import _rules as rules_of
from sync_platform.engine.planning import _Target as Target
from sync_platform.engine.reconcile import plan_left
from sync_platform.engine.recover import recover
from sync_platform.engine.rowwise import RowwiseDelivery, id_claim, match_claim
from sync_platform.engine.spec import Lookup
from sync_platform.engine.validation import validate
from sync_platform.ledger.claims import claimed
from sync_platform.ledger.links import links_of, members_of
from sync_platform.ledger.members import mates_of, remember_members
from sync_platform.ledger.settle import SETTLED, settle
from sync_platform.model import CURSOR, KEY, READ_AT, Op, Status
from sync_platform.realtime.circuit import calling
from sync_platform.realtime.observed import Observed, Watched
from sync_platform.realtime.queue import Batch, finish
from sync_platform.staging.canonical import canonical
from sync_platform.staging.overlay import rows_of
from sync_platform.staging.tables import columns

if TYPE_CHECKING:
    import duckdb

    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session

CLAIM_SECONDS: Final = 30.0
CLAIM_PATIENCE: Final = 2.0
LOOKS: Final = 3  # so often the claims are taken anew because a link changed between reading and claiming
_AGAIN: Final = (str(Status.RETRY), str(Status.REFUSED))


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

    # -- what is wanted --------------------------------------------------------------------------

    def deliver(self, batch: Batch) -> Delivered:
        """Brings the target up to date with these records and settles their events.

        Raises SystemAwayError, BusyError, FencedError, or what is wrong with a record; what was settled before stays.
        """
        with calling(self.spec.source.connection):
            records = self.watched.resolve(batch.events)
            rows = self._rows([*records.values(), *self._mates(records)])
        judged = self.judge.judge(self.con, rows, dt.datetime.now(dt.UTC))
        mapped = self.mapping.apply(judged.wanted, self._lookups(judged.wanted))
        checked = validate(mapped, self.contract, required=self.mapping.required)
        refused = mapped.join(checked.invalid.select(KEY).unique(), on=KEY, how="semi")
        invalid = with_payload(refused, checked.invalid) if refused.height else None
        work = _Work(
            lane=self,
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

    def _mates(self, records: Mapping[str, Observed]) -> list[Observed]:
        """The records that share an old or a new dedupe key with one of these."""
        if self.judge.dedupe_key is None:
            return []
        keys = self.judge.dedupe_keys(self.con, self._rows(list(records.values())))
        before = members_of(self.session.database, self.spec, list(records))["dedupe_key"].to_list()
        mates = mates_of(self.session.database, self.spec, list({*keys, *before}))
        return list(self.watched.newest([key for key in mates if key not in records]).values())

    def _rows(self, records: Sequence[Observed]) -> pl.DataFrame:
        """Records as rows of staging."""
        told = [(one.key, one.values, one.deleted, one.cursor, one.read_at) for one in records]
        frame = pl.from_arrow(rows_of(told, self.schema))
        assert isinstance(frame, pl.DataFrame)
        return frame

    def _lookups(self, wanted: pl.DataFrame) -> Mapping[str, pl.DataFrame]:
        if not any(isinstance(rule, Lookup) for rule in self.spec.mapping.values()):
            return {}
        with self.session.lake.connect() as con:
            return looked_up(con, self.spec, self.mapping, wanted)


@dataclass
class _Work:
    """One batch between its claims and its last outcome."""

    lane: Lane
    batch: Batch
    session: Session
    judged: Judged
    desired: pl.DataFrame
    invalid: pl.DataFrame | None
    again: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    _open: set[str] = field(default_factory=set)
    _superseded: set[str] = field(default_factory=set)

    def run(self) -> Iterator[pl.DataFrame]:
        spec = self.lane.spec
        self._open = set(self.batch.keys)
        everyone = [*self.desired[KEY].to_list(), *self.judged.left[KEY].to_list()]
        links = links_of(self.session.database, spec, everyone)
        for _ in range(LOOKS):
            with claimed(
                self.session.database, spec.target, self._claims(links), self.batch.plan_id,
                patience=CLAIM_PATIENCE, lease=CLAIM_SECONDS,
            ):  # fmt: skip
                recover(self.session, spec, keys=everyone)
                before, links = links, links_of(self.session.database, spec, everyone)
                if _same_targets(before, links):
                    yield from self._under_claims(links)
                    return
        self.again = dict.fromkeys(self._open, "its link changed meanwhile")

    def _under_claims(self, links: pl.DataFrame) -> Iterator[pl.DataFrame]:
        if self.desired.height or self.judged.left.height:
            yield from self._deliver(links)
        if self.invalid is not None:
            yield self._settled(contract_failures(self.invalid, self.lane.spec))
        yield self._settled(_nothing(), last=True)

    def _claims(self, links: pl.DataFrame) -> list[str]:
        spec = self.lane.spec
        claims = [id_claim(one) for one in links["_target_id"].to_list()]
        fresh = self.desired.join(links, on=KEY, how="anti")
        names = [name for name in spec.match if name in fresh.columns]
        values = fresh.select(KEY, *names).iter_rows()
        claims += [match_claim(spec, key, found if len(names) == len(spec.match) else ()) for key, *found in values]
        return claims or [f"none:{self.batch.plan_id}"]

    def _deliver(self, links: pl.DataFrame) -> Iterator[pl.DataFrame]:
        lane, spec = self.lane, self.lane.spec
        desired = self._not_superseded(links)
        fields = tuple(name for name in desired.columns if not name.startswith("_"))
        target = Target(
            session=self.session, spec=spec, connector=lane.target_connector, stream=lane.target_stream, fields=fields,
            folded=lane.folded, compare="live", con=lane.con, linked=True, vacant=False,
            left=set(self.judged.left[KEY]),
        )  # fmt: skip
        changes = changes_of(
            target, desired, rules_of(spec, target), _repeated(desired, spec, lane.folded), self._unknown()
        )
        left = self._left(links, fields, target, changes)
        changes = changes if left is None else pl.concat([changes, left], how="diagonal_relaxed")
        if not lane.may_delete(changes.filter(pl.col("_op").is_in([str(Op.DELETE), str(Op.ARCHIVE)])).height):
            self._give_up(changes)
            return
        yield from self._write(changes, fields, set(links[KEY]))
        skips = changes.filter(pl.col("_op") == str(Op.SKIP))
        self.unchanged = skips.filter(pl.col(KEY).is_in(self.batch.keys)).height
        relinked = skips.filter(pl.col("_relink"))
        if relinked.height:
            self._settled(without_call(relinked, Status.NOOP), outcomes=False, done=False)
        held = changes.filter(pl.col("_op") == str(Op.HOLD))
        if held.height:
            yield self._settled(without_call(held, Status.HELD))

    def _not_superseded(self, links: pl.DataFrame) -> pl.DataFrame:
        """Without records of which a newer version was delivered already: their events are done."""
        told = links.select(KEY, "_link_cursor", "_link_read_at")
        joined = self.desired.join(told, on=KEY, how="left", maintain_order="left")
        newer = (pl.col("_link_cursor") > pl.col(CURSOR)) | (
            (pl.col("_link_cursor") == pl.col(CURSOR)) & (pl.col("_link_read_at") > pl.col(READ_AT))
        )
        self._superseded = set(joined.filter(newer)[KEY])
        return joined.filter(~newer.fill_null(False)).drop("_link_cursor", "_link_read_at")

    def _unknown(self) -> dict[str, str]:
        with self.session.database.connection() as connection:
            rows = connection.execute(
                """SELECT source_key, reason FROM sync.held
                   WHERE sync = %s AND kind = 'unknown' AND source_key = ANY(%s)""",
                (self.lane.spec.name, self.desired[KEY].to_list()),
            ).fetchall()
        return {str(key): str(reason) for key, reason in rows}

    def _left(
        self, links: pl.DataFrame, fields: tuple[str, ...], target: Target, changes: pl.DataFrame
    ) -> pl.DataFrame | None:
        """The changes for linked records that are not wanted any more."""
        left = self.judged.left.with_columns(_changed=pl.lit(True)).join(links.select(KEY, "_target_id"), on=KEY)
        if left.is_empty():
            return None
        current = target_rows(self.lane.target_connector, self.lane.target_stream, left["_target_id"].to_list(), fields)
        taken = changes["_target_id"].drop_nulls().to_list()
        gone = plan_left(left.unique("_target_id"), current, rules_of(self.lane.spec, target), taken)
        return gone.with_columns(
            _base=pl.lit(None, dtype=pl.Int64), _replaces=pl.lit(None, dtype=pl.String), _relink=pl.lit(False)
        )

    def _write(self, changes: pl.DataFrame, fields: tuple[str, ...], linked: set[str]) -> Iterator[pl.DataFrame]:
        lane = self.lane
        delivery = RowwiseDelivery(
            self.session, lane.spec, self.batch.plan_id, lane.target_connector, lane.target_stream, fields, False,
            settle=self._settle, patience=CLAIM_PATIENCE,
        )  # fmt: skip
        ours = (pl.col("_op") == str(Op.CREATE)) | pl.col(KEY).is_in(list(linked))
        for op in ORDER:
            rows = changes.filter(pl.col("_op") == str(op))
            yield from delivery.deliver_claimed(op, rows.filter(ours))
            # found by its match values: the target record itself is not claimed yet
            yield from delivery.deliver(op, rows.filter(~ours))

    def _give_up(self, changes: pl.DataFrame) -> None:
        keys = {key: ("blocked", "it would delete more than max_deletes; the next run asks") for key in self._open}
        with self.session.database.connection() as connection:
            finish(connection, self.lane.worker, self.batch.sync, keys)
        self._open.clear()

    # -- what is settled -------------------------------------------------------------------------

    def _settle(self, settled: pl.DataFrame) -> None:
        self._settled(settled)

    def _settled(
        self,
        settled: pl.DataFrame,
        *,
        outcomes: bool = True,
        done: bool = True,
        last: bool = False,
    ) -> pl.DataFrame:
        """Outcomes, links, members and the events they answer: one transaction."""
        spec = self.lane.spec
        results: dict[str, tuple[str, str | None]] = {}
        for key, status, why in settled.select("source_key", "status", "reason").iter_rows():
            if key in self._open and done:
                if status in _AGAIN:
                    self.again[key] = why or status
                else:
                    results[key] = (status, why)
        if last:
            idle = [key for key in self._open if key not in self.again]
            results |= {key: ("superseded" if key in self._superseded else "unchanged", None) for key in idle}
        with self.session.database.connection() as connection:
            settle(
                connection, spec, settled, run_id=self.lane.run_of(spec.name), plan_id=self.batch.plan_id,
                lane="realtime", record_outcomes=outcomes,
            )  # fmt: skip
            if last and spec.dedupe:
                self._remember(connection)
            finish(connection, self.lane.worker, self.batch.sync, results)
        self._open -= set(results)
        return settled

    def _remember(self, connection: Any) -> None:
        """The dedupe key every record of the batch has now."""
        parts = [self.desired] if self.invalid is None else [self.desired, self.invalid]
        keyed = [part.select(source_key=KEY, dedupe_key=pl.col("_dedupe_key").cast(pl.String)) for part in parts]
        duplicates = self.judged.left.filter(pl.col("_why") == "duplicate")
        keyed.append(duplicates.select(source_key=KEY, dedupe_key="_dedupe_key"))
        remember_members(connection, self.lane.spec, keyed)
        gone = self.judged.left.filter(pl.col("_why") != "duplicate")[KEY].to_list()
        connection.execute(
            "DELETE FROM sync.members WHERE sync = %s AND source_key = ANY(%s)", (self.lane.spec.name, gone)
        )


def _nothing() -> pl.DataFrame:
    return pl.DataFrame(schema=SETTLED)


def _same_targets(before: pl.DataFrame, now: pl.DataFrame) -> bool:
    one = dict(before.select(KEY, "_target_id").iter_rows())
    return one == dict(now.select(KEY, "_target_id").iter_rows())


def _repeated(desired: pl.DataFrame, spec: SyncSpec, folded: set[str]) -> pl.DataFrame:
    """The records that share their match values with another one of the batch: `_key`."""
    names = [name for name in spec.match if name in desired.columns]
    if not names or desired.height < 2:
        return pl.DataFrame(schema={KEY: pl.String})
    texts = {name: pl.col(name).cast(pl.String).str.strip_chars() for name in names}
    values = [(text.str.to_lowercase() if name in folded else text).alias(name) for name, text in texts.items()]
    known = desired.select(KEY, *values).drop_nulls()
    return known.filter(pl.struct(names).is_duplicated()).select(KEY)
