"""Reads an object by REST queries, a page at a time, or hands a large one to Bulk API 2.0.

Pages are keyset queries ordered by (cursor, Id), each starting after the last row of the one before, so
rows that move while we read can repeat but not vanish. `nextRecordsUrl` is not followed: its later parts
show today's values in yesterday's order, which would carry the keyset past rows never handed over.
https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_queryall.htm
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote as percent

import pyarrow as pa
import pyarrow.compute as pc

from sync_platform.connectors.http import Http
from sync_platform.connectors.rest import table_of
from sync_platform.connectors.salesforce.describe import Shape
from sync_platform.connectors.salesforce.marks import Mark, moment
from sync_platform.connectors.salesforce.soql import in_list, instant, select
from sync_platform.errors import ConfigError, ContractError, TransientError
from sync_platform.model import DELETED, Page

#: Rows of one REST query; more than this in all is a case for Bulk.
PAGE_ROWS: Final = 2000
#: Salesforce refuses an address of 16,384 bytes, headers included.
LONGEST_URL: Final = 14_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One read: what is asked of which object, with which habits."""

    http: Http
    root: str  # path of the API version, e.g. /services/data/v66.0
    shape: Shape
    schema: pa.Schema  # the columns asked for
    where: str  # the source's filter in SOQL, or ''
    lag: dt.timedelta
    show_flag: bool = True  # is IsDeleted itself a column of the pages?

    @property
    def name(self) -> str:
        """The stream as messages name it."""
        return f"salesforce/{self.shape.name}"

    def safe(self, at: dt.datetime) -> str:
        """The stamp up to which everything is certainly committed at that moment."""
        return instant(at - self.lag)

    def soql(self, mark: Mark, *, ordered: bool) -> str:
        """The query of what lies from the mark on."""
        cursor = self.shape.cursor
        return select(
            self.schema.names,
            self.shape.name,
            where=(self.where, mark.condition(cursor)),
            order=(f"{cursor} ASC, Id ASC" if cursor else "Id ASC") if ordered else "",
            limit=PAGE_ROWS if ordered else None,
        )

    def page(self, table: pa.Table, mark: Mark | None, at: dt.datetime, *, complete: bool = False) -> Page:
        """The page of a table, its tombstones marked."""
        if self.shape.soft_deletes and "IsDeleted" in table.column_names:
            table = table.append_column(DELETED, pc.fill_null(table["IsDeleted"], False))
            table = table if self.show_flag else table.drop_columns(["IsDeleted"])
        return Page(table=table, position=mark.position() if mark is not None else None, read_at=at, complete=complete)


_MERGED_AT_ONCE: Final = 200


def columns_of(shape: Shape, fields: Sequence[str] | None) -> pa.Schema:
    """The columns to ask for: all, or these plus what the platform itself needs. ConfigError on unknown ones."""
    if fields is None:
        return shape.schema
    known = {name.lower(): name for name in shape.schema.names}
    unknown = [name for name in fields if name.lower() not in known]
    if unknown:
        raise ConfigError(
            f"salesforce/{shape.name} has no field {unknown[0]!r} that this user may see",
            field="fields",
            value=unknown[0],
            mend="check the name, and that field-level security lets the integration user read it",
        )
    needed = {"Id", shape.cursor, "IsDeleted"}
    wanted = {known[name.lower()] for name in fields} | {name for name in needed if name in shape.schema.names}
    return pa.schema([field for field in shape.schema if field.name in wanted])


def query(http: Http, root: str, soql: str, *, deleted: bool, exact: bool = False) -> tuple[Any, dt.datetime]:
    """(the answer's body, when it was looked at) of one query call; its rows may be the first part only."""
    answer = http.get(f"{root}/{'queryAll' if deleted else 'query'}", params={"q": soql}, exact=exact)
    if not isinstance(answer.data, dict) or "done" not in answer.data or "records" not in answer.data:
        raise ContractError(f"salesforce: a query answered without 'done' and 'records': {answer.text(120)!r}")
    return answer.data, moment(answer)


def query_rows(http: Http, root: str, soql: str, *, exact: bool) -> list[Mapping[str, Any]]:
    """All rows of a query over live records, following its parts: for look-ups, which need no order."""
    data, _ = query(http, root, soql, deleted=False, exact=exact)
    rows = list(data["records"])
    while not data["done"]:
        answer = http.get(http.absolute(data["nextRecordsUrl"]), exact=exact)
        data = answer.data
        if not isinstance(data, dict) or not isinstance(data.get("records"), list):
            raise ContractError(f"salesforce: the next part of a query has no records: {answer.text(120)!r}")
        rows += data["records"]
    return rows


def by_values(
    http: Http, root: str, shape: Shape, field: str, values: Sequence[str], schema: pa.Schema
) -> list[Mapping[str, Any]]:
    """The live rows whose `field` is one of `values`, asked for in as many queries as the address allows.

    Ids, and columns too many for any address, travel in a request body.
    """
    if field == "Id":
        return retrieve(http, root, shape, values, schema.names)

    def asking(names: Sequence[str], some: Sequence[str]) -> str:
        return select(names, shape.name, where=(in_list(field, some, shape.kinds[field]),))

    narrow = not fits(asking(schema.names, values[:1]), spare=2000)
    names = ["Id"] if narrow else schema.names
    rows: list[Mapping[str, Any]] = []
    start = 0
    while start < len(values):
        size = min(500, len(values) - start)
        while size > 1 and not fits(asking(names, values[start : start + size])):
            size = (size + 1) // 2
        rows += query_rows(http, root, asking(names, values[start : start + size]), exact=shape.exact)
        start += size
    return retrieve(http, root, shape, [row["Id"] for row in rows], schema.names) if narrow else rows


def merged(http: Http, root: str, shape: Shape, ids: Sequence[str]) -> dict[str, str]:
    """The record that survives each of these ids that was merged away: a loser is deleted with its `MasterRecordId`."""
    if "MasterRecordId" not in shape.schema.names:
        return {}
    found: dict[str, str] = {}
    for start in range(0, len(ids), _MERGED_AT_ONCE):
        some = in_list("Id", list(ids[start : start + _MERGED_AT_ONCE]), shape.kinds["Id"])
        soql = select(["Id", "MasterRecordId"], shape.name, where=("IsDeleted = true", some))
        data, _ = query(http, root, soql, deleted=True)
        found |= {row["Id"]: row["MasterRecordId"] for row in data["records"] if row.get("MasterRecordId")}
    return found


def retrieve(http: Http, root: str, shape: Shape, ids: Sequence[str], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """Records by id through a request body (any number of fields); ids that are gone are left out.

    https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite_sobjects_collections_retrieve.htm
    """
    rows: list[Mapping[str, Any]] = []
    for start in range(0, len(ids), PAGE_ROWS):
        body = {"ids": list(ids[start : start + PAGE_ROWS]), "fields": list(names)}
        answer = http.post(f"{root}/composite/sobjects/{shape.name}", json=body, repeatable=True, exact=shape.exact)
        rows += [row for row in answer.data or [] if row is not None]
    return rows


def count(reading: Reading, mark: Mark) -> int | None:
    """How many rows a read from the mark would bring; None when Salesforce could not count them in time."""
    soql = select(["COUNT()"], reading.shape.name, where=(reading.where, mark.condition(reading.shape.cursor)))
    try:
        data, _ = query(reading.http, reading.root, soql, deleted=reading.shape.soft_deletes)
    except TransientError as slow:
        if "QUERY_TIMEOUT" in slow.message:
            return None
        raise
    return int(data["totalSize"])


def fits(soql: str, *, spare: int = 0) -> bool:
    """Whether the query can travel in an address."""
    return len(percent(soql)) + spare <= LONGEST_URL


def pages(reading: Reading, mark: Mark, *, full: bool) -> Iterator[Page]:
    """The pages of a REST read from the mark on; the last one (perhaps empty) ends the read."""
    origin, cursor, seen = mark, reading.shape.cursor, mark.cursor
    at = mark
    while True:
        data, looked = query(
            reading.http,
            reading.root,
            reading.soql(at, ordered=True),
            deleted=reading.shape.soft_deletes,
            exact=reading.shape.exact,
        )
        rows: list[Mapping[str, Any]] = data["records"]
        table = table_of(rows, reading.schema, where=reading.name)
        last = not rows or (bool(data["done"]) and len(rows) < PAGE_ROWS)
        if rows:
            key = str(rows[-1]["Id"])
            stamp = instant(table[cursor][-1].as_py()) if cursor else None
            _forward(reading, at, stamp, key)
            at = Mark(cursor=stamp, id=key)
            seen = stamp
            if stamp is not None:
                mark = mark.after(stamp, key, reading.safe(looked))
        if last:
            ended = origin_of(origin, mark).ended(seen, reading.safe(looked)) if cursor else Mark()
            yield reading.page(table, ended, looked, complete=full)
            return
        yield reading.page(table, mark if cursor and mark is not origin else None, looked)


def origin_of(origin: Mark, reached: Mark) -> Mark:
    """Where a read stands that began at `origin` and got to `reached`, without an unfinished page."""
    return replace(reached if reached.cursor is not None else origin, id=None, job=None)


def _forward(reading: Reading, at: Mark, stamp: str | None, key: str) -> None:
    """A page that does not lead on would be asked for again without end."""
    if at.id == key or (stamp is not None and at.cursor is not None and stamp < at.cursor):
        raise ContractError(f"{reading.name}: a page after ({at.cursor}, {at.id}) ends at ({stamp}, {key})")
