"""A stream that owes a full compare: the next load reads everything, whatever its cursor says, and only that pays."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sync_platform.errors import AccessError, BlockedError
from sync_platform.model import Page
from sync_platform.staging.debts import owe, owed
from sync_platform.staging.lake import Lake
from sync_platform.staging.load import next_read_is_full, stage
from tests.laws.staging.scripted import Scripted, page

Rows = Callable[..., list[dict[str, Any]]]


def items(*keys: str, complete: bool = True) -> Page:
    return page([{"Id": key, "Name": f"item {key}"} for key in keys], complete=complete)


def nothing() -> Page:
    return page([{"Id": "x", "Name": "y"}], complete=True).__class__(
        table=page([{"Id": "x", "Name": "y"}]).table.slice(0, 0), position=None, read_at=dt.datetime.now(dt.UTC),
        complete=True,
    )  # fmt: skip


def load(lake: Lake, *pages: Page, **options: Any) -> Any:
    return stage(lake, Scripted.of(*pages), "crm", "Item", **options)


def borrow(lake: Lake, **how: Any) -> None:
    with lake.db.connection() as own:
        owe(own, "crm", ["Item"], "its log was lost", **how)


def test_only_a_complete_read_that_began_after_the_debt_pays_it(lake: Lake, rows: Rows) -> None:
    load(lake, items("a", "b"))
    borrow(lake)
    assert next_read_is_full(lake, "crm", "Item") == "its log was lost"
    load(lake, items("a", complete=False))
    assert owed(lake.db, "crm", "Item") is not None, "a read that proves nothing pays nothing"

    def while_it_reads(since: object) -> Iterator[Page]:
        borrow(lake)
        yield items("a")

    stage(lake, Scripted.by(while_it_reads), "crm", "Item")
    assert owed(lake.db, "crm", "Item") is not None, "what happens during a read is not seen by it for certain"
    load(lake, items("a"))
    assert owed(lake.db, "crm", "Item") is None
    assert {row["_key"] for row in rows('SELECT _key FROM lake.crm."Item" WHERE NOT _deleted')} == {"a"}


def test_a_failed_read_pays_nothing(lake: Lake) -> None:
    load(lake, items("a"))
    borrow(lake)

    def breaking(since: object) -> Iterator[Page]:
        yield items("a", complete=False)
        raise AccessError("gone")

    with pytest.raises(AccessError):
        stage(lake, Scripted.by(breaking), "crm", "Item")
    assert owed(lake.db, "crm", "Item") is not None


def test_a_stream_with_a_cursor_that_owes_is_read_from_nothing_once(lake: Lake) -> None:
    asked: list[object] = []

    def answer(since: object) -> Iterator[Page]:
        asked.append(since)
        yield page([{"Id": "a", "Modified": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}], 7, complete=since is None)

    source = Scripted.by(answer)
    stage(lake, source, "crm", "Lead")
    stage(lake, source, "crm", "Lead")
    with lake.db.connection() as own:
        owe(own, "crm", ["Lead"], "its columns changed")
    stage(lake, source, "crm", "Lead")
    stage(lake, source, "crm", "Lead")
    assert [since is None for since in asked] == [True, False, True, False]


def test_a_load_from_before_the_debt_is_not_joined(lake: Lake) -> None:
    begun = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5)
    load(lake, items("a"), requested_at=begun)
    assert load(lake, items("a"), requested_at=begun).joined
    borrow(lake)
    assert not load(lake, items("a"), requested_at=begun).joined


def test_a_read_of_nothing_is_believed_only_of_a_stream_that_was_emptied(lake: Lake) -> None:
    load(lake, items("a"))
    borrow(lake)
    with pytest.raises(BlockedError):
        load(lake, nothing())
    borrow(lake, emptied=True)
    assert load(lake, nothing()).rows_deleted == 1
