"""Writing single records and collections by the vendor's rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from salesforce_client import SalesforceClient, renewed

from sync_platform.sandbox.salesforce import ids


@pytest.fixture
def org(shared: SalesforceClient) -> Iterator[SalesforceClient]:
    with renewed(shared) as client:
        client.habit("late_commits", on=False)
        yield client


def lead(**fields: Any) -> dict[str, Any]:
    return {"attributes": {"type": "Lead"}, "LastName": "Doe", "Company": "Acme", **fields}


def test_ids_carry_the_checksum_of_their_case() -> None:
    assert ids.to18("001A0000006Vm9r") == "001A0000006Vm9rIAC"  # the example of the vendor's help
    assert ids.to18("001a0000006vm9rIAC") == "001A0000006Vm9rIAC"
    assert ids.to18("001A0000006Vm9") is None
    assert ids.to18("00-A0000006Vm9r") is None
    made = ids.make_id("00Q", 62**3 + 40)
    assert len(made) == 18
    assert ids.to18(made[:15]) == made


def test_a_lead_is_created_read_changed_and_deleted(org: SalesforceClient) -> None:
    answer = org.call(
        "POST", "sobjects/Lead", {"LastName": " O'Neil ", "Company": "Acme", "FirstName": "", "Email": "A@b.co"}
    )
    assert answer.status_code == 201
    id = answer.json()["id"]
    assert answer.json() == {"id": id, "success": True, "errors": []}
    got = org.get(f"sobjects/Lead/{id[:15]}")
    assert (got["LastName"], got["FirstName"], got["Email"], got["Status"]) == (
        "O'Neil", None, "A@b.co", "Open - Not Contacted",
    )  # fmt: skip
    assert got["attributes"] == {"type": "Lead", "url": f"/salesforce/services/data/v60.0/sobjects/Lead/{id}"}
    assert got["CreatedDate"] == got["LastModifiedDate"] == got["SystemModstamp"] == "2026-09-21T14:13:20.000+0000"
    org.advance(5)
    assert org.call("PATCH", f"sobjects/Lead/{id}", {"Company": None, "City": "Köln"}).status_code == 400
    assert org.call("PATCH", f"sobjects/Lead/{id}", {"City": "Köln", "Email": None}).status_code == 204
    got = org.get(f"sobjects/Lead/{id}", fields="City,Email,LastModifiedDate,CreatedDate")
    assert (got["City"], got["Email"], got["LastModifiedDate"][11:19], got["CreatedDate"][11:19]) == (
        "Köln", None, "14:13:25", "14:13:20",
    )  # fmt: skip
    assert org.call("DELETE", f"sobjects/Lead/{id}").status_code == 204
    assert org.refused(org.call("GET", f"sobjects/Lead/{id}")) == (404, "NOT_FOUND")
    assert org.refused(org.call("DELETE", f"sobjects/Lead/{id}")) == (404, "ENTITY_IS_DELETED")
    assert org.refused(org.call("PATCH", f"sobjects/Lead/{id}", {"City": "a"})) == (404, "ENTITY_IS_DELETED")
    ops = [(r["op"], r["applied"]) for request in org.log() for r in request["records"]]
    assert ops == [
        ("create", True), ("update", False), ("update", True), ("delete", True), ("delete", False), ("update", False),
    ]  # fmt: skip
    assert org.violations() == []


@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        ({"LastName": None}, "REQUIRED_FIELD_MISSING", ["LastName"]),
        ({"LastName": "x" * 81}, "STRING_TOO_LONG", ["LastName"]),
        ({"Email": "not an address"}, "INVALID_EMAIL_ADDRESS", ["Email"]),
        ({"Region__c": "MARS"}, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", ["Region__c"]),
        ({"OwnerId": "005SB00000000zz"}, "INVALID_CROSS_REFERENCE_KEY", ["OwnerId"]),
        ({"OwnerId": "junk"}, "MALFORMED_ID", ["OwnerId"]),
        ({"NumberOfEmployees": 1e19}, "NUMBER_OUTSIDE_VALID_RANGE", ["NumberOfEmployees"]),
        ({"SystemModstamp": "2026-01-01T00:00:00Z"}, "INVALID_FIELD_FOR_INSERT_UPDATE", ["SystemModstamp"]),
        ({"Is_Hot__c": True}, "INVALID_FIELD_FOR_INSERT_UPDATE", ["Is_Hot__c"]),
        ({"Nope__c": 1}, "INVALID_FIELD", None),
        ({"DoNotCall": "yes"}, "JSON_PARSER_ERROR", None),
        ({"LastName": 5}, "JSON_PARSER_ERROR", None),
        ({"Birthday__c": "31/12/2026"}, "JSON_PARSER_ERROR", None),
    ],
)
def test_a_value_the_vendor_refuses_is_refused_with_its_code(
    org: SalesforceClient, fields: dict[str, Any], code: str, named: list[str] | None
) -> None:
    answer = org.call("POST", "sobjects/Lead", {"LastName": "Doe", "Company": "Acme", **fields})
    assert (answer.status_code, answer.json()[0]["errorCode"], answer.json()[0].get("fields")) == (400, code, named)
    assert org.records() == []


def test_an_external_id_upserts_one_record_and_may_not_repeat(org: SalesforceClient) -> None:
    body = {"LastName": "Doe", "Company": "Acme"}
    first = org.call("PATCH", "sobjects/Lead/Ext__c/K%2F1", body)
    assert (first.status_code, first.json()["created"]) == (201, True)
    again = org.call("PATCH", "sobjects/Lead/Ext__c/k%2F1", {"City": "Köln"})
    assert (again.status_code, again.json()) == (200, {**first.json(), "created": False})
    org.version = "v45.0"
    assert org.call("PATCH", "sobjects/Lead/Ext__c/K%2F1", {"City": "Köln"}).status_code == 204
    assert org.get("sobjects/Lead/Ext__c/K%2F1")["Id"] == first.json()["id"]
    doubled = org.call("POST", "sobjects/Lead", {**body, "Ext__c": "K/1"})
    assert org.refused(doubled) == (400, "DUPLICATE_VALUE")
    assert first.json()["id"][:15] in doubled.json()[0]["message"]
    assert org.refused(org.call("PATCH", "sobjects/Lead/City/x", body)) == (404, "NOT_FOUND")
    inside = org.call("PATCH", "sobjects/Lead/Ext__c/K2", {**body, "Ext__c": "K2"})
    assert org.refused(inside) == (400, "INVALID_FIELD")
    ops = [record["op"] for request in org.log() for record in request["records"]]
    assert ops == ["create", "update", "noop", "create"]


def test_a_key_that_is_not_unique_answers_with_all_it_means(org: SalesforceClient) -> None:
    one, two = org.leads({"Email": "a@b.co"}, {"Email": "A@B.co"})
    answer = org.call("PATCH", "sobjects/Lead/Email/a@b.co", {"City": "Köln"})
    assert answer.status_code == 300
    assert {url.rpartition("/")[2] for url in answer.json()} == {one, two}


def test_a_collection_keeps_its_order_and_fails_item_by_item(org: SalesforceClient) -> None:
    results = org.collection("PATCH", "/Lead/Ext__c", [
        lead(Ext__c="1"), lead(Ext__c="2", Email="bad"), lead(Ext__c="3"), lead(Ext__c="d"), lead(Ext__c="D"), lead(),
    ])  # fmt: skip
    assert [r["success"] for r in results] == [True, False, True, False, False, False]
    assert [r.get("created") for r in results] == [True, None, True, None, None, None]
    assert results[1] == {"success": False, "errors": [{
        "statusCode": "INVALID_EMAIL_ADDRESS", "message": "Email: invalid email address: bad", "fields": ["Email"],
    }]}  # fmt: skip
    assert [r["errors"][0]["statusCode"] for r in results[3:]] == ["DUPLICATE_VALUE"] * 2 + ["MISSING_ARGUMENT"]
    again = org.collection("PATCH", "/Lead/Ext__c", [lead(Ext__c="3"), lead(Ext__c="1", City="Köln")])
    assert [(r["id"], r["created"]) for r in again] == [(results[2]["id"], False), (results[0]["id"], False)]
    assert [r["op"] for r in org.log()[-1]["records"]] == ["noop", "update"]
    assert org.violations() == []


def test_all_or_none_takes_the_innocent_back(org: SalesforceClient) -> None:
    results = org.collection("POST", "", [lead(), lead(Email="bad")], all_or_none=True)
    codes = [r["errors"][0]["statusCode"] for r in results]
    assert codes == ["ALL_OR_NONE_OPERATION_ROLLED_BACK", "INVALID_EMAIL_ADDRESS"]
    assert org.records() == []
    (id,) = org.leads({"City": "Köln"})
    org.collection("PATCH", "", [lead(Id=id, City="Bonn"), lead(Id=id[:-1] + "x")], all_or_none=True)
    assert org.records()[0]["fields"]["City"] == "Köln"
    assert {r["applied"] for request in org.log() for r in request["records"]} == {False}


def test_collections_create_update_delete_and_read(org: SalesforceClient) -> None:
    made = [r["id"] for r in org.collection("POST", "", [lead(), lead(LastName="Roe")])]
    changed = org.collection(
        "PATCH", "", [lead(Id=made[0], City="Bonn"), lead(id=made[1][:15], LastName="Roe", City="Ulm"), lead()]
    )
    assert [r["success"] for r in changed] == [True, True, False]
    got = org.get("composite/sobjects/Lead", ids=f"{made[1]},00QSB00000000zz,{made[0]}", fields="City")
    assert [None if row is None else (row["Id"], row["City"]) for row in got] == [
        (made[1], "Ulm"), None, (made[0], "Bonn"),
    ]  # fmt: skip
    posted = org.call("POST", "composite/sobjects/Lead", {"ids": made, "fields": ["LastName"]}).json()
    assert [row["LastName"] for row in posted] == ["Doe", "Roe"]
    gone = org.call("DELETE", "composite/sobjects", params={"ids": ",".join([made[0], made[0]])}).json()
    assert [r["success"] for r in gone] == [True, False]
    assert gone[1]["errors"][0]["statusCode"] == "ENTITY_IS_DELETED"


@pytest.mark.parametrize(
    "body",
    [
        {"records": [lead()] * 201},
        {"records": []},
        {"records": [{"LastName": "a", "attributes": {"type": "Lead"}}]},
        {"records": [{"LastName": "a"}]},
        {"records": [lead()], "allornone": True},
        {"records": [lead(Nope=1)]},
        {"records": [{"attributes": {"type": "Nope"}}]},
    ],
)
def test_a_collection_of_the_wrong_shape_is_refused_whole(org: SalesforceClient, body: dict[str, Any]) -> None:
    assert org.call("POST", "composite/sobjects", body).status_code == 400
    assert len(org.violations()) == 1
    assert org.records() == []


def test_a_composite_request_passes_references_on_and_can_roll_back(org: SalesforceClient) -> None:
    url = "/salesforce/services/data/v60.0/sobjects"
    requests = [
        {"method": "POST", "url": f"{url}/Account", "referenceId": "acc", "body": {"Name": "Acme"}},
        {"method": "POST", "url": f"{url}/Contact", "referenceId": "con",
         "body": {"LastName": "Doe", "AccountId": "@{acc.id}"}},
        {"method": "GET", "url": f"{url}/Contact/@{{con.id}}?fields=AccountId", "referenceId": "get"},
    ]  # fmt: skip
    done = org.call("POST", "composite", {"compositeRequest": requests}).json()["compositeResponse"]
    assert [r["httpStatusCode"] for r in done] == [201, 201, 200]
    assert done[2]["body"]["AccountId"] == done[0]["body"]["id"]
    requests[1]["body"] = {"LastName": None}
    undone = org.call("POST", "composite", {"allOrNone": True, "compositeRequest": requests[:2]}).json()
    codes = [r["body"][0]["errorCode"] for r in undone["compositeResponse"]]
    assert codes == ["PROCESSING_HALTED", "REQUIRED_FIELD_MISSING"]
    assert len(org.records("Account")) == 1


def test_parents_are_set_by_external_id_and_formulas_follow_them_silently(org: SalesforceClient) -> None:
    (account,) = org.control.post("records/salesforce/Account", [
        {"fields": {"Name": "Acme", "Ext__c": "A1", "Industry": "Energy"}}])["ids"]  # fmt: skip
    id = org.call("POST", "sobjects/Contact", {"LastName": "Doe", "Account": {"Ext__c": "A1"}}).json()["id"]
    before = org.rows("SELECT Account.Name, Account_Industry__c, SystemModstamp FROM Contact")[0]
    assert (before["Account"]["Name"], before["Account_Industry__c"]) == ("Acme", "Energy")
    org.advance(60)
    org.call("PATCH", f"sobjects/Account/{account}", {"Industry": "Media"})
    after = org.rows(f"SELECT Account_Industry__c, SystemModstamp FROM Contact WHERE Id = '{id[:15]}'")[0]
    assert after["Account_Industry__c"] == "Media"
    assert after["SystemModstamp"] == before["SystemModstamp"]


def test_the_duplicate_rule_refuses_a_known_email_when_it_is_on(org: SalesforceClient) -> None:
    org.leads({"Email": "a@b.co"})
    body = {"LastName": "Doe", "Company": "Acme", "Email": "A@b.co"}
    org.habit("duplicate_rule", on=True)
    assert org.refused(org.call("POST", "sobjects/Lead", body)) == (400, "DUPLICATES_DETECTED")
    allowed = org.call("POST", "sobjects/Lead", body, headers={"Sforce-Duplicate-Rule-Header": "allowSave=true"})
    assert allowed.status_code == 201


def test_row_locks_refuse_a_share_of_writes_when_on(org: SalesforceClient) -> None:
    org.habit("row_locks", on=True, value=0.5)
    results = org.collection("POST", "", [lead() for _ in range(100)])
    locked = [r for r in results if not r["success"]]
    assert 20 < len(locked) < 80
    assert {r["errors"][0]["statusCode"] for r in locked} == {"UNABLE_TO_LOCK_ROW"}


def test_deleted_leads_show_in_query_all_and_the_feed_until_they_are_purged(org: SalesforceClient) -> None:
    one, two = org.leads({}, {})
    org.advance(3600)
    org.control.delete("records/salesforce/Lead", [one])
    assert [row["Id"] for row in org.rows("SELECT Id FROM Lead")] == [two]
    both = org.rows("SELECT Id, IsDeleted, SystemModstamp FROM Lead ORDER BY IsDeleted DESC", "queryAll")
    assert [(row["Id"], row["IsDeleted"], row["SystemModstamp"][11:16]) for row in both] == [
        (one, True, "15:13"), (two, False, "14:13"),
    ]  # fmt: skip
    org.advance(60)
    window = {"start": "2026-09-21T15:13:40+00:00", "end": "2026-09-21T15:14:59+00:00"}
    feed = org.get("sobjects/Lead/deleted", **window)
    assert feed["deletedRecords"] == [{"id": one, "deletedDate": "2026-09-21T15:13:20.000+0000"}]
    assert feed["latestDateCovered"] == "2026-09-21T15:14:00.000+0000"
    assert org.get("sobjects/Lead/updated", start="2026-09-21T14:13:00Z", end="2026-09-21T14:14:00Z")["ids"] == [two]
    for start, end in (("2026-09-01T00:00:00Z", window["end"]), (window["end"], window["start"])):
        answer = org.call("GET", "sobjects/Lead/deleted", params={"start": start, "end": end})
        assert org.refused(answer) == (400, "INVALID_REPLICATION_DATE")
    org.advance(15 * 86_400)
    org.login()
    assert [row["Id"] for row in org.rows("SELECT Id FROM Lead", "queryAll")] == [two]


def test_late_commits_are_stamped_in_the_past_but_never_backwards(org: SalesforceClient) -> None:
    org.habit("late_commits", on=True)
    org.advance(86_400)
    found = org.leads(*[{} for _ in range(100)])
    stamps = [record["updated_at"] for record in org.records()]
    late = [stamp for stamp in stamps if stamp < "2026-09-22T14:13:20"]
    assert 5 < len(late) < 50
    assert min(late) >= "2026-09-22T14:03:20"
    org.control.post("records/salesforce/Lead", [{"id": id, "fields": {"City": "Ulm"}} for id in found])
    assert all(new["updated_at"] >= old for new, old in zip(org.records(), stamps, strict=True))
