"""Reads of a HubSpot object: the list for everything, the search for changes, the archive for deletes.

**Full read**: the list. It is strongly consistent, has no cap and goes by id, so a page cannot shift:
a record that disappears takes nobody else's place. When the property list is too long for an address,
the list brings ids only and batch/read the values; every record is still read in one piece.

**Incremental read**: the search, in the order of `hs_object_id` and by keyset: each page asks for
`cursor >= since AND hs_object_id > last`. An id never changes, while a modification time does, between
the index (which filters and sorts, late) and the answer (which shows the live value); a restart at the
last *time* could step over a record whose index entry is older than the value it shows. By id:
- ties at a page's edge and at the 10,000-result cap do not exist: no offset is ever used;
- a record in the set when the sweep began stays in it (its time only grows) or was archived;
- a record that enters the set behind the sweep was modified after the sweep began, minus the lag.

So the next position is `min(highest cursor seen, start of the sweep - lag)`, the start being the
earlier of our clock and HubSpot's `Date`: every record whose entry was not yet visible has a later
cursor than that. Pages end where `paging.next` is missing, never by `total`, which counts archived
records. Answers out of order mean the index does not do what is relied on: the list takes over.

**Deletes**: archived records are in no search and their list knows no order by time, so its whole
length (90 days of archiving) is walked after each incremental sweep and compared with the position;
`archived_every` spaces these walks out. Ids in `hs_merged_object_ids` are tombstones, too. A record
purged for privacy leaves no trace: the next full read, which proves what is absent, finds it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, Final

import pyarrow as pa

from sync_platform.connectors.faults import Answer
from sync_platform.connectors.hubspot.api import (
    BATCH,
    BODY_ROOM,
    SEARCH_LIMIT,
    SEARCH_REACH,
    URL_ROOM,
    Api,
    Found,
    body_size,
)
from sync_platform.connectors.hubspot.position import Mark
from sync_platform.connectors.hubspot.properties import MOMENT
from sync_platform.connectors.hubspot.streams import KEY, MERGED, OBJECT_ID
from sync_platform.connectors.hubspot.values import milliseconds, moment_of, record_of, tables
from sync_platform.connectors.hubspot.where import Where
from sync_platform.errors import ContractError
from sync_platform.model import DELETED, Page, Position, Record

_TOMBSTONES_A_PAGE: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is read: the columns wanted, the properties asked for, and the Source's own filter."""

    object_type: str
    cursor: str
    wanted: tuple[str, ...]
    asked: tuple[str, ...]
    where: Where | None = None


class _InconsistentError(Exception):
    """The search did not keep to the order it was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """The records of one request, and the mark that resumes after them (None at the end)."""

    records: Sequence[Record]
    read_at: dt.datetime
    mark: Mark | None


class Reader:
    """One read of one object. `lag`: how far the index may lie behind; `archived_every`: see the module."""

    def __init__(
        self,
        api: Api,
        selection: Selection,
        *,
        lag: dt.timedelta,
        archived_every: dt.timedelta,
    ) -> None:
        self._api, self._selection = api, selection
        self._lag = lag // dt.timedelta(milliseconds=1)
        self._archived_every = archived_every // dt.timedelta(milliseconds=1)

    def pages(self, since: Position | None) -> Iterator[Page]:
        """The pages of a read from `since`; the last one carries the position of the next read."""
        mark = Mark.load(since)
        if mark.since is None:
            yield from self._everything(mark)
        else:
            yield from self._changes(mark)

    # -- the sweeps ----------------------------------------------------------------------------------

    def _everything(self, mark: Mark) -> Iterator[Page]:
        resumed = mark.sweep is not None
        sweep = _Sweep(mark)
        ordered = _Ordered()
        for batch in self._listed(sweep, mark):
            ordered.see(batch.records)
            if batch.mark is not None:
                yield from self._paged(batch, batch.mark.position(), incremental=False)
                continue
            final = self._final(sweep, archived_since=(sweep.start or 0) - self._lag)
            if resumed:
                # rows staged before the interruption may be gone since: say so one by one
                yield from self._paged(batch, None, incremental=False)
                yield from self._archived(0, final, sweep.start or 0)
            else:
                yield from self._paged(batch, final.position(), incremental=False, complete=ordered.held)

    def _changes(self, mark: Mark) -> Iterator[Page]:
        sweep = _Sweep(mark)
        if mark.sweep == "list":
            yield from self._by_list(sweep, mark)
        else:
            try:
                for batch in self._searched(sweep, mark):
                    yield from self._paged(batch, batch.mark.position() if batch.mark else None, incremental=True)
            except _InconsistentError:
                yield from self._by_list(sweep, replace(mark, sweep=None, at=None))
        start = sweep.start or 0
        if self._archived_every and start - mark.archived_read < self._archived_every:
            final = self._final(sweep, archived_since=mark.archived_since, archived_read=mark.archived_read)
            yield self._page(self._tombstones([]), moment_of(start) or dt.datetime.now(dt.UTC), final.position())
            return
        final = self._final(sweep, archived_since=start - self._lag, archived_read=start)
        yield from self._archived(mark.archived_since, final, start)

    def _by_list(self, sweep: _Sweep, mark: Mark) -> Iterator[Page]:
        """The changes taken from the list: for an index that cannot be relied on."""
        for batch in self._listed(sweep, mark):
            changed = [each for each in batch.records if self._cursor_of(each) >= (mark.since or 0)]
            position = batch.mark.position() if batch.mark else None
            yield from self._paged(replace(batch, records=changed), position, incremental=True)

    def _final(self, sweep: _Sweep, *, archived_since: int, archived_read: int = 0) -> Mark:
        """The mark of the next read: as far as was seen, but not beyond what was certainly visible."""
        floor = sweep.since or 0
        horizon = (sweep.start or 0) - self._lag
        since = max(floor, min(sweep.highest, horizon)) if sweep.highest is not None else floor
        return Mark(since=since, archived_since=max(0, archived_since), archived_read=archived_read)

    # -- requests ------------------------------------------------------------------------------------

    def _listed(self, sweep: _Sweep, mark: Mark) -> Iterator[_Batch]:
        after = mark.at if mark.sweep == "list" else None
        chosen = self._selection
        in_url = len(",".join(chosen.asked)) <= URL_ROOM
        while True:
            found = self._api.list_page(chosen.object_type, chosen.asked if in_url else (), after=after)
            sweep.begin(self._start_of(found.answer))
            records, read_at = (found.records, found.answer.started) if in_url else self._values(found)
            sweep.see(self._cursor_of(each) for each in records)
            if found.after is None:
                yield _Batch(records=records, read_at=read_at, mark=None)
                return
            if found.after == after:
                raise ContractError(f"hubspot: the list of {chosen.object_type} answered the same page again")
            after = found.after
            resume = replace(mark, sweep="list", at=after, started=sweep.start, highest=sweep.highest)
            yield _Batch(records=records, read_at=read_at, mark=resume)

    def _searched(self, sweep: _Sweep, mark: Mark) -> Iterator[_Batch]:
        last = int(mark.at) if mark.sweep == "search" and mark.at else 0
        after: str | None = None
        while True:
            body = self._search_body(mark.since or 0, last, after)
            whole = body_size(body) <= BODY_ROOM
            if not whole:
                body["properties"] = [self._selection.cursor]
            found = self._api.search(self._selection.object_type, body)
            sweep.begin(self._start_of(found.answer))
            ids = [int(each[KEY]) for each in found.records]
            if any(low >= high for low, high in zip([last, *ids], ids, strict=False)):
                raise _InconsistentError
            records, read_at = (found.records, found.answer.started) if whole else self._values(found)
            sweep.see(self._cursor_of(each) for each in records)
            if found.after is None:
                yield _Batch(records=records, read_at=read_at, mark=None)
                return
            if ids:
                last, after = ids[-1], None
            elif int(found.after) >= SEARCH_REACH or found.after == after:
                raise _InconsistentError  # nothing but archived entries as far as a search reaches
            else:
                after = found.after
            resume = replace(mark, sweep="search", at=str(last), started=sweep.start, highest=sweep.highest)
            yield _Batch(records=records, read_at=read_at, mark=resume)

    def _search_body(self, since: int, last: int, after: str | None) -> dict[str, Any]:
        filters = [{"propertyName": self._selection.cursor, "operator": "GTE", "value": str(since)}]
        if last:
            filters.append({"propertyName": OBJECT_ID, "operator": "GT", "value": str(last)})
        body: dict[str, Any] = {
            "filterGroups": [{"filters": filters}],
            "sorts": [{"propertyName": OBJECT_ID, "direction": "ASCENDING"}],
            "properties": list(self._selection.asked),
            "limit": SEARCH_LIMIT,
        }
        if after is not None:
            body["after"] = after
        return body

    def _values(self, found: Found) -> tuple[Sequence[Record], dt.datetime]:
        """The records of a page of ids, each read in one piece; those archived meanwhile are left out."""
        ids = [str(each[KEY]) for each in found.records]
        records: dict[str, Record] = {}
        read_at = found.answer.started
        for start in range(0, len(ids), BATCH):
            part = self._api.batch_read(self._selection.object_type, ids[start : start + BATCH], self._selection.asked)
            if start == 0:
                read_at = part.answer.started
            records.update((str(each[KEY]), each) for each in part.records)
        return list(records.values()), read_at

    def _archived(self, since: int, final: Mark, started: int) -> Iterator[Page]:
        """Tombstones of what was archived at or after `since`; the last page carries `final`."""
        gone: list[tuple[str, dt.datetime | None]] = []
        after: str | None = None
        while True:
            found = self._api.list_page(self._selection.object_type, (), after=after, archived=True)
            read_at = found.answer.started
            for each in found.records:
                at = moment_of(each.get("archivedAt"))
                if at is None or milliseconds(at) >= since:
                    gone.append((str(each[KEY]), at or moment_of(started)))
            if found.after is None:
                break
            if found.after == after:
                raise ContractError("hubspot: the archive's list answered the same page again")
            after = found.after
            if len(gone) >= _TOMBSTONES_A_PAGE:
                yield self._page(self._tombstones(gone), read_at, None)
                gone = []
        yield self._page(self._tombstones(gone), read_at, final.position())

    # -- pages ---------------------------------------------------------------------------------------

    def _paged(
        self, batch: _Batch, position: Position | None, *, incremental: bool, complete: bool = False
    ) -> Iterator[Page]:
        """The batch as pages: one per set of answered properties, one of tombstones; the last has the position."""
        cursor = self._selection.cursor
        rows = [record_of(each, cursor) for each in batch.records]
        gone = [(loser, row[cursor]) for row in rows for loser in _losers(row)]
        kept = rows
        if self._selection.where is not None and rows:
            matching = self._matching(self._selection.where, rows)
            kept = [row for row in rows if row[KEY] in matching]
            if incremental:
                gone += [(row[KEY], row[cursor]) for row in rows if row[KEY] not in matching]
        made = tables(kept, self._selection.wanted, cursor)
        if gone or not made:
            made.append(self._tombstones(gone))
        for table in made[:-1]:
            yield self._page(table, batch.read_at, None)
        yield self._page(made[-1], batch.read_at, position, complete=complete)

    def _matching(self, where: Where, rows: list[dict[str, Any]]) -> frozenset[str]:
        names = (self._selection.cursor, *where.columns)
        return frozenset().union(*(where.matching(table) for table in tables(rows, names, self._selection.cursor)))

    def _tombstones(self, gone: Sequence[tuple[str, dt.datetime | None]]) -> pa.Table:
        return pa.table(
            {
                KEY: pa.array([key for key, _ in gone], pa.string()),
                self._selection.cursor: pa.array([at for _, at in gone], MOMENT),
                DELETED: pa.array([True] * len(gone), pa.bool_()),
            }
        )

    @staticmethod
    def _page(table: pa.Table, read_at: dt.datetime, position: Position | None, *, complete: bool = False) -> Page:
        return Page(table=table, position=position, read_at=read_at, complete=complete)

    def _cursor_of(self, record: Record) -> int:
        moment = moment_of((record.get("properties") or {}).get(self._selection.cursor) or record.get("updatedAt"))
        return milliseconds(moment) if moment is not None else 0

    def _start_of(self, answer: Answer) -> int:
        """When the request began, by our clock or by HubSpot's, whichever is earlier."""
        ours = milliseconds(answer.started)
        try:
            theirs = parsedate_to_datetime(answer.headers.get("Date") or "")
        except ValueError:
            return ours
        return min(ours, milliseconds(theirs)) if theirs.tzinfo is not None else ours


class _Sweep:
    """What one sweep has met so far, also across an interruption."""

    def __init__(self, mark: Mark) -> None:
        self.since = mark.since
        self.start = mark.started
        self.highest = mark.highest

    def begin(self, started: int) -> None:
        """Notes the start of the sweep's first request."""
        if self.start is None:
            self.start = started

    def see(self, cursors: Iterator[int]) -> None:
        """Notes the cursors of some records."""
        self.highest = max((*((self.highest,) if self.highest is not None else ()), *cursors), default=None)


class _Ordered:
    """Whether ids only ever grew from page to page, which is what a list by id promises."""

    def __init__(self) -> None:
        self.held = True
        self._last = 0

    def see(self, records: Sequence[Record]) -> None:
        """Notes the ids of a page."""
        for each in records:
            key = str(each[KEY])
            self.held = self.held and key.isdigit() and int(key) > self._last
            self._last = int(key) if key.isdigit() else self._last


def _losers(row: dict[str, Any]) -> list[str]:
    """The ids that were merged into this record."""
    merged = str(row.get(MERGED) or "")
    return [each for each in (part.strip() for part in merged.split(";")) if each.isdigit() and each != row[KEY]]
