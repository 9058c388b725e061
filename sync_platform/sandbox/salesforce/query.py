"""GET query and queryAll, and the pages behind a query locator."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sync_platform.sandbox.kit_store import select, uncollected
from sync_platform.sandbox.salesforce.ask import Answer, Ask, not_allowed
from sync_platform.sandbox.salesforce.metadata import ObjectDef
from sync_platform.sandbox.salesforce.refusals import SalesforceError, UnbuiltError, malformed
from sync_platform.sandbox.salesforce.rows import Past, shown
from sync_platform.sandbox.salesforce.soql_groups import grouped
from sync_platform.sandbox.salesforce.soql_parser import parse
from sync_platform.sandbox.salesforce.soql_run import Output, Plan

if TYPE_CHECKING:
    from sync_platform.sandbox.salesforce.simulator import SalesforceSimulator

MIN_PAGE: Final = 200
_BATCH: Final = re.compile(r"batchSize\s*=\s*(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Cursor:
    """A result set as it was when the query ran; `rows` starts after the first page."""

    rows: list[Past]
    skipped: int
    total: int
    page: int
    render: Renderer
    used_at: int


class Renderer:
    """Rows to the records of an answer."""

    def __init__(self, target: ObjectDef, outputs: list[Output], base: str) -> None:
        self._url = f"{base}/sobjects/"
        self._target = target
        self._flat = [(o.parts[0], o.getter, o.field) for o in outputs if len(o.parts) == 1]
        self._deep = [o for o in outputs if len(o.parts) > 1]

    def __call__(self, row: Any) -> dict[str, Any]:
        url = f"{self._url}{self._target.name}/{row.id}"
        record: dict[str, Any] = {"attributes": {"type": self._target.name, "url": url}}
        for name, getter, field in self._flat:
            record[name] = shown(field, getter(row))
        for output in self._deep:
            self._place(record, output, row)
        return record

    def _place(self, record: dict[str, Any], output: Output, row: Any) -> None:
        """A parent's field goes into a nested record, which is null without a parent."""
        value = output.getter(row)
        where = record
        for (relationship, type), last in zip(output.parents, output.reached(row), strict=True):
            if last is None:
                where.setdefault(relationship, None)
                return
            if not where.get(relationship):
                where[relationship] = {"attributes": {"type": type, "url": f"{self._url}{type}/{last}"}}
            where = where[relationship]
        where[output.parts[-1]] = shown(output.field, value)


class Queries:
    """The query resource of one organization and its open cursors."""

    def __init__(self, org: SalesforceSimulator) -> None:
        self._org = org
        self._cursors: dict[str, Cursor] = {}

    def clear(self) -> None:
        """Closes every cursor."""
        self._cursors.clear()

    def source(self, target: ObjectDef, *, deleted: bool, at: int | None) -> Iterable[Any]:
        """The rows a query over an object sees; `at` (ms): what an index knew then."""
        store = self._org.stores[target.name]
        if at is not None:
            rows = (Past(record, version) for record, version in select(store, at))
            return (row for row in rows if deleted or not row.deleted)
        if deleted:
            return (record for record in store if not record.deleted or self._org.in_bin(record))
        return store.live()

    def plan(self, text: str) -> Plan:
        """A statement ready to run. Raises SalesforceError."""
        return Plan(parse(text), self._org.context())

    def run(self, plan: Plan, *, deleted: bool, at: int | None = None) -> list[Any]:
        """The rows of a plain (not grouped) query."""
        shuffle = self._org.rng if self._org.on("tie_order") else None
        source = self.source(plan.object, deleted=deleted, at=at)
        if at is None and (only := plan.only_ids) is not None:
            store = self._org.stores[plan.object.name]
            found = (store.get(id) for id in sorted(only))
            source = (row for row in found if row and (not row.deleted or (deleted and self._org.in_bin(row))))
        return plan.rows(source, shuffle=shuffle)

    def answer(self, ask: Ask) -> Answer:
        """GET query, queryAll, and their further pages."""
        if ask.method != "GET":
            raise not_allowed(ask)
        if len(ask.parts) > 1:
            return self._more(ask, ask.parts[1])
        if "explain" in ask.query:
            raise UnbuiltError("query plans (explain) are not built")
        if not ask.query.get("q"):
            raise malformed("A query string has to be specified")
        plan = self.plan(ask.query["q"])
        stale = ask.call.fault("stale_index")
        at = None if stale is None else self._org.world.now_ms() - int(stale.seconds * 1000)
        deleted = ask.parts[0] == "queryAll"
        if plan.count_only or plan.grouped:
            return Answer(200, self._totals(plan, deleted, at))
        rows = self.run(plan, deleted=deleted, at=at)
        page = self._page_rows(ask)
        render = Renderer(plan.object, plan.outputs, ask.base)
        body: dict[str, Any] = {"totalSize": len(rows), "done": len(rows) <= page}
        if len(rows) > page:
            with uncollected():
                rest = [row if isinstance(row, Past) else Past(row, row.current) for row in rows[page:]]
            now = self._org.world.now_ms()
            locator = self._open(Cursor(rest, page, len(rows), page, render, now))
            body["nextRecordsUrl"] = f"{ask.base}/query/{locator}-{page}"
        body["records"] = [render(row) for row in rows[:page]]
        return Answer(200, body)

    def _totals(self, plan: Plan, deleted: bool, at: int | None) -> dict[str, Any]:
        source = self.source(plan.object, deleted=deleted, at=at)
        if plan.count_only:
            return {"totalSize": len(plan.rows(source)), "done": True, "records": []}
        test = plan.test
        records = grouped(plan, list(source) if test is None else [row for row in source if test(row)])
        return {"totalSize": len(records), "done": True, "records": records}

    def _page_rows(self, ask: Ask) -> int:
        most = int(self._org.value("query_page_rows"))
        match = _BATCH.search(ask.call.headers.get("sforce-query-options", ""))
        return most if match is None else max(MIN_PAGE, min(most, int(match.group(1))))

    def _open(self, cursor: Cursor) -> str:
        org = self._org
        if org.on("query_cursors"):
            while len(self._cursors) >= org.value("query_cursors"):
                del self._cursors[min(self._cursors, key=lambda name: self._cursors[name].used_at)]
        locator = org.next_id("01g")
        self._cursors[locator] = cursor
        return locator

    def _more(self, ask: Ask, named: str) -> Answer:
        locator, _, offset = named.partition("-")
        cursor, now = self._cursors.get(locator), self._org.world.now_ms()
        life = int(self._org.value("query_cursor_life")) * 1000
        expired = cursor is not None and self._org.on("query_cursor_life") and now - cursor.used_at > life
        if cursor is None or expired or not offset.isdigit() or not cursor.skipped <= int(offset) < cursor.total:
            raise SalesforceError(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        cursor.used_at = now
        start = int(offset) - cursor.skipped
        end = int(offset) + cursor.page
        body: dict[str, Any] = {"totalSize": cursor.total, "done": end >= cursor.total}
        if end < cursor.total:
            body["nextRecordsUrl"] = f"{ask.base}/query/{locator}-{end}"
        body["records"] = [cursor.render(row) for row in cursor.rows[start : start + cursor.page]]
        return Answer(200, body)
