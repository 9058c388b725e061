"""The short way of the usual batch leaves behind what the general way does, and gives up wherever it must."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from sync_platform.engine.spec import Dedupe
from sync_platform.ledger.taking_up import release, take_up
from sync_platform.realtime import queue
from sync_platform.realtime.lane import Lane
from sync_platform.realtime.observed import Observed, Watched
from sync_platform.realtime.settling import settle_usual
from tests.unit.warm.crm import FIELDS, LEAD
from tests.unit.warm.office import Office

ONE, TWO = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
NOON = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
WATCHED = "SELECT key, xmin::text, row, deleted, version_cursor, version_read_at, read_cursor, field_times"


def later(seconds: int) -> dt.datetime:
    return NOON + dt.timedelta(seconds=seconds)


def known(office: Office, *keys: str) -> None:
    """These records are linked and observed."""
    for key in keys:
        office.crm.put(key, f"{key}@x", "Ada", at=NOON)
        office.event(key, "created")
    office.work()


def names(office: Office) -> dict[str, str | None]:
    return {str(row["email"]): row["name"] for row in office.shelf.rows.values()}


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The batches that took the general way, which still works as ever."""
    taken: list[list[str]] = []
    way = Lane._in_general

    def told(self: Lane, batch: Any) -> Any:
        taken.append(batch.keys)
        return way(self, batch)

    monkeypatch.setattr(Lane, "_in_general", told)
    return taken


def test_both_ways_leave_the_same_ledger_behind(office: Office, general: list[list[str]]) -> None:
    office.spec = replace(office.spec, dedupe=Dedupe(by="lower(trim(email))"))
    known(office, "l1", "l2")
    general.clear()
    office.event("l1", fields={"Name": "short"}, at=later(1))
    office.work()
    assert general == []
    office.crm.put("l3", "l3@x", "new", at=NOON)
    office.event("l2", fields={"Name": "general"}, at=later(1))
    office.event("l3", "created")
    office.work()
    assert general == [["l2", "l3"]], "a new record takes its batch the general way"
    assert names(office) == {"l1@x": "short", "l2@x": "general", "l3@x": "new"}
    told = dict(
        office.rows(
            """SELECT o.source_key, jsonb_build_array(o.op, o.status, o.lane, o.reason, o.request_id, o.run_id IS NULL,
                   o.plan_id IS NULL, (SELECT array_agg(k) FROM jsonb_object_keys(o.fields) k), l.version_cursor,
                   l.base IS NULL, m.dedupe_key = o.source_key || '@x')
               FROM sync.outcomes o JOIN sync.links l USING (sync, source_key)
               JOIN sync.members m USING (sync, source_key) WHERE o.op = 'update'"""
        )
    )
    assert told["l1"] == told["l2"]
    assert office.rows("SELECT count(*) FROM sync.claims") == [(0,)]
    done = dict(office.rows("SELECT q.key, jsonb_agg(jsonb_build_array(state, outcome, owner, lease_until, not_before) "
                            "ORDER BY seq) FROM sync.queue q GROUP BY 1"))  # fmt: skip
    assert done["l1"] == done["l2"]


def test_an_equal_record_is_unchanged_and_its_link_knows_the_new_version(office: Office, general: list[Any]) -> None:
    known(office, "l1")
    general.clear()
    office.event("l1", fields={"Name": "Ada"}, at=later(5))
    office.work()
    assert general == []
    assert office.queue()[-1] == ("l1", "done", "unchanged")
    assert len(office.shelf.calls) == 1
    assert office.rows("SELECT count(*) FROM sync.claims") == [(0,)]


def test_a_field_that_one_record_lacks_is_still_sent_for_the_others(office: Office) -> None:
    office.crm.hidden.add("Name")
    known(office, "l1")
    office.crm.hidden.clear()
    known(office, "l2")
    assert names(office) == {"l1@x": None, "l2@x": "Ada"}
    office.crm.hidden.add("Name")  # l1 is read back without it, l2 is known with it
    office.crm.put("l1", "l1@y", at=later(1))
    office.event("l1", fields={"Email": "l1@y"}, at=later(1))
    office.event("l2", fields={"Name": "Bo"}, at=later(1))
    office.work()
    assert names(office) == {"l1@y": None, "l2@x": "Bo"}
    office.shelf.rows[next(id for id, row in office.shelf.rows.items() if row["email"] == "l1@y")]["name"] = "by hand"
    office.crm.put("l1", "l1@z", at=later(2))
    office.event("l1", fields={"Email": "l1@z"}, at=later(2))
    office.event("l2", fields={"Name": None}, at=later(2))
    office.work()
    assert names(office) == {"l1@z": "by hand", "l2@x": None}, "absent is not null, and null is not absent"


def test_a_record_that_shares_a_dedupe_key_with_another_goes_the_general_way(
    office: Office, general: list[Any]
) -> None:
    office.spec = replace(office.spec, dedupe=Dedupe(by="lower(trim(email))"))
    known(office, "l1", "l2")
    general.clear()
    office.event("l2", fields={"Email": "L1@x "}, at=later(1))
    office.work()
    assert general == [["l2"]]
    assert len([one for one in office.queue() if one[1] == "done"]) == 3


def test_a_record_that_changed_since_it_was_read_is_not_overlaid(office: Office) -> None:
    known(office, "l1")
    watched = Watched(
        database=office.database, connector=office.crm, connection="crm", stream=LEAD,
        types={one.name: one.type for one in FIELDS} | {"Id": pa.string()},
    )  # fmt: skip
    [(key, version, *row)] = office.rows(f"{WATCHED} FROM sync.observed")
    seen = Observed.of((key, *row))
    laid = replace(seen, values={**seen.values, "Name": "laid over"})
    office.rows("UPDATE sync.observed SET field_times = '{\"Email\": 7}' RETURNING 1")
    assert not watched.keep_usual([], [laid], {key: version}, "leads", [key], [])
    [(_, version, *row)] = office.rows(f"{WATCHED} FROM sync.observed")
    assert Observed.of((key, *row)).values["Name"] == "Ada"
    assert watched.keep_usual([], [laid], {key: version}, "leads", [key], [])
    [(_, _, *row)] = office.rows(f"{WATCHED} FROM sync.observed")
    assert Observed.of((key, *row)).values["Name"] == "laid over"


def test_what_another_holds_is_not_taken_up(office: Office) -> None:
    known(office, "l1", "l2")
    mine, other = ONE, TWO
    first = take_up(office.database, office.spec, "Lead", ["l1"], other, 30)
    both = take_up(office.database, office.spec, "Lead", ["l1", "l2"], mine, 30)
    assert (first.usual, both.usual) == (True, False)
    assert len(both.claims) == 1, "the free one was claimed, and must be given back"
    release(office.database, office.spec, both.claims, mine)
    release(office.database, office.spec, first.claims, other)
    assert take_up(office.database, office.spec, "Lead", ["l1", "l2"], mine, 30).usual
    assert not take_up(office.database, office.spec, "Lead", ["l1", "l3"], mine, 30).usual, "l3 is not linked"


def test_a_worker_that_lost_its_events_settles_nothing(office: Office) -> None:
    known(office, "l1")
    office.event("l1", fields={"Name": "late"}, at=later(1))
    batch = queue.claim(office.database, ONE, ["leads"], 10)
    assert batch is not None
    link = "SELECT target_id, base, version_cursor FROM sync.links"
    before = office.rows(link)
    row = {
        "source_key": "l1", "target_id": before[0][0], "op": "update", "status": "applied", "fields": "{}", "base": 1,
        "version_cursor": 2**60, "version_read_at": 0,
    }  # fmt: skip
    told = {"run_id": "run", "plan_id": batch.plan_id, "done": {"l1": ("applied", None)}, "members": {}, "claims": ()}
    with pytest.raises(queue.FencedError):
        settle_usual(office.database, office.spec, [row], worker=TWO, **told)
    assert office.rows(link) == before
    assert office.rows("SELECT count(*) FROM sync.outcomes WHERE run_id = 'run'") == [(0,)]
    settle_usual(office.database, office.spec, [row], worker=ONE, **told)
    assert office.rows(link) == [(before[0][0], 1, 2**60)]
    assert office.queue()[-1] == ("l1", "done", "applied")
