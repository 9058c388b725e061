"""Delivery to a target that takes records in small batches by API, with one outcome per record.

For every batch: claim the target records, re-read links and target under the claim, write intents,
send, settle in one transaction. Wherever the process dies, the next run finds either nothing, or an
intent that says what to look for, or a settled outcome.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl

from sync_platform.crash import crash_point
from sync_platform.engine.lookups import can_be_looked_up, find_by_match, same_value, target_rows
from sync_platform.errors import AccessError, RecordError, TransientError, UnknownOutcome
from sync_platform.ledger.claims import LEASE_SECONDS, claimed
from sync_platform.ledger.intents import write_intents
from sync_platform.ledger.links import links_of
from sync_platform.ledger.settle import settle, settled_frame
from sync_platform.model import Change, Op, Outcome, Record, Repeat, Status, Stream

if TYPE_CHECKING:
    from sync_platform.connectors.connector import Connector
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session

INLINE_RETRIES = 3
SUPERSEDED = "superseded: a newer version was delivered since"
Settle: TypeAlias = Callable[[pl.DataFrame], None]


@dataclass
class RowwiseDelivery:
    """Delivers the changes of one plan to one connector, batch by batch.

    `exact` is True for `apply`: a target that moved since the plan is refused instead of overwritten.
    `settle` replaces the batch lane's way of settling a batch's outcomes in a transaction of its own.
    `careful` is for two-way syncs: a field that moved since the plan is somebody's edit, so it is refused instead of
    overwritten, and updates leave an intent, too. `links` replaces the ledger's links, `answers` collects what the
    target says its records hold now.
    """

    session: Session
    spec: SyncSpec
    plan_id: str
    connector: Connector
    stream: Stream
    fields: tuple[str, ...]
    exact: bool
    sleep: Callable[[float], None] = time.sleep
    settle: Settle | None = None
    patience: float = LEASE_SECONDS
    links: Callable[[Sequence[str]], pl.DataFrame] | None = None
    careful: bool = False
    answers: dict[str, Record] | None = None

    def deliver(self, op: Op, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Delivers rows of one op in batches; yields each batch's settled rows."""
        for batch in rows.iter_slices(self.stream.batch_size):
            crash_point("between_batches")
            yield self._batch(op, batch.to_dicts())

    def deliver_claimed(self, op: Op, rows: Sequence[dict[str, Any]]) -> Iterator[pl.DataFrame]:
        """As `deliver`, for rows whose links and target were read under claims that the caller holds."""
        for start in range(0, len(rows), self.stream.batch_size):
            crash_point("between_batches")
            yield self._write_and_settle(op, [], list(rows[start : start + self.stream.batch_size]))

    def send_claimed(self, op: Op, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Sends one batch of updates of records that the caller has claimed; what is left to be settled.

        The caller passes `outcome_written` when it has settled them.
        """
        for point in ("between_batches", "before_intent", "after_intent"):
            crash_point(point)
        return self._settled(rows, self._send(list(rows)))

    def deliver_rows(self, op: Op, rows: Sequence[dict[str, Any]]) -> Iterator[pl.DataFrame]:
        """As `deliver`, for rows as dictionaries."""
        for start in range(0, len(rows), self.stream.batch_size):
            crash_point("between_batches")
            yield self._batch(op, list(rows[start : start + self.stream.batch_size]))

    def _batch(self, op: Op, rows: list[dict[str, Any]]) -> pl.DataFrame:
        keys = [self._claim_key(op, row) for row in rows]
        with claimed(
            self.session.database, self.spec.target, keys, self.session.run_id, patience=self.patience, sleep=self.sleep
        ):
            return self._write_and_settle(op, *self._recheck(op, rows))

    def _write_and_settle(self, op: Op, decided: list[dict[str, Any]], pending: list[dict[str, Any]]) -> pl.DataFrame:
        crash_point("before_intent")
        if pending and self._leaves_intents(op):
            write_intents(self.session.database, self.spec, self.plan_id, self.session.run_id, pending)
        crash_point("after_intent")
        outcomes = self._send(pending) if pending else []
        settled = settled_frame([*decided, *self._settled(pending, outcomes)])
        if self.settle is not None:
            self.settle(settled)
        else:
            with self.session.database.connection() as connection:
                settle(connection, self.spec, settled, run_id=self.session.run_id, plan_id=self.plan_id)
        crash_point("outcome_written")
        return settled

    def _leaves_intents(self, op: Op) -> bool:
        if op is Op.CREATE:
            return self.careful or self.stream.repeat is not Repeat.NATURAL
        return self.careful and op is Op.UPDATE

    def _claim_key(self, op: Op, row: Mapping[str, Any]) -> str:
        if op is not Op.CREATE:
            return id_claim(row["_target_id"])
        return match_claim(self.spec, row["_key"], [row.get(f"new:{name}") for name in self.spec.match])

    # -- what still holds, under the claim ------------------------------------------------------

    def _recheck(self, op: Op, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Splits a batch into rows decided without a call and rows to send."""
        keys = [row["_key"] for row in rows]
        found = self.links(keys) if self.links else links_of(self.session.database, self.spec, keys)
        links = {row["_key"]: row for row in found.to_dicts()}
        decided: list[dict[str, Any]] = []
        open_rows: list[dict[str, Any]] = []
        for row in rows:
            verdict = self._against_link(op, row, links.get(row["_key"]))
            if verdict is None:
                open_rows.append(row)
            else:
                decided.append(self._row(row, *verdict))
        if op is Op.CREATE:
            return self._against_target_by_match(open_rows, decided)
        return self._against_target_by_id(op, open_rows, decided)

    def _against_link(
        self, op: Op, row: Mapping[str, Any], link: Mapping[str, Any] | None
    ) -> tuple[Status, str] | None:
        if link is None:
            return None
        if op is Op.CREATE:
            if row["_replaces"] == link["_target_id"]:
                return None
            if link["_base"] is not None and link["_base"] == row["_base"]:  # a killed delivery of the same plan
                return Status.NOOP, f"it was created already, as {link['_target_id']}"
            return Status.REFUSED, f"it was linked to {link['_target_id']} since the plan"
        if link["_target_id"] != row["_target_id"]:
            return Status.REFUSED, f"it is linked to {link['_target_id']} now, not {row['_target_id']}"
        if link["_link_cursor"] is None or row["_cursor"] is None:  # a record that left has no version of its own
            return None
        if (link["_link_cursor"], link["_link_read_at"] or 0) > (row["_cursor"], row["_read_at"] or 0):
            return Status.NOOP, SUPERSEDED
        return None

    def _against_target_by_id(
        self, op: Op, rows: list[dict[str, Any]], decided: list[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        if not rows:
            return decided, []
        found = {
            row["_target_id"]: row
            for row in target_rows(self.connector, self.stream, [r["_target_id"] for r in rows], self.fields).to_dicts()
        }
        pending = []
        for row in rows:
            now = found.get(row["_target_id"])
            if now is None:
                if op is Op.UPDATE:
                    decided.append(self._row(row, Status.REFUSED, "the target record is gone"))
                else:
                    decided.append(self._row(row, Status.NOOP, "the target record is gone already"))
                continue
            every = self.exact or (self.careful and op is not Op.UPDATE)
            compared = self.fields if every else row["_fields"]
            moved = [name for name in compared if not self._same(now.get(name), row[f"old:{name}"])]
            unlike = [name for name in row["_fields"] if not self._same(now.get(name), row[f"new:{name}"])]
            if op is Op.UPDATE and not unlike:
                decided.append(self._row(row, Status.NOOP, "the target has these values already"))
            elif (self.exact or self.careful) and moved:
                decided.append(self._refused(row, moved[0], now.get(moved[0])))
            else:
                row.update({f"old:{name}": now.get(name) for name in moved})
                pending.append(row)
        return decided, pending

    def _same(self, one: Any, other: Any) -> bool:
        """Whether two values are the same there; empty is null unless the target keeps a difference that matters."""
        return same_value(one, other) if self.stream.empty_is_null or not self.careful else bool(one == other)

    def _against_target_by_match(
        self, rows: list[dict[str, Any]], decided: list[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        if not rows or not self.spec.match:
            return decided, rows
        present = find_by_match(self.connector, self.stream, self.spec.match, rows, self.fields)
        pending = []
        for row in rows:
            there = present.get(row["_key"])
            if there:
                decided.append(self._row(row, Status.REFUSED, f"the target has it since the plan, as {there[0]}"))
            else:
                pending.append(row)
        return decided, pending

    # -- sending --------------------------------------------------------------------------------

    def _send(self, rows: list[dict[str, Any]]) -> list[Outcome]:
        waiting = {row["_key"]: self._change(row) for row in rows}
        done: dict[str, Outcome] = {}
        for attempt in range(INLINE_RETRIES + 1):
            for outcome in self._call(list(waiting.values())):
                done[outcome.key] = outcome
                if outcome.waits or outcome.status not in {Status.RETRY, Status.UNKNOWN}:
                    waiting.pop(outcome.key, None)
            if not waiting or attempt == INLINE_RETRIES:
                break
            self.sleep(self.spec.errors.backoff_seconds * 2**attempt)
            waiting = self._repeatable(waiting, done)
            if not waiting:
                break
        return [done[row["_key"]] for row in rows]

    def _repeatable(self, waiting: dict[str, Change], done: dict[str, Outcome]) -> dict[str, Change]:
        """Of the changes to send again, those that certainly did not happen; a create is looked up first."""
        if not waiting or next(iter(waiting.values())).op is not Op.CREATE:
            return waiting
        unheard = [change for change in waiting.values() if done[change.key].status is Status.UNKNOWN]
        refused = [change for change in waiting.values() if done[change.key].status is Status.RETRY]
        lost = UnknownOutcome("the answer to a part of the batch was lost")
        known, absent = self._look_up(unheard, lost) if unheard else ([], [])
        done |= {outcome.key: outcome for outcome in known}
        there = self._present(refused)
        return {change.key: change for change in (*absent, *refused) if change.key not in there}

    def _present(self, changes: Sequence[Change]) -> dict[str, list[str]]:
        """The creates whose record the target holds: source key -> ids."""
        if not changes or not self.spec.match:
            return {}
        rows = [{"_key": c.key, **{f"new:{name}": c.fields.get(name) for name in self.spec.match}} for c in changes]
        return find_by_match(self.connector, self.stream, self.spec.match, rows, self.fields)

    def _call(self, changes: Sequence[Change]) -> list[Outcome]:
        """One write call with its retries; a batch refused as a whole is split until one record stands alone."""
        attempt = 0
        known: list[Outcome] = []
        while True:
            try:
                return known + list(self.connector.write(self.stream.name, changes))
            except UnknownOutcome as lost:
                found, changes = self._look_up(changes, lost)
                known += found
                if not changes:
                    return known
                attempt = self._pause(attempt, lost, None)
            except RecordError as refused:
                if len(changes) == 1:
                    return [*known, self._failed(changes[0], refused)]
                half = len(changes) // 2
                return known + self._call(changes[:half]) + self._call(changes[half:])
            except TransientError as error:
                attempt = self._pause(attempt, error, error.retry_after)

    def _pause(self, attempt: int, error: Exception, retry_after: float | None) -> int:
        if attempt >= self.spec.errors.retries:
            raise AccessError(
                f"{self.spec.target}: still failing after {attempt} retries: {error}",
                mend="nothing is lost; the next run goes on where this one stopped",
            ) from error
        self.sleep(retry_after if retry_after is not None else self.spec.errors.backoff_seconds * 2**attempt)
        return attempt + 1

    def _look_up(self, changes: Sequence[Change], lost: UnknownOutcome) -> tuple[list[Outcome], list[Change]]:
        """After a lost answer: what the target holds now decides what happened."""
        if changes[0].op is not Op.CREATE:
            return [], list(changes)  # repeating an update or a delete by id is harmless
        visible = [c for c in changes if can_be_looked_up(self.stream, self.spec.match, c.fields)]
        known = [
            Outcome(
                key=change.key,
                op=change.op,
                status=Status.UNKNOWN,
                reason=f"the answer was lost and the record cannot be looked up: {lost.message}",
                resolution="look in the target; then release or link it by hand",
            )
            for change in changes
            if change not in visible
        ]
        if not visible:
            return known, []
        self.sleep(self.stream.lookup_lag.total_seconds())
        there = self._present(visible)
        known += [
            Outcome(key=c.key, op=c.op, status=Status.APPLIED, target_id=there[c.key][0], reason="confirmed by look-up")
            for c in visible
            if there.get(c.key)
        ]
        return known, [c for c in visible if not there.get(c.key)]

    @staticmethod
    def _failed(change: Change, error: RecordError) -> Outcome:
        return Outcome(
            key=change.key, op=change.op, status=Status.FAILED, target_id=change.target_id,
            field=error.field, reason=error.message, resolution=error.mend,
        )  # fmt: skip

    def _change(self, row: Mapping[str, Any]) -> Change:
        return Change(
            op=Op(row["_op"]),
            key=row["_key"],
            token=token_of(self.plan_id, row["_key"]),
            target_id=row["_target_id"] if row["_op"] != Op.CREATE else None,
            fields={name: row[f"new:{name}"] for name in row["_fields"]},
            match=self.spec.match,
        )

    # -- what is settled ------------------------------------------------------------------------

    def _settled(self, rows: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
        return [self._from_outcome(row, outcome) for row, outcome in zip(rows, outcomes, strict=True)]

    def _from_outcome(self, row: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
        settled = self._row(row, outcome.status, outcome.reason)
        settled["target_id"] = outcome.target_id or row["_target_id"]
        settled["request_id"] = outcome.request_id
        if self.answers is not None and outcome.record is not None:
            self.answers[row["_key"]] = outcome.record
        if outcome.status in {Status.FAILED, Status.RETRY}:
            import orjson

            from sync_platform.engine.report import resolution_for

            settled["field"] = outcome.field
            settled["resolution"] = outcome.resolution or resolution_for(outcome.reason, self.spec)
            settled["kind"] = "rejected" if outcome.status is Status.FAILED else "transient"
            settled["payload"] = orjson.dumps({n: row[f"new:{n}"] for n in self.fields}, default=str).decode()
            settled["reasons"] = orjson.dumps(
                [{"field": outcome.field, "reason": outcome.reason, "value": None}]
            ).decode()
        return settled

    def _refused(self, row: Mapping[str, Any], field: str, found: Any) -> dict[str, Any]:
        settled = self._row(row, Status.REFUSED, f"{field} is {found!r} now, the plan saw {row[f'old:{field}']!r}")
        import orjson

        settled["field"] = field
        settled["payload"] = orjson.dumps({"planned_old": row[f"old:{field}"], "found": found}, default=str).decode()
        return settled

    def _row(self, row: Mapping[str, Any], status: Status, reason: str | None) -> dict[str, Any]:
        import orjson

        return {
            "source_key": row["_key"],
            "target_id": row["_target_id"],
            "op": row["_op"],
            "status": str(status),
            "fields": orjson.dumps(
                {name: [row[f"old:{name}"], row[f"new:{name}"]] for name in row["_fields"]}, default=str
            ).decode(),
            "reason": reason,
            "token": token_of(self.plan_id, row["_key"]),
            "base": row["_base"],
            "version_cursor": row["_cursor"],
            "version_read_at": row["_read_at"],
        }


def id_claim(target_id: str) -> str:
    """The claim on a target record that exists."""
    return f"id:{target_id}"


def match_claim(spec: SyncSpec, key: str, values: Sequence[Any]) -> str:
    """The claim on a target record to be created: by its match values, else by its source record."""
    if values and all(value is not None for value in values):
        return "match:" + "\x1f".join(str(value).strip().casefold() for value in values)
    return f"key:{spec.source}:{key}"


def token_of(plan_id: str, key: str) -> str:
    """The stable token of one change of one plan: idempotency key and correlation id."""
    return uuid.uuid5(uuid.UUID(plan_id), key).hex
