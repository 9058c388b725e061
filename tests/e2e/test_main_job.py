"""The main job: Salesforce leads become HubSpot contacts, through the command line and Dagster."""

from __future__ import annotations

from tests.world import SYNC, World


def test_the_report_equals_the_target_and_a_second_run_writes_nothing(world: World) -> None:
    world.seed_leads(60, missing={"Email": 3}, duplicates=5, older=4)
    first = world.run()
    assert first.code == 1, first.err
    summary = first.json["sync_summary"]
    assert (summary["records_processed"], summary["created"], summary["failed_transfers"]) == (60, 57, 3)
    assert summary["duplicates_skipped"] == 5
    assert first.json["data_quality"]["missing_required_fields"] == ["email field empty for 3 records"]
    assert len(world.records("hubspot/contacts")) == 57
    mark = world.mark()
    second = world.run()
    assert second.code == 0, second.err
    assert second.json["sync_summary"]["records_processed"] == 0
    assert second.json["sync_summary"]["dead_letters_open"] == 3
    assert world.written(mark) == []
    assert world.violations() == []


def test_an_edited_lead_updates_only_the_field_that_changed(world: World) -> None:
    ids = world.seed_leads(10)
    assert world.run().code == 0
    world.edit("salesforce/Lead", {"id": ids[3], "fields": {"Company": "Zürich & Söhne 🚀"}})
    mark = world.mark()
    report = world.run().json
    assert report["sync_summary"]["records_processed"] == 1
    assert report["sync_summary"]["updated"] == 1
    assert len(world.written(mark)) == 1
    assert world.disagreements() == []
    entries = [one for one in world.cli("log", SYNC, ids[3], "--json").json["outcomes"] if one["op"] == "update"]
    assert [(one["field"], one["new"]) for one in entries] == [("company", "Zürich & Söhne 🚀")]


def test_a_contract_failure_is_tried_again_when_its_source_changes(world: World) -> None:
    ids = world.seed_leads(5, missing={"Email": 1})
    assert world.run().code == 1
    letters = world.cli("dead", "list", "--json").json["dead_letters"]
    assert len(letters) == 1
    assert letters[0]["field"] == "email"
    assert letters[0]["key"] in ids
    world.edit("salesforce/Lead", {"id": letters[0]["key"], "fields": {"Email": "found@example.com"}})
    again = world.run()
    assert again.code == 0, again.err
    assert again.json["sync_summary"]["created"] == 1
    assert again.json["sync_summary"]["dead_letters_open"] == 0
    assert world.disagreements() == []


def test_dead_retry_tries_a_record_again_although_nothing_changed(world: World) -> None:
    world.seed_leads(4, missing={"Email": 1})
    world.run()
    assert world.cli("dead", "retry", SYNC, "--json").json["changed"] == 1
    report = world.run().json
    assert report["sync_summary"]["records_processed"] == 1
    assert report["sync_summary"]["failed_transfers"] == 1


def test_a_duplicate_that_arrives_later_does_not_double_the_contact(world: World) -> None:
    ids = world.seed_leads(6)
    assert world.run().code == 0
    leads = {lead["id"]: lead["fields"] for lead in world.records("salesforce/Lead")}
    email = leads[ids[0]]["Email"]
    world.edit(
        "salesforce/Lead", {"fields": {"LastName": "Later", "Company": "Newest Ltd", "Email": f"  {email.upper()} "}}
    )
    report = world.run().json
    assert report["sync_summary"]["created"] == 0
    assert report["sync_summary"]["updated"] == 1
    assert world.disagreements() == []
    # the newest speaks for both until it moves to an address of its own; then the older one speaks again
    later = next(lead["id"] for lead in world.records("salesforce/Lead") if lead["fields"]["LastName"] == "Later")
    world.edit("salesforce/Lead", {"id": later, "fields": {"Email": "moved.away@example.com"}})
    assert world.run().code == 0
    assert world.disagreements() == []
    assert len(world.records("hubspot/contacts")) == 7


def test_an_empty_source_is_a_run_with_nothing_to_do(world: World) -> None:
    report = world.run()
    assert report.code == 0, report.out + report.err
    assert report.json["sync_summary"]["records_processed"] == 0
    assert world.cli("sql", "SELECT count(*) AS n FROM staging.salesforce.Lead", "--json").json == [{"n": 0}]
    world.seed_leads(3)
    assert world.run().json["sync_summary"]["created"] == 3
