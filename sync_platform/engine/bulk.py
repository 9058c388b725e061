"""Delivery to a target that takes a whole part of a plan in one transaction (databases).

Each part is written together with a marker in the target's own transaction, so a part whose answer was
lost is asked for, not repeated. Outcomes of large parts go to the lake, links to PostgreSQL by COPY.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeAlias

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from sync_platform.connectors.ahead import Ahead
from sync_platform.connectors.connector import ConditionalTarget
from sync_platform.connectors.uniqueness import UniqueTarget
from sync_platform.crash import crash_point
from sync_platform.engine.meeting_rows import met, verdicts
from sync_platform.engine.second_look import recheck, superseded
from sync_platform.errors import AccessError, TransientError, UnknownOutcome
from sync_platform.ledger.claims import EVERYTHING, claimed
from sync_platform.ledger.plans import PART_ROWS
from sync_platform.ledger.settle import SETTLED, settle
from sync_platform.model import Op, Status, Stream
from sync_platform.staging.outcomes import write_lake_outcomes

if TYPE_CHECKING:
    from sync_platform.connectors.connector import BulkTarget, Connector
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.ledger.plans import Plan
    from sync_platform.session import Session

LAKE_OUTCOMES_FROM = 5_000  # rows of a part from which outcomes are written to the lake
UNSETTLED = 2  # parts the target has whose outcomes or links are still being written
AGAIN = "every run tries it again"
AFTERWARDS = 0  # parts that are sent after all others have the numbers below
#: What refers to a record goes after it was created, and goes away before it.
WAITING_ORDER = (Op.CREATE, Op.UPDATE, Op.DELETE, Op.ARCHIVE)
CLAIM_SECONDS = 60.0  # a claim is taken anew after this time: well before its lease ends


#: Rows that were sent together, and what the target answered.
_Answer: TypeAlias = "tuple[pl.DataFrame, pa.Table]"


@dataclass(frozen=True, slots=True)
class _Sent:
    """A part that was written: rows decided without a write, rows to write, and these by group with their answers."""

    decided: pl.DataFrame
    pending: pl.DataFrame
    answers: list[_Answer]


#: The settled rows of a part, and its rows with their old and new values.
_Told: TypeAlias = "tuple[pl.DataFrame, pl.DataFrame]"


@dataclass
class BulkDelivery:
    """Delivers the changes of one plan to a transactional target, part by part."""

    session: Session
    spec: SyncSpec
    plan: Plan
    connector: Connector
    target: BulkTarget
    stream: Stream
    fields: tuple[str, ...]
    exact: bool
    part: int = 0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _met: list[pl.DataFrame] = field(default_factory=list)  # creates whose record was there, told by the target
    _waiting: dict[Op, list[pl.DataFrame]] = field(default_factory=dict)  # what refers to records that are not there

    def deliver(self, op: Op, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Delivers one part's rows of one op; yields the settled rows."""
        yield from self.deliver_parts(op, [(self.part, rows)])

    def deliver_parts(self, op: Op, parts: Iterable[tuple[int, pl.DataFrame]]) -> Iterator[pl.DataFrame]:
        """Delivers several parts (number, rows) of one op; yields the settled rows of each.

        While the target takes a part, the next is read, and the one before it is written to the lake and linked: two
        servers and the lake work at a time. A part's own order stays: first the target has it, then the lake its
        outcomes, then links, letters and the outcomes of small parts commit together.
        """
        with (
            ThreadPoolExecutor(1, thread_name_prefix="settling") as settler,
            ThreadPoolExecutor(1, thread_name_prefix="recording") as recorder,
            contextlib.closing(Ahead(((n, rows) for n, rows in parts if not rows.is_empty()), 1)) as waiting,
        ):
            for first in waiting:
                yield from self._under_one_claim(op, itertools.chain([first], waiting), recorder, settler)

    def _under_one_claim(
        self,
        op: Op,
        parts: Iterator[tuple[int, pl.DataFrame]],
        recorder: ThreadPoolExecutor,
        settler: ThreadPoolExecutor,
    ) -> Iterator[pl.DataFrame]:
        """Parts for as long as a claim may be held without being renewed."""
        begun = self.clock()
        settling: deque[Future[pl.DataFrame]] = deque()
        crash_point("between_batches")
        with claimed(self.session.database, self.spec.target, [EVERYTHING], self.session.run_id, sleep=self.sleep):
            try:
                for self.part, rows in parts:
                    told = recorder.submit(self._told, op, self._sent(op, rows))
                    kept = recorder.submit(self._kept, op, self.part, told)
                    settling.append(settler.submit(self._settle, told, kept))
                    if len(settling) > UNSETTLED:
                        yield settling.popleft().result()
                    if self.clock() - begun > CLAIM_SECONDS:
                        break
                    crash_point("between_batches")
                while settling:
                    yield settling.popleft().result()
            finally:  # what the target has is settled, also when the part after it broke off
                wait(settling)
                for one in settling:
                    one.result()

    def _sent(self, op: Op, rows: pl.DataFrame) -> _Sent:
        """Writes a part: records that are as they were planned at once, the others after another look."""
        newer, rows = superseded(self.session.database, self.spec, self.plan, rows)
        crash_point("before_intent")
        crash_point("after_intent")
        conditional = op is Op.UPDATE and self._conditional
        answers, others = self._as_planned(rows) if conditional else ([], rows)
        decided, pending = recheck(self.connector, self.stream, self.fields, op, others, exact=self.exact)
        for group in self._groups(op, pending):
            answers.append((group, self._send(op, group, again=conditional, unmoved=conditional and self.exact)))
        decided = pl.concat([newer, decided], how="diagonal_relaxed") if newer.height else decided
        return _Sent(decided, pl.concat([rows.clear(), *[group for group, _ in answers]]), answers)

    @cached_property
    def _conditional(self) -> bool:
        return isinstance(self.target, ConditionalTarget) and self.target.updates_unmoved(self.stream.name)

    def _as_planned(self, rows: pl.DataFrame) -> tuple[list[_Answer], pl.DataFrame]:
        """Updates the records that are as they were planned: these rows with their answers, and the other rows."""
        answers: list[_Answer] = []
        others = [rows.clear()]
        for group in self._groups(Op.UPDATE, rows):
            told = self._send(Op.UPDATE, group, unmoved=True)
            refused = pc.equal(told["_status"], str(Status.REFUSED))
            left = pl.Series(told.filter(refused)["_key"], dtype=pl.String)
            if not left.is_empty():
                others.append(group.filter(pl.col("_key").is_in(left.implode())))
                group, told = group.filter(~pl.col("_key").is_in(left.implode())), told.filter(pc.invert(refused))
            answers.append((group, told))
        return answers, pl.concat(others)

    def _told(self, op: Op, sent: _Sent) -> _Told:
        """The settled rows of a part that was written, and its rows with their old and new values."""
        answered = [self._answered(op, rows, answer) for rows, answer in sent.answers]
        settled = pl.concat([_as_settled(sent.decided, self.fields), *answered], how="vertical")
        return settled, pl.concat([sent.decided.drop("_status", "_why"), sent.pending], how="diagonal_relaxed")

    def finish(self) -> Iterator[pl.DataFrame]:
        """Settles what could not be settled before all else was written; yields the settled rows.

        That is creates which met a record (only now are those linked that this delivery created itself), and rows
        which wait for others: they go again until no more of them are taken, the rest is left to the next run.
        """
        self.part = AFTERWARDS
        before = -1
        while self._met or (self._waiting and _height(self._waiting) != before):
            if self._met:
                rows, self._met = pl.concat(self._met, how="diagonal_relaxed"), []
                yield self._afterwards(Op.UPDATE, partial(verdicts, self.session.database, self.spec, rows))
                continue
            before, again, self._waiting = _height(self._waiting), self._waiting, {}
            for op in (op for op in WAITING_ORDER if op in again):
                for rows in pl.concat(again[op], how="diagonal_relaxed").iter_slices(PART_ROWS):
                    yield self._afterwards(op, partial(_all_again, rows))
        for op, frames in self._waiting.items():
            yield self._afterwards(op, partial(_none_again, pl.concat(frames, how="diagonal_relaxed")))

    def _afterwards(self, op: Op, judged: Callable[[], tuple[pl.DataFrame, pl.DataFrame]]) -> pl.DataFrame:
        """Settles a part of its own: rows decided without a write, and rows to send, both judged under the claim."""
        self.part -= 1
        with claimed(self.session.database, self.spec.target, [EVERYTHING], self.session.run_id, sleep=self.sleep):
            decided, rows = judged()
            frames = [_as_settled(decided, self.fields, refused="_field" in decided.columns)] if decided.height else []
            values = [decided] if decided.height else []
            if rows.height:
                settled, sent = self._told(op, self._sent(op, rows))
                frames, values = [*frames, settled], [*values, sent]
            told, kept = Future[_Told](), Future[None]()
            told.set_result((pl.concat(frames), pl.concat(values, how="diagonal_relaxed")))
            self._kept(op, self.part, told)
            kept.set_result(None)
            return self._settle(told, kept)

    def _groups(self, op: Op, rows: pl.DataFrame) -> list[pl.DataFrame]:
        if rows.is_empty():
            return []
        if op is not Op.UPDATE:
            return [rows]
        sets = rows.with_columns(_set=pl.col("_fields").list.sort().list.join("\x1f"))
        return [group.drop("_set") for group in sets.partition_by("_set", maintain_order=True)]

    def _send(self, op: Op, rows: pl.DataFrame, *, again: bool = False, unmoved: bool = False) -> pa.Table:
        """What the target answered; `unmoved`: only records that have the old values are written."""
        names = self.fields if op is Op.CREATE else tuple(rows["_fields"][0])
        names = () if op in {Op.DELETE, Op.ARCHIVE} else names
        # named by what it writes, so that a plan taken up again finds the markers of its own groups
        kind = hashlib.sha256("\x1f".join(sorted(names)).encode()).hexdigest()[:12]
        delivery = f"{self.plan.plan_id}:{self.part}:{op}:{kind}" + (":again" if again else "")
        table = rows.select("_key", "_target_id", *[pl.col(f"new:{name}").alias(name) for name in names]).to_arrow()
        if unmoved and isinstance(self.target, ConditionalTarget):
            was = rows.select(pl.col(f"old:{name}").alias(name) for name in self.fields).to_arrow()
            return self._repeated(partial(self.target.update_unmoved, self.stream.name, table, was, delivery))
        match = (self.spec.match,) if op is Op.CREATE and isinstance(self.target, UniqueTarget) else ()
        return self._repeated(partial(self.target.write_bulk, self.stream.name, str(op), table, delivery, *match))

    def _answered(self, op: Op, rows: pl.DataFrame, told: pa.Table) -> pl.DataFrame:
        """The settled rows of a group by what the target answered; those for `finish` are put aside."""
        answer = pl.from_arrow(told)
        assert isinstance(answer, pl.DataFrame)
        plain, answer = rows.drop("_target_id"), answer.rename({"_reason": "_told"})
        answered = (
            plain.hstack(answer.drop("_key"))
            if answer["_key"].equals(rows["_key"])
            else plain.join(answer, on="_key", how="left", maintain_order="left")
        )
        joined = answered.with_columns(
            _why=pl.when(pl.col("_status").is_null())
            .then(pl.lit("it was no part of the delivery that happened"))
            .otherwise(pl.col("_told")),
            _status=pl.col("_status").fill_null(str(Status.RETRY)),
        )
        if op is Op.CREATE and not self.exact:
            mask = met(joined)
            self._met += [joined.filter(mask).drop("_field", "_told")] if mask.any() else []
            joined = joined.filter(~mask)
        waits = (joined["_status"] == str(Status.RETRY)) & joined["_told"].is_not_null()
        if waits.any():
            self._waiting.setdefault(op, []).append(joined.filter(waits))
            joined = joined.filter(~waits)
        return _as_settled(joined, self.fields, refused=True)

    def _repeated(self, send: Callable[[], pa.Table]) -> pa.Table:
        attempt = 0
        while True:
            try:
                return send()
            except (UnknownOutcome, TransientError) as error:
                # a repeated delivery is harmless: the marker in the target says whether it happened
                if attempt >= self.spec.errors.retries:
                    raise AccessError(
                        f"{self.spec.target}: still failing after {attempt} retries: {error}",
                        mend="nothing is lost; the next run goes on where this one stopped",
                    ) from error
                pause = error.retry_after if isinstance(error, TransientError) else None
                self.sleep(pause if pause is not None else self.spec.errors.backoff_seconds * 2**attempt)
                attempt += 1

    def _kept(self, op: Op, part: int, told: Future[_Told]) -> None:
        """Writes a large part's outcomes to the lake."""
        settled, rows = told.result()
        if settled.height >= LAKE_OUTCOMES_FROM:
            write_lake_outcomes(
                self.session.lake, self.spec.name, settled, rows,
                run_id=self.session.run_id, plan_id=self.plan.plan_id, part=f"{part}:{op}",
            )  # fmt: skip

    def _settle(self, told: Future[_Told], kept: Future[None]) -> pl.DataFrame:
        """Links and what else the ledger says of a part; commits when the lake has its outcomes."""
        settled, _ = told.result()
        with self.session.database.connection() as connection:
            settle(
                connection, self.spec, settled, run_id=self.session.run_id, plan_id=self.plan.plan_id,
                record_outcomes=settled.height < LAKE_OUTCOMES_FROM,
            )  # fmt: skip
            kept.result()
        crash_point("outcome_written")
        return settled


def _all_again(waiting: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows that waited, to be sent again."""
    return waiting.clear(), waiting.drop("_status", "_why", "_field", "_told")


def _none_again(waiting: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows that wait on, as they were answered."""
    return waiting, waiting.clear()


def _height(waiting: dict[Op, list[pl.DataFrame]]) -> int:
    return sum(frame.height for frames in waiting.values() for frame in frames)


def _as_settled(rows: pl.DataFrame, fields: tuple[str, ...], *, refused: bool = False) -> pl.DataFrame:
    """Rows of a part with `_status` and `_why` in the columns of `SETTLED`."""
    failed = pl.col("_status").is_in([str(Status.FAILED), str(Status.RETRY)])
    values = pl.struct([pl.col(f"new:{name}").cast(pl.String, strict=False).alias(name) for name in fields])
    pairs = pl.struct(
        [
            pl.concat_list(
                pl.col(f"old:{name}").cast(pl.String, strict=False), pl.col(f"new:{name}").cast(pl.String, strict=False)
            ).alias(name)
            for name in fields
        ]
    )
    small = rows.height < LAKE_OUTCOMES_FROM
    field = pl.col("_field") if refused else pl.lit(None, dtype=pl.String)
    frame = rows.select(
        source_key="_key", target_id="_target_id", op="_op", status="_status",
        fields=pairs.struct.json_encode() if small else pl.lit(None, dtype=pl.String),
        field=field, reason="_why", resolution=pl.when(pl.col("_status") == str(Status.RETRY)).then(pl.lit(AGAIN))
        .when(failed).then(pl.lit("mend the record, then `dead retry`")),
        request_id=pl.lit(None, dtype=pl.String), token=pl.lit(None, dtype=pl.String),
        base="_base", version_cursor="_cursor", version_read_at="_read_at",
        payload=pl.when(failed).then(values.struct.json_encode()) if refused else pl.lit(None, dtype=pl.String),
        reasons=pl.when(failed).then(
            pl.concat_str(pl.lit("["), pl.struct(field=field, reason=pl.col("_why")).struct.json_encode(), pl.lit("]"))
        ) if refused else pl.lit(None, dtype=pl.String),
        kind=pl.when(pl.col("_status") == str(Status.RETRY)).then(pl.lit("transient"))
        .when(failed).then(pl.lit("rejected")),
    )  # fmt: skip
    return frame.cast(SETTLED)
