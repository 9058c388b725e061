"""Search: every operator on every type, limits, the late index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hubspot_client import START, HubSpotClient, hubspot_client

MS = int(START * 1000)
PEOPLE: dict[str, dict[str, Any]] = {
    "ann": {
        "email": "ann@acme.example.com", "firstname": "Ann", "lastname": "Berg", "company": "Acme Foods",
        "lifecyclestage": "lead", "associatedcompanyid": "9", "hs_email_optout": "false",
        "closedate": "2026-03-01T00:00:00Z", "hs_buying_role": "CHAMPION;END_USER",
    },
    "bob": {
        "email": "bob@globex.example.com", "firstname": "BOB", "lastname": "van der Berg", "company": "Globex",
        "lifecyclestage": "customer", "associatedcompanyid": "10", "hs_email_optout": "true",
        "closedate": "2026-04-01T12:30:00Z", "hs_buying_role": "BLOCKER",
    },
    "cyd": {
        "email": "cyd@acme.example.com", "firstname": "Cyd", "company": "acme [new]?", "lifecyclestage": "lead",
        "associatedcompanyid": "100",
    },
    "dee": {"firstname": "Dee-Dee", "lastname": "O'Neil", "phone": "+1 555 010 7788"},
}  # fmt: skip


@pytest.fixture(scope="module")
def table() -> Iterator[tuple[HubSpotClient, dict[str, str]]]:
    with hubspot_client() as client:
        client.habit("search_limit", on=False)
        ids = client.by_hand("contacts", *({"fields": fields} for fields in PEOPLE.values()))
        client.advance(60)
        yield client, dict(zip(ids, PEOPLE, strict=True))


def one(name: str, operator: str, **values: Any) -> dict[str, Any]:
    return {"filterGroups": [{"filters": [{"propertyName": name, "operator": operator, **values}]}]}


@pytest.mark.parametrize(
    ("name", "operator", "values", "found"),
    [
        ("email", "EQ", {"value": "ANN@acme.example.com"}, "ann"),
        ("email", "NEQ", {"value": "ann@acme.example.com"}, "bob cyd"),
        ("firstname", "EQ", {"value": "bob"}, "bob"),
        ("firstname", "IN", {"values": ["ann", "bob"]}, "ann bob"),
        ("firstname", "IN", {"values": ["Ann", "BOB"]}, ""),
        ("firstname", "NOT_IN", {"values": ["ann", "bob"]}, "cyd dee"),
        ("lifecyclestage", "EQ", {"value": "lead"}, "ann cyd"),
        ("lifecyclestage", "EQ", {"value": "LEAD"}, ""),
        ("lifecyclestage", "IN", {"values": ["customer", "lead"]}, "ann bob cyd"),
        ("lifecyclestage", "NOT_IN", {"values": ["lead"]}, "bob"),
        ("hs_buying_role", "EQ", {"value": "END_USER"}, "ann"),
        ("hs_buying_role", "IN", {"values": ["BLOCKER", "CHAMPION"]}, "ann bob"),
        ("hs_buying_role", "NEQ", {"value": "CHAMPION"}, "bob"),
        ("associatedcompanyid", "GT", {"value": "9"}, "bob cyd"),
        ("associatedcompanyid", "GTE", {"value": 10}, "bob cyd"),
        ("associatedcompanyid", "LT", {"value": "10.5"}, "ann bob"),
        ("associatedcompanyid", "LTE", {"value": "9"}, "ann"),
        ("associatedcompanyid", "BETWEEN", {"value": "9", "highValue": "10"}, "ann bob"),
        ("associatedcompanyid", "IN", {"values": ["100", "9"]}, "ann cyd"),
        ("associatedcompanyid", "EQ", {"value": "010"}, "bob"),
        ("closedate", "GTE", {"value": "2026-03-15"}, "bob"),
        ("closedate", "EQ", {"value": "1772323200000"}, "ann"),
        ("closedate", "LT", {"value": "2026-04-01T12:30:00.000Z"}, "ann"),
        ("closedate", "LTE", {"value": "2026-04-01T14:30:00+02:00"}, "ann bob"),
        ("createdate", "GTE", {"value": str(MS)}, "ann bob cyd dee"),
        ("createdate", "GT", {"value": str(MS)}, ""),
        ("lastmodifieddate", "BETWEEN", {"value": str(MS), "highValue": str(MS)}, "ann bob cyd dee"),
        ("hs_email_optout", "EQ", {"value": "true"}, "bob"),
        ("hs_email_optout", "HAS_PROPERTY", {}, "ann bob"),
        ("lastname", "NOT_HAS_PROPERTY", {}, "cyd"),
        ("company", "CONTAINS_TOKEN", {"value": "acme"}, "ann cyd"),
        ("company", "CONTAINS_TOKEN", {"value": "Acme foods"}, "ann"),
        ("company", "CONTAINS_TOKEN", {"value": "acm"}, ""),
        ("company", "CONTAINS_TOKEN", {"value": "acm*"}, "ann cyd"),
        ("company", "CONTAINS_TOKEN", {"value": "*[new]?"}, "cyd"),
        ("company", "NOT_CONTAINS_TOKEN", {"value": "acme"}, "bob"),
        ("email", "CONTAINS_TOKEN", {"value": "*@acme.example.com"}, "ann cyd"),
        ("lastname", "CONTAINS_TOKEN", {"value": "berg"}, "ann bob"),
        ("firstname", "GT", {"value": "b"}, "bob cyd dee"),
        ("firstname", "LTE", {"value": "ANN"}, "ann"),
    ],
)
def test_each_operator_finds_what_the_vendor_would(
    table: tuple[HubSpotClient, dict[str, str]], name: str, operator: str, values: dict[str, Any], found: str
) -> None:
    client, who = table
    answer = client.search(**one(name, operator, **values))
    assert [who[row["id"]] for row in answer["results"]] == found.split()
    assert answer["total"] == len(found.split())
    assert client.violations() == []


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"query": "acme"}, "ann cyd"),
        ({"query": "ber GLO"}, "bob"),
        ({"query": "7788"}, "dee"),
        ({"query": "neil"}, "dee"),
        ({"query": "eil"}, ""),
        ({"query": "acme", **one("lifecyclestage", "EQ", value="lead"), "sorts": ["-firstname"]}, "cyd ann"),
        ({"sorts": [{"propertyName": "lastname", "direction": "DESCENDING"}]}, "bob dee ann cyd"),
        ({"sorts": ["associatedcompanyid"]}, "ann bob cyd dee"),
        ({"sorts": ["-hs_object_id"]}, "dee cyd bob ann"),
        ({"filters": [{"propertyName": "firstname", "operator": "EQ", "value": "cyd"}]}, "cyd"),
        (
            {"filterGroups": [
                {"filters": [
                    {"propertyName": "lifecyclestage", "operator": "EQ", "value": "lead"},
                    {"propertyName": "associatedcompanyid", "operator": "GT", "value": "9"},
                    {"propertyName": "associatedcompanyid", "operator": "LT", "value": "101"},
                ]},
                {"filters": [{"propertyName": "phone", "operator": "HAS_PROPERTY"}]},
            ]},
            "cyd dee",
        ),
        ({"filterGroups": []}, "ann bob cyd dee"),
        ({}, "ann bob cyd dee"),
    ],
)  # fmt: skip
def test_groups_free_text_and_sorts_combine(
    table: tuple[HubSpotClient, dict[str, str]], body: dict[str, Any], found: str
) -> None:
    client, who = table
    assert [who[row["id"]] for row in client.search(**body)["results"]] == found.split()


FILTER = {"propertyName": "firstname", "operator": "EQ", "value": "ann"}


@pytest.mark.parametrize(
    "body",
    [
        one("no_such_property", "EQ", value="1"),
        one("firstname", "LIKE", value="a"),
        one("firstname", "EQ"),
        one("firstname", "EQ", value="a", values=["a"]),
        one("firstname", "IN", value="a"),
        one("firstname", "IN", values=[]),
        one("firstname", "NOT_HAS_PROPERTY", value="a"),
        one("associatedcompanyid", "BETWEEN", value="1"),
        one("associatedcompanyid", "GT", value="many"),
        one("closedate", "GT", value="yesterday"),
        {"filterGroups": [{"filters": [FILTER]}] * 6},
        {"filterGroups": [{"filters": [FILTER] * 7}]},
        {"filterGroups": [{"filters": [FILTER] * 6}] * 4},
        {"filterGroups": [{"filters": []}]},
        {"filterGroups": [{"filter": [FILTER]}]},
        {"limit": 201},
        one("email", "IN", values=[f"person{n}@a-long-domain.example.com" for n in range(100)]),
        {"limit": "ten"},
        {"after": "10000"},
        {"after": "abc"},
        {"sorts": ["firstname", "lastname"]},
        {"sorts": ["no_such_property"]},
        {"sorts": [{"propertyName": "firstname", "direction": "DOWN"}]},
        {"query": "x" * 3001},
        {"properties": "firstname"},
        {"pagination": 1},
        [],
    ],
)
def test_a_search_the_vendor_does_not_take_is_a_400_and_a_violation(hubspot: HubSpotClient, body: Any) -> None:
    answer = hubspot.call("POST", "/crm/v3/objects/contacts/search", body)
    assert answer.status_code == 400
    assert answer.json()["status"] == "error"
    assert len(hubspot.violations()) == 1


def test_searching_through_associations_is_not_built(hubspot: HubSpotClient) -> None:
    answer = hubspot.call("POST", "/crm/v3/objects/tickets/search", one("associations.contact", "EQ", value="1"))
    assert answer.status_code == 501
    assert len(hubspot.violations()) == 1


def test_pages_walk_all_rows_once_and_end_without_a_next_page(hubspot: HubSpotClient) -> None:
    ids = hubspot.control.post("seed", {"system": "hubspot", "stream": "contacts", "count": 505, "options": {}})["ids"]
    hubspot.advance(60)
    seen: list[str] = []
    after = None
    while True:
        page = hubspot.search(limit=200, sorts=["lastmodifieddate"], **({"after": after} if after else {}))
        seen += [row["id"] for row in page["results"]]
        assert page["total"] == 505
        if "paging" not in page:
            break
        after = page["paging"]["next"]["after"]
        hubspot.advance(1)
    assert sorted(seen) == sorted(ids)


def test_pages_end_at_ten_thousand_and_a_keyset_goes_on(hubspot: HubSpotClient) -> None:
    hubspot.control.post("seed", {"system": "hubspot", "stream": "contacts", "count": 10_050, "options": {}})
    hubspot.advance(60)
    last = hubspot.search(limit=200, after="9800")
    assert last["total"] == 10_050
    assert last["paging"]["next"]["after"] == "10000"
    assert hubspot.call("POST", "/crm/v3/objects/contacts/search", {"after": "10000"}).status_code == 400
    rest = hubspot.search(limit=200, **one("hs_object_id", "GT", value=last["results"][-1]["id"]))
    assert rest["total"] == 50


def test_a_new_record_is_found_only_after_a_while_though_listed_at_once(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email="late@example.com")
    body = one("email", "EQ", value="late@example.com")
    assert hubspot.search(**body)["results"] == []
    assert [row["id"] for row in hubspot.get("/crm/v3/objects/contacts")["results"]] == [id]
    hubspot.advance(0.4)
    assert hubspot.search(**body)["total"] == 0
    hubspot.advance(2.6)
    assert [row["id"] for row in hubspot.search(**body)["results"]] == [id]


def test_a_batch_does_not_become_visible_at_once(hubspot: HubSpotClient) -> None:
    hubspot.post(
        "/crm/v3/objects/contacts/batch/create",
        {"inputs": [{"properties": {"email": f"p{n}@example.com"}} for n in range(50)]},
        201,
    )
    totals = []
    for _ in range(13):
        totals.append(hubspot.search()["total"])
        hubspot.advance(0.25)
    assert totals == sorted(totals)
    assert (totals[0], totals[-1]) == (0, 50)
    assert any(0 < total < 50 for total in totals)


def test_filters_see_the_index_while_values_are_live(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email="x@example.com", firstname="Old")
    hubspot.advance(10)
    hubspot.call("PATCH", f"/crm/v3/objects/contacts/{id}", {"properties": {"firstname": "New"}})
    (row,) = hubspot.search(**one("firstname", "EQ", value="old"), properties=["firstname"])["results"]
    assert row["properties"]["firstname"] == "New"
    assert hubspot.search(**one("firstname", "EQ", value="new"))["total"] == 0
    hubspot.advance(5)
    assert hubspot.search(**one("firstname", "EQ", value="old"))["total"] == 0
    assert hubspot.search(**one("firstname", "EQ", value="new"))["total"] == 1


def test_an_archived_row_still_counts_for_a_while_but_is_never_returned(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email="gone@example.com")
    hubspot.advance(10)
    assert hubspot.call("DELETE", f"/crm/v3/objects/contacts/{id}").status_code == 204
    answer = hubspot.search()
    assert (answer["total"], answer["results"]) == (1, [])
    hubspot.advance(3)
    assert hubspot.search()["total"] == 0


def test_a_stale_index_answers_as_of_ten_seconds_ago(hubspot: HubSpotClient) -> None:
    hubspot.habit("search_limit", on=False)
    hubspot.habit("own_write_moves_again", on=False)
    kept, changed, gone = (hubspot.contact(email=f"{name}@example.com", firstname="Old") for name in "abc")
    hubspot.advance(30)
    hubspot.call("PATCH", f"/crm/v3/objects/contacts/{changed}", {"properties": {"firstname": "New"}})
    hubspot.call("DELETE", f"/crm/v3/objects/contacts/{gone}")
    fresh_one = hubspot.contact(email="d@example.com", firstname="Old")
    hubspot.advance(5)
    old = one("firstname", "EQ", value="old")
    assert [row["id"] for row in hubspot.search(**old)["results"]] == [kept, fresh_one]
    hubspot.control.post("faults", {"system": "hubspot", "kind": "stale_index", "times": 1})
    stale = hubspot.search(**old)
    assert [row["id"] for row in stale["results"]] == [kept, changed]
    assert stale["total"] == 3
    assert [row["id"] for row in hubspot.search(**old)["results"]] == [kept, fresh_one]


def test_without_the_lag_a_write_is_found_at_once(hubspot: HubSpotClient) -> None:
    hubspot.habit("index_lag", on=False)
    hubspot.contact(email="now@example.com")
    assert hubspot.search(**one("email", "EQ", value="now@example.com"))["total"] == 1


def test_views_built_by_earlier_searches_stay_current(hubspot: HubSpotClient) -> None:
    hubspot.habit("search_limit", on=False)
    hubspot.habit("private_app_limit", on=False)
    ids = hubspot.control.post("seed", {"system": "hubspot", "stream": "contacts", "count": 600, "options": {}})["ids"]
    hubspot.advance(60)
    bodies: list[dict[str, Any]] = [
        one("lifecyclestage", "EQ", value="lead"),
        {**one("lastmodifieddate", "GTE", value=MS), "sorts": ["lastmodifieddate"]},
        {**one("associatedcompanyid", "LT", value="1300"), "sorts": ["-associatedcompanyid"]},
    ]
    for body in bodies:
        hubspot.search(**body)
    for start in range(0, 600, 100):
        inputs = [
            {"id": id, "properties": {"associatedcompanyid": id, "lifecyclestage": ""}}
            for id in ids[start : start + 100]
        ]
        hubspot.post("/crm/v3/objects/contacts/batch/update", {"inputs": inputs[: 100 - start // 10]})
    hubspot.advance(60)
    live = hubspot.control.get("records/hubspot/contacts")["records"]
    leads = [r["id"] for r in live if r["fields"]["lifecyclestage"] == "lead"]
    assert hubspot.search(**bodies[0])["total"] == len(leads) > 0
    moved = [r for r in live if r["fields"].get("associatedcompanyid")]
    assert hubspot.search(**bodies[1])["total"] == len(moved) == 450
    low = sorted((int(r["id"]) for r in moved if int(r["id"]) < 1300), reverse=True)
    assert 50 < len(low) < 200
    assert [int(row["id"]) for row in hubspot.search(**bodies[2], limit=200)["results"]] == low
