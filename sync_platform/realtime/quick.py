"""The usual batch: known, linked records whose updates go to the target in a few trips and without frames.

Everything here is also done, in general, by `Lane` and `Delivery`; this is the short way for what nearly every event
is about. Whatever is not usual (a record that is new, gone, filtered out, refused, or shares a dedupe key with
another) ends it before anything is written, and the general way does all of it. What was written is settled here.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import polars as pl
import pyarrow as pa

from sync_platform.crash import crash_point
from sync_platform.engine.conversion import polars_type
from sync_platform.engine.handful import change_of, comparable
from sync_platform.engine.hashing import hash_values
from sync_platform.engine.known_values import known_values
from sync_platform.engine.rowwise import RowwiseDelivery
from sync_platform.ledger.settle import settle, settled_frame
from sync_platform.model import CURSOR, KEY, READ_AT, Op, Status
from sync_platform.realtime.circuit import calling
from sync_platform.realtime.queue import finish
from sync_platform.realtime.settling import settle_usual, usual

if TYPE_CHECKING:
    from pandera.polars import DataFrameModel

    from sync_platform.engine.reconcile import Rules
    from sync_platform.engine.row_rules import RowRules
    from sync_platform.ledger.taking_up import TakenUp
    from sync_platform.realtime.delivery import Terms
    from sync_platform.realtime.observed import Observed
    from sync_platform.realtime.queue import Batch
    from sync_platform.session import Session

CLAIM_PATIENCE: Final = 2.0
#: Calls to a target at a time, of one batch that needs several.
CALLS: Final = 4
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")
_AGAIN: Final = (str(Status.RETRY), str(Status.REFUSED))


class NotUsualError(Exception):
    """The batch needs the general way; nothing was written yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Mapped and accepted records: rows with `_key`, `_cursor`, `_read_at`, `_dedupe_key`, `_changed` and the fields.

    `hashes`: of each, see `desired_hash`; `cells`: filled and all mapped and required ones.
    """

    rows: Sequence[dict[str, Any]]
    hashes: Sequence[int]
    types: Mapping[str, pl.DataType]
    cells: tuple[int, int]


def by_row(
    rules: RowRules,
    records: Sequence[Observed],
    names: frozenset[str],
    required: Sequence[str],
    contract: type[DataFrameModel] | None,
) -> Wanted | None:
    """The records mapped one by one; None when the contract must be asked as a whole. Raises NotPlain.

    `names`: the source fields that all of them were told. Raises NotUsualError when a required field is empty.
    """
    fields = rules.fields(names)
    types = {name: rules.types[name] for name in fields}
    mapped = [rules.mapped(one.values, fields) for one in records]
    columns = {name: [row[name] for row in mapped] for name in dict.fromkeys((*fields, *required)) if name in types}
    if any(value in (None, "") for name in required if name in types for value in columns[name]):
        raise NotUsualError
    if contract is not None:
        known = known_values(contract)
        if known is None or not known.accept(types, columns):
            return None
    rows = [
        {KEY: one.key, CURSOR: one.cursor, READ_AT: one.read_at, "_dedupe_key": rules.dedupe_key(one.values),
         "_changed": True, **row}
        for one, row in zip(records, mapped, strict=True)
    ]  # fmt: skip
    filled = sum(value not in (None, "") for values in columns.values() for value in values)
    total = len(rows) * len(dict.fromkeys((*fields, *required)))
    return Wanted(rows=rows, hashes=[hash_values(row) for row in mapped], types=types, cells=(filled, total))


@dataclass
class QuickDelivery:
    """Delivers one usual batch under the claims of `taken`; afterwards see `again`, `outcomes` and `settled`."""

    terms: Terms
    batch: Batch
    session: Session
    taken: TakenUp
    rules: Rules
    again: dict[str, str] = field(default_factory=dict)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    settled: list[pl.DataFrame] = field(default_factory=list)  # what was not usual in the end
    unchanged: int = 0
    closed: bool = False  # everything is settled and the claims are released
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def run(self, wanted: Wanted, held: Sequence[pa.Table]) -> None:
        """Writes what differs and settles everything. Raises NotUsualError before it has written anything.

        `held`: what `target_held` read of the records that these are linked to.
        """
        self._refuse_superseded(wanted)
        changes = self._changes(wanted, held)
        updates = [row for row in changes if row["_op"] == Op.UPDATE]
        skips = [row for row in changes if row["_op"] == Op.SKIP]
        self.unchanged = len(skips)
        members = {row[KEY]: row["_dedupe_key"] for row in wanted.rows} if self.terms.spec.dedupe else {}
        idle = [_relinked(row) for row in skips if row["_relink"]]
        unchanged: dict[str, tuple[str, str | None]] = {row[KEY]: ("unchanged", None) for row in skips}
        batches = _batches(updates, self.terms.stream.batch_size)
        if len(batches) > 1:
            _each(self._sent_and_settled, batches)
        elif batches:
            sent = self._sent(batches[0])
            if usual(sent):
                self._settle([*sent, *idle], unchanged, members, self.taken.claims)
                self.closed = True
            else:
                self._settle_unusual(sent)
            crash_point("outcome_written")
        if not self.closed:
            self._settle(idle, unchanged, members, self.taken.claims)
            self.closed = True

    def _sent(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        delivery = RowwiseDelivery(
            self.session, self.terms.spec, self.batch.plan_id, self.terms.connector, self.terms.stream,
            self.rules.fields, False, patience=CLAIM_PATIENCE,
        )  # fmt: skip
        return delivery.send_claimed(Op.UPDATE, rows)

    def _sent_and_settled(self, rows: Sequence[dict[str, Any]]) -> None:
        sent = self._sent(rows)
        if usual(sent):
            self._settle(sent, {}, {}, ())
        else:
            self._settle_unusual(sent)
        crash_point("outcome_written")

    def _refuse_superseded(self, wanted: Wanted) -> None:
        for row in wanted.rows:
            link = self.taken.links[row[KEY]]
            if link.cursor is None or row[CURSOR] is None:
                continue
            if (link.cursor, link.read_at or 0) > (row[CURSOR], row[READ_AT] or 0):
                raise NotUsualError

    def _changes(self, wanted: Wanted, held: Sequence[pa.Table]) -> list[dict[str, Any]]:
        fields, links = list(wanted.types), self.taken.links
        here = {key: row for table in held for key, row in self._current(table, wanted.types).items()}
        if any(links[row[KEY]].target_id not in here for row in wanted.rows):
            raise NotUsualError
        return [
            change_of(row, here[links[row[KEY]].target_id], links[row[KEY]], fields, hashed, self.rules)
            for row, hashed in zip(wanted.rows, wanted.hashes, strict=True)
        ]

    def _current(self, found: pa.Table, types: Mapping[str, pl.DataType]) -> dict[str, dict[str, Any]]:
        """What the target holds, by id; NotUsualError when a type is not as wanted."""
        if len(self.terms.stream.key) != 1:
            raise NotUsualError
        key = self.terms.stream.key[0]
        schema = {name: found.schema.field(name).type for name in found.column_names}
        if not (pa.types.is_string(schema[key]) or pa.types.is_integer(schema[key])):
            raise NotUsualError
        if any(name not in schema or not comparable(kind, _in_frames(schema[name])) for name, kind in types.items()):
            raise NotUsualError
        return {str(row[key]): row for row in found.to_pylist()}

    # -- what is settled -------------------------------------------------------------------------

    def _settle(
        self,
        rows: Sequence[Mapping[str, Any]],
        unchanged: Mapping[str, tuple[str, str | None]],
        members: Mapping[str, str | None],
        claims: Sequence[str],
    ) -> None:
        """Outcomes, links, members, the events they answer, and the claims to release: one transaction."""
        told = [row for row in rows if row["op"] != Op.SKIP]
        done = {row["source_key"]: (row["status"], row["reason"]) for row in told}
        settle_usual(
            self.session.database, self.terms.spec, rows, run_id=self.terms.run_of(self.terms.spec.name),
            plan_id=self.batch.plan_id, worker=self.terms.worker, done=done | dict(unchanged), members=members,
            claims=claims,
        )  # fmt: skip
        with self._lock:
            self.outcomes.update((row["op"], row["status"]) for row in told)

    def _settle_unusual(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Some record was refused or must be tried again: the ledger's general way."""
        frame = settled_frame([dict(row) for row in rows])
        again = {row["source_key"]: row["reason"] or row["status"] for row in rows if row["status"] in _AGAIN}
        done = {row["source_key"]: (row["status"], row["reason"]) for row in rows if row["status"] not in _AGAIN}
        with self.session.database.connection() as connection:
            settle(
                connection, self.terms.spec, frame, run_id=self.terms.run_of(self.terms.spec.name),
                plan_id=self.batch.plan_id, lane="realtime",
            )  # fmt: skip
            finish(connection, self.terms.worker, self.batch.sync, done)
        with self._lock:
            self.settled.append(frame)
            self.again |= again


def target_held(terms: Terms, ids: Sequence[str], fields: Sequence[str]) -> list[pa.Table]:
    """What the target holds of these records, in as many calls as it needs; names the target when it is away."""
    with calling(terms.spec.target.connection):
        batches = _batches(ids, terms.stream.batch_size)
        return _each(lambda some: terms.connector.get(terms.stream.name, some, fields), batches)


def _batches(rows: Sequence[_Item], size: int) -> list[Sequence[_Item]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _each(work: Callable[[Sequence[_Item]], _Answer], batches: Sequence[Sequence[_Item]]) -> list[_Answer]:
    """The answers to a call per batch, several at a time: a vendor's calls per second want more than one caller."""
    if len(batches) == 1:
        return [work(batches[0])]
    with ThreadPoolExecutor(CALLS, thread_name_prefix="calls") as pool:
        return [one.result() for one in [pool.submit(work, batch) for batch in batches]]


def _relinked(row: Mapping[str, Any]) -> dict[str, Any]:
    """An equal record whose link is renewed, as it is settled."""
    return {
        "source_key": row[KEY], "target_id": row["_target_id"], "op": row["_op"], "status": str(Status.NOOP),
        "reason": row["_reason"], "base": row["_base"], "version_cursor": row[CURSOR], "version_read_at": row[READ_AT],
    }  # fmt: skip


@lru_cache(maxsize=256)
def _in_frames(kind: pa.DataType) -> pl.DataType:
    return polars_type(kind)
