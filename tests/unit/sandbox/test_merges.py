"""Records merged in the vendors' pages and through their APIs."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from hubspot import HubSpot
from hubspot.crm.companies import PublicMergeInput
from hubspot_client import HubSpotClient
from salesforce_client import SalesforceClient
from webhook_receiver import Receiver, settled

from sync_platform.sandbox.server import ControlError

PARTNER = "urn:partner.soap.sforce.com"
MERGED = "SELECT Id, MasterRecordId, IsDeleted FROM Lead WHERE IsDeleted = true"


def stage(hubspot: HubSpotClient, id: str, stage: str) -> None:
    item = {"id": id, "fields": {"lifecyclestage": stage}}
    hubspot.control.post("records/hubspot/contacts", [item])


def envelope(org: SalesforceClient, *requests_: str, session: str | None = None) -> requests.Response:
    """A merge() call of the partner API, as the vendor's own samples send it."""
    body = (
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/">'
        f'<soapenv:Header><urn:SessionHeader xmlns:urn="{PARTNER}"><urn:sessionId>{session or org.token}'
        "</urn:sessionId></urn:SessionHeader></soapenv:Header>"
        f'<soapenv:Body><merge xmlns="{PARTNER}">{"".join(requests_)}</merge></soapenv:Body></soapenv:Envelope>'
    )
    headers = {"Content-Type": "text/xml; charset=UTF-8", "SOAPAction": '""'}
    return org.session.post(f"{org.base}/services/Soap/u/60.0", data=body.encode(), headers=headers, timeout=30)


def request(master: str, *losers: str, fields: str = "", type: str = "Lead") -> str:
    gone = "".join(f"<recordToMergeIds>{id}</recordToMergeIds>" for id in losers)
    named = '<type xmlns="urn:sobject.partner.soap.sforce.com">'
    return f"<request><masterRecord>{named}{type}</type><Id>{master}</Id>{fields}</masterRecord>{gone}</request>"


def merge(client: HubSpotClient | SalesforceClient, path: str, survivor: str, *merged: str) -> Any:
    return client.control.post(f"merge/{path}", {"survivor": survivor, "merged": list(merged)})["id"]


# ---- HubSpot


def test_a_person_merges_contacts_and_the_webhook_names_the_new_record(hubspot: HubSpotClient, inbox: Receiver) -> None:
    ids = [hubspot.contact(email=f"{name}@example.com", firstname=name) for name in ("ann", "bob", "eve")]
    stage(hubspot, ids[1], "customer")
    hubspot.control.post("webhooks", {"system": "hubspot", "target_url": inbox.url, "secret": "s"})
    made = merge(hubspot, "hubspot/contacts", *ids)
    settled(hubspot.control)
    events = [event for event in inbox.events if event["subscriptionType"] == "contact.merge"]
    assert [(e["primaryObjectId"], e["mergedObjectIds"], e["changeSource"]) for e in events] == [
        (int(ids[0]), [int(ids[1])], "CRM_UI"),
        (events[0]["newObjectId"], [int(ids[2])], "CRM_UI"),
    ]
    assert events[1]["newObjectId"] == int(made)
    fields = hubspot.stored(made)
    assert (fields["email"], fields["firstname"], fields["lifecyclestage"]) == ("ann@example.com", "ann", "customer")
    assert set(fields["hs_merged_object_ids"].split(";")) == {*ids, str(events[0]["newObjectId"])}
    # the calculated property knows the last merge alone, which is why nobody should rely on it
    assert [part.partition(":")[0] for part in fields["hs_calculated_merged_vids"].split(";")] == [
        str(events[0]["newObjectId"]), ids[2],
    ]  # fmt: skip
    assert hubspot.get(f"/crm/v3/objects/contacts/{ids[2]}")["id"] == made


@pytest.mark.parametrize("answers", [True, False])
def test_a_batch_read_by_an_old_id_is_a_matter_of_configuration(hubspot: HubSpotClient, answers: bool) -> None:
    ids = [hubspot.contact(email=f"{name}@example.com") for name in ("ann", "bob")]
    made = merge(hubspot, "hubspot/contacts", *ids)
    hubspot.habit("merged_id_answers_batches", on=answers)
    body = {"inputs": [{"id": ids[0]}, {"id": ids[1]}], "properties": ["email"]}
    answer = hubspot.call("POST", "/crm/v3/objects/contacts/batch/read", body).json()
    assert [row["id"] for row in answer["results"]] == ([made] if answers else [])


def test_companies_are_merged_by_the_vendors_sdk(hubspot: HubSpotClient) -> None:
    sdk = HubSpot(access_token=hubspot.env["HUBSPOT_ACCESS_TOKEN"], host=hubspot.env["HUBSPOT_BASE_URL"])
    named = [{"properties": {"name": name}} for name in ("Acme", "ACME")]
    ids = [hubspot.post("/crm/v3/objects/companies", each, 201)["id"] for each in named]
    merged = sdk.crm.companies.basic_api.merge(PublicMergeInput(primary_object_id=ids[0], object_id_to_merge=ids[1]))
    assert merged.id not in ids
    assert merged.properties["name"] == "Acme"
    assert sdk.crm.companies.basic_api.get_by_id(ids[1]).id == merged.id
    assert hubspot.violations() == []


def test_a_merge_by_hand_that_cannot_be_is_refused_and_changes_nothing(hubspot: HubSpotClient) -> None:
    ann = hubspot.contact(email="ann@example.com")
    with pytest.raises(ControlError, match="no record '4'"):
        merge(hubspot, "hubspot/contacts", ann, "4")
    with pytest.raises(ControlError, match="with itself"):
        merge(hubspot, "hubspot/contacts", ann, ann)
    with pytest.raises(ControlError, match="merged must be"):
        merge(hubspot, "hubspot/contacts", ann)
    assert [row["id"] for row in hubspot.get("/crm/v3/objects/contacts")["results"]] == [ann]


# ---- Salesforce


def test_losers_of_a_merge_name_the_survivor_and_are_seen_by_query_all(org: SalesforceClient) -> None:
    ids = org.leads({"LastName": "Ann"}, {"LastName": "Bob", "City": "Bern"}, {"LastName": "Eve", "City": "Rome"})
    before = org.rows("SELECT Id, SystemModstamp, LastModifiedDate FROM Lead")
    org.advance(60)
    assert merge(org, "salesforce/Lead", *ids) == ids[0]
    assert [row["Id"] for row in org.rows("SELECT Id FROM Lead")] == [ids[0]]
    gone = org.rows(MERGED, "queryAll")
    assert sorted((row["Id"], row["MasterRecordId"]) for row in gone) == sorted((id, ids[0]) for id in ids[1:])
    after = org.rows("SELECT Id, City, SystemModstamp, LastModifiedDate FROM Lead")[0]
    old = next(row for row in before if row["Id"] == ids[0])
    assert all(after[name] > old[name] for name in ("SystemModstamp", "LastModifiedDate"))
    assert after["City"] == "Bern"
    assert org.call("GET", f"sobjects/Lead/{ids[1]}").status_code == 404


def test_children_follow_and_the_survivors_message_is_sent(org: SalesforceClient, inbox: Receiver) -> None:
    named = [{"fields": {"Name": name}} for name in ("Acme", "ACME")]
    accounts = org.control.post("records/salesforce/Account", named)["ids"]
    contact = {"LastName": "Ann", "AccountId": accounts[1]}
    org.control.post("records/salesforce/Contact", [{"fields": contact}])
    org.control.post("webhooks", {"system": "salesforce", "target_url": inbox.url})
    try:
        merge(org, "salesforce/Account", *accounts)
        inbox.wait(1)
    finally:
        org.control.post("webhooks", {"system": "salesforce", "target_url": ""})
    assert org.rows("SELECT Id, AccountId FROM Contact")[0]["AccountId"] == accounts[0]
    assert accounts[0].encode() in inbox.requests[0].body


def test_the_soap_call_merges_and_answers_with_what_moved(org: SalesforceClient) -> None:
    ids = org.leads({"LastName": "Ann", "City": "Bern"}, {"LastName": "Bob", "Phone": "1"}, {"LastName": "Eve"})
    again = org.leads({"LastName": "Old"})
    answer = envelope(org, request(ids[0], *ids[1:], fields="<City>Rome</City>"), request(again[0], ids[1]))
    assert answer.status_code == 200, answer.text
    merged = "".join(f"<mergedRecordIds>{id}</mergedRecordIds>" for id in ids[1:])
    assert f"<result><id>{ids[0]}</id>{merged}<success>true</success></result>" in answer.text
    assert "<statusCode>ENTITY_IS_DELETED</statusCode></errors><success>false</success>" in answer.text
    survivor = org.rows(f"SELECT City, Phone FROM Lead WHERE Id = '{ids[0]}'")[0]
    assert (survivor["City"], survivor["Phone"]) == ("Rome", None)  # only a page fills blanks
    log = next(entry for entry in org.log() if "/Soap/" in entry["path"])
    assert [(e["op"], e["id"]) for e in log["records"]] == [
        ("update", ids[0]), ("delete", ids[1]), ("delete", ids[2]),
    ]  # fmt: skip
    assert org.violations() == []


def test_a_merge_of_four_records_of_opportunities_or_without_a_session_is_refused(org: SalesforceClient) -> None:
    ids = org.leads(*({"LastName": f"L{n}"} for n in range(4)))
    assert "NUMBER_OUTSIDE_VALID_RANGE" in envelope(org, request(*ids)).text
    with pytest.raises(ControlError, match="2 to 3 records"):
        merge(org, "salesforce/Lead", *ids)
    with pytest.raises(ControlError, match="cannot be merged"):
        merge(org, "salesforce/Opportunity", "006000000000001", "006000000000002")
    refused = envelope(org, request(*ids[:2]), session="not one")
    assert (refused.status_code, "sf:INVALID_SESSION_ID" in refused.text) == (500, True)
    assert len(org.rows("SELECT Id FROM Lead")) == 4
