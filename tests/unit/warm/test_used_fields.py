"""Workers read the fields that syncs use, and a plan that reads others takes those from staging."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

from sync_platform.engine.spec import Expression
from sync_platform.realtime.observed import Watched
from tests.unit.warm.crm import FIELDS, LEAD
from tests.unit.warm.office import NAMES, Office

NOON = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
EMAIL = {"email": Expression(sql="Email")}


def observed(office: Office) -> dict[str, dict[str, Any]]:
    """What was observed of each record."""
    return dict(office.rows("SELECT key, row FROM sync.observed"))


def emails_only(office: Office) -> None:
    """A sync that uses one field of two, in step with a staged record of which an event then tells more."""
    office.spec = replace(office.spec, mapping=EMAIL)
    office.crm.put("l1", "a@x", "Ada", at=NOON)
    office.stage()
    office.batch.run()
    office.crm.put("l1", "b@x", "Bo", at=NOON + dt.timedelta(seconds=2))
    office.event("l1")
    office.work()


def test_only_fields_that_a_sync_uses_are_read_back(office: Office) -> None:
    emails_only(office)
    assert observed(office)["l1"].keys() == {"Id", "Email", "Changed"}
    assert [row["email"] for row in office.shelf.rows.values()] == ["b@x"]


def test_what_was_not_read_back_keeps_its_staged_value_in_a_plan(office: Office) -> None:
    emails_only(office)
    office.spec = replace(office.spec, mapping=NAMES)
    office.batch.run()
    assert [(row["email"], row["name"]) for row in office.shelf.rows.values()] == [("b@x", "Ada")]
    office.stage()
    office.batch.run()
    assert [(row["email"], row["name"]) for row in office.shelf.rows.values()] == [("b@x", "Bo")]


def test_a_record_that_staging_never_saw_stands_for_what_was_read_of_it(office: Office) -> None:
    emails_only(office)
    office.crm.put("l2", "c@x", "Cy", at=NOON)
    office.event("l2", "created")
    office.work()
    assert office.batch.ops(office.batch.planned())["l2"] == "skip"
    office.spec = replace(office.spec, mapping=NAMES)
    assert "l2" not in office.batch.ops(office.batch.planned()), "its name was never read: absent is not null"
    office.stage()
    office.batch.run()
    assert sorted((row["email"], row["name"]) for row in office.shelf.rows.values()) == [("b@x", "Bo"), ("c@x", "Cy")]


def test_a_sync_that_uses_more_reads_back_what_it_lacks(office: Office) -> None:
    emails_only(office)
    office.spec = replace(office.spec, mapping=NAMES)
    reads = len(office.crm.reads)
    office.event("l1", fields={"Email": "b@x"}, at=NOON + dt.timedelta(seconds=3))
    office.work()
    assert len(office.crm.reads) == reads + 1
    assert observed(office)["l1"].keys() == {"Id", "Email", "Name", "Changed"}
    assert [(row["email"], row["name"]) for row in office.shelf.rows.values()] == [("b@x", "Bo")]


def test_two_syncs_of_a_stream_read_a_record_once_for_both(office: Office) -> None:
    office.spec = replace(office.spec, mapping=EMAIL)
    office.another("more", mapping=NAMES)
    office.crm.put("l1", "a@x", "Ada", at=NOON)
    office.event("l1", "created")
    worker = office.worker()
    worker._prepare()
    assert worker.drain() == 2
    assert office.crm.reads == [["l1"]]
    assert observed(office)["l1"].keys() == {"Id", "Email", "Name", "Changed"}


def test_what_marks_a_row_as_deleted_is_read_whoever_uses_it(office: Office) -> None:
    office.crm.put("l1", "a@x", "Ada", at=NOON)
    watched = Watched(
        database=office.database, connector=office.crm, connection="crm", stream=replace(LEAD, tombstone="Name"),
        types={one.name: one.type for one in FIELDS}, used=lambda: frozenset({"Email"}),
    )  # fmt: skip
    found, _ = watched.look(["l1"])
    assert found["l1"].values.keys() == {"Id", "Email", "Changed", "Name"}
