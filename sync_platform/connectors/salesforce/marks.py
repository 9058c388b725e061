"""How far a Salesforce object was read, and from where the next read goes on.

Salesforce stamps a row when its statement runs and shows it when the transaction commits, so a row may
appear behind rows already read. A mark therefore never goes past *now minus the lag*: what a long
transaction commits late is still ahead of it. The next read starts at the mark itself, inclusively.

A position holds `cursor` (the mark, UTC, milliseconds) and, inside a read that may be resumed,
either `id` (the last row of that instant already handed over) or an unfinished Bulk job: `job`, `locator`
(the next part of its file), `query` (a digest of what was asked), `seen` (the newest stamp in the parts
so far), `rows` (how many), `started` (when the job saw the data).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime

from sync_platform.connectors.faults import Answer
from sync_platform.connectors.salesforce.soql import instant, quote
from sync_platform.errors import ConfigError
from sync_platform.model import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A Bulk query job whose results were handed over up to `locator`."""

    job: str
    locator: str | None
    query: str
    started: str
    seen: str | None = None
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A position of ours. Stamps are text of one fixed form, so that they compare as text."""

    cursor: str | None = None
    id: str | None = None
    job: Job | None = None

    @classmethod
    def of(cls, position: Position | None) -> Mark:
        """The mark a position stands for; no position is the beginning."""
        value = dict(position.value) if position is not None else {}
        try:
            job = Job(**value["job"]) if value.get("job") else None
            cursor = instant(dt.datetime.fromisoformat(value["cursor"])) if value.get("cursor") else None
        except (TypeError, ValueError) as wrong:
            raise ConfigError(
                f"the position of a Salesforce stream is not one of ours: {wrong}",
                field="cursor",
                value=str(value.get("cursor")),
                mend="write the cursor as an ISO time with its zone, or reset the stream",
            ) from None
        return cls(cursor=cursor, id=value.get("id"), job=job)

    def position(self) -> Position:
        """The position that stands for this mark."""
        value: dict[str, object] = {"cursor": self.cursor}
        if self.id is not None:
            value["id"] = self.id
        if self.job is not None:
            value["job"] = asdict(self.job)
        return Position(value)

    def condition(self, cursor: str | None) -> str:
        """The SOQL of what lies from here on, for a cursor field (None: the object has none)."""
        if cursor is None:
            return f"Id > {quote(self.id)}" if self.id is not None else ""
        if self.cursor is None:
            return ""
        if self.id is None:
            return f"{cursor} >= {self.cursor}"
        return f"({cursor} > {self.cursor}) OR ({cursor} = {self.cursor} AND Id > {quote(self.id)})"

    def after(self, stamp: str, key: str, safe: str) -> Mark:
        """The mark once all rows up to (stamp, key) were handed over; never past `safe`, never back."""
        if stamp <= safe:
            return Mark(cursor=stamp, id=key)
        return self if self.cursor is not None and safe <= self.cursor else Mark(cursor=safe)

    def ended(self, seen: str | None, safe: str) -> Mark:
        """The mark after a read that reached the end: min(newest stamp seen, safe), never back.

        A read that saw nothing proves nothing about stamps to come (an import may bring its own): it stays.
        """
        if seen is None or (self.cursor is not None and min(seen, safe) < self.cursor):
            return Mark(cursor=self.cursor)
        return Mark(cursor=min(seen, safe))


def moment(answer: Answer) -> dt.datetime:
    """When the data of an answer was looked at, by the more cautious of the two clocks."""
    return earlier(answer.started, answer.headers)


def earlier(ours: dt.datetime, headers: Mapping[str, str]) -> dt.datetime:
    """The earlier of our time and the answer's Date header."""
    try:
        theirs = parsedate_to_datetime(headers.get("Date", ""))
    except ValueError:
        return ours
    return min(ours, theirs if theirs.tzinfo is not None else theirs.replace(tzinfo=dt.UTC))
