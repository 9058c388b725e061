"""A part of a plan into a table: one transaction, an outcome for every row, bad rows standing alone.

New rows go straight into the table by binary COPY where their types allow it (`straight` does that for whole parts
of the usual types). Everything else, and a COPY that was refused, goes through a temporary table and one statement per
range; a range that is refused is split in halves until each bad row stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_manager import Error as DriverError

from sync_platform.connectors.postgres import statements
from sync_platform.connectors.postgres.faults import connection_lost, refusal_of
from sync_platform.connectors.postgres.marker import Markers
from sync_platform.connectors.postgres.procedure import BATCH, answered
from sync_platform.connectors.postgres.references import waiting_for, waiting_rows
from sync_platform.connectors.postgres.session import Session, identifier
from sync_platform.connectors.postgres.storing import drawing, exact_columns, storable
from sync_platform.connectors.postgres.table import PgTable, Unique
from sync_platform.connectors.sql import (
    PartOutcome,
    Refusal,
    all_applied,
    isolate,
    key_texts,
    refusals_before_sending,
    refuse_unsayable,
    zero_bytes,
)
from sync_platform.crash import crash_point
from sync_platform.errors import ConfigError, ContractError
from sync_platform.model import Op, Status

TECHNICAL: Final = ("_key", "_target_id")
NAMED: Final = 100  # rows of a part whose wrong column is looked for: each costs as many looks as it has columns


def deliver_part(
    session: Session, markers: Markers, table: PgTable, delivery: str, apply: Callable[[], pa.Table]
) -> pa.Table:
    """The outcomes of what `apply` writes, in one transaction with the marker; those recorded if it happened before."""
    session.begin(read_only=False)
    recorded = markers.claim(session, delivery, table.name)
    if recorded is not None:
        return recorded
    session.run("SET CONSTRAINTS ALL IMMEDIATE", f"writing {table}")
    outcomes = apply()
    markers.record(session, delivery, outcomes)
    crash_point("request_sent")
    session.commit(f"delivery {delivery} to {table}")
    crash_point("answer_received")
    return outcomes


def apply_part(
    session: Session,
    table: PgTable,
    op: Op,
    rows: pa.Table,
    match: Sequence[str] = (),
    was: pa.Table | None = None,
) -> pa.Table:
    """Writes rows inside the open transaction; the outcomes as `write_bulk` answers them.

    Where a unique constraint covers exactly the columns `match`, a create that meets a row with the same values
    there comes back REFUSED with that row's key. An update of rows that no longer have the values `was` does, too.
    Raises ConfigError for what is wrong with every row, and what the session raises for the server.
    """
    given = [name for name in rows.column_names if name not in TECHNICAL]
    refuse_whole_part(table, op, given)
    refused = refusals_before_sending(table, op, rows)
    if op is Op.CREATE and table.plain_inserts and not refused:
        ids = _copy_straight(session, table, given, rows)
        if ids is not None:
            return all_applied(rows, ids)
    outcome = PartOutcome.of(rows)
    if op is Op.UPDATE and not given:
        outcome.statuses = [Status.NOOP.value] * rows.num_rows
        return outcome.table()
    refused = zero_bytes(rows) | refused
    for row, refusal in refused.items():
        outcome.settle(row, Status.FAILED, refusal)
    places = [row for row in range(rows.num_rows) if row not in refused]
    arbiter = table.arbiter(match) if op is Op.CREATE and set(match) <= set(given) else None
    still = [] if was is None else was.column_names
    rows = rows if was is None else _beside(rows, was)
    sent = rows.take(pa.array(places, pa.int64())) if refused else rows
    while places:
        kind = _Staged if table.procedure is None else _Called
        waiting = kind(session, table, op, given, places, outcome, arbiter, still).apply(sent)
        if not waiting or len(waiting) == len(places):
            break
        # what they wait for may have been written after them: a refused row had split the part between them
        sent, places = sent.take(pa.array(waiting, pa.int64())), [places[row] for row in waiting]
        for place in places:
            outcome.statuses[place], outcome.fields[place], outcome.reasons[place] = Status.APPLIED.value, None, None
    return outcome.table()


def _beside(rows: pa.Table, was: pa.Table) -> pa.Table:
    """Rows with what they must still be, under other names."""
    for i, values in enumerate(was.columns):
        rows = rows.append_column(f"{statements.WAS}{i}", values)
    return rows


def outdated(table: PgTable, names: Iterable[str], texts: Callable[[str], Iterable[str | None]]) -> bool:
    """Whether columns, or labels of an enum, are to be written that this description of the table does not know.

    `texts` gives a column's values.
    """
    for name in names:
        column = table.columns.get(name)
        if column is None or (column.values and not set(texts(name)) <= {None, *column.values}):
            return True
    return False


def refuse_whole_part(table: PgTable, op: Op, given: Sequence[str]) -> None:
    if not table.writable:
        raise ConfigError(f"{table} cannot be written", field="object", value=str(table), mend="name a table")
    for name in given:
        if table.column(name).readonly and not (op is Op.CREATE and name in table.key):
            raise ConfigError(f"{table}.{name} is computed by the database", field=name, mend=f"do not map {name}")
    if table.procedure is None:
        refuse_unsayable(table, op, given)
    elif op is Op.CREATE:
        refuse_keyless(table, given)


def refuse_keyless(table: PgTable, given: Sequence[str]) -> None:
    """Raises ConfigError when nothing tells the key of a new row of these columns."""
    drawn = [name for name in table.key if name not in given]
    if table.procedure is None:
        statements.refuse_undrawn(table, drawn)
    elif drawn and "target_id" not in table.procedure.columns:
        raise ConfigError(
            f"{table.procedure} does not tell which rows it made, and the mapping does not give {', '.join(drawn)}",
            field="procedure",
            value=str(table.procedure),
            mend=f"let it answer a column target_id, or map {drawn[0]}",
        )


def _copy_straight(session: Session, table: PgTable, given: Sequence[str], rows: pa.Table) -> pa.Array | None:
    """The new keys after a COPY into the table itself; None when types or the server do not allow it."""
    arrays = exact_columns(table, given, rows)
    if arrays is None:
        return None
    session.run("SAVEPOINT straight", f"writing {table}")
    try:
        for name in table.key:
            if name not in given:
                arrays[name] = session.raw_rows(drawing(table.columns[name], rows.num_rows))["k"]
        session.copy_in(table.schema, table.name, pa.table(arrays))
    except DriverError as error:
        if connection_lost(error):
            with session.translating(f"writing {table}"):
                raise
        session.run("ROLLBACK TO SAVEPOINT straight", f"writing {table}")
        return None
    session.run("RELEASE SAVEPOINT straight", f"writing {table}")
    return key_texts([arrays[name] for name in table.key])


@dataclass(frozen=True, slots=True)
class _Staged:
    """Rows applied by statements over a temporary table; `places` are their rows in the outcome."""

    session: Session
    table: PgTable
    op: Op
    given: Sequence[str]
    places: Sequence[int]
    outcome: PartOutcome
    unique: Unique | None  # by what a create is told that its row is there already
    was: Sequence[str]  # what must be as staged for an update

    def apply(self, rows: pa.Table) -> list[int]:
        """Stages the rows, applies them and settles what became of each; those that wait for others and were tried."""
        _stage(self.session, self.table, self.op, self.given, self.was, rows)
        waiting: list[int] = []
        searched = self.table.procedure is not None  # its rows may go anywhere
        indexed, named = False, 0

        def attempt(low: int, high: int) -> Refusal | None:
            nonlocal searched, indexed
            refusal = self._attempt(low, high)
            if refusal is not None and not indexed:
                self.session.run(f"CREATE INDEX ON {statements.PART} (_n)", self._doing)
                indexed = True
            if refusal is None or not refusal.passing or searched:
                return refusal
            searched = True
            found = dict(waiting_rows(self.session, self.table, self.op, self.given))
            for row, told in found.items():
                self.outcome.settle(self.places[row], Status.RETRY, told)
            return attempt(low, high) if found else refusal

        def refuse(row: int, refusal: Refusal) -> None:
            nonlocal named
            if refusal.passing:
                waiting.append(row)
            elif refusal.field is None and named < NAMED:
                named += 1
                refusal = Refusal(self._culprit(row), refusal.reason)
            self.outcome.settle(self.places[row], Status.RETRY if refusal.passing else Status.FAILED, refusal)
            if any(reference.within for reference in self.table.references):  # nobody's row is there by it any more
                self.session.run(f"DELETE FROM {statements.PART} WHERE _n = {row}", self._doing)

        for low in range(0, rows.num_rows, self._most(rows)):
            isolate(low, min(low + self._most(rows), rows.num_rows), attempt, refuse)
        self.session.run(f"DROP TABLE pg_temp.{statements.PART}", self._doing)
        return sorted(waiting)

    def _attempt(self, low: int, high: int) -> Refusal | None:
        """Applies a range of rows entirely and settles them, or not at all: why not."""
        session, doing = self.session, self._doing
        session.run("SAVEPOINT part", doing)
        try:
            answer = self._answer(low, high)
        except DriverError as error:
            refusal = waiting_for(self.table, self.op, error) or refusal_of(error)
            if refusal is None:
                with session.translating(doing):
                    raise
            session.run("ROLLBACK TO SAVEPOINT part", doing)
            session.run("RELEASE SAVEPOINT part", doing)
            return refusal
        session.run("RELEASE SAVEPOINT part", doing)
        self._settle(answer)
        return None

    @property
    def _doing(self) -> str:
        return f"writing {self.table}"

    def _most(self, rows: pa.Table) -> int:
        return int(rows.num_rows)

    def _answer(self, low: int, high: int) -> pa.Table:
        if self.op is Op.CREATE:
            sql = statements.create(self.table, self.given, low, high, unique=self.unique)
        elif self.op is Op.UPDATE and self.was:
            sql = statements.update_unmoved(self.table, self.given, self.was, low, high)
        elif self.op is Op.UPDATE:
            sql = statements.update(self.table, self.given, low, high)
        else:
            sql = statements.remove(self.table, low, high)
        return self.session.raw_rows(sql)

    def _settle(self, answer: pa.Table) -> None:
        """Takes over what a statement answered for its range."""
        rows = answer["_n"].to_pylist()
        undone = answer.filter(pc.invert(answer["_done"]))
        missing = undone["_n"].to_pylist()
        if self.op is Op.CREATE:
            ids = key_texts([answer[f"k{i}"] for i in range(len(self.table.key))]).to_pylist()
            for row, target in zip(rows, ids, strict=True):
                self.outcome.targets[self.places[row]] = target
            if self.unique is not None:
                missing = self._meet(sorted({*missing, *self._second(rows, ids)}), self.unique)
            for row in missing:
                self._refuse(row, Status.FAILED, "stored no such row: a trigger or rule of its own", None)
            return
        for row, there in zip(missing, undone["_there"].to_pylist(), strict=True):
            place = self.places[row]
            if there:
                self.outcome.settle(place, Status.NOOP)
            else:
                target = self.outcome.targets[place]
                why = f"no longer has a row {target}" + (" that is as it was planned" if self.was else "")
                self._refuse(row, Status.REFUSED, why, target)

    def _culprit(self, row: int) -> str | None:
        """The column whose value cannot be read as its type, where the server did not name it (domains, ranges, …)."""
        if self.op not in (Op.CREATE, Op.UPDATE):
            return None
        for name in self.given:
            self.session.run("SAVEPOINT probe", self._doing)
            try:
                self.session.raw_rows(statements.probe(self.table, name, row))
            except DriverError as error:
                if connection_lost(error):
                    with self.session.translating(self._doing):
                        raise
                self.session.run("ROLLBACK TO SAVEPOINT probe", self._doing)
                return name
            self.session.run("RELEASE SAVEPOINT probe", self._doing)
        return None

    @staticmethod
    def _second(rows: Sequence[int], ids: Sequence[str]) -> list[int]:
        """The rows of an answer that were given the key of one before them, of which one was stored."""
        first: dict[str, int] = {}
        for row, target in sorted(zip(rows, ids, strict=True)):
            first.setdefault(target, row)
        return [row for row, target in zip(rows, ids, strict=True) if first[target] != row]

    def _meet(self, rows: list[int], unique: Unique) -> list[int]:
        """Settles creates that met a row by its key; those that met none."""
        if not rows:
            return rows
        found = self.session.rows(statements.met(self.table, unique, rows), self._doing)
        ids = key_texts([found[f"k{i}"] for i in range(len(self.table.key))]).to_pylist()
        for row, target in zip(found["_n"].to_pylist(), ids, strict=True):
            why = f"has a row with the same {', '.join(unique.columns)} already, {target}"
            self._refuse(row, Status.REFUSED, why, target)
        return [row for row in rows if row not in set(found["_n"].to_pylist())]

    def _refuse(self, row: int, status: Status, why: str, target: str | None) -> None:
        place = self.places[row]
        self.outcome.targets[place] = target
        self.outcome.settle(place, status, Refusal(None, f"{self.table} {why}"))


class _Called(_Staged):
    """Rows given to the table's procedure, so many at a time."""

    def _most(self, rows: pa.Table) -> int:
        return BATCH

    def _answer(self, low: int, high: int) -> pa.Table:
        procedure = self.table.procedure
        assert procedure is not None
        rows = statements.objects(self.table, self.given, low, high)
        own = self.op is Op.CREATE and set(self.table.key) <= set(self.given)
        keys = [f"r.{identifier(name)}::text AS k{i}" for i, name in enumerate(self.table.key)] if own else []
        given = self.session.raw_rows(f"SELECT {', '.join(['r._n', 'r._key', *keys])} FROM ({rows}) r")
        told = procedure.call(self.session, str(self.op), rows)
        said = answered(procedure, given["_key"].to_pylist(), told)
        found = [said.get(key, {}) for key in given["_key"].to_pylist()]
        texts = key_texts([given[f"k{i}"] for i in range(len(keys))]).to_pylist() if own else [None] * len(found)
        targets = [one.get("target_id") or text for one, text in zip(found, texts, strict=True)]
        errors = [one.get("error") for one in found]
        columns = {"target_id": pa.array(targets, pa.string()), "error": pa.array(errors, pa.string())}
        return pa.table({"_n": given["_n"], "_key": given["_key"]} | columns)

    def _settle(self, answer: pa.Table) -> None:
        for row in answer.to_pylist():
            place = self.places[row["_n"]]
            if row["error"] is not None:
                self.outcome.settle(place, Status.FAILED, Refusal(None, row["error"]))
            elif self.op is Op.CREATE and row["target_id"] is None:
                raise ContractError(
                    f"{self.table.procedure} did not tell which row it made of {row['_key']}",
                    field="procedure",
                    mend="answer each created row's key as target_id, or an error",
                )
            elif self.op is Op.CREATE:
                self.outcome.targets[place] = row["target_id"]


def _stage(session: Session, table: PgTable, op: Op, given: Sequence[str], was: Sequence[str], rows: pa.Table) -> None:
    arrays: dict[str, pa.Array | pa.ChunkedArray] = {"_n": pa.array(range(rows.num_rows), pa.int64())}
    if table.procedure is not None:
        arrays["_key"] = rows["_key"].cast(pa.string())
    if op is not Op.CREATE or table.procedure is not None:
        arrays["_target_id"] = rows["_target_id"].cast(pa.string())
    if op in (Op.CREATE, Op.UPDATE):
        arrays |= {name: storable(table.columns[name], rows[name]) for name in given}
        staged = {f"{statements.WAS}{i}": table.columns[name] for i, name in enumerate(was)}
        arrays |= {name: storable(column, rows[name]) for name, column in staged.items()}
    with session.translating(f"staging rows for {table}"):
        session.raw(f"DROP TABLE IF EXISTS pg_temp.{statements.PART}")
        session.copy_in(None, statements.PART, pa.table(arrays))
