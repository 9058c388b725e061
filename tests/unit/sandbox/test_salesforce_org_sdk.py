"""simple-salesforce against the simulator: only scheme and prefix are rewritten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from salesforce_client import SalesforceClient, salesforce
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import SalesforceMalformedRequest, SalesforceResourceNotFound


class Loopback(HTTPAdapter):
    """Sends https://host/path to http://host/salesforce/path."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        head, _, rest = str(request.url).removeprefix("https://").partition("/")
        request.url = f"http://{head}/salesforce/{rest.removeprefix('salesforce/')}"
        return super().send(request, *args, **kwargs)


@pytest.fixture(scope="module")
def org() -> Iterator[SalesforceClient]:
    with salesforce() as client:
        yield client


@pytest.fixture(scope="module")
def sdk(org: SalesforceClient) -> Salesforce:
    session = requests.Session()
    session.trust_env = False
    session.mount("https://", Loopback())
    return Salesforce(session_id=org.token, instance_url=org.base, session=session)


def test_records_are_written_and_read(org: SalesforceClient, sdk: Salesforce) -> None:
    made = sdk.Lead.create({"LastName": "O'Neil", "Company": "Acme", "Email": "x@example.com"})
    assert made["success"]
    assert sdk.Lead.get(made["id"])["LastName"] == "O'Neil"
    assert sdk.Lead.update(made["id"], {"City": "Köln"}) == 204
    assert sdk.Lead.upsert("Ext__c/K1", {"LastName": "Roe", "Company": "Acme"}) == 201
    assert sdk.Lead.get_by_custom_id("Ext__c", "K1")["LastName"] == "Roe"
    assert sdk.Lead.delete(made["id"]) == 204
    with pytest.raises(SalesforceResourceNotFound):
        sdk.Lead.get(made["id"])
    with pytest.raises(SalesforceMalformedRequest, match="REQUIRED_FIELD_MISSING"):
        sdk.Lead.create({"LastName": "a"})


def test_queries_follow_their_pages(org: SalesforceClient, sdk: Salesforce) -> None:
    org.seed(2300, "Contact")
    found = sdk.query_all("SELECT Id, Email FROM Contact")
    assert (found["totalSize"], len(found["records"]), found["done"]) == (2300, 2300, True)
    assert sum(1 for _ in sdk.query_all_iter("SELECT Id FROM Contact LIMIT 2100")) == 2100
    assert org.violations() == []


def test_describe_limits_and_feeds(org: SalesforceClient, sdk: Salesforce) -> None:
    assert sdk.describe()["sobjects"][0]["name"] == "Lead"
    assert sdk.Lead.describe()["name"] == "Lead"
    assert sdk.limits()["DailyApiRequests"]["Max"] == 100_000
    assert sdk.api_usage["api-usage"].total == 100_000


def test_bulk2_inserts_and_queries(org: SalesforceClient, sdk: Salesforce) -> None:
    rows = [{"Name": f"Acme {n}", "Ext__c": str(n)} for n in range(5)]
    (done,) = sdk.bulk2.Account.upsert(records=rows, external_id_field="Ext__c", wait=0)
    assert (done["numberRecordsProcessed"], done["numberRecordsFailed"]) == (5, 0)
    assert sdk.bulk2.Account.get_successful_records(done["job_id"]).count("\n") == 6
    (text,) = sdk.bulk2.Account.query("SELECT Id, Name FROM Account", wait=0)
    assert text.count("Acme ") == 5
    assert org.violations() == []
