"""A read begins while the lake is made ready; whatever becomes of that, it is one read of the right rows, and ends."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sync_platform.errors import AccessError
from sync_platform.meanwhile import Stopped
from sync_platform.model import Page
from sync_platform.staging.lake import Lake
from sync_platform.staging.load import stage
from tests.laws.staging.scripted import Scripted, lead, page

Leads = Callable[..., dict[str, Any]]


class Watched:
    """The pages of a source, and what became of the read."""

    def __init__(self, *pages: Page) -> None:
        self._pages = pages
        self.begun, self.ended = threading.Event(), threading.Event()

    def __call__(self, since: object) -> Iterator[Page]:
        self.begun.set()
        try:
            yield from self._pages
        finally:
            self.ended.set()


@pytest.fixture
def unready(lake: Lake) -> Iterator[None]:
    """A lake whose folder is a file, so that it cannot be used."""
    folder = lake.db.home.lake
    shutil.rmtree(folder)
    folder.write_text("in the way")
    yield
    folder.unlink()


def test_a_first_read_has_begun_before_the_lake_is_ready_and_ends_when_it_is_not(lake: Lake, unready: None) -> None:
    watched = Watched(page([lead("a", 0, Name="Ann")], 1), page([lead("b", 1, Name="Bob")], 2, complete=True))
    with pytest.raises(AccessError):
        stage(lake, Scripted.by(watched), "crm", "Lead")
    assert watched.begun.is_set()
    assert watched.ended.is_set()


def test_a_first_read_asks_the_source_once_and_the_second_goes_on_from_it(lake: Lake, leads: Leads) -> None:
    source = Scripted.of(page([lead("a", 0, Name="Ann")], 1), page([lead("b", 1, Name="Bob")], 2, complete=True))
    stage(lake, source, "crm", "Lead")
    assert leads('"Name"') == {"a": "Ann", "b": "Bob"}
    stage(lake, source, "crm", "Lead")
    assert [one["since"] for one in source.asked] == [None, {"next": 2}]


def test_a_load_whose_history_was_purged_still_goes_on_from_its_position(lake: Lake, leads: Leads) -> None:
    first = Scripted.of(page([lead("a", 0, Name="Ann"), lead("b", 0, Name="Bob")], 1, complete=True))
    stage(lake, first, "crm", "Lead")
    with lake.db.connection() as pg:
        pg.execute("DELETE FROM sync.loads")
    watched = Watched()
    reads = Scripted.by(lambda since: watched(since) if since is None else iter([page([lead("c", 2, Name="Cy")], 2)]))
    stage(lake, reads, "crm", "Lead")
    assert watched.ended.is_set() or not watched.begun.is_set()
    assert leads('"Name"') == {"a": "Ann", "b": "Bob", "c": "Cy"}


def test_a_later_read_has_begun_at_its_position_before_the_lake_is_ready(lake: Lake) -> None:
    stage(lake, Scripted.of(page([lead("a", 0, Name="Ann")], 1, complete=True)), "crm", "Lead")
    shutil.move(lake.db.home.lake, lake.db.home.root / "away")
    lake.db.home.lake.write_text("in the way")
    watched = Watched(page([lead("b", 1, Name="Bob")], 2))
    source = Scripted.by(watched)
    try:
        with pytest.raises(AccessError):
            stage(Lake(lake.db), source, "crm", "Lead")
    finally:
        lake.db.home.lake.unlink()
        shutil.move(lake.db.home.root / "away", lake.db.home.lake)
    assert [one["since"] for one in source.asked] == [{"next": 1}]
    assert watched.ended.is_set()


def test_a_read_begun_at_another_position_than_the_lakes_is_dropped(lake: Lake, leads: Leads) -> None:
    stage(lake, Scripted.of(page([lead("a", 0, Name="Ann")], 1, complete=True)), "crm", "Lead")
    stage(lake, Scripted.of(page([lead("b", 1, Name="Bob")], 2)), "crm", "Lead")
    with lake.db.connection() as pg:  # as if a copy of an older state had been put back, and the lake not
        pg.execute("""UPDATE sync.loads SET reading = replace(reading, '{"next": 2}', '{"next": 1}')""")
    wrong = Watched(page([lead("b", 1, Name="read again")], 9))
    right = page([lead("c", 2, Name="Cy")], 3)
    source = Scripted.by(lambda since: wrong(since) if since and since.value == {"next": 1} else iter([right]))
    stage(lake, source, "crm", "Lead")
    assert wrong.ended.is_set()
    assert leads('"Name"') == {"a": "Ann", "b": "Bob", "c": "Cy"}
    stage(lake, source, "crm", "Lead")
    assert [one["since"] for one in source.asked] == [{"next": 1}, {"next": 2}, {"next": 3}]


def test_after_a_load_that_failed_nothing_is_read_before_the_lake_says_from_where(lake: Lake, leads: Leads) -> None:
    def breaking(_: object) -> Iterator[Page]:
        yield page([lead("a", 0, Name="Ann")], 1)
        raise AccessError("away", mend="wait")

    with pytest.raises(AccessError, match="away"):
        stage(lake, Scripted.by(breaking), "crm", "Lead")
    source = Scripted.of(page([lead("b", 1, Name="Bob")], 2, complete=True))
    stage(lake, source, "crm", "Lead")
    assert [one["since"] for one in source.asked] == [{"next": 1}]
    assert leads('"Name"') == {"a": "Ann", "b": "Bob"}


def test_a_read_that_shall_not_go_on_ends_and_is_told_as_failed(lake: Lake) -> None:
    watched = Watched(page([lead("a", 0, Name="Ann")], 1), page([lead("b", 1, Name="Bob")], 2, complete=True))

    def go_on() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        stage(lake, Scripted.by(watched), "crm", "Lead", go_on=go_on)
    assert watched.ended.is_set()
    with lake.db.connection() as pg:
        assert pg.execute("SELECT state FROM sync.loads").fetchall() == [("failed",)]
