"""A two-way sync in the warm lane: an event of either side, both records as they are now, the same merge.

An event is a hint here as well, and most are echoes of our own writes: a record that holds exactly what both sides last
agreed on needs no look at the other side and no write. What is written goes through the batch lane's delivery, which
claims each record, compares again and refuses what moved.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa

from sync_platform.engine.deliver import contract_failures, without_call
from sync_platform.engine.drift import heed_drift
from sync_platform.engine.judging import Judge
from sync_platform.engine.recover import recover
from sync_platform.engine.spec import Side
from sync_platform.engine.twoway.changes import Decided, Deciding, Row, fresh_key, target_of
from sync_platform.engine.twoway.delivering import ORDER
from sync_platform.engine.twoway.delivery import SideDelivery
from sync_platform.engine.twoway.holding import Holding, hold
from sync_platform.engine.twoway.meeting import Live, Meeting
from sync_platform.engine.twoway.merges import follow, merges_of
from sync_platform.engine.twoway.pairing import Pairing
from sync_platform.engine.twoway.parts import frame_of, letters_frame
from sync_platform.engine.twoway.settling import settle_conflict_rows, settle_side
from sync_platform.engine.twoway.terms import deciding, pairing_of, tells_time
from sync_platform.ledger.bases import pair_links, partners
from sync_platform.ledger.settle import settle
from sync_platform.model import DELETED, KEY, Op, Status
from sync_platform.realtime.circuit import calling
from sync_platform.realtime.lane import Delivered
from sync_platform.realtime.observed import Observed, Watched
from sync_platform.realtime.prepared import Conditions, paced, schema_of
from sync_platform.realtime.queue import Batch, finish
from sync_platform.staging.overlay import rows_of

if TYPE_CHECKING:
    from sync_platform.engine.spec import Endpoint, SyncSpec
    from sync_platform.session import Session

CLAIM_PATIENCE: Final = 2.0
_AGAIN: Final = frozenset({str(Status.RETRY), str(Status.REFUSED)})
_REMOVING: Final = frozenset({str(Op.DELETE), str(Op.ARCHIVE)})


@dataclass
class TwoWayLane:
    """A two-way sync, prepared for events of both sides (see `lane.Lane`)."""

    session: Session
    spec: SyncSpec
    worker: str
    run_of: Callable[[str], str]
    may_delete: Callable[[int], bool]
    _conditions: Conditions = field(default_factory=Conditions, repr=False)

    def __post_init__(self) -> None:
        self.declared = self.spec
        self.session = replace(self.session, kept={})  # a lane is prepared anew when what it knows may be old
        self.spec = paced(self.spec)
        schemas = [schema_of(self.session, place) for place in (self.spec.source, self.spec.target)]
        self.pairing: Pairing = pairing_of(self.session, self.spec, *schemas)
        self.deciding: Deciding = deciding(self.session, self.spec, self.pairing)
        self.sides: dict[Side, Watched] = {
            "source": self._watched(self.spec.source, schemas[0]),
            "target": self._watched(self.spec.target, schemas[1]),
        }
        self.schemas: dict[Side, pa.Schema] = {"source": schemas[0], "target": schemas[1]}
        heed_drift(self.session, self.spec, schemas[0])
        options = self.session.project.stream_options(self.spec.source)
        self.judge = Judge.of(self.spec, schemas[0], options.filter)

    def _watched(self, place: Endpoint, schema: pa.Schema) -> Watched:
        connector = self.session.connector(place.connection)
        return Watched(
            database=self.session.database, connector=connector, connection=place.connection,
            stream=connector.stream(place.object), types={one.name: one.type for one in schema},
        )  # fmt: skip

    def uses(self, stream: Endpoint) -> frozenset[str]:
        """The fields of a stream that this sync makes use of: all of either side."""
        sides = ((self.spec.source, self.schemas["source"]), (self.spec.target, self.schemas["target"]))
        return frozenset(name for place, schema in sides if place == stream for name in schema.names)

    @cached_property
    def _times(self) -> tuple[bool, bool]:
        return tells_time(self.session, self.spec.source), tells_time(self.session, self.spec.target)

    # -- one batch -------------------------------------------------------------------------------

    def deliver(self, batch: Batch) -> Delivered:
        """Merges the records these events are about with their partners and settles the events.

        Raises as `lane.Lane.deliver` does.
        """
        seen = self._look(batch)
        meeting = Meeting(
            session=self.session, spec=self.spec, pairing=self.pairing, deciding=self.deciding, times=self._times
        )
        decided, idle = self._decide(meeting, seen)
        hold(Holding(self.session, self.spec, set(self.deciding.rule.target.folded)), decided, self.pairing)
        work = _Work(lane=self, batch=batch, session=replace(self.session, run_id=batch.plan_id), idle=idle)
        work.run(decided)
        return Delivered(
            settled=work.settled,
            again=work.again,
            counts={
                "processed": len(batch.keys) - len(work.again),
                "unchanged": work.unchanged,
                "invalid": len({one[KEY] for one in decided.letters}),
                "duplicates": 0,
            },
            cells=(0, 0),
        )

    def _look(self, batch: Batch) -> dict[Side, dict[str, Observed]]:
        """The newest state of the records of the events, each side read back where its events do not tell all."""
        ours = {key: events for key, events in batch.events.items() if target_of(key) is None}
        theirs = {str(target_of(key)): events for key, events in batch.events.items() if target_of(key) is not None}
        found: dict[Side, dict[str, Observed]] = {"source": {}, "target": {}}
        with calling(self.spec.source.connection):
            found["source"] = self.sides["source"].resolve(ours) if ours else {}
        with calling(self.spec.target.connection):
            found["target"] = self.sides["target"].resolve(theirs) if theirs else {}
        for side, place in (("source", self.spec.source), ("target", self.spec.target)):
            with calling(place.connection):
                self._follow(side, place, found[side], batch.plan_id)  # type: ignore[arg-type,index]
        return found

    def _follow(self, side: Side, place: Endpoint, records: Mapping[str, Observed], plan_id: str) -> None:
        """Lets links follow records that were merged, as those that are gone or their survivors tell."""
        stream = self.sides[side].stream
        merged: dict[str, str] = {}
        for key, one in records.items():
            listed = one.values.get(stream.merged_ids) if stream.merged_ids and not one.deleted else None
            merged |= {loser.strip(): key for loser in str(listed or "").split(";") if loser.strip()}
        gone = [key for key, one in records.items() if one.deleted and key not in merged]
        merged |= merges_of(self.session, place, gone)
        if not merged:
            return
        run = replace(self.session, run_id=self.run_of(self.spec.name))
        for sentence in follow(run, self.spec, side, merged, plan_id, lane="realtime"):
            self.session.say(sentence)

    def _decide(
        self, meeting: Meeting, seen: Mapping[Side, dict[str, Observed]]
    ) -> tuple[Decided, dict[str, tuple[str, str | None]]]:
        """What is to be written, and why the other records need nothing, by the key of their events."""
        linked = partners(self.session.database, self.spec, list(seen["target"]))
        keys = list(dict.fromkeys([*seen["source"], *linked.values()]))
        links = pair_links(self.session.database, self.spec, keys)
        idle: dict[str, tuple[str, str | None]] = {}
        live = Live(links=links)
        for side in ("source", "target"):
            live.put(side, self._frame(side, list(seen[side].values())))
        news = [key for key in keys if not self._echo(meeting, live, seen, key, idle)]
        loose = [key for key in seen["target"] if key not in linked]
        with calling(self.spec.source.connection):
            live.put("source", self._missing("source", [k for k in news if k not in live.known("source")]))
        ids = [links[key].target_id for key in news if key in links]
        with calling(self.spec.target.connection):
            live.put("target", self._missing("target", [one for one in ids if one not in live.known("target")]))
        marked = self.judge.mark(self._conditions.con, live.frame("source", news), dt.datetime.now(dt.UTC))
        outside = set(marked.filter(~pl.col("_inside") & ~pl.col(DELETED))[KEY])
        for key in outside:
            idle[key] = ("unmatched", f"outside the filter: {self.spec.filter}")
        with calling(self.spec.target.connection):
            decided = meeting.linked_and_new([key for key in news if key not in outside], live)
        with calling(self.spec.source.connection):
            decided.add(meeting.fresh(loose, live))
        return decided, idle

    def _echo(
        self,
        meeting: Meeting,
        live: Live,
        seen: Mapping[Side, dict[str, Observed]],
        key: str,
        idle: dict[str, tuple[str, str | None]],
    ) -> bool:
        """Whether every event of this pair of records is the echo of our own write."""
        link = live.links.get(key)
        if link is None:
            return False
        told: list[tuple[Side, str, str]] = []
        if key in seen["source"]:
            told.append(("source", key, key))
        if link.target_id in seen["target"]:
            told.append(("target", link.target_id, fresh_key(link.target_id)))
        if not all(meeting.unmoved(live, side, key) for side, _, _ in told):
            return False
        for _, _, event in told:
            idle[event] = ("unchanged", "both sides agree on what it holds")
        return True

    def _missing(self, side: Side, keys: Sequence[str]) -> pl.DataFrame:
        return self._frame(side, list(self.sides[side].read_back(keys).values()) if keys else [])

    def _frame(self, side: Side, records: Sequence[Observed]) -> pl.DataFrame:
        """Records as rows of staging; a field that was not told is null there and named in `_absent`."""
        told = [(one.key, one.values, one.deleted, one.cursor, one.read_at) for one in records]
        frame = pl.from_arrow(rows_of(told, self.schemas[side]))
        assert isinstance(frame, pl.DataFrame)
        names = self.schemas[side].names
        absent = [[n for n in names if n not in one.values] if not one.deleted else [] for one in records]
        return frame.with_columns(pl.Series("_absent", absent, dtype=pl.List(pl.String)))


@dataclass
class _Work:
    """The rows of one batch while they are written and settled."""

    lane: TwoWayLane
    batch: Batch
    session: Session
    idle: dict[str, tuple[str, str | None]]
    settled: list[pl.DataFrame] = field(default_factory=list)
    again: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    _results: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    def run(self, decided: Decided) -> None:
        """Writes both sides, settles what needs no call, and finishes the events."""
        lane = self.lane
        removing = sum(row["_op"] in _REMOVING for row in (*decided.target, *decided.source))
        if not lane.may_delete(removing):
            self._finish(dict.fromkeys(self.batch.keys, ("blocked", "it would delete more than max_deletes")))
            return
        recover(self.session, lane.spec, keys=[row["_key"] for row in (*decided.target, *decided.source)])
        sides: tuple[tuple[Side, list[Row]], ...] = (("target", decided.target), ("source", decided.source))
        for side, rows in sides:
            with calling((lane.spec.target if side == "target" else lane.spec.source).connection):
                self._write(side, rows)
        self._rest(decided)
        self._finish(self._told())

    def _write(self, side: Side, rows: Sequence[Row]) -> None:
        lane = self.lane
        delivery = SideDelivery(
            self.session, lane.spec, lane.pairing, side, self.batch.plan_id, settled=self._settle,
            patience=CLAIM_PATIENCE,
        )  # fmt: skip
        for op in ORDER:
            for done in delivery.deliver(op, [row for row in rows if row["_op"] == op]):
                self._note(done)

    def _settle(
        self, side: Side, settled: pl.DataFrame, rows: Mapping[str, Row], answers: Mapping[str, Any], *,
        outcomes: bool = True,
    ) -> pl.DataFrame:  # fmt: skip
        with self.session.database.connection() as connection:
            return settle_side(
                connection, self.lane.spec, side, settled, rows, run_id=self.lane.run_of(self.lane.spec.name),
                plan_id=self.batch.plan_id, lane="realtime", answers=answers, outcomes=outcomes,
            )  # fmt: skip

    def _without_call(self, side: Side, rows: Sequence[Row], status: Status, *, outcomes: bool = True) -> pl.DataFrame:
        pairing = self.lane.pairing
        fields = pairing.forward.fields if side == "target" else pairing.back.fields
        settled = without_call(frame_of(rows, fields), status)
        return self._settle(side, settled, {row["_key"]: row for row in rows}, {}, outcomes=outcomes)

    def _rest(self, decided: Decided) -> None:
        spec = self.lane.spec
        quiet = [row for row in decided.still if row["_relink"]]
        if quiet:
            self._without_call("target", quiet, Status.NOOP, outcomes=False)
        holds: tuple[tuple[Side, list[Row]], ...] = (
            ("target", [*decided.target, *decided.still]),
            ("source", decided.source),
        )
        for side, rows in holds:
            held = [row for row in rows if row["_op"] == Op.HOLD]
            if held:
                self._note(self._without_call(side, held, Status.HELD))
        if decided.conflicts:
            with self.session.database.connection() as connection:
                settle_conflict_rows(connection, spec, decided.conflicts)
            once = list({row["_key"]: row for row in decided.conflicts}.values())
            self._note(self._without_call("target", once, Status.HELD))
        if decided.letters:
            failed = contract_failures(letters_frame(decided.letters), spec)
            with self.session.database.connection() as connection:
                settle(
                    connection, spec, failed, run_id=self.lane.run_of(spec.name), plan_id=self.batch.plan_id,
                    lane="realtime",
                )  # fmt: skip
            self._note(failed)

    def _note(self, done: pl.DataFrame) -> None:
        """Remembers what became of rows, by every key their events may have."""
        self.settled.append(done)
        for key, target_id, status, why in done.select("source_key", "target_id", "status", "reason").iter_rows():
            for event in (key, fresh_key(target_id) if target_id else key):
                if status in _AGAIN:
                    self.again[event] = why or status
                else:
                    self._results[event] = (status, why)

    def _told(self) -> dict[str, tuple[str, str | None]]:
        mine = set(self.batch.keys)
        self.again = {key: why for key, why in self.again.items() if key in mine}
        told = {key: self._results.get(key) or self.idle.get(key) or ("unchanged", None) for key in mine}
        self.unchanged = sum(outcome[0] == "unchanged" for outcome in told.values())
        return {key: outcome for key, outcome in told.items() if key not in self.again}

    def _finish(self, results: Mapping[str, tuple[str, str | None]]) -> None:
        with self.session.database.connection() as connection:
            finish(connection, self.lane.worker, self.batch.sync, results)
