"""Bulk API 2.0: jobs, their states and their routes ("Bulk API 2.0 and Bulk API Developer Guide").

A job moves on at every look at it: UploadComplete, InProgress at the first poll, JobComplete at the
second. It also completes by itself once the sandbox clock has moved `bulk_job_seconds`.
"""

from __future__ import annotations

import base64
import binascii
import gzip
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from sync_platform.sandbox.kit_store import uncollected
from sync_platform.sandbox.salesforce import bulk_ingest
from sync_platform.sandbox.salesforce.ask import Answer, Ask, not_allowed
from sync_platform.sandbox.salesforce.bulk_csv import DELIMITERS, render
from sync_platform.sandbox.salesforce.objects import find_object
from sync_platform.sandbox.salesforce.refusals import SalesforceError, UnbuiltError, bad_input, not_found, unknown_type
from sync_platform.sandbox.salesforce.rows import Past, rest_datetime
from sync_platform.sandbox.salesforce.soql_run import Plan

if TYPE_CHECKING:
    from sync_platform.sandbox.salesforce.simulator import SalesforceSimulator

_ENDED: Final = ("JobComplete", "Failed", "Aborted")
_OPERATIONS: Final = ("insert", "update", "upsert", "delete")
_MAX_UPLOAD: Final = 150_000_000


@dataclass(slots=True)
class Result:
    """The rows of a query job, and what was already written of them; equal jobs over equal data share it."""

    key: tuple[object, ...]
    rows: list[Past]
    bodies: dict[tuple[object, ...], bytes] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Job:
    """A query or ingest job."""

    id: str
    kind: str  # query | ingest
    operation: str
    object: str
    version: int
    created_at: int
    state: str
    delimiter: str = "COMMA"
    line_ending: str = "LF"
    key: str | None = None  # externalIdFieldName
    plan: Plan | None = None
    result: Result | None = None
    upload: bytes | None = None
    ask: Ask | None = None  # the request the writes of an ingest job are logged under
    polls: int = 0
    changed_at: int = 0
    results: bulk_ingest.Results = field(default_factory=bulk_ingest.Results)
    error: str | None = None


class Jobs:
    """The jobs resource of one organization."""

    def __init__(self, org: SalesforceSimulator) -> None:
        self._org = org
        self._jobs: dict[str, Job] = {}
        self._last: Result | None = None

    def clear(self) -> None:
        """Forgets every job."""
        self._jobs.clear()
        self._last = None

    def answer(self, ask: Ask) -> Answer:
        """A request below jobs."""
        kind = ask.parts[1] if len(ask.parts) > 1 else ""
        if kind not in ("query", "ingest") or ask.version < (47 if kind == "query" else 41):
            raise not_found(violation=True)
        if len(ask.parts) == 2:
            return self._all(ask, kind)
        job = self._jobs.get(ask.parts[2])
        if job is None or job.kind != kind:
            raise not_found()
        if len(ask.parts) == 3:
            return self._one(ask, job)
        if kind == "query" and ask.parts[3] == "results" and ask.method == "GET":
            return self._query_results(ask, job)
        if kind == "query":
            raise UnbuiltError(f"jobs/query/…/{ask.parts[3]} is not built")
        return self._ingest_part(ask, job, ask.parts[3])

    # ---- jobs

    def _all(self, ask: Ask, kind: str) -> Answer:
        if ask.method == "GET":
            records = [self.info(job) for job in self._jobs.values() if job.kind == kind]
            return Answer(200, {"done": True, "records": records, "nextRecordsUrl": None})
        if ask.method != "POST":
            raise not_allowed(ask)
        if "multipart" in ask.call.headers.get("content-type", ""):
            raise UnbuiltError("multipart ingest jobs are not built")
        document = ask.document()
        job = self._new_query(ask, document) if kind == "query" else self._new_ingest(ask, document)
        job.delimiter = document.get("columnDelimiter", "COMMA")
        job.line_ending = document.get("lineEnding", "LF")
        if job.delimiter not in DELIMITERS or job.line_ending not in ("LF", "CRLF"):
            raise bad_input("columnDelimiter or lineEnding has an unknown value")
        if document.get("contentType", "CSV") != "CSV":
            raise bad_input("contentType must be CSV")
        self._jobs[job.id] = job
        return Answer(200, self.info(job))

    def _new_query(self, ask: Ask, document: dict[str, Any]) -> Job:
        known = {"operation", "query", "contentType", "columnDelimiter", "lineEnding"}
        _known(document, known)
        if document.get("operation") not in ("query", "queryAll") or not isinstance(document.get("query"), str):
            raise bad_input("a query job needs an operation, query or queryAll, and a query")
        plan = self._org.queries.plan(document["query"])
        unfit = None
        if plan.count_only or plan.grouped:
            unfit = "Aggregate Relationships not supported in Bulk Query"
        elif plan.statement.offset is not None:
            unfit = "OFFSET clause not supported in Bulk Query"
        elif any(output.field.type in ("address", "location") for output in plan.outputs):
            unfit = "Selecting compound data not supported in Bulk Query"
        if unfit:
            raise SalesforceError(400, "FUNCTIONALITY_NOT_ENABLED", unfit, violation=True)
        self._org.usage.count_query_job()
        job = self._job(ask, "query", document["operation"], plan.object.name, "UploadComplete")
        job.plan = plan
        self._schedule(job)
        return job

    def _new_ingest(self, ask: Ask, document: dict[str, Any]) -> Job:
        _known(document, {"operation", "object", "contentType", "columnDelimiter", "lineEnding", "externalIdFieldName"})
        operation = document.get("operation")
        if operation == "hardDelete":
            raise SalesforceError(400, "FEATURENOTENABLED", "hardDelete needs the Bulk API Hard Delete permission")
        if operation not in _OPERATIONS:
            raise bad_input(f"operation must be one of {', '.join(_OPERATIONS)}, not {operation!r}")
        target = find_object(str(document.get("object")))
        if target is None:
            raise unknown_type(str(document.get("object")))
        key = document.get("externalIdFieldName")
        if operation == "upsert":
            named = target.field(str(key))
            if named is None or not named.id_lookup:
                message = f"InvalidJob : {key} does not match an External ID, Salesforce Id, or indexed field"
                raise SalesforceError(400, "INVALIDJOB", message, violation=True)
            key = named.name
        job = self._job(ask, "ingest", str(operation), target.name, "Open")
        job.key = key
        return job

    def _job(self, ask: Ask, kind: str, operation: str, target: str, state: str) -> Job:
        now = self._org.world.now_ms()
        return Job(
            id=self._org.next_id("750"), kind=kind, operation=operation, object=target, version=ask.version,
            created_at=now, changed_at=now, state=state,
        )  # fmt: skip

    def info(self, job: Job) -> dict[str, Any]:
        """A job as the vendor shows it."""
        body: dict[str, Any] = {
            "id": job.id, "operation": job.operation, "object": job.object, "createdById": self._org.user_id,
            "createdDate": rest_datetime(job.created_at // 1000 * 1000),
            "systemModstamp": rest_datetime(job.changed_at // 1000 * 1000), "state": job.state,
            "concurrencyMode": "Parallel", "contentType": "CSV", "apiVersion": float(job.version),
            "jobType": "V2Query" if job.kind == "query" else "V2Ingest", "lineEnding": job.line_ending,
            "columnDelimiter": job.delimiter, "retries": 0, "totalProcessingTime": 0,
        }  # fmt: skip
        if job.kind == "query":
            return {**body, "numberRecordsProcessed": 0 if job.result is None else len(job.result.rows)}
        body["contentUrl"] = f"services/data/v{job.version}.0/jobs/ingest/{job.id}/batches"
        if job.key is not None:
            body["externalIdFieldName"] = job.key
        if job.error is not None:
            body["errorMessage"] = job.error
        results = job.results
        body["numberRecordsProcessed"] = len(results.done) + len(results.failed)
        body["numberRecordsFailed"] = len(results.failed)
        return {**body, "apiActiveProcessingTime": 0, "apexProcessingTime": 0}

    def _one(self, ask: Ask, job: Job) -> Answer:
        if ask.method == "GET":
            self._poll(job)
            return Answer(200, self.info(job))
        if ask.method == "DELETE":
            if job.state not in _ENDED:
                raise _bad_state(f"Job {job.id} cannot be deleted in state {job.state}")
            del self._jobs[job.id]
            return Answer(204)
        if ask.method != "PATCH":
            raise not_allowed(ask)
        wanted = ask.document().get("state")
        if wanted == "Aborted" and job.state not in _ENDED:
            self._move(job, "Aborted")
        elif wanted == "UploadComplete" and job.kind == "ingest" and job.state == "Open":
            job.ask = ask
            self._move(job, "UploadComplete")
            self._schedule(job)
        else:
            raise _bad_state(f"Job {job.id} in state {job.state} cannot become {wanted}")
        return Answer(200, self.info(job))

    # ---- progress

    def _move(self, job: Job, state: str) -> None:
        job.state = state
        job.changed_at = self._org.world.now_ms()

    def _schedule(self, job: Job) -> None:
        seconds = float(self._org.value("bulk_job_seconds")) if self._org.on("bulk_job_seconds") else 0.0
        at = self._org.world.now_ms() + int(seconds * 1000)
        self._org.world.schedule(at, self._org.system, lambda: self._finish(job))

    def _poll(self, job: Job) -> None:
        if job.state in ("UploadComplete", "InProgress"):
            job.polls += 1
            if job.polls > 1:
                self._finish(job)
            else:
                self._move(job, "InProgress")

    def _finish(self, job: Job) -> None:
        if job.state not in ("UploadComplete", "InProgress"):
            return
        if job.plan is not None:
            job.result = self._result(job.plan, job.operation)
            self._move(job, "JobComplete")
        elif job.ask is not None:
            with uncollected():
                bulk_ingest.process(self._org, job, job.ask)
            self._move(job, "Failed" if job.error else "JobComplete")

    # ---- results

    def _result(self, plan: Plan, operation: str) -> Result:
        org = self._org
        stores = tuple(store.version for store in org.stores.values())
        # date literals and the recycle bin move with the clock, so a result is kept within its minute only
        clock = (
            plan.now // 60_000,
            org.world.now_ms() // 60_000,
            org.on("user_time_zone"),
            org.value("user_time_zone"),
        )
        key = (plan.statement.text, operation, stores, clock, str(org.hidden()), org.on("tie_order"))
        if self._last is None or self._last.key != key:
            with uncollected():
                rows = org.queries.run(plan, deleted=operation == "queryAll")
                self._last = Result(key, [Past(row, row.current) for row in rows])
        return self._last

    def _query_results(self, ask: Ask, job: Job) -> Answer:
        if job.state != "JobComplete" or job.plan is None or job.result is None:
            raise _bad_state(f"Job {job.id} is in state {job.state}: its results are not available")
        start = _offset(ask.query.get("locator"))
        most = ask.query.get("maxRecords")
        if most is not None and (not most.isdigit() or int(most) < 1):
            raise SalesforceError(400, "INVALID_QUERY_PARAMETER", f"maxRecords: {most}", violation=True)
        result = job.result
        end = min(start + (int(most) if most else int(self._org.value("bulk_result_rows"))), len(result.rows))
        if start and start >= end:
            raise SalesforceError(400, "INVALID_QUERY_LOCATOR", "invalid query locator", violation=True)
        locator = "null"
        if end < len(result.rows):
            locator = base64.urlsafe_b64encode(str(end).encode()).decode().rstrip("=")
        headers = {"Sforce-Locator": locator, "Sforce-NumberOfRecords": str(end - start)}
        zipped = "gzip" in ask.call.headers.get("accept-encoding", "")
        if zipped:
            headers["Content-Encoding"] = "gzip"
        key = (start, end, job.delimiter, job.line_ending, zipped)
        body = result.bodies.get(key)
        if body is None:
            with uncollected():
                crlf = job.line_ending == "CRLF"
                body = render(job.plan.outputs, result.rows[start:end], delimiter=DELIMITERS[job.delimiter], crlf=crlf)
            body = result.bodies[key] = gzip.compress(body, 1, mtime=0) if zipped else body
        return Answer(raw=Response(body, media_type="text/csv", headers=headers))

    def _ingest_part(self, ask: Ask, job: Job, part: str) -> Answer:
        if part == "batches":
            if ask.method != "PUT":
                raise not_allowed(ask)
            if job.state != "Open" or job.upload is not None:
                raise _bad_state(f"Job {job.id} takes one upload while it is open")
            if len(ask.body) > _MAX_UPLOAD:
                raise SalesforceError(400, "INVALIDBATCH", "the upload is larger than 150 MB", violation=True)
            job.upload = ask.body
            return Answer(201)
        if ask.method != "GET":
            raise not_allowed(ask)
        if part not in ("successfulResults", "failedResults", "unprocessedrecords", "unprocessedRecords"):
            raise not_found(violation=True)
        if job.state not in _ENDED:
            raise _bad_state(f"Job {job.id} is in state {job.state}: its results are not available")
        text = bulk_ingest.results_csv(job, part.lower())
        return Answer(raw=Response(text, media_type="text/csv"))


def _bad_state(message: str) -> SalesforceError:
    return SalesforceError(400, "INVALIDJOBSTATE", message, violation=True)


def _known(document: dict[str, Any], names: set[str]) -> None:
    for name in document:
        if name not in names:
            raise bad_input(f"Unrecognized field {name!r}")


def _offset(locator: str | None) -> int:
    if not locator:
        return 0
    try:
        return int(base64.urlsafe_b64decode(locator + "=" * (-len(locator) % 4)))
    except (ValueError, binascii.Error):
        raise SalesforceError(400, "INVALID_QUERY_LOCATOR", "invalid query locator", violation=True) from None
