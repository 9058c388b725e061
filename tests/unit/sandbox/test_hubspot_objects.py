"""Single records over HTTP: answers, refusals and what the log says about them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hubspot_client import HubSpotClient, fresh

CONTACTS = "/crm/v3/objects/contacts"


def test_a_created_contact_is_stored_lower_cased_and_read_back(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email=" Ann@Example.COM ", firstname="Ann", hs_email_optout=True, associatedcompanyid=12)
    assert hubspot.effects() == [("create", True)]
    row = hubspot.get(f"{CONTACTS}/{id}", properties="email,hs_email_optout,associatedcompanyid,phone")
    assert row["properties"] == {
        "email": "ann@example.com",
        "hs_email_optout": "true",
        "associatedcompanyid": "12",
        "phone": None,
        "hs_object_id": id,
        "createdate": row["createdAt"],
        "lastmodifieddate": row["updatedAt"],
    }
    assert hubspot.get(f"{CONTACTS}/ANN@example.com", idProperty="email")["id"] == id


def test_a_taken_email_is_a_conflict_that_names_the_record(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email="ann@example.com")
    answer = hubspot.call("POST", CONTACTS, {"properties": {"email": "ANN@example.com "}})
    assert answer.status_code == 409
    assert answer.json()["message"] == f"Contact already exists. Existing ID: {id}"
    assert answer.json()["category"] == "CONFLICT"
    other = hubspot.contact(email="bob@example.com")
    assert hubspot.call("PATCH", f"{CONTACTS}/{other}", {"properties": {"email": "ann@example.com"}}).status_code == 409
    assert hubspot.violations() == []


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("no_such", "1", "PROPERTY_DOESNT_EXIST"),
        ("hs_object_id", "1", "READ_ONLY_VALUE"),
        ("hubspotscore", "1", "READ_ONLY_VALUE"),
        ("lastmodifieddate", "1", "READ_ONLY_VALUE"),
        ("email", "nobody", "INVALID_EMAIL"),
        ("email", "a b@example.com", "INVALID_EMAIL"),
        ("lifecyclestage", "Lead", "INVALID_OPTION"),
        ("hs_buying_role", "CHAMPION;NOBODY", "INVALID_OPTION"),
        ("hs_email_optout", "yes", "INVALID_OPTION"),
        ("associatedcompanyid", "1,5", "INVALID_INTEGER"),
        ("closedate", "tomorrow", "INVALID_LONG"),
        ("message", "x" * 65_537, "INVALID_LENGTH"),
    ],
)
def test_each_bad_value_is_refused_with_its_code(hubspot: HubSpotClient, name: str, value: str, code: str) -> None:
    answer = hubspot.call("POST", CONTACTS, {"properties": {"email": "ok@example.com", name: value}})
    body = answer.json()
    assert (answer.status_code, body["category"]) == (400, "VALIDATION_ERROR")
    assert [(e["code"], e["context"]["propertyName"]) for e in body["errors"]] == [(code, [name])]
    listed = json.loads(body["message"].removeprefix("Property values were not valid: "))
    assert [(p["name"], p["error"], p["isValid"]) for p in listed] == [(name, code, False)]
    assert hubspot.get(CONTACTS)["results"] == []
    assert bool(hubspot.violations()) == (code in ("PROPERTY_DOESNT_EXIST", "READ_ONLY_VALUE"))


def test_all_bad_values_of_a_record_are_named(hubspot: HubSpotClient) -> None:
    answer = hubspot.call("POST", CONTACTS, {"properties": {"email": "x", "lifecyclestage": "y"}})
    assert [e["code"] for e in answer.json()["errors"]] == ["INVALID_EMAIL", "INVALID_OPTION"]


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("2026-02-03", "2026-02-03"),
        ("1770076800000", "2026-02-03"),
        ("2026-02-03T00:00:00Z", "2026-02-03"),
        ("2026-02-03T01:00:00Z", None),
        ("3 Feb 2026", None),
    ],
)
def test_a_date_is_midnight_utc(hubspot: HubSpotClient, given: str, stored: str | None) -> None:
    answer = hubspot.call(
        "POST", "/crm/v3/objects/line_items", {"properties": {"hs_recurring_billing_start_date": given}}
    )
    if stored is None:
        assert answer.json()["errors"][0]["code"] == "INVALID_DATE"
    else:
        assert answer.json()["properties"]["hs_recurring_billing_start_date"] == stored


def test_an_empty_text_clears_and_null_is_not_taken(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email="a@example.com", firstname="Ann", closedate="1770076800123")
    assert hubspot.stored(id)["closedate"] == "2026-02-03T00:00:00.123Z"
    answer = hubspot.call("PATCH", f"{CONTACTS}/{id}", {"properties": {"firstname": ""}})
    assert answer.json()["properties"]["firstname"] is None
    assert hubspot.call("PATCH", f"{CONTACTS}/{id}", {"properties": {"firstname": None}}).status_code == 400


def test_a_write_that_changes_nothing_moves_no_stamp(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email="a@example.com", firstname="Ann")
    hubspot.advance(60)
    before = hubspot.get(f"{CONTACTS}/{id}")["updatedAt"]
    assert hubspot.call("PATCH", f"{CONTACTS}/{id}", {"properties": {"firstname": "Ann"}}).status_code == 200
    assert hubspot.effects() == [("noop", True)]
    hubspot.advance(60)
    assert hubspot.get(f"{CONTACTS}/{id}")["updatedAt"] == before


def test_an_api_write_moves_the_stamp_once_more_a_while_later(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email="a@example.com")
    first = hubspot.get(f"{CONTACTS}/{id}")["updatedAt"]
    hubspot.advance(0.6)
    assert hubspot.get(f"{CONTACTS}/{id}")["updatedAt"] == first
    hubspot.advance(4.3)
    second = hubspot.get(f"{CONTACTS}/{id}")
    assert second["updatedAt"] == second["properties"]["lastmodifieddate"] > first
    assert second["createdAt"] == first
    hubspot.advance(60)
    assert hubspot.get(f"{CONTACTS}/{id}")["updatedAt"] == second["updatedAt"]
    (other,) = hubspot.by_hand("contacts", {"fields": {"email": "b@example.com"}})
    by_hand = hubspot.get(f"{CONTACTS}/{other}")["updatedAt"]
    hubspot.advance(60)
    assert hubspot.get(f"{CONTACTS}/{other}")["updatedAt"] == by_hand


def test_a_lifecycle_stage_moves_back_only_when_cleared_first(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email="a@example.com", lifecyclestage="customer")

    def write(stage: str) -> str | None:
        answer = hubspot.call("PATCH", f"{CONTACTS}/{id}", {"properties": {"lifecyclestage": stage}})
        assert answer.status_code == 200
        return answer.json()["properties"]["lifecyclestage"]

    assert write("lead") == "customer"
    assert hubspot.effects() == [("noop", True)]
    assert write("evangelist") == "evangelist"
    assert write("") is None
    assert write("lead") == "lead"
    hubspot.habit("lifecycle_only_forward", on=False)
    assert write("subscriber") == "subscriber"
    assert hubspot.violations() == []


def test_archived_records_are_listed_apart_and_gone_elsewhere(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email="a@example.com")
    kept = hubspot.contact(email="b@example.com")
    assert hubspot.call("DELETE", f"{CONTACTS}/{id}").status_code == 204
    assert hubspot.effects() == [("delete", True)]
    assert [row["id"] for row in hubspot.get(CONTACTS)["results"]] == [kept]
    (row,) = hubspot.get(CONTACTS, archived="true")["results"]
    assert (row["id"], row["archived"], "archivedAt" in row) == (id, True, True)
    assert hubspot.call("GET", f"{CONTACTS}/{id}").status_code == 404
    assert hubspot.get(f"{CONTACTS}/{id}", archived="true")["id"] == id
    assert hubspot.call("PATCH", f"{CONTACTS}/{id}", {"properties": {"firstname": "x"}}).status_code == 404
    assert hubspot.call("DELETE", f"{CONTACTS}/{id}").status_code == 204
    assert hubspot.effects() == [("noop", True)]
    assert hubspot.contact(email="a@example.com") != id


def test_a_list_walks_all_records_in_order_of_their_ids(hubspot: HubSpotClient) -> None:
    hubspot.control.post("seed", {"system": "hubspot", "stream": "companies", "count": 250, "options": {}})
    ids: list[int] = []
    query: dict[str, Any] = {"limit": 100}
    sizes = []
    while True:
        page = hubspot.get("/crm/objects/2026-03/companies", **query)
        sizes.append(len(page["results"]))
        ids += [int(row["id"]) for row in page["results"]]
        if "paging" not in page:
            break
        query["after"] = page["paging"]["next"]["after"]
        link = page["paging"]["next"]["link"]
        assert hubspot.session.get(link, headers={"Authorization": f"Bearer {hubspot.token}"}).status_code == 200
    assert sizes == [100, 100, 50]
    assert ids == sorted(set(ids))
    assert {len(str(id)) for id in ids} == {3, 4}


@pytest.mark.parametrize("query", [{"limit": 101}, {"limit": 0}, {"after": "x"}, {"archived": "maybe"}])
def test_a_list_the_vendor_does_not_take_is_refused(hubspot: HubSpotClient, query: dict[str, Any]) -> None:
    assert hubspot.call("GET", CONTACTS, **query).status_code == 400
    assert len(hubspot.violations()) == 1


@pytest.mark.parametrize("renewed", [True, False])
def test_a_merge_keeps_the_winners_values_and_answers_for_the_ids_that_went(
    hubspot: HubSpotClient, renewed: bool
) -> None:
    hubspot.habit("merge_makes_new_id", on=renewed)
    winner = hubspot.contact(email="a@example.com", firstname="Ann")
    loser = hubspot.contact(email="b@example.com", firstname="Bob", phone="1")
    wanted = {"primaryObjectId": winner, "objectIdToMerge": loser}
    merged = hubspot.post(f"{CONTACTS}/merge", wanted)["id"]
    assert (merged in (winner, loser), merged == winner) == (not renewed, not renewed)
    effects = (
        [("delete", True), ("delete", True), ("create", True)] if renewed else [("delete", True), ("update", True)]
    )
    assert hubspot.effects() == effects
    fields = hubspot.stored(merged)
    assert (fields["firstname"], fields["phone"], fields["email"]) == ("Ann", "1", "a@example.com")
    assert fields["hs_additional_emails"] == "b@example.com"
    assert fields["hs_merged_object_ids"] == (f"{winner};{loser}" if renewed else loser)
    assert hubspot.get(f"{CONTACTS}/{winner}")["id"] == hubspot.get(f"{CONTACTS}/{loser}")["id"] == merged
    assert hubspot.get(f"{CONTACTS}/b@example.com", idProperty="email")["id"] == merged
    assert [row["id"] for row in hubspot.get(CONTACTS)["results"]] == [merged]
    assert hubspot.get(CONTACTS, archived="true")["results"] == []
    assert hubspot.call("POST", CONTACTS, {"properties": {"email": "b@example.com"}}).status_code == 409
    assert hubspot.call("POST", f"{CONTACTS}/merge", wanted).status_code == 400
    hubspot.advance(10)
    assert hubspot.search()["total"] == 1


@pytest.mark.parametrize(
    ("stream", "given", "lacking"),
    [
        ("companies", {"phone": "1"}, ["domain"]),
        ("deals", {"dealname": "D"}, ["dealstage"]),
        ("tickets", {"subject": "S"}, ["hs_pipeline_stage"]),
    ],
)
def test_a_create_without_what_the_object_needs_names_it(
    hubspot: HubSpotClient, stream: str, given: dict[str, str], lacking: list[str]
) -> None:
    answer = hubspot.call("POST", f"/crm/v3/objects/{stream}", {"properties": given})
    assert (answer.status_code, answer.json()["context"]) == (400, {"properties": lacking})
    hubspot.habit("required_on_create", on=False)
    assert hubspot.call("POST", f"/crm/v3/objects/{stream}", {"properties": given}).status_code == 201


def test_a_gdpr_delete_leaves_nothing(hubspot: HubSpotClient) -> None:
    id = hubspot.contact(email="a@example.com")
    hubspot.post(f"{CONTACTS}/gdpr-delete", {"objectId": "a@example.com", "idProperty": "email"}, 204)
    assert hubspot.get(CONTACTS, archived="true")["results"] == []
    assert hubspot.call("GET", f"{CONTACTS}/{id}").status_code == 404
    assert hubspot.control.get("records/hubspot/contacts?deleted=include")["records"] == []


def test_a_company_with_a_domain_gets_it_as_website(hubspot: HubSpotClient) -> None:
    made = hubspot.post("/crm/objects/2026-09/company", {"properties": {"name": "A", "domain": "a.example.com"}}, 201)
    assert (
        hubspot.get(f"/crm/v3/objects/0-2/{made['id']}", properties="website")["properties"]["website"]
        == "a.example.com"
    )
    assert "hs_lastmodifieddate" in made["properties"]
    again = hubspot.post("/crm/v3/objects/companies", {"properties": {"name": "B", "domain": "a.example.com"}}, 201)
    assert again["id"] != made["id"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/crm/v3/objects/2-123456", None),
        ("GET", "/crm/v3/objects/p_pets", None),
        ("GET", "/crm/v4/objects/contacts/1/associations/companies", None),
        ("POST", "/crm/v4/associations/contacts/companies/batch/read", {"inputs": []}),
        ("GET", "/crm/v3/owners", None),
        ("GET", f"{CONTACTS}?page=2", None),
        ("GET", "/crm/v3/objects/contacts?propertiesWithHistory=email", None),
        ("POST", CONTACTS, {"properties": {}, "associations": [{"to": {"id": "1"}}]}),
        ("PUT", f"{CONTACTS}/1", {}),
    ],
)
def test_what_is_not_built_answers_501_and_is_listed(hubspot: HubSpotClient, method: str, path: str, body: Any) -> None:
    assert hubspot.call(method, path, body).status_code == 501
    assert len(hubspot.violations()) == 1


@pytest.mark.parametrize(
    "body", [{"propertys": {}}, {}, {"properties": ["x"]}, {"properties": {"firstname": ["x"]}}, 5]
)
def test_a_malformed_body_is_a_400(hubspot: HubSpotClient, body: Any) -> None:
    assert hubspot.call("POST", CONTACTS, body).status_code == 400
    assert len(hubspot.violations()) == 1


def test_a_form_body_is_not_taken(hubspot: HubSpotClient) -> None:
    headers = {"Authorization": f"Bearer {hubspot.token}"}
    answer = hubspot.session.post(hubspot.base + CONTACTS, data={"a": "b"}, headers=headers)
    assert answer.status_code == 415


# ---- the control API


def test_a_person_meets_the_vendors_rules_but_may_move_a_stage_back(hubspot: HubSpotClient) -> None:
    (id,) = hubspot.by_hand("contacts", {"fields": {"email": "A@example.com", "lifecyclestage": "customer"}})
    hubspot.by_hand("contacts", {"id": id, "fields": {"lifecyclestage": "lead", "phone": None}})
    fields = hubspot.stored(id)
    assert (fields["email"], fields["lifecyclestage"], fields["phone"]) == ("a@example.com", "lead", None)
    for refused in ({"email": "a@example.com"}, {"email": "x"}, {"nope": "1"}, {"lifecyclestage": "nope"}):
        items = [{"fields": {"email": "b@example.com"}}, {"fields": refused}]
        answer = hubspot.session.post(
            hubspot.base.replace("/hubspot", "/__control__/records/hubspot/contacts"), json=items
        )
        assert answer.status_code in (400, 409)
        assert answer.json()["field"]
    hubspot.advance(30)
    assert hubspot.search()["total"] == 1
    assert hubspot.control.delete("records/hubspot/contacts", [id])["deleted"] == 1
    assert hubspot.get(CONTACTS, archived="true")["results"][0]["id"] == id


def test_seeding_makes_what_was_asked_for(hubspot: HubSpotClient) -> None:
    options = {"missing": {"email": 2}, "invalid": {"email": 3, "lifecyclestage": 1}, "duplicates": 4, "older": 5}
    wanted = {"system": "hubspot", "stream": "contacts", "count": 30, "options": options}
    ids = hubspot.control.post("seed", wanted)["ids"]
    records = hubspot.control.get("records/hubspot/contacts")["records"]
    assert [record["id"] for record in records] == ids
    emails = [record["fields"]["email"] for record in records]
    assert len(emails) == 39
    assert emails.count(None) == 2
    assert sum("@" not in email for email in emails if email) == 3
    plain = {email for email in emails if email and email == email.strip().lower()}
    typed = [email for email in emails if email and email not in plain]
    assert len(typed) == 4
    assert all(email.strip().lower() in plain for email in typed)
    assert sum(record["fields"]["lifecyclestage"] == "legacy" for record in records) == 1
    midnight = hubspot.world.now().replace(hour=0, minute=0, second=0, microsecond=0).isoformat()[:10]
    assert sum(record["updated_at"] < midnight for record in records) >= 5
    for stream in ("companies", "deals", "tickets", "line_items"):
        assert len(hubspot.control.post("seed", {**wanted, "stream": stream, "count": 3, "options": {}})["ids"]) == 3
        assert len(hubspot.get(f"/crm/v3/objects/{stream}")["results"]) == 3


def test_a_reset_forgets_everything(hubspot: HubSpotClient) -> None:
    first = hubspot.contact(email="a@example.com")
    hubspot.advance(10)
    assert hubspot.search()["total"] == 1
    fresh(hubspot)
    assert hubspot.get(CONTACTS)["results"] == []
    hubspot.advance(60)
    assert hubspot.search()["total"] == 0
    assert hubspot.contact(email="a@example.com") == first
