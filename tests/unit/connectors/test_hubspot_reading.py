"""Reads of a HubSpot account: everything, changes, deletes, and what may shift meanwhile."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
from hubspot_portal import TOKEN, Portal, Reply, Request, iso

from sync_platform.connectors.hubspot import HubSpot
from sync_platform.errors import ConfigError
from sync_platform.model import Page, Position


def rows(pages: Sequence[Page]) -> list[dict[str, Any]]:
    return [row for page in pages for row in page.table.to_pylist() if not row.get("_deleted")]


def tombstones(pages: Sequence[Page]) -> set[str]:
    return {row["id"] for page in pages for row in page.table.to_pylist() if row.get("_deleted")}


def ids(pages: Sequence[Page]) -> list[str]:
    return [row["id"] for row in rows(pages)]


def reached(hubspot: HubSpot, stream: str = "contacts") -> Position:
    """The position after a full read."""
    position = list(hubspot.read(stream))[-1].position
    assert position is not None
    return position


def test_a_full_read_brings_every_record_once_and_says_it_is_complete(portal: Portal, hubspot: HubSpot) -> None:
    wanted = [portal.add(firstname=f"n{n}") for n in range(250)]
    pages = list(hubspot.read("contacts", fields=["firstname"]))
    assert ids(pages) == wanted
    assert [page.complete for page in pages] == [False, False, True]
    assert all(page.position is not None for page in pages)
    assert set(pages[0].table.column_names) == {"id", "lastmodifieddate", "firstname"}


def test_an_empty_object_is_completely_read_too(hubspot: HubSpot) -> None:
    (page,) = hubspot.read("contacts")
    assert page.table.num_rows == 0
    assert page.complete


def test_a_killed_full_read_resumes_and_does_not_claim_to_be_complete(portal: Portal, hubspot: HubSpot) -> None:
    wanted = [portal.add() for _ in range(250)]
    first = next(iter(hubspot.read("contacts")))
    portal.archive(wanted[0], portal.now)
    pages = list(hubspot.read("contacts", first.position))
    assert ids([first, *pages]) == wanted
    assert not any(page.complete for page in pages)
    assert wanted[0] in tombstones(pages)


def test_a_list_that_is_not_in_the_order_of_ids_is_not_called_complete(portal: Portal, hubspot: HubSpot) -> None:
    for _ in range(3):
        portal.add()

    def shuffled(request: Request) -> Reply | None:
        if request.path.endswith("/objects/contacts"):
            names = request.query["properties"].split(",")
            return Reply(200, {"results": [portal._shown(key, names) for key in ("103", "101", "102")]})
        return None

    portal.script = shuffled
    assert not list(hubspot.read("contacts"))[-1].complete


def test_property_lists_too_long_for_an_address_are_read_in_one_piece_per_record(
    portal: Portal, hubspot: HubSpot
) -> None:
    portal.properties.update({f"custom_property_{n}": {"type": "string"} for n in range(400)})
    key = portal.add(custom_property_399="last")
    portal.index()
    (row,) = rows(list(hubspot.read("contacts")))
    assert row["custom_property_399"] == "last"
    assert portal.sent("batch/read")
    assert not any(len(each.query.get("properties", "")) > 4000 for each in portal.requests)
    changed = list(hubspot.read("contacts", Position({"form": 1, "since": 0})))
    assert [row["custom_property_399"] for row in rows(changed)] == ["last"]
    assert ids(changed) == [key]
    assert all(len(str(each.body)) < 3000 for each in portal.sent("/search"))


def test_changes_are_found_by_the_search_from_the_position_on(portal: Portal, hubspot: HubSpot) -> None:
    old, new = portal.add(at=portal.now), portal.add(at=portal.now)
    position = reached(hubspot)
    portal.touch(new, at=portal.now + 60_000, firstname="changed")
    portal.touch(old, at=portal.now - 60_000)
    portal.index()
    pages = list(hubspot.read("contacts", position))
    assert ids(pages) == [new]
    assert pages[-1].position is not None


def test_rows_that_share_the_last_timestamp_are_read_again_rather_than_lost(portal: Portal, hubspot: HubSpot) -> None:
    moment = portal.now
    portal.add(at=moment)
    position = reached(hubspot)
    late = portal.add(at=moment)
    portal.index()
    assert late in ids(list(hubspot.read("contacts", position)))


def test_more_than_ten_thousand_changes_with_one_timestamp_are_all_read(portal: Portal, hubspot: HubSpot) -> None:
    for _ in range(10_450):
        portal.add(at=portal.now)
    portal.index()
    pages = list(hubspot.read("contacts", Position({"form": 1, "since": portal.now}), fields=["firstname"]))
    assert len(ids(pages)) == len(set(ids(pages))) == 10_450


def test_a_record_edited_or_archived_while_pages_are_read_hides_no_other(portal: Portal, hubspot: HubSpot) -> None:
    wanted = [portal.add(at=portal.now) for _ in range(450)]
    portal.index()

    def shift(request: Request) -> None:
        if request.path.endswith("/search"):
            page = len(portal.sent("/search"))
            portal.archive(wanted[page], portal.now)
            portal.touch(wanted[100 + page], portal.now + 99_000)
            portal.index()

    portal.after_page = shift
    pages = list(hubspot.read("contacts", Position({"form": 1, "since": portal.now})))
    assert set(ids(pages)) | tombstones(pages) == set(wanted)


def test_the_position_does_not_run_ahead_of_the_index(portal: Portal, hubspot: HubSpot) -> None:
    """The index filters by what it knows; the values it answers are live and may be newer."""
    seen = portal.add(at=portal.now)
    behind = portal.add(at=portal.now)
    portal.index()
    position = reached(hubspot)
    now = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
    portal.touch(behind, at=now - 2_000, firstname="not indexed yet")
    portal.indexed[seen]["lastmodifieddate"] = iso(now - 60_000)
    portal.touch(seen, at=now, firstname="live")
    pages = list(hubspot.read("contacts", position))
    assert seen in ids(pages)
    portal.index()
    pages = list(hubspot.read("contacts", pages[-1].position))
    assert {"firstname": "not indexed yet"}.items() <= next(row for row in rows(pages) if row["id"] == behind).items()


def test_the_vendors_clock_counts_when_it_is_behind_ours(portal: Portal, hubspot: HubSpot) -> None:
    portal.add(at=int(dt.datetime.now(dt.UTC).timestamp() * 1000))
    portal.index()

    def dated(request: Request) -> Reply | None:
        if not request.path.endswith("/search"):
            return None
        reply = portal._search(request)
        reply.headers["Date"] = "Thu, 01 Jan 2026 00:00:00 GMT"
        return reply

    portal.script = dated
    last = list(hubspot.read("contacts", Position({"form": 1, "since": 5})))[-1].position
    assert last is not None
    assert last.value["since"] == int(dt.datetime(2025, 12, 31, 23, 59, 45, tzinfo=dt.UTC).timestamp() * 1000)


def test_archived_entries_of_the_index_do_not_end_or_stall_a_search(portal: Portal, hubspot: HubSpot) -> None:
    """`total` counts them and whole pages may be empty: only `paging.next` says whether there is more."""
    wanted = [portal.add(at=portal.now) for _ in range(700)]
    portal.index()
    for key in wanted[:650]:
        portal.archive(key, portal.now)
    pages = list(hubspot.read("contacts", Position({"form": 1, "since": portal.now})))
    assert ids(pages) == wanted[650:]
    assert tombstones(pages) == set(wanted[:650])


def test_an_index_that_ignores_the_order_is_not_relied_on(portal: Portal, hubspot: HubSpot) -> None:
    old = portal.add(at=portal.now - 50_000)
    wanted = [portal.add(at=portal.now) for _ in range(5)]
    portal.index()

    def unsorted(request: Request) -> Reply | None:
        if not request.path.endswith("/search"):
            return None
        names = request.body["properties"]
        return Reply(200, {"results": [portal._shown(wanted[4], names), portal._shown(wanted[0], names)]})

    portal.script = unsorted
    pages = list(hubspot.read("contacts", Position({"form": 1, "since": portal.now})))
    assert ids(pages) == wanted
    assert old not in ids(pages)


def test_a_killed_search_resumes_behind_the_last_id_and_keeps_its_beginning(portal: Portal, hubspot: HubSpot) -> None:
    wanted = [portal.add(at=portal.now) for _ in range(450)]
    portal.index()
    first = next(iter(hubspot.read("contacts", Position({"form": 1, "since": portal.now}))))
    assert first.position is not None
    pages = list(hubspot.read("contacts", first.position))
    assert ids([first, *pages]) == wanted
    last = pages[-1].position
    assert last is not None
    assert last.value["since"] <= first.position.value["started"]


def test_deletes_appear_once_with_the_incremental_read_that_follows_them(portal: Portal, hubspot: HubSpot) -> None:
    gone, kept = portal.add(), portal.add()
    position = reached(hubspot)
    portal.archive(gone, int(dt.datetime.now(dt.UTC).timestamp() * 1000))
    portal.index()
    pages = list(hubspot.read("contacts", position))
    assert tombstones(pages) == {gone}
    assert kept not in tombstones(pages)
    stone = next(row for page in pages for row in page.table.to_pylist() if row.get("_deleted"))
    assert stone["lastmodifieddate"] is not None


def test_records_archived_long_before_the_position_are_not_told_again(portal: Portal, hubspot: HubSpot) -> None:
    key = portal.add()
    portal.archive(key, portal.now)
    assert tombstones(list(hubspot.read("contacts", reached(hubspot)))) == set()


def test_walks_through_the_archive_can_be_spaced_out_without_losing_a_delete(portal: Portal) -> None:
    spaced = HubSpot(base_url=portal.url, access_token=TOKEN, archived_every_seconds=3600, searches_per_second=1000)
    key = portal.add()
    position = list(spaced.read("contacts", reached(spaced)))[-1].position
    portal.archive(key, int(dt.datetime.now(dt.UTC).timestamp() * 1000))
    pages = list(spaced.read("contacts", position))
    assert tombstones(pages) == set()
    assert pages[-1].position is not None
    due = Position({**pages[-1].position.value, "archived_read": 0})
    assert tombstones(list(spaced.read("contacts", due))) == {key}


def test_merged_records_leave_tombstones_of_those_that_went_into_them(portal: Portal, hubspot: HubSpot) -> None:
    key = portal.add(hs_merged_object_ids="55;77")
    portal.records[key]["properties"]["hs_merged_object_ids"] = f"55;{key};77"
    portal.index()
    pages = list(hubspot.read("contacts", Position({"form": 1, "since": 0}), fields=["firstname"]))
    assert tombstones(pages) == {"55", "77"}
    assert "hs_merged_object_ids" not in pages[0].table.column_names


def test_a_sources_own_filter_makes_what_left_it_a_tombstone(portal: Portal, hubspot: HubSpot) -> None:
    inside, leaver = portal.add(age="40"), portal.add(age="50")
    where = "CAST(age AS INT) >= 40"
    pages = list(hubspot.read("contacts", where=where, fields=["firstname"]))
    assert ids(pages) == [inside, leaver]
    assert pages[-1].complete
    portal.touch(leaver, age="30")
    portal.index()
    pages = list(hubspot.read("contacts", pages[-1].position, where=where, fields=["firstname"]))
    assert tombstones(pages) == {leaver}
    assert not any(
        each.body["filterGroups"][0]["filters"][0]["propertyName"] == "age" for each in portal.sent("search")
    )


@pytest.mark.parametrize("where", ["nope = 1", "age >", "length(1, 2, 3) = age"])
def test_a_filter_that_cannot_be_evaluated_is_a_setting_to_change(portal: Portal, hubspot: HubSpot, where: str) -> None:
    portal.add(age="1")
    with pytest.raises(ConfigError):
        list(hubspot.read("contacts", where=where))


def test_other_objects_have_their_own_cursor_and_custom_ones_are_reached_by_number(
    portal: Portal, hubspot: HubSpot
) -> None:
    portal.add()
    for stream in ("companies", "2-12345"):
        (page,) = hubspot.read(stream, fields=["firstname"])
        assert page.table.column_names == ["id", "hs_lastmodifieddate", "firstname"]
        assert portal.sent(f"/crm/v3/objects/{stream}")
    with pytest.raises(ConfigError, match="no object"):
        hubspot.stream("Contacts!")
