"""Batches over HTTP: what is created, updated and archived, and how each input is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hubspot_client import HubSpotClient

CONTACTS = "/crm/v3/objects/contacts"


def batch(hubspot: HubSpotClient, operation: str, inputs: list[dict[str, Any]], status: int, **body: Any) -> Any:
    return hubspot.post(f"{CONTACTS}/batch/{operation}", {"inputs": inputs, **body}, status)


def test_an_upsert_creates_and_updates_and_says_which(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email="a@example.com", firstname="Ann")
    answer = batch(
        hubspot,
        "upsert",
        [
            {
                "id": f"{name}@Example.com",
                "idProperty": "email",
                "objectWriteTraceId": name,
                "properties": {"phone": "7"},
            }
            for name in "abcd"
        ],
        200,
    )
    by_trace = {row["objectWriteTraceId"]: row for row in answer["results"]}
    assert {trace: row["new"] for trace, row in by_trace.items()} == {"a": False, "b": True, "c": True, "d": True}
    assert by_trace["a"]["id"] == id
    assert by_trace["b"]["properties"]["email"] == "b@example.com"
    assert sorted(hubspot.effects()) == [("create", True)] * 3 + [("update", True)]
    assert answer["status"] == "COMPLETE"
    assert "errors" not in answer


def test_batch_results_come_in_another_order_than_sent(hubspot: HubSpotClient) -> None:
    sent = [f"p{n}@example.com" for n in range(40)]
    inputs = [{"properties": {"email": email}} for email in sent]
    got = [row["properties"]["email"] for row in batch(hubspot, "create", inputs, 201)["results"]]
    assert sorted(got) == sorted(sent)
    assert got != sent
    hubspot.habit("shuffled_batch_results", on=False)
    ids = [{"id": email} for email in sent]
    read = batch(hubspot, "read", ids, 200, idProperty="email", properties=["email"], propertiesWithHistory=[])
    assert [row["properties"]["email"] for row in read["results"]] == sent


def test_with_trace_ids_inputs_fail_one_by_one(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email="a@example.com")
    answer = batch(
        hubspot,
        "create",
        [
            {"objectWriteTraceId": "taken", "properties": {"email": "a@example.com"}},
            {"objectWriteTraceId": "good", "properties": {"email": "b@example.com"}},
            {"objectWriteTraceId": "bad", "properties": {"email": "c@example.com", "lifecyclestage": "nope"}},
        ],
        207,
    )
    assert [row["objectWriteTraceId"] for row in answer["results"]] == ["good"]
    errors = {error["context"]["objectWriteTraceId"][0]: error for error in answer["errors"]}
    assert answer["numErrors"] == len(errors) == 2
    assert errors["taken"]["category"] == "CONFLICT"
    assert errors["taken"]["context"]["existingId"] == [id]
    assert errors["bad"]["category"] == "VALIDATION_ERROR"
    assert "INVALID_OPTION" in errors["bad"]["message"]
    assert sorted(hubspot.effects()) == [("create", False), ("create", False), ("create", True)]


def test_the_newest_version_reports_failures_inside_a_200(hubspot: HubSpotClient) -> None:
    inputs = [{"objectWriteTraceId": "x", "id": "a", "idProperty": "email", "properties": {}}]
    path = "/crm/objects/{}/contacts/batch/upsert"
    assert hubspot.post(path.format("2026-09"), {"inputs": inputs}, 200)["numErrors"] == 1
    assert hubspot.post(path.format("2026-03"), {"inputs": inputs}, 207)["numErrors"] == 1


def test_without_trace_ids_one_bad_input_refuses_the_batch(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email="a@example.com", firstname="Ann")
    bad: list[list[dict[str, Any]]] = [
        [{"properties": {"email": "b@example.com"}}, {"properties": {"email": "a@example.com"}}],
        [{"properties": {"email": "b@example.com"}}, {"properties": {"lifecyclestage": "nope"}}],
        [{"properties": {"email": "b@example.com"}}, {"properties": {"email": "B@example.com"}}],
    ]
    for inputs, status in zip(bad, (409, 400, 409), strict=True):
        batch(hubspot, "create", inputs, status)
        assert hubspot.effects() == []
    changes = [{"id": id, "properties": {"firstname": "Eve"}}, {"id": "1", "properties": {"email": "no"}}]
    batch(hubspot, "update", changes, 400)
    assert [row["properties"]["firstname"] for row in hubspot.get(CONTACTS)["results"]] == ["Ann"]
    hubspot.advance(10)
    assert hubspot.search()["total"] == 1


def test_an_update_names_the_records_that_are_not_there(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email="a@example.com")
    changes = [{"id": each, "properties": {"firstname": "Eve"}} for each in (id, "1", "2")]
    answer = batch(hubspot, "update", changes, 207)
    assert [row["id"] for row in answer["results"]] == [id]
    assert [(e["category"], e["context"]["ids"]) for e in answer["errors"]] == [("OBJECT_NOT_FOUND", ["1", "2"])]
    read = batch(hubspot, "read", [{"id": id}, {"id": "1"}], 207, properties=["firstname"])
    assert read["results"][0]["properties"]["firstname"] == "Eve"
    assert read["errors"][0]["context"]["ids"] == ["1"]


@pytest.mark.parametrize(
    ("operation", "inputs"),
    [
        ("upsert", [{"id": e, "idProperty": "email", "properties": {}} for e in ("a@example.com", "A@example.com")]),
        ("update", [{"id": "1", "properties": {}}] * 2),
        ("update", [{"id": "a@example.com", "idProperty": "email", "properties": {}}]),
        ("upsert", [{"id": "Ann", "idProperty": "firstname", "properties": {}}]),
        ("upsert", [{"idProperty": "email", "properties": {}}]),
        ("create", [{"properties": {}}] * 101),
        ("create", []),
        ("create", [{"id": "1", "properties": {}}]),
        ("create", [{"properties": {"email": f"{n}@example.com"}, "objectWriteTraceId": "t"} for n in range(2)]),
        ("read", [{"id": str(n)} for n in range(101)]),
        ("archive", [{"id": str(n)} for n in range(101)]),
    ],
)
def test_batches_the_vendor_does_not_take_are_refused_whole(
    hubspot: HubSpotClient, operation: str, inputs: list[dict[str, Any]]
) -> None:
    batch(hubspot, operation, inputs, 400)
    assert len(hubspot.violations()) == 1
    assert hubspot.get(CONTACTS)["results"] == []


def test_a_batch_archive_passes_over_what_is_not_there(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email="a@example.com")
    batch(hubspot, "archive", [{"id": id}, {"id": "1"}], 204)
    assert hubspot.effects() == [("delete", True), ("noop", True)]
    assert hubspot.get(CONTACTS)["results"] == []


def test_a_partial_fault_refuses_half_of_a_batch_and_says_which(hubspot: HubSpotClient) -> None:
    hubspot.control.post("faults", {"system": "hubspot", "kind": "partial", "times": 1})
    inputs = [
        {"id": f"p{n}@example.com", "idProperty": "email", "objectWriteTraceId": f"t{n}", "properties": {}}
        for n in range(10)
    ]
    answer = batch(hubspot, "upsert", inputs, 207)
    refused = {trace for error in answer["errors"] for trace in error["context"]["objectWriteTraceId"]}
    stored = {row["objectWriteTraceId"] for row in answer["results"]}
    assert (len(stored), len(refused), stored | refused) == (5, 5, {f"t{n}" for n in range(10)})
    assert sorted(hubspot.effects()) == [("create", False)] * 5 + [("create", True)] * 5
    assert len(hubspot.get(CONTACTS)["results"]) == 5
    assert batch(hubspot, "upsert", inputs, 200)["status"] == "COMPLETE"
    assert hubspot.violations() == []


def test_a_partial_fault_without_trace_ids_names_the_refused_records(hubspot: HubSpotClient) -> None:
    ids = [hubspot.contact(email=f"p{n}@example.com") for n in range(4)]
    hubspot.control.post("faults", {"system": "hubspot", "kind": "partial", "match": "/batch/update", "times": 1})
    changes = [{"id": id, "properties": {"firstname": "Eve"}} for id in ids]
    answer = batch(hubspot, "update", changes, 207)
    refused = [id for error in answer["errors"] for id in error["context"]["ids"]]
    assert len(refused) == 2
    assert sorted([*refused, *(row["id"] for row in answer["results"])]) == sorted(ids)
    assert all(hubspot.stored(id).get("firstname") is None for id in refused)
