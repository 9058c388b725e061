"""Bulk API 2.0: large reads as CSV files in parts, and large writes as jobs.

A job's rows come in no particular order, so a mark can move only when the last part was handed over; until
then the position remembers the job and the next part, and a killed read goes on there (jobs stay 7 days).
https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/queries.htm
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from sync_platform.connectors.http import Http
from sync_platform.connectors.salesforce.marks import Job, Mark, moment
from sync_platform.connectors.salesforce.reading import Reading
from sync_platform.connectors.salesforce.soql import instant
from sync_platform.errors import ConfigError, ContractError, SyncError, TransientError
from sync_platform.model import Page

#: Rows of one part of a result file.
PART_ROWS: Final = 50_000
#: Parts that may wait in memory while those before them are staged.
PARTS_AHEAD: Final = 2
#: Seconds a job may take before the read gives up on it.
PATIENCE: Final = 4 * 3600.0
_DONE: Final = "JobComplete"
_OVER: Final = frozenset({"JobComplete", "Failed", "Aborted"})
_MISNAMED: Final = ("INVALIDFIELD", "No such column", "INVALIDENTITY", "MALFORMED", "not supported")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How a job is waited for: the clock, the sleep, and the pauses in seconds."""

    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    first: float = 0.25
    longest: float = 10.0
    patience: float = PATIENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    table: pa.Table
    locator: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The Bulk jobs of one API version."""

    http: Http
    root: str
    waiting: Waiting = field(default_factory=Waiting)

    def finished(self, kind: str, job: str) -> Mapping[str, Any]:
        """The job's description once it is over. TransientError when it takes longer than the patience."""
        pause, until = self.waiting.first, self.waiting.clock() + self.waiting.patience
        while True:
            described = self.http.get(f"{self.root}/jobs/{kind}/{job}").data
            if not isinstance(described, dict) or "state" not in described:
                raise ContractError(f"salesforce: job {job} answered without a state")
            if described["state"] in _OVER:
                return described
            if self.waiting.clock() + pause > until:
                raise TransientError(
                    f"salesforce: Bulk job {job} is still {described['state']}; it was not waited for longer"
                )
            self.waiting.sleep(pause)
            pause = min(pause * 1.3, self.waiting.longest)


def pages(reading: Reading, files: Files, mark: Mark, *, full: bool) -> Iterator[Page]:
    """The pages of a Bulk read from the mark on, one for each part; the last one ends the read."""
    start = replace(mark, job=None)
    soql = reading.soql(start, ordered=False)
    digest = hashlib.sha256(soql.encode()).hexdigest()[:16]
    job = mark.job if mark.job is not None and mark.job.query == digest else None
    described = _resumed(files, job) if job is not None else None
    if job is None or described is None:
        job = _begun(reading, files, soql, digest)
        described = files.finished("query", job.job)
    _must_be_complete(reading, job.job, described)
    at = dt.datetime.fromisoformat(job.started)
    while True:
        part = _part(reading, job)
        job = replace(
            job, locator=part.locator, seen=_newest(reading, part.table, job.seen), rows=job.rows + part.table.num_rows
        )
        if part.locator is None:
            _must_add_up(reading, job, described)
            ended = start.ended(job.seen, reading.safe(at)) if reading.shape.cursor else Mark()
            yield reading.page(part.table, ended, at, complete=full)
            return
        yield reading.page(part.table, replace(start, job=job), at)


def _begun(reading: Reading, files: Files, soql: str, digest: str) -> Job:
    operation = "queryAll" if reading.shape.soft_deletes else "query"
    answer = files.http.post(f"{files.root}/jobs/query", json={"operation": operation, "query": soql}, repeatable=True)
    if not isinstance(answer.data, dict) or not answer.data.get("id"):
        raise ContractError(f"{reading.name}: a new Bulk job has no id: {answer.text(120)!r}")
    return Job(job=str(answer.data["id"]), locator=None, query=digest, started=instant(moment(answer)))


def _resumed(files: Files, job: Job) -> Mapping[str, Any] | None:
    """The job of an earlier process, if Salesforce still has it."""
    try:
        described = files.finished("query", job.job)
    except ConfigError:
        return None
    return described if described["state"] == _DONE else None


def _must_be_complete(reading: Reading, job: str, described: Mapping[str, Any]) -> None:
    if described["state"] == _DONE:
        return
    said = str(described.get("errorMessage") or "no reason given")
    message = f"{reading.name}: Bulk job {job} ended as {described['state']}: {said}"
    if any(word in said for word in _MISNAMED):
        raise ConfigError(message, mend="check the object's and the fields' names, and that the user may read them")
    raise TransientError(message)


def _must_add_up(reading: Reading, job: Job, described: Mapping[str, Any]) -> None:
    promised = described.get("numberRecordsProcessed")
    if promised is not None and int(promised) != job.rows:
        raise TransientError(f"{reading.name}: Bulk job {job.job} promised {promised} rows and gave {job.rows}")


def _part(reading: Reading, job: Job) -> _Part:
    def read(stream: BinaryIO, headers: Mapping[str, str]) -> _Part:
        table = table_of_csv(stream.read(), reading.schema, where=reading.name)
        promised = headers.get("Sforce-NumberOfRecords")
        if promised is not None and int(promised) != table.num_rows:
            raise TransientError(f"a part of job {job.job} promised {promised} rows and held {table.num_rows}")
        locator = headers.get("Sforce-Locator")
        return _Part(table=table, locator=None if locator in (None, "", "null") else locator)

    params = {"maxRecords": PART_ROWS, "locator": job.locator}
    path = f"{reading.root}/jobs/query/{job.job}/results"
    part = reading.http.download(path, read, params=params, headers={"Accept": "text/csv"})
    if part.locator is not None and part.locator == job.locator:
        raise ContractError(f"{reading.name}: Bulk job {job.job} names the part it just gave as the next one")
    return part


def _newest(reading: Reading, table: pa.Table, seen: str | None) -> str | None:
    if reading.shape.cursor is None or table.num_rows == 0:
        return seen
    newest = pc.max(table[reading.shape.cursor]).as_py()
    if newest is None:
        return seen
    return max(instant(newest), seen or "")


def table_of_csv(data: bytes, schema: pa.Schema, *, where: str) -> pa.Table:
    """A result file as a table of the schema's types; an empty cell is null. ContractError on a misfit."""
    if not data.strip():
        return schema.empty_table()
    kinds = {one.name: one.type for one in schema}
    convert = csv.ConvertOptions(
        column_types=kinds,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
        true_values=["true"],
        false_values=["false"],
    )
    parse = csv.ParseOptions(newlines_in_values=True)
    table: pa.Table | None = None
    for block in (1 << 22, len(data) + 1):
        try:
            table = csv.read_csv(
                pa.BufferReader(data),
                read_options=csv.ReadOptions(block_size=block),
                parse_options=parse,
                convert_options=convert,
            )
            break
        except pa.ArrowInvalid as wrong:
            if "straddling" not in str(wrong) or block > len(data):
                raise _misfit(wrong, data, where) from None
    if table is None:
        raise ContractError(f"{where}: a result file could not be read")
    return table.select([name for name in schema.names if name in table.column_names])


def _misfit(wrong: pa.ArrowInvalid, data: bytes, where: str) -> SyncError:
    """A file that breaks off is passing; a value of the wrong type is not."""
    said = str(wrong)
    column = re.match(r"In CSV column #(\d+)", said)
    if column is None or not data.endswith(b"\n"):
        return TransientError(f"{where}: a result file of {len(data)} bytes cannot be read: {said}")
    names = data.partition(b"\n")[0].decode("utf-8", "replace").replace('"', "").split(",")
    name = names[int(column[1])]
    return ContractError(
        f"{where}: field {name} of a result file does not fit its description: {said}",
        field=name,
        mend="describe the object again (the field's type may have changed), or leave the field out with `fields`",
    )
