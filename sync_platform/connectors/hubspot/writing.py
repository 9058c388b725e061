"""Batches written to HubSpot: one outcome per change, whatever the batch as a whole was answered.

A create goes to `batch/create`, not to `batch/upsert`: an upsert would silently overwrite a contact
that someone made since the plan was computed. HubSpot refuses a second contact of one address, so a
repeated create cannot double; it comes back as RETRY naming the record that is in the way, and the
next plan finds that record. Updates set values and archives are final: repeating those is harmless,
a create is sent once, and its lost answer is UnknownOutcome.

A batch refused as a whole (400, 404, 409, ...) stored nothing. It is split until the culprits stand
alone; properties that no value would satisfy (unknown, read-only) are told apart at once.

A lifecycle stage moves backward only from empty: HubSpot answers such an update with success and keeps
the later stage (https://knowledge.hubspot.com/records/use-lifecycle-stages). The records whose answer
shows another stage than was sent are cleared and set again, in two more batches. Whoever dies between
the two leaves an empty stage, which the next plan sees and fills.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sync_platform.connectors.faults import Answer
from sync_platform.connectors.hubspot.answers import Refusal, refusal_of
from sync_platform.connectors.hubspot.api import BATCH, REFUSED, Api
from sync_platform.connectors.hubspot.matching import Prepared, blamed, matched
from sync_platform.connectors.hubspot.properties import Property
from sync_platform.connectors.hubspot.values import record_of, wire_value
from sync_platform.errors import ConfigError, ContractError, RecordError, SyncError, UnknownOutcome
from sync_platform.model import Change, Op, Outcome, Record, Status, Stream

_ACTIONS: Final[Mapping[Op, str]] = {
    Op.CREATE: "create",
    Op.UPDATE: "update",
    Op.DELETE: "archive",
    Op.ARCHIVE: "archive",
}
_PASSING: Final = frozenset({"RATE_LIMITS", "RATE_LIMIT", "SERVICE_UNAVAILABLE", "INTERNAL_ERROR", "TIMEOUT"})
_STAGE: Final = "lifecyclestage"
_NO_REFUSAL: Final = Refusal(message="HubSpot's answer does not say what became of this record")


class Writer:
    """One batch of changes of one op. Raises only while the fate of no change is known yet."""

    def __init__(self, api: Api, stream: Stream, properties: Mapping[str, Property]) -> None:
        self._api, self._stream, self._properties = api, stream, properties
        self._outcomes: dict[int, Outcome] = {}
        self._stopped: SyncError | None = None
        self._kept: dict[int, Prepared] = {}  # updates whose record kept a later lifecycle stage

    def write(self, changes: Sequence[Change]) -> list[Outcome]:
        """One outcome per change, in order.

        UnknownOutcome, TransientError and AuthError are raised when they concern the whole batch. Once
        a part of a split batch has been answered they become outcomes of the rest: UNKNOWN where the
        answer was lost, RETRY where nothing was sent or stored.
        """
        if not changes:
            return []
        ops = {change.op for change in changes}
        if len(ops) > 1 or not ops <= _ACTIONS.keys() or len(changes) > BATCH:
            raise ContractError(
                f"hubspot writes at most {BATCH} changes of one op, got {len(changes)} of {sorted(ops)}",
                mend="split the changes by op and batch_size",
            )
        ready = self._prepared(changes)
        if ready:
            self._deliver(ready)
        if self._kept:
            self._move_back(list(self._kept.values()))
        return [self._outcomes[index] for index in range(len(changes))]

    def _prepared(self, changes: Sequence[Change]) -> list[Prepared]:
        ready: list[Prepared] = []
        for index, change in enumerate(changes):
            if change.op is not Op.CREATE and not change.target_id:
                self._settle(Prepared(index=index, change=change, properties={}), Status.FAILED, "it has no target id")
                continue
            try:
                properties = {name: wire_value(name, value, self._kind(name)) for name, value in change.fields.items()}
            except RecordError as error:
                self._outcomes[index] = _outcome(
                    change, Status.FAILED, field=error.field, reason=error.message, resolution=error.mend
                )
                continue
            if change.op is Op.CREATE:  # nothing to clear yet
                properties = {name: value for name, value in properties.items() if value != ""}
            ready.append(Prepared(index=index, change=change, properties=properties))
        return ready

    def _kind(self, name: str) -> str:
        return self._properties[name].kind if name in self._properties else ""

    # -- one request, and the halves of a refused one ------------------------------------------------

    def _deliver(self, items: Sequence[Prepared]) -> None:
        if self._stopped is not None:
            self._give_up(items, Status.RETRY, self._stopped)
            return
        op = items[0].change.op
        try:
            answer = self._api.write(
                self._stream.name, _ACTIONS[op], [_input(each) for each in items], repeatable=op is not Op.CREATE
            )
        except UnknownOutcome as lost:
            if not self._outcomes:
                raise
            self._give_up(items, Status.UNKNOWN, lost)
            return
        except SyncError as error:
            if not self._outcomes:
                raise
            self._stopped = error
            self._give_up(items, Status.RETRY, error)
            return
        if answer.status in REFUSED:
            self._refused(items, answer)
        else:
            self._answered(items, answer)

    def _refused(self, items: Sequence[Prepared], answer: Answer) -> None:
        refusal = refusal_of(answer.data, request_id=_request_id(answer))
        op = items[0].change.op
        if answer.status == 404 and op is Op.CREATE:
            raise ConfigError(
                f"hubspot has no object {self._stream.name!r}: {refusal.message}",
                field="object",
                value=self._stream.name,
            )
        if len(items) == 1:
            self._blame(items[0], refusal)
            return
        hopeless = [each for each in items if refusal.broken.keys() & each.properties.keys()]
        for each in hopeless:
            self._blame(each, refusal)
        rest = [each for each in items if each not in hopeless]
        if not rest:
            return
        if hopeless:
            self._deliver(rest)
            return
        middle = len(rest) // 2
        self._deliver(rest[:middle])
        self._deliver(rest[middle:])

    def _answered(self, items: Sequence[Prepared], answer: Answer) -> None:
        request_id = _request_id(answer)
        data = answer.data if isinstance(answer.data, dict) else {}
        refusals = [refusal_of(each, request_id=request_id) for each in data.get("errors") or ()]
        if items[0].change.op in (Op.ARCHIVE, Op.DELETE):
            self._archived(items, refusals, request_id)
            return
        found, missing = matched(items, data.get("results") or [], self._unique(items))
        cursor = self._stream.cursor.field if self._stream.cursor else None
        for each in items:
            if each.index in found:
                result = found[each.index]
                if _kept_stage(each, result) is not None:
                    self._kept[each.index] = each
                self._outcomes[each.index] = _outcome(
                    each.change,
                    Status.APPLIED,
                    target_id=str(result["id"]),
                    record=record_of(result, cursor),
                    request_id=request_id,
                )
        named = blamed(missing, refusals)
        for each in missing:
            if each.index in named:
                self._blame(each, named[each.index])
            else:  # an update may be planned again; a create must be looked up
                lost = Status.UNKNOWN if each.change.op is Op.CREATE else Status.RETRY
                self._settle(each, lost, _NO_REFUSAL.message, request_id=request_id)

    def _archived(self, items: Sequence[Prepared], refusals: Sequence[Refusal], request_id: str | None) -> None:
        """An archive answers nothing for what it archived: only its errors name records."""
        named = {
            each.index: refusal
            for refusal in refusals
            for each in items
            if each.change.target_id in refusal.ids or each.change.token in refusal.trace_ids
        }
        unnamed = [refusal for refusal in refusals if refusal not in named.values()]
        for each in items:
            if each.index in named:
                self._blame(each, named[each.index])
            elif unnamed:  # one of them was refused, and nobody says which: archiving again is harmless
                self._settle(each, Status.RETRY, unnamed[0].message, request_id=request_id)
            else:
                self._settle(each, Status.APPLIED, None, request_id=request_id)

    # -- a lifecycle stage that is to move back -------------------------------------------------------

    def _move_back(self, items: Sequence[Prepared]) -> None:
        """Clears the stage of these records and sets it again; what fails on the way is their outcome."""
        for cleared in (True, False):
            step = Writer(self._api, self._stream, self._properties)
            ready = [replace(each, properties={_STAGE: "" if cleared else each.properties[_STAGE]}) for each in items]
            try:
                step._deliver(ready)
            except SyncError as error:
                self._give_up(items, Status.RETRY, error)
                return
            for each in items:
                self._outcomes[each.index] = self._combined(each, step, last=not cleared)
            items = [each for each in items if self._outcomes[each.index].status is Status.APPLIED]
            if not items:
                return

    def _combined(self, item: Prepared, step: Writer, *, last: bool) -> Outcome:
        """The outcome of the whole update after one more step of it."""
        before, now = self._outcomes[item.index], step._outcomes[item.index]
        if now.status is not Status.APPLIED:
            return now
        if last and item.index in step._kept:
            found = (now.record or {}).get(_STAGE)
            return replace(
                now,
                status=Status.FAILED,
                field=_STAGE,
                reason=f"{_STAGE} stays {found!r} although it was cleared and set to {item.properties[_STAGE]!r}",
                resolution="see which workflow or setting of the account sets the stage, then try the record again",
            )
        return replace(now, record={**(before.record or {}), **(now.record or {})})

    def _unique(self, items: Iterable[Prepared]) -> list[str]:
        sent = {name for each in items for name in each.properties}
        return [name for name in sorted(sent) if name in self._properties and self._properties[name].field.unique]

    # -- outcomes ------------------------------------------------------------------------------------

    def _blame(self, item: Prepared, refusal: Refusal) -> None:
        mine = [name for name in refusal.properties if name in item.properties]
        field = mine[0] if mine else None
        reason = refusal.properties[field] if field is not None else refusal.message
        status, resolution = Status.FAILED, "correct the value at the source or in the mapping"
        if refusal.category in _PASSING:
            status, resolution = Status.RETRY, "nothing: the next run tries it again"
        elif refusal.existing_id is not None:
            if refusal.existing_id not in reason:
                reason = f"{reason} (existing id {refusal.existing_id})"
            resolution = f"record {refusal.existing_id} already holds this key: the next plan compares with it"
            status = Status.RETRY if item.change.op is Op.CREATE else Status.FAILED
        elif refusal.category == "OBJECT_NOT_FOUND":
            resolution = "the record is gone at HubSpot: on_target_delete says what the next plan does"
        elif field in refusal.broken:
            resolution = f"leave {field} out of the mapping, or create or open it at HubSpot"
        self._outcomes[item.index] = _outcome(
            item.change, status, field=field, reason=reason, resolution=resolution, request_id=refusal.request_id
        )

    def _give_up(self, items: Iterable[Prepared], status: Status, error: SyncError) -> None:
        for each in items:
            self._settle(each, status, error.message)

    def _settle(self, item: Prepared, status: Status, reason: str | None, *, request_id: str | None = None) -> None:
        self._outcomes[item.index] = _outcome(item.change, status, reason=reason, request_id=request_id)


def _outcome(change: Change, status: Status, **told: Any) -> Outcome:
    return Outcome(key=change.key, op=change.op, status=status, **{"target_id": change.target_id, **told})


def _kept_stage(item: Prepared, result: Record) -> str | None:
    """The lifecycle stage an update was answered with instead of the one it sent, or None."""
    wanted = item.properties.get(_STAGE)
    if item.change.op is not Op.UPDATE or not wanted:
        return None
    answered = (result.get("properties") or {}).get(_STAGE, wanted) or ""
    return None if answered == wanted else str(answered)


def _input(item: Prepared) -> dict[str, Any]:
    if item.change.op in (Op.ARCHIVE, Op.DELETE):
        return {"id": item.change.target_id}
    traced = {"properties": item.properties, "objectWriteTraceId": item.change.token}
    return traced if item.change.op is Op.CREATE else {"id": item.change.target_id, **traced}


def _request_id(answer: Answer) -> str | None:
    if isinstance(answer.data, dict) and answer.data.get("correlationId"):
        return str(answer.data["correlationId"])
    return answer.headers.get("X-HubSpot-Correlation-Id")
