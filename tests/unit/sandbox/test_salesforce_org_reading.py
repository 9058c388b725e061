"""Pages, cursors, Bulk API 2.0 and the habits that readers trip over."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import Any

import pytest
from salesforce_client import SalesforceClient


def test_pages_are_cut_at_the_batch_size_and_snapshot_the_result(org: SalesforceClient) -> None:
    seeded = org.seed(450)
    soql = "SELECT Id, City FROM Lead ORDER BY Id"
    page = org.call("GET", "query", params={"q": soql}, headers={"Sforce-Query-Options": "batchSize=50"}).json()
    assert (page["totalSize"], page["done"], len(page["records"])) == (450, False, 200)
    locator = page["nextRecordsUrl"].removeprefix("/salesforce/services/data/v60.0/query/")
    assert locator.startswith("01g")
    assert locator.endswith("-200")
    org.control.delete("records/salesforce/Lead", seeded[-10:])
    second = org.get(f"query/{locator}")
    third = org.get(f"query/{second['nextRecordsUrl'].rpartition('/')[2]}")
    assert third["done"]
    assert "nextRecordsUrl" not in third
    found = [row["Id"] for p in (page, second, third) for row in p["records"]]
    assert found == sorted(seeded)
    assert org.get(f"query/{locator}") == second
    assert org.refused(org.call("GET", "query/01gSB0000000099YAA-200")) == (400, "INVALID_QUERY_LOCATOR")


def test_a_cursor_dies_after_two_days_and_with_too_many_others(org: SalesforceClient) -> None:
    org.seed(201)
    org.habit("query_page_rows", value=200)
    first = org.get("query", q="SELECT Id FROM Lead")["nextRecordsUrl"].rpartition("/")[2]
    org.advance(2 * 86_400 + 1)
    org.login()
    assert org.refused(org.call("GET", f"query/{first}")) == (400, "INVALID_QUERY_LOCATOR")
    org.habit("query_cursors", on=True, value=2)
    cursors = [org.get("query", q="SELECT Id FROM Lead")["nextRecordsUrl"].rpartition("/")[2] for _ in range(3)]
    assert [org.call("GET", f"query/{cursor}").status_code for cursor in cursors] == [400, 200, 200]


def test_ties_come_in_another_order_each_time_and_bulk_loads_leave_many(org: SalesforceClient) -> None:
    org.seed(500)
    stamps = Counter(record["updated_at"] for record in org.records())
    assert max(stamps.values()) > 20
    soql = "SELECT Id FROM Lead ORDER BY SystemModstamp"
    assert org.rows(soql) != org.rows(soql)
    total = "SELECT Id FROM Lead ORDER BY SystemModstamp, Id"
    assert org.rows(total) == org.rows(total)
    org.habit("tie_order", on=False)
    assert org.rows(soql) == org.rows(soql)


def test_a_stale_index_answers_as_of_some_seconds_ago(org: SalesforceClient) -> None:
    org.habit("late_commits", on=False)
    (id,) = org.leads({"City": "Köln"})
    org.advance(60)
    org.control.post("records/salesforce/Lead", [{"id": id, "fields": {"City": "Bonn"}}])
    org.leads({})
    org.advance(5)
    org.fault("stale_index", match="GET /services/data/v60.0/query", seconds=10)
    assert [row["City"] for row in org.rows("SELECT City FROM Lead")] == ["Köln"]
    assert sorted(str(row["City"]) for row in org.rows("SELECT City FROM Lead")) == ["Bonn", "None"]
    assert [entry["fault"] for entry in org.log()] == [None, "stale_index", None]


# ---- Bulk API 2.0


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def job(org: SalesforceClient, kind: str, **body: Any) -> str:
    answer = org.call("POST", f"jobs/{kind}", body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def test_a_bulk_query_pages_its_csv_by_locator(org: SalesforceClient) -> None:
    seeded = org.seed(70)
    org.leads({"LastName": 'He said "hi", then\nleft', "Email": None, "Score__c": 7, "DoNotCall": True})
    id = job(org, "query", operation="query", query="SELECT Id, LastName, Email, Owner.Name, Score__c, DoNotCall, "
             "SystemModstamp FROM Lead")  # fmt: skip
    assert org.refused(org.call("GET", f"jobs/query/{id}/results")) == (400, "INVALIDJOBSTATE")
    states = [org.get(f"jobs/query/{id}")["state"] for _ in range(2)]
    assert states == ["InProgress", "JobComplete"]
    locator, texts, sizes = "", [], []
    while locator != "null":
        query = {"maxRecords": 30, **({"locator": locator} if locator else {})}
        answer = org.call("GET", f"jobs/query/{id}/results", params=query)
        assert answer.headers["Content-Type"].startswith("text/csv")
        locator = answer.headers["Sforce-Locator"]
        sizes.append(int(answer.headers["Sforce-NumberOfRecords"]))
        texts.append(answer.content.decode())
    assert sizes == [30, 30, 11]
    rows = [row for text in texts for row in csv_rows(text)]
    assert len({row["Id"] for row in rows}) == len(seeded) + 1
    (odd,) = [row for row in rows if row["DoNotCall"] == "true"]
    assert odd["LastName"] == 'He said "hi", then\nleft'
    assert (odd["Email"], odd["Owner.Name"], odd["Score__c"]) == ("", "Integration User", "7.0")
    assert odd["SystemModstamp"].endswith(".000Z")
    assert texts[0].startswith('"Id","LastName","Email","Owner.Name","Score__c","DoNotCall","SystemModstamp"\n')


def test_a_bulk_query_completes_by_the_clock_and_can_show_deleted_rows(org: SalesforceClient) -> None:
    one, _ = org.leads({}, {})
    org.control.delete("records/salesforce/Lead", [one])
    id = job(org, "query", operation="queryAll", query="SELECT Id FROM Lead", columnDelimiter="PIPE", lineEnding="CRLF")
    org.advance(30)
    assert org.get(f"jobs/query/{id}")["state"] == "JobComplete"
    text = org.call("GET", f"jobs/query/{id}/results").content.decode()
    assert text.count("\r\n") == 3
    assert org.get("jobs/query")["records"][0]["id"] == id
    assert org.call("DELETE", f"jobs/query/{id}").status_code == 204
    assert org.call("GET", f"jobs/query/{id}").status_code == 404


def test_a_bulk_query_asked_again_sees_what_changed(org: SalesforceClient) -> None:
    org.habit("bulk_job_seconds", on=False)
    (id,) = org.leads({"City": "Köln"})

    def cities() -> list[str]:
        made = job(org, "query", operation="query", query="SELECT City FROM Lead")
        return [row["City"] for row in csv_rows(org.call("GET", f"jobs/query/{made}/results").content.decode())]

    assert cities() == cities() == ["Köln"]
    org.control.post("records/salesforce/Lead", [{"id": id, "fields": {"City": "Bonn"}}])
    assert cities() == ["Bonn"]
    org.control.delete("records/salesforce/Lead", [id])
    assert cities() == []


@pytest.mark.parametrize(
    ("soql", "code"),
    [
        ("SELECT COUNT() FROM Lead", "FUNCTIONALITY_NOT_ENABLED"),
        ("SELECT COUNT(Id) FROM Lead GROUP BY Company", "FUNCTIONALITY_NOT_ENABLED"),
        ("SELECT Address FROM Lead", "FUNCTIONALITY_NOT_ENABLED"),
        ("SELECT Id FROM Lead LIMIT 5 OFFSET 5", "FUNCTIONALITY_NOT_ENABLED"),
        ("SELECT Nope FROM Lead", "INVALID_FIELD"),
    ],
)
def test_what_bulk_cannot_query_is_refused_at_once(org: SalesforceClient, soql: str, code: str) -> None:
    assert org.refused(org.call("POST", "jobs/query", {"operation": "query", "query": soql})) == (400, code)


def upload(org: SalesforceClient, id: str, text: str) -> None:
    headers = {"Authorization": f"Bearer {org.token}", "Content-Type": "text/csv"}
    url = f"{org.base}/services/data/{org.version}/jobs/ingest/{id}/batches"
    assert org.session.put(url, data=text.encode(), headers=headers, timeout=30).status_code == 201
    assert org.call("PATCH", f"jobs/ingest/{id}", {"state": "UploadComplete"}).json()["state"] == "UploadComplete"


def test_an_ingest_job_upserts_row_by_row_and_reports_each(org: SalesforceClient) -> None:
    body = {"object": "Lead", "operation": "upsert", "externalIdFieldName": "Ext__c", "contentType": "CSV"}
    id = job(org, "ingest", **body)
    upload(org, id, 'Ext__c,LastName,Company,City\n1,Doe,"Acme, Inc",Köln\n2,Roe,,Bonn\n3,Poe,Acme,\n')
    assert [org.get(f"jobs/ingest/{id}")["state"] for _ in range(2)] == ["InProgress", "JobComplete"]
    info = org.get(f"jobs/ingest/{id}")
    assert (info["numberRecordsProcessed"], info["numberRecordsFailed"]) == (3, 1)
    good = csv_rows(org.call("GET", f"jobs/ingest/{id}/successfulResults").content.decode())
    assert [(row["Ext__c"], row["sf__Created"]) for row in good] == [("1", "true"), ("3", "true")]
    (bad,) = csv_rows(org.call("GET", f"jobs/ingest/{id}/failedResults").content.decode())
    assert (bad["Ext__c"], bad["sf__Id"], bad["sf__Error"]) == (
        "2", "", "REQUIRED_FIELD_MISSING:Required fields are missing: [Company]:Company --",
    )  # fmt: skip
    assert csv_rows(org.call("GET", f"jobs/ingest/{id}/unprocessedrecords").content.decode()) == []
    again = job(org, "ingest", **body)
    upload(org, again, "Ext__c,City,FirstName\n1,#N/A,\n3,Ulm,Edgar\n")
    org.advance(31)
    rows = {r["fields"]["Ext__c"]: r["fields"] for r in org.records()}
    assert (rows["1"]["City"], rows["1"]["LastName"]) == (None, "Doe")
    assert (rows["3"]["City"], rows["3"]["FirstName"]) == ("Ulm", "Edgar")
    closing = [entry for entry in org.log() if entry["method"] == "PATCH"]
    assert [[(r["op"], r["applied"]) for r in entry["records"]] for entry in closing] == [
        [("create", True), ("create", False), ("create", True)], [("update", True), ("update", True)],
    ]  # fmt: skip
    assert org.violations() == []


def test_an_ingest_job_with_an_unknown_column_fails_as_a_whole(org: SalesforceClient) -> None:
    id = job(org, "ingest", object="Lead", operation="insert")
    upload(org, id, "LastName,Nope\nDoe,1\n")
    org.advance(31)
    assert org.get(f"jobs/ingest/{id}")["state"] == "Failed"
    assert len(csv_rows(org.call("GET", f"jobs/ingest/{id}/unprocessedrecords").content.decode())) == 1
    assert org.records() == []


def test_ingest_deletes_updates_and_aborts(org: SalesforceClient) -> None:
    one, two, three = org.leads({}, {}, {})
    update = job(org, "ingest", object="Lead", operation="update")
    upload(org, update, f"Id,City\n{two},Bonn\n{three[:15]},Ulm\n00QSB00000000zz,X\n")
    delete = job(org, "ingest", object="Lead", operation="delete")
    upload(org, delete, f"Id\n{one}\n")
    org.advance(31)
    assert {r["id"]: r["fields"]["City"] for r in org.records()} == {two: "Bonn", three: "Ulm"}
    assert org.get(f"jobs/ingest/{update}")["numberRecordsFailed"] == 1
    aborted = job(org, "ingest", object="Lead", operation="insert")
    assert org.call("PATCH", f"jobs/ingest/{aborted}", {"state": "Aborted"}).json()["state"] == "Aborted"
    refused = org.call("POST", "jobs/ingest", {"object": "Lead", "operation": "hardDelete"})
    assert org.refused(refused) == (400, "FEATURENOTENABLED")


def test_half_of_a_partial_batch_is_locked(org: SalesforceClient) -> None:
    org.fault("partial", match="POST /services/data/v60.0/composite/sobjects")
    org.get("limits")
    records = [{"attributes": {"type": "Lead"}, "LastName": str(n), "Company": "A"} for n in range(10)]
    results = org.collection("POST", "", records)
    assert [r["success"] for r in results] == [True, False] * 5
    assert results[1]["errors"][0]["statusCode"] == "UNABLE_TO_LOCK_ROW"
    id = job(org, "ingest", object="Lead", operation="insert")
    org.fault("partial", match="jobs/ingest")
    upload(org, id, "LastName,Company\n" + "x,y\n" * 10)
    org.advance(31)
    assert org.get(f"jobs/ingest/{id}")["numberRecordsFailed"] == 5
    assert len(org.records()) == 10


def test_answers_are_compressed_for_those_who_ask(org: SalesforceClient) -> None:
    org.seed(100)
    zipped = org.call("GET", "query", params={"q": "SELECT Id FROM Lead"})
    plain = org.call("GET", "query", params={"q": "SELECT Id FROM Lead"}, headers={"Accept-Encoding": "identity"})
    assert (zipped.headers.get("Content-Encoding"), plain.headers.get("Content-Encoding")) == ("gzip", None)
    assert len(zipped.json()["records"]) == len(plain.json()["records"]) == 100
