"""Processing an uploaded CSV: chunks of 200, each row its own outcome."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sync_platform.sandbox.salesforce.ask import Ask
from sync_platform.sandbox.salesforce.bulk_csv import DELIMITERS
from sync_platform.sandbox.salesforce.metadata import ObjectDef
from sync_platform.sandbox.salesforce.objects import OBJECTS
from sync_platform.sandbox.salesforce.records import Done, fold, row_locked
from sync_platform.sandbox.salesforce.refusals import SalesforceError

if TYPE_CHECKING:
    from sync_platform.sandbox.salesforce.bulk import Job
    from sync_platform.sandbox.salesforce.simulator import SalesforceSimulator

CHUNK: Final = 200
NULL: Final = "#N/A"


@dataclass(slots=True)
class Results:
    """What became of each uploaded row."""

    header: list[str] = field(default_factory=list)
    done: list[tuple[str, bool, list[str]]] = field(default_factory=list)  # id, created, row
    failed: list[tuple[str, str, list[str]]] = field(default_factory=list)  # id or '', error, row
    unprocessed: list[list[str]] = field(default_factory=list)


def process(org: SalesforceSimulator, job: Job, ask: Ask) -> None:
    """Writes every row; `job.error` is set when the file as a whole cannot be read."""
    try:
        text = (job.upload or b"").decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS[job.delimiter], strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        job.error = f"InvalidBatch : Failed to parse CSV: {error}"
        ask.call.violation(job.error)
        return
    target = OBJECTS[job.object]
    results = job.results
    results.header = rows[0] if rows else []
    rows = [row for row in rows[1:] if row]
    try:
        _check_header(org, target, results.header)
    except SalesforceError as error:
        job.error = f"InvalidBatch : {error.code}: {error.message}"
        results.unprocessed = rows
        ask.call.violation(job.error)
        return
    partial = len(rows) > 1 and ask.call.fault("partial") is not None
    for start in range(0, len(rows), CHUNK):
        org.moment = org.world.now_ms()
        chunk = rows[start : start + CHUNK]
        doubled = _doubled(job, results.header, chunk)
        for place, row in enumerate(chunk, start):
            _one(org, job, ask, target, row, locked=bool(partial and place % 2), doubled=doubled)
    org.moment = None


def _check_header(org: SalesforceSimulator, target: ObjectDef, header: list[str]) -> None:
    if not header:
        raise SalesforceError(400, "INVALID_FIELD", "the CSV has no header")
    plain = [name for name in header if "." not in name]
    org.writer.prepare(target, dict.fromkeys(plain, ""), text=True)
    for name in set(header) - set(plain):
        relationship, _, key = name.partition(".")
        if target.relationship(relationship) is None or not key:
            raise SalesforceError(400, "INVALID_FIELD", f"Field name not found : {name}")


def _doubled(job: Job, header: list[str], chunk: list[list[str]]) -> frozenset[object]:
    """Upsert keys that stand twice in one chunk: all of their rows are refused."""
    if job.operation != "upsert" or job.key not in header:
        return frozenset()
    place = header.index(job.key)
    seen: set[object] = set()
    twice: set[object] = set()
    for row in chunk:
        key = fold(row[place].strip()) if len(row) > place else ""
        (twice if key and key in seen else seen).add(key)
    return frozenset(twice)


def _one(
    org: SalesforceSimulator, job: Job, ask: Ask, target: ObjectDef, row: list[str], *, locked: bool,
    doubled: frozenset[object],
) -> None:  # fmt: skip
    results = job.results
    given = dict(zip(results.header, row, strict=False))
    id = given.get("Id", "")
    op = {"insert": "create", "upsert": "create"}.get(job.operation, job.operation)
    try:
        if len(row) != len(results.header):
            raise SalesforceError(400, "INVALID_FIELD", "the row has another number of columns than the header")
        if locked:
            raise row_locked()
        done = _write(org, job, target, given, doubled)
    except SalesforceError as error:
        ask.call.effect(target.name, id or None, op, applied=False)
        results.failed.append((id, error.to_bulk(), row))
        return
    ask.call.effect(target.name, done.id, done.op)
    results.done.append((done.id, done.op == "create", row))


def _write(
    org: SalesforceSimulator, job: Job, target: ObjectDef, given: dict[str, str], doubled: frozenset[object]
) -> Done:
    if job.operation == "delete":
        return org.writer.delete(target, given.get("Id", ""))
    sent: dict[str, object] = {}
    for name, value in given.items():
        if value == "":
            continue  # an empty cell leaves the field alone
        relationship, dot, key = name.partition(".")
        stored = None if value == NULL else value
        sent[relationship if dot else name] = {key: value} if dot else stored
    prepared = org.writer.prepare(target, sent, text=True)
    if job.operation == "insert":
        return org.writer.create(target, prepared)
    if job.operation == "update":
        rest = {name: value for name, value in prepared.items() if name != "Id"}
        return org.writer.update(target, given.get("Id", ""), rest)
    field_ = target.fields[job.key or "Id"]
    key_value = given.get(field_.name, "").strip()
    if fold(key_value) in doubled:
        message = f"Duplicate external id specified: {key_value}"
        raise SalesforceError(400, "DUPLICATE_VALUE", message, fields=[field_.name])
    rest = {name: value for name, value in prepared.items() if name != "Id"}
    return org.writer.upsert(target, field_, key_value, rest)


def results_csv(job: Job, part: str) -> str:
    """One of the three result files."""
    results = job.results
    text = io.StringIO()
    ending = "\r\n" if job.line_ending == "CRLF" else "\n"
    writer = csv.writer(text, delimiter=DELIMITERS[job.delimiter], quoting=csv.QUOTE_ALL, lineterminator=ending)
    if part == "successfulresults":
        writer.writerow(["sf__Id", "sf__Created", *results.header])
        writer.writerows([id, "true" if created else "false", *row] for id, created, row in results.done)
    elif part == "failedresults":
        writer.writerow(["sf__Id", "sf__Error", *results.header])
        writer.writerows([id, error, *row] for id, error, row in results.failed)
    else:
        writer.writerow(results.header)
        writer.writerows(results.unprocessed)
    return text.getvalue()
