"""A part of a plan into a table: one transaction, an outcome for every row, bad rows standing alone.

What was measured (200,000 rows of 10 columns, a primary and two other indexes, MariaDB 10.11 with a row binlog):
`LOAD DATA LOCAL` 2.1 s, `INSERT` of many rows a statement 4.4 s (64 KB to 4 MB a statement alike), `INSERT ... ON
DUPLICATE KEY UPDATE` over existing rows 9.4 s, a staged part joined in one `UPDATE` 8.0 s. So:

- New rows go straight into the table by LOAD DATA LOCAL where the server allows it. With LOCAL the server makes
  warnings of errors, so one warning, or one row not stored, and the whole part is rolled back and taken by INSERTs.
- INSERTs of up to a megabyte are split in halves until each refused row stands alone. A duplicate is refused:
  ON DUPLICATE KEY UPDATE would overwrite a row the plan has not seen (and 'A' finds 'a').
- Updates and deletes are staged in a temporary table, compared with the locked rows byte by byte, and joined.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa

from sync_platform.connectors.key_text import text_bytes
from sync_platform.connectors.mysql import statements
from sync_platform.connectors.mysql.catalog import StoredColumn, StoredTable
from sync_platform.connectors.mysql.decoding import local_text
from sync_platform.connectors.mysql.faults import LOSSES, NO_LOCAL_FILES, DriverError, code_of, refusal, refusal_of
from sync_platform.connectors.mysql.session import Done, Session, identifier
from sync_platform.connectors.mysql.storing import sendable, stored
from sync_platform.connectors.sql import (
    PartOutcome,
    Refusal,
    isolate,
    key_parts,
    key_texts,
    refusals_before_sending,
    refuse_unsayable,
)
from sync_platform.errors import ConfigError, RecordError
from sync_platform.model import Op, Status

_TECHNICAL: Final = ("_key", "_target_id")
_STATEMENT: Final = 1 << 20  # bytes of one INSERT, about
_WORTH_LOADING: Final = 100  # rows from which a LOAD DATA is tried


def apply_part(session: Session, table: StoredTable, op: Op, rows: pa.Table, was: pa.Table | None = None) -> pa.Table:
    """Writes rows inside the open transaction; the outcomes as `write_bulk` answers them.

    An update of rows that no longer have the values `was` comes back REFUSED, too.
    Raises ConfigError for what is wrong with every row, and what the session raises for the server.
    """
    given = [name for name in rows.column_names if name not in _TECHNICAL]
    _refuse_whole_part(table, op, given)
    outcome = PartOutcome.of(rows)
    if op is Op.UPDATE and not given:
        outcome.statuses = [Status.NOOP.value] * rows.num_rows
        return outcome.table()
    refused = refusals_before_sending(table, op, rows)
    typed: dict[str, pa.Array] = {}
    if op in (Op.CREATE, Op.UPDATE):
        for name in given:
            typed[name], more = stored(table, table.column(name), rows[name])
            refused = more | refused
    if op is not Op.CREATE:
        keys, more = _staged_keys(table, rows)
        refused = more | refused
        typed = keys | typed
    for row, refusal_ in refused.items():
        outcome.settle(row, Status.FAILED, refusal_)
    if was is not None:
        former, unlike = _former(table, was)
        typed |= former
        for row in unlike - refused.keys():
            refused[row] = _moved(table, outcome.targets[row])
            outcome.settle(row, Status.REFUSED, refused[row])
    places = np.array([row for row in range(rows.num_rows) if row not in refused], np.int64)
    if len(places):
        sent = {name: values.take(pa.array(places)) for name, values in typed.items()} if refused else typed
        _Part(session, table, given, sent, places, outcome, () if was is None else was.column_names).apply(op)
    return outcome.table()


def _moved(table: StoredTable, target: str | None) -> Refusal:
    return Refusal(None, f"{table} no longer has a row {target} that is as it was planned")


def _former(table: StoredTable, was: pa.Table) -> tuple[dict[str, pa.Array], set[int]]:
    """The values that rows must still have, as they are staged, and the rows with one that is none of this table's."""
    found: dict[str, pa.Array] = {}
    unlike: set[int] = set()
    for i, name in enumerate(was.column_names):
        found[f"{statements.WAS}{i}"], odd = stored(table, table.column(name), was[name])
        unlike |= odd.keys()
    return found, unlike


def _refuse_whole_part(table: StoredTable, op: Op, given: Sequence[str]) -> None:
    if not table.writable:
        raise ConfigError(
            f"{table} cannot be written: {table.why_not}", field="object", value=str(table), mend="name another table"
        )
    for name in given:
        if table.column(name).readonly:
            raise ConfigError(f"{table}.{name} is computed by the database", field=name, mend=f"do not map {name}")
    refuse_unsayable(table, op, given)


def _staged_keys(table: StoredTable, rows: pa.Table) -> tuple[dict[str, pa.Array], dict[int, Refusal]]:
    """The key's columns as `_target_id` tells them, and the rows whose id is no key."""
    targets = rows["_target_id"].cast(pa.string())
    refused: dict[int, Refusal] = {}
    columns = [targets]
    if len(table.key) > 1:
        parts: list[tuple[str | None, ...]] = []
        nothing = (None,) * len(table.key)
        for row, target in enumerate(targets.to_pylist()):
            try:
                parts.append(nothing if target is None else key_parts(target, table.key))
            except RecordError as error:
                refused[row] = Refusal(None, error.message)
                parts.append(nothing)
        columns = [pa.chunked_array([pa.array(texts, pa.string())]) for texts in zip(*parts, strict=True)]
    found: dict[str, pa.Array] = {}
    for i, (name, texts) in enumerate(zip(table.key, columns, strict=True)):
        if pa.types.is_binary(table.columns[name].arrow):
            raw = [None if text is None else text_bytes(text) for text in texts.to_pylist()]
            texts = pa.chunked_array([pa.array(raw, pa.binary())])
        found[f"{statements.KEY}{i}"], more = stored(table, table.columns[name], texts)
        refused |= {row: Refusal(None, f"{table} has no such row: {r.reason}") for row, r in more.items()}
    return found, refused


class _Part:
    """The rows of a part that may be sent: `typed` by column, `places` their rows in the outcome."""

    def __init__(
        self,
        session: Session,
        table: StoredTable,
        given: Sequence[str],
        typed: dict[str, pa.Array],
        places: np.ndarray,
        outcome: PartOutcome,
        was: Sequence[str] = (),
    ) -> None:
        self.session, self.table, self.given, self.outcome = session, table, list(given), outcome
        self.was = was
        self.too_long: set[int] = set()
        self.typed, self.places, self.doing = typed, places, f"writing {table}"
        self.place = identifier(table.schema, table.name)

    def apply(self, op: Op) -> None:
        """Writes the rows and settles what became of each."""
        if op is Op.CREATE:
            self._create()
            return
        self.session.run(f"DROP TEMPORARY TABLE IF EXISTS {statements.PART}", self.doing)
        self.session.run(statements.make_part(self.table, self.given, self.was), f"staging rows for {self.table}")
        names = statements.part_names(self.table, self.given, self.was)
        self.typed[statements.NUMBER] = pa.array(range(len(self.places)), pa.int32())
        self._store(statements.PART, names, None)
        if op is Op.UPDATE:
            self._settle(statements.compare(self.table, self.given, self.was), gone=Status.REFUSED)
            self._isolated(lambda low, high: statements.update(self.table, self.given, low, high, self.was))
        else:
            now = local_text(dt.datetime.now(dt.UTC), self._zone())
            self._settle(statements.alive(self.table), gone=Status.NOOP)
            self._isolated(lambda low, high: statements.remove(self.table, low, high, now))
        self.session.run(f"DROP TEMPORARY TABLE {statements.PART}", self.doing)

    def _zone(self) -> str | None:
        mark = self.table.options.tombstone
        local = mark is not None and self.table.columns[mark].type in ("datetime", "date")
        return self.table.options.timezone if local else None

    def _create(self) -> None:
        """Inserts the rows; keys that the database draws are read off its answers."""
        names = list(self.given)
        for name in self.table.key:
            if name not in self.given and name != self.table.drawn:
                self.typed[name] = self._drawn(name)
                names.append(name)
        numbered = self.table.drawn in self.table.key and self.table.drawn not in self.given
        numbers = np.zeros(len(self.places), np.int64)

        def note(low: int, high: int, done: Done) -> None:
            numbers[low:high] = done.first_id + np.arange(high - low) * self.session.about.step

        self._store(self.place, names, note if numbered else None)
        if numbered:
            assert self.table.drawn is not None
            self.typed[self.table.drawn] = pa.array(numbers)
        targets = key_texts([self.typed[name] for name in self.table.key]).to_pylist()
        for row, target in enumerate(targets):
            place = int(self.places[row])
            if self.outcome.statuses[place] == Status.APPLIED:
                self.outcome.targets[place] = target

    def _drawn(self, name: str) -> pa.Array:
        """As many values of a key column's default as there are rows."""
        column = self.table.columns[name]
        if column.default is None:
            raise ConfigError(
                f"{self.table}: a new row needs its key column {name}, which the mapping does not give",
                field=name,
                mend=f"map {name}, or give the column a default",
            )
        found: list[str | None] = []
        while len(found) < len(self.places):
            some = min(1000, len(self.places) - len(found))
            sql = " UNION ALL ".join([f"SELECT {column.default} AS v"] * some)
            found += [row["v"] for row in self.session.rows(sql, self.doing)]
        return pa.array(found, pa.string())

    def _store(self, place: str, names: list[str], note: Callable[[int, int, Done], None] | None) -> None:
        """Inserts the rows into a table, by a file or by statements; rows that are refused are settled.

        `note` is told the first number drawn for a range of rows.
        """
        columns = [self._column_of(name) for name in names]
        texts = [
            sendable(self.table, column, self.typed[name]) if column is not None else self.typed[name].cast(pa.string())
            for name, column in zip(names, columns, strict=True)
        ]
        kinds = ["text" if column is None else statements.kind_of(column) for column in columns]
        count = len(self.places)
        if not names:
            texts, kinds = [pa.repeat(pa.scalar("DEFAULT"), count)], ["word"]
            names = [next(iter(self.table.columns))]
        elif self._may_load(place, names, count):
            done = self._loaded(statements.load(place, names, kinds), statements.file(texts), count, note is not None)
            if done is not None:
                if note is not None:
                    note(0, count, done)
                return
        rendered = statements.values_list(texts, kinds)
        head = f"INSERT INTO {place} ({', '.join(identifier(name) for name in names)}) VALUES ".encode()
        room = min(_STATEMENT, self.session.about.packet - len(head) - 64)

        def attempt(low: int, high: int) -> Refusal | None:
            if rendered.size(low, high) > room and high - low > 1:
                return Refusal(None, "too long for one statement")  # halved until it fits
            most = self.session.about.packet
            if rendered.size(low, high) > most - len(head) - 64:
                self.too_long.add(low)
                return Refusal(None, f"the row is larger than the server's max_allowed_packet ({most} bytes)")
            answer = self._tried(head + bytes(rendered.between(low, high)[:-1]))
            if isinstance(answer, Refusal):
                return answer
            if note is not None:
                note(low, high, answer)
            return None

        for low, high in _ranges(rendered, room):
            isolate(low, high, attempt, self._refuse)

    def _column_of(self, name: str) -> StoredColumn | None:
        if name == statements.NUMBER:
            return None
        if name.startswith(statements.KEY):
            name = self.table.key[int(name.removeprefix(statements.KEY))]
        elif name.startswith(statements.WAS):
            name = self.was[int(name.removeprefix(statements.WAS))]
        return self.table.columns[name]

    def _may_load(self, place: str, names: Sequence[str], count: int) -> bool:
        about, own = self.session.about, place == statements.PART
        if not about.loads or count < _WORTH_LOADING or not (own or self.table.plain_inserts):
            return False
        return own or about.numbers_in_order or self.table.drawn is None or self.table.drawn in names

    def _loaded(self, sql: str, rendered: statements.Rendered, count: int, numbered: bool) -> Done | None:
        """What a LOAD DATA answered; None when it left out or changed a row, and was taken back."""
        self.session.run("SAVEPOINT loading", self.doing)
        if numbered:
            self.session.rows("SELECT last_insert_id(0)", self.doing)
        done: Done | None = None
        try:
            done = self.session.load(sql, rendered.between(0, count))
        except DriverError as error:
            if refusal_of(error, self.table.uniques) is None and code_of(error) not in NO_LOCAL_FILES:
                with self.session.translating(self.doing):
                    raise
        if done is not None and done.warnings == 0 and done.affected == count:
            if not numbered:
                return done
            first = int(self.session.rows("SELECT last_insert_id() AS id", self.doing)[0]["id"] or 0)
            if first:
                return replace(done, first_id=first)
        self.session.run("ROLLBACK TO SAVEPOINT loading", self.doing)
        return None

    def _tried(self, sql: str | bytes) -> Done | Refusal:
        """Executes a statement that stores values; why it was refused, or would have changed one."""
        self.session.run("SAVEPOINT part", self.doing)
        try:
            done = self.session.raw(sql)
        except DriverError as error:
            why = refusal_of(error, self.table.uniques)
            if why is None:
                with self.session.translating(self.doing):
                    raise
            return self._explained(why)
        if done.warnings:
            told = self.session.rows("SHOW WARNINGS", self.doing)
            changed = next((row for row in told if int(row["Code"] or 0) in LOSSES), None)
            if changed is not None:
                self.session.run("ROLLBACK TO SAVEPOINT part", self.doing)
                return refusal(changed["Message"] or "", self.table.uniques)
        return done

    def _explained(self, why: Refusal) -> Refusal:
        """A duplicate's reason with what its column's collation takes for equal."""
        column = self.table.columns.get(why.field or "")
        if column is None or column.collation is None or "Duplicate entry" not in why.reason:
            return why
        if column.collation.endswith("_bin"):
            return why
        blind = f"{column.collation} takes texts for equal that differ in case, accents or spaces at the end"
        return Refusal(why.field, f"{why.reason} ({blind})")

    def _refuse(self, row: int, why: Refusal) -> None:
        place = int(self.places[row])
        twice = bool(self.was) and row in self.too_long  # with its former values beside it
        self.outcome.settle(place, Status.REFUSED if twice else Status.FAILED, why)

    def _settle(self, question: str, *, gone: Status) -> None:
        """Takes over which rows are not there, and which of the others do not differ."""
        for row in self.session.rows(question, self.doing):
            place = int(self.places[int(row["n"] or 0)])
            if self.outcome.statuses[place] != Status.APPLIED:
                continue
            if row["there"] != "1":
                target = self.outcome.targets[place]
                gone_row = Refusal(None, f"{self.table} no longer has a row {target}")
                why = _moved(self.table, target) if self.was else gone_row
                self.outcome.settle(place, gone, why if gone is Status.REFUSED else None)
            elif row["differs"] != "1":
                self.outcome.settle(place, Status.NOOP)

    def _isolated(self, statement: Callable[[int, int], str]) -> None:
        """Runs a statement over all staged rows, split until each refused row stands alone."""

        def attempt(low: int, high: int) -> Refusal | None:
            answer = self._tried(statement(low, high))
            return answer if isinstance(answer, Refusal) else None

        isolate(0, len(self.places), attempt, self._refuse)


def _ranges(rendered: statements.Rendered, room: int) -> list[tuple[int, int]]:
    """The rows in ranges of about so many bytes."""
    found, low, count = [], 0, len(rendered.starts) - 1
    while low < count:
        high = int(np.searchsorted(rendered.starts, rendered.starts[low] + room, side="right")) - 1
        high = min(max(high, low + 1), count)
        found.append((low, high))
        low = high
    return found
