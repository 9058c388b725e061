"""Deletes that show only as absence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sync_platform.errors import AccessError, BlockedError
from sync_platform.model import Page
from sync_platform.staging.chunks import Limits
from sync_platform.staging.lake import Lake
from sync_platform.staging.load import stage
from tests.laws.staging.scripted import Scripted, page

Rows = Callable[..., list[dict[str, Any]]]


def items(*keys: str, complete: bool = True, position: int | None = None) -> Page:
    return page([{"Id": key, "Name": f"item {key}"} for key in keys], position, complete=complete)


@pytest.fixture
def alive(rows: Rows) -> Callable[[], set[str]]:
    """The keys of staged items that are not deleted."""
    return lambda: {row["_key"] for row in rows('SELECT _key FROM lake.crm."Item" WHERE NOT _deleted')}


def load(lake: Lake, *pages: Page, **options: Any) -> Any:
    return stage(lake, Scripted.of(*pages), "crm", "Item", **options)


def test_what_a_complete_read_lacks_is_deleted_and_what_returns_lives_again(
    lake: Lake, alive: Callable[[], set[str]]
) -> None:
    assert load(lake, items("a", "b", "c")).complete
    done = load(lake, items("a", complete=False), items("c"), limits=Limits(rows=1))
    assert (done.rows_changed, done.rows_deleted, done.complete) == (0, 1, True)
    assert alive() == {"a", "c"}
    assert load(lake, items("a", "b", "c")).rows_changed == 1
    assert alive() == {"a", "b", "c"}


def test_a_read_that_proves_nothing_deletes_nothing(lake: Lake, alive: Callable[[], set[str]]) -> None:
    load(lake, items("a", "b", "c"))
    done = load(lake, items("a", complete=False))
    assert (done.rows_deleted, done.complete) == (0, False)
    assert alive() == {"a", "b", "c"}


def break_off_after_a(lake: Lake) -> None:
    """Stages a, b and c, then a full read that breaks off after its first record."""
    load(lake, items("a", "b", "c"))

    def breaking(since: object) -> Iterator[Page]:
        yield items("a", complete=False, position=1)
        raise AccessError("gone")

    with pytest.raises(AccessError):
        stage(lake, Scripted.by(breaking), "crm", "Item")


def test_a_read_that_broke_off_deletes_nothing(lake: Lake, alive: Callable[[], set[str]]) -> None:
    break_off_after_a(lake)
    assert alive() == {"a", "b", "c"}


def test_the_rest_of_a_broken_read_proves_nothing_and_the_next_full_one_does(
    lake: Lake, alive: Callable[[], set[str]]
) -> None:
    break_off_after_a(lake)
    rest = Scripted.of(items("c"))
    assert stage(lake, rest, "crm", "Item").complete is False
    assert rest.asked[0]["since"] == {"next": 1}
    assert alive() == {"a", "b", "c"}
    full = Scripted.of(items("a", "c"))
    assert stage(lake, full, "crm", "Item").complete is True
    assert full.asked[0]["since"] is None
    assert alive() == {"a", "c"}


def test_a_source_that_was_emptied_is_blocked_until_a_person_allows_it(
    lake: Lake, alive: Callable[[], set[str]]
) -> None:
    load(lake, items("a", "b"))
    nothing = page(items("x").table.slice(0, 0), complete=True)
    with pytest.raises(BlockedError, match="2 records"):
        load(lake, nothing)
    assert alive() == {"a", "b"}
    with lake.db.connection() as pg:
        row = pg.execute("SELECT state FROM sync.loads ORDER BY started_at DESC LIMIT 1").fetchone()
    assert row == ("blocked",)
    assert load(lake, nothing, allow_empty=True).rows_deleted == 2
    assert alive() == set()


def test_an_empty_source_that_never_had_records_is_no_fault(lake: Lake) -> None:
    done = load(lake, page(items("x").table.slice(0, 0), complete=True))
    assert (done.rows_read, done.rows_deleted, done.complete) == (0, 0, True)


def test_streams_that_show_their_deletes_otherwise_are_not_touched(lake: Lake, rows: Rows) -> None:
    from tests.laws.staging.scripted import lead

    stage(lake, Scripted.of(page([lead("a", 1), lead("b", 1)], 1, complete=True)), "crm", "Lead")
    done = stage(lake, Scripted.of(page([lead("a", 1)], 1, complete=True)), "crm", "Lead", full=True)
    assert (done.rows_deleted, done.complete) == (0, True)
    assert rows('SELECT count(*) AS n FROM lake.crm."Lead" WHERE _deleted') == [{"n": 0}]
