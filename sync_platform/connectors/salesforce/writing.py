"""Writes records by sObject Collections: up to 200 a call, one answer for each, in the order sent.

Creates that carry an external id go as upserts by it and may be repeated; plain creates may not. Updates
set values and deletes of the deleted are told apart, so both may be repeated.
https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite_sobjects_collections.htm
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sync_platform.connectors.faults import Answer
from sync_platform.connectors.http import Http
from sync_platform.connectors.salesforce.describe import Shape
from sync_platform.connectors.salesforce.faults import record_error
from sync_platform.connectors.salesforce.soql import instant
from sync_platform.errors import ConfigError, ContractError, SyncError, UnknownOutcome
from sync_platform.model import Change, Op, Outcome, Status

#: Records of one collections call.
BATCH: Final = 200
_GONE: Final = frozenset({"ENTITY_IS_DELETED", "NOT_FOUND", "INVALID_CROSS_REFERENCE_KEY"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """Writes to one object."""

    http: Http
    root: str
    shape: Shape

    def write(self, changes: Sequence[Change]) -> Iterator[Outcome]:
        """One outcome per change, in order."""
        for start in range(0, len(changes), BATCH):
            batch = changes[start : start + BATCH]
            done = self._batch(batch)
            yield from (done[index] for index in range(len(batch)))

    def _batch(self, batch: Sequence[Change]) -> dict[int, Outcome]:
        done: dict[int, Outcome] = {}
        calls: dict[tuple[str, str | None], list[int]] = {}
        taken: set[tuple[str, str]] = set()
        for index, change in enumerate(batch):
            kind, external = self._how(change)
            problem = self._unfit(change, kind)
            if problem is None and external is not None:
                value = (external, str(change.fields[external]).casefold())
                if value in taken:
                    problem = _failed(
                        change,
                        external,
                        f"DUPLICATE_VALUE: another record of this batch has {external} {change.fields[external]!r}",
                        "give each record its own external id, or dedupe by it",
                    )
                taken.add(value)
            if problem is not None:
                done[index] = problem
            else:
                calls.setdefault((kind, external), []).append(index)
        called = False
        for (kind, external), indexes in calls.items():
            chosen = [batch[index] for index in indexes]
            try:
                outcomes = self._call(kind, external, chosen)
            except SyncError as problem:
                if not called:
                    raise
                outcomes = [_unsettled(change, problem) for change in chosen]
            called = True
            done.update(zip(indexes, outcomes, strict=True))
        return done

    def _how(self, change: Change) -> tuple[str, str | None]:
        if change.op is Op.CREATE:
            names = [name for name in self.shape.external if change.fields.get(name) not in (None, "")]
            return ("upsert", names[0]) if names else ("create", None)
        if change.op is Op.UPDATE:
            return "update", None
        if change.op in (Op.DELETE, Op.ARCHIVE):
            return "delete", None
        raise ConfigError(f"salesforce/{self.shape.name}: {change.op} is not something to write")

    def _unfit(self, change: Change, kind: str) -> Outcome | None:
        if kind in ("update", "delete") and not change.target_id:
            return _failed(change, None, f"a {change.op} without the record's Salesforce id", "match the record first")
        return None

    def _call(self, kind: str, external: str | None, changes: Sequence[Change]) -> list[Outcome]:
        if kind == "delete":
            ids = ",".join(str(change.target_id) for change in changes)
            answer = self.http.delete(
                f"{self.root}/composite/sobjects",
                params={"ids": ids, "allOrNone": "false"},
                write=True,
                repeatable=True,
            )
        else:
            body = {"allOrNone": False, "records": [self._record(kind, change) for change in changes]}
            path = f"{self.root}/composite/sobjects" + (f"/{self.shape.name}/{external}" if external else "")
            method, repeatable = ("POST", False) if kind == "create" else ("PATCH", True)
            answer = self.http.call(method, path, json=body, write=True, repeatable=repeatable)
        return self._outcomes(kind, changes, answer)

    def _record(self, kind: str, change: Change) -> dict[str, Any]:
        record: dict[str, Any] = {"attributes": {"type": self.shape.name}}
        if kind == "update":
            record["id"] = change.target_id
        record.update({name: _value(value) for name, value in change.fields.items() if name.lower() != "id"})
        return record

    def _outcomes(self, kind: str, changes: Sequence[Change], answer: Answer) -> list[Outcome]:
        results = answer.data
        if not isinstance(results, list) or len(results) != len(changes):
            got = f"{len(results)} results" if isinstance(results, list) else answer.text(120)
            message = f"salesforce/{self.shape.name}: {len(changes)} records were sent and {got} came back"
            if kind == "create":
                raise UnknownOutcome(message)
            raise ContractError(message)
        request = answer.headers.get("X-Request-Id") or answer.headers.get("X-SFDC-Request-Id")
        return [_outcome(kind, change, result, request) for change, result in zip(changes, results, strict=True)]


def _outcome(kind: str, change: Change, result: Mapping[str, Any], request: str | None) -> Outcome:
    if result.get("success"):
        return Outcome(
            key=change.key,
            op=change.op,
            status=Status.APPLIED,
            target_id=str(result.get("id") or change.target_id or "") or None,
            request_id=request,
        )
    passing, code, field, reason, resolution = record_error(result.get("errors") or [])
    if kind == "delete" and code in _GONE:
        return Outcome(key=change.key, op=change.op, status=Status.NOOP, target_id=change.target_id, request_id=request)
    return Outcome(
        key=change.key,
        op=change.op,
        status=Status.RETRY if passing else Status.FAILED,
        target_id=change.target_id,
        field=field,
        reason=reason,
        resolution=resolution,
        request_id=request,
    )


def _unsettled(change: Change, problem: SyncError) -> Outcome:
    """The outcome of a call that failed after another call of the same batch had been carried out."""
    return Outcome(
        key=change.key,
        op=change.op,
        status=Status.UNKNOWN if isinstance(problem, UnknownOutcome) else Status.RETRY,
        target_id=change.target_id,
        reason=problem.message,
        resolution=problem.mend,
    )


def _failed(change: Change, field: str | None, reason: str, resolution: str) -> Outcome:
    return Outcome(
        key=change.key,
        op=change.op,
        status=Status.FAILED,
        target_id=change.target_id,
        field=field,
        reason=reason,
        resolution=resolution,
    )


def _value(value: Any) -> Any:
    """The value as Salesforce takes it: instants in UTC to the millisecond; the rest is plain JSON."""
    return instant(value) if isinstance(value, dt.datetime) else value
