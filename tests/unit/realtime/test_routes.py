"""Which syncs an event feeds, and limits that need no gateway to be seen."""

from __future__ import annotations

import logging

import pytest

from sync_platform.errors import ConfigError
from sync_platform.realtime.inbox import syncs_of
from sync_platform.realtime.limits import Bucket, Voice
from sync_platform.realtime.routes import RouteTable
from tests.unit.realtime.gateways import Written


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_only_realtime_syncs_get_events_and_the_objects_case_does_not_matter(project: Written) -> None:
    project.sync("by_another_spelling", object="Contacts")
    table = RouteTable(root=project.root)
    assert table.refresh()
    contacts = ["by_another_spelling", "contacts_to_more_people", "contacts_to_people"]
    assert sorted(syncs_of(table.routes, "hubspot", "contacts")) == contacts
    assert syncs_of(table.routes, "salesforce", "LEAD") == ("leads_to_people",)
    assert syncs_of(table.routes, "salesforce", "contacts") == ()


def test_the_files_are_read_again_only_when_one_changed(project: Written) -> None:
    table = RouteTable(root=project.root)
    assert [table.refresh(), table.refresh()] == [True, False]
    file = project.sync("new_one")
    assert [table.refresh(), table.refresh()] == [True, False]
    assert "new_one" in syncs_of(table.routes, "hubspot", "contacts")
    file.unlink()
    assert table.refresh()
    assert "new_one" not in syncs_of(table.routes, "hubspot", "contacts")


def test_a_project_that_cannot_be_read_is_told_once_and_leaves_the_routes_as_they_were(project: Written) -> None:
    table = RouteTable(root=project.root)
    table.refresh()
    before = table.routes
    (project.root / "assets" / "contacts_to_people" / "defs.yaml").write_text("type: sync_platform.Sync\nnope")
    with pytest.raises(ConfigError):
        table.refresh()
    assert (table.refresh(), table.routes) == (False, before)


def test_a_bucket_lets_through_its_rate_and_says_when_the_next_may_pass() -> None:
    clock = Clock()
    bucket = Bucket(rate=2.0, clock=clock)
    assert [bucket.wait() for _ in range(3)] == [0, 0, 1]
    clock.now = 0.5
    assert [bucket.wait(), bucket.wait()] == [0, 1]
    clock.now = 100.0
    assert [bucket.wait() for _ in range(3)] == [0, 0, 1]
    slow = Bucket(rate=0.1, clock=clock)
    assert [slow.wait(), slow.wait()] == [0, 10]


def test_a_voice_says_the_first_of_a_kind_and_counts_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    voice = Voice(log=logging.getLogger("tests.voice"), clock=clock)
    for _ in range(3):
        voice.warn(("hubspot", "forged"), "refused")
    voice.warn(("hubspot", "stale"), "too old")
    clock.now = 11.0
    voice.warn(("hubspot", "forged"), "refused")
    assert caplog.messages == ["refused", "too old", "refused (2 more like it before)"]
