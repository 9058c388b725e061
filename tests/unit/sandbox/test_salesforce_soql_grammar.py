"""SOQL by its grammar: what is taken, what it means, what is refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from salesforce_client import SalesforceClient, salesforce

from sync_platform.sandbox.salesforce.soql_dates import date_range, parse_datetime


@pytest.fixture(scope="module")
def org() -> Iterator[SalesforceClient]:
    with salesforce() as client:
        client.habit("late_commits", on=False)
        client.leads(
            {"LastName": "Adams", "Email": "adams@example.com", "Score__c": 10, "Status": "Open - Not Contacted"},
            {"LastName": "Brown", "Email": "BROWN@example.com", "Score__c": 90, "Tags__c": "trial;partner"},
            {
                "LastName": "O'Neil",
                "FirstName": "Zoë",
                "Score__c": 50.5,
                "DoNotCall": True,
                "Birthday__c": "1990-02-03",
            },
            {"LastName": "100%_sure", "City": "Köln", "Next_Contact__c": "2026-09-21T06:59:59Z"},
            {"LastName": "Young", "Next_Contact__c": "2026-09-21T07:00:00.000Z", "Tags__c": "webinar"},
        )
        yield client


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("LastName = 'adams'", ["Adams"]),
        ("LastName != 'Adams' AND Score__c != null", ["Brown", "O'Neil"]),
        ("Score__c > 10 AND Score__c <= 90", ["Brown", "O'Neil"]),
        ("Score__c < 50 OR (City = 'Köln' AND Score__c = NULL)", ["100%_sure", "Adams"]),
        ("(NOT LastName LIKE '%n%') AND Score__c = 10.0", ["Adams"]),
        ("NOT (Score__c >= 50)", ["100%_sure", "Adams", "Young"]),
        ("LastName IN ('adams', 'YOUNG', 'nobody')", ["Adams", "Young"]),
        ("LastName NOT IN ('Adams','Young','Brown')", ["100%_sure", "O'Neil"]),
        ("Email != 'adams@example.com'", ["100%_sure", "Brown", "O'Neil", "Young"]),
        ("Email = 'brown@EXAMPLE.com'", ["Brown"]),
        ("Email = ''", ["100%_sure", "O'Neil", "Young"]),
        (r"LastName = 'O\'Neil'", ["O'Neil"]),
        ("LastName LIKE 'o_neil'", ["O'Neil"]),
        (r"LastName LIKE '100\%\_s%'", ["100%_sure"]),
        ("LastName LIKE '%OUN%'", ["Young"]),
        ("DoNotCall = TRUE", ["O'Neil"]),
        ("DoNotCall = false AND Score__c != null", ["Adams", "Brown"]),
        ("Tags__c INCLUDES ('trial', 'webinar')", ["Brown", "Young"]),
        ("Tags__c INCLUDES ('trial;webinar', 'partner;trial')", ["Brown"]),
        ("Tags__c EXCLUDES ('trial')", ["100%_sure", "Adams", "O'Neil", "Young"]),
        ("Birthday__c = 1990-02-03", ["O'Neil"]),
        ("Birthday__c > 1989-12-31 AND Birthday__c < 1990-02-04", ["O'Neil"]),
        ("Next_Contact__c = 2026-09-21T07:00:00Z", ["Young"]),
        ("Next_Contact__c >= 2026-09-21T08:59:59+02:00", ["100%_sure", "Young"]),
        ("Next_Contact__c < 2026-09-21T07:00:00.000+0000", ["100%_sure"]),
        ("Is_Hot__c = true", ["Brown"]),
        ("Name = 'Zoë O\\'Neil'", ["O'Neil"]),
        ("Owner.Name LIKE 'Integration%' AND Score__c = 90", ["Brown"]),
        ("Lead.LastName = 'Young'", ["Young"]),
        ("Score__c IN (10, 90)", ["Adams", "Brown"]),
        ("Email NOT IN (null) AND Email LIKE '%'", ["Adams", "Brown"]),
        ("(LastName = 'Adams' OR LastName = 'Brown') AND (Score__c = 90 OR Score__c = 91)", ["Brown"]),
        ("LastModifiedDate = TODAY AND LastName = 'Adams'", ["Adams"]),
        ("CreatedDate > YESTERDAY AND LastName = 'Adams'", ["Adams"]),
        ("CreatedDate > TODAY", []),
        ("CreatedDate = LAST_N_DAYS:1 AND LastName = 'Adams'", ["Adams"]),
        # midnight of the 21st in Los Angeles is 07:00 UTC
        ("Next_Contact__c = TODAY", ["Young"]),
        ("Next_Contact__c = YESTERDAY", ["100%_sure"]),
        ("Next_Contact__c >= YESTERDAY", ["100%_sure", "Young"]),
        ("Next_Contact__c > YESTERDAY", ["Young"]),
        ("Next_Contact__c < TODAY", ["100%_sure"]),
        ("Next_Contact__c <= YESTERDAY", ["100%_sure"]),
        ("Next_Contact__c <= TODAY", ["100%_sure", "Young"]),
        ("Next_Contact__c > N_DAYS_AGO:1 AND Next_Contact__c != null", ["Young"]),
    ],
)
def test_a_condition_means_what_the_reference_says(org: SalesforceClient, where: str, wanted: list[str]) -> None:
    assert org.names(where) == wanted


@pytest.mark.parametrize(
    ("soql", "code"),
    [
        ("SELECT Id FROM Lead WHERE LastName = 'a' AND City = 'b' OR City = 'c'", "MALFORMED_QUERY"),
        ("SELECT Id FROM Lead WHERE City = 'b' AND NOT LastName = 'a'", "MALFORMED_QUERY"),
        ("SELECT Id FROM Lead WHERE NOT LastName = 'a' AND City = 'b'", "MALFORMED_QUERY"),
        ("SELECT Id FROM Lead WHERE", "MALFORMED_QUERY"),
        ('SELECT Id FROM Lead WHERE LastName = "a"', "MALFORMED_QUERY"),
        ("SELECT Id FROM Lead WHERE LastName == 'a'", "MALFORMED_QUERY"),
        ("SELECT Id FROM Lead WHERE LastName = 'a", "MALFORMED_QUERY"),
        ("SELECT Id FROM Lead WHERE LastName IN ()", "MALFORMED_QUERY"),
        ("SELECT Id FROM Lead WHERE (LastName = 'a'", "MALFORMED_QUERY"),
        ("SELECT Id FROM Lead WHERE LastName = :name", "MALFORMED_QUERY"),
        ("SELECT Id FROM Lead WHERE CreatedDate > 2026-01-01T00:00:00", "MALFORMED_QUERY"),
        ("SELECT Id FROM Lead WHERE CreatedDate > 2026-01-01T00:00:00 00:00", "MALFORMED_QUERY"),
        ("SELECT Id, FROM Lead", "MALFORMED_QUERY"),
        ("SELECT * FROM Lead", "MALFORMED_QUERY"),
        ("Id FROM Lead", "MALFORMED_QUERY"),
        ("SELECT Id FROM Lead ORDER BY", "MALFORMED_QUERY"),
        ("SELECT Id FROM Lead LIMIT -1", "MALFORMED_QUERY"),
        ("SELECT Id FROM Lead; DROP", "MALFORMED_QUERY"),
        ("SELECT Company, COUNT(Id) FROM Lead", "MALFORMED_QUERY"),
        ("SELECT COUNT(), Id FROM Lead", "MALFORMED_QUERY"),
        ("SELECT FIELDS(ALL) FROM Lead", "MALFORMED_QUERY"),
        ("SELECT FIELDS(CUSTOM) FROM Lead LIMIT 201", "MALFORMED_QUERY"),
        ("SELECT Id, FIELDS(ALL) FROM Lead LIMIT 200", "INVALID_FIELD"),
        ("SELECT Id, Nope FROM Lead", "INVALID_FIELD"),
        ("SELECT Id, Nope__c FROM Lead", "INVALID_FIELD"),
        ("SELECT Id FROM Lead WHERE Nope = 1", "INVALID_FIELD"),
        ("SELECT Id FROM Lead ORDER BY Nope", "INVALID_FIELD"),
        ("SELECT Account.Name FROM Lead", "INVALID_FIELD"),
        ("SELECT Id, id FROM Lead", "INVALID_FIELD"),
        ("SELECT Id FROM Lead WHERE CreatedDate > '2026-01-01T00:00:00Z'", "INVALID_FIELD"),
        ("SELECT Id FROM Lead WHERE CreatedDate > 2026-01-01", "INVALID_FIELD"),
        ("SELECT Id FROM Lead WHERE Birthday__c > 2026-01-01T00:00:00Z", "INVALID_FIELD"),
        ("SELECT Id FROM Lead WHERE LastName = 5", "INVALID_FIELD"),
        ("SELECT Id FROM Lead WHERE Score__c = '5'", "INVALID_FIELD"),
        ("SELECT Id FROM Lead WHERE DoNotCall = 'true'", "INVALID_FIELD"),
        ("SELECT Id FROM Lead WHERE LastName = TODAY", "INVALID_FIELD"),
        ("SELECT Id FROM Lead WHERE Description LIKE '%a%'", "INVALID_FIELD"),
        ("SELECT Id FROM Lead WHERE CreatedDate LIKE '2026%'", "INVALID_QUERY_FILTER_OPERATOR"),
        ("SELECT Id FROM Lead WHERE Id = 'nonsense'", "INVALID_QUERY_FILTER_OPERATOR"),
        ("SELECT Id FROM Lead WHERE DoNotCall > false", "INVALID_QUERY_FILTER_OPERATOR"),
        ("SELECT Id FROM Lead WHERE Score__c > null", "INVALID_QUERY_FILTER_OPERATOR"),
        ("SELECT Id FROM Nope", "INVALID_TYPE"),
        ("SELECT Id FROM Lead OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE"),
    ],
)
def test_what_soql_does_not_know_is_refused_and_listed(org: SalesforceClient, soql: str, code: str) -> None:
    before = len(org.violations())
    assert org.refusal(soql) == (400, code)
    assert len(org.violations()) == before + 1


@pytest.mark.parametrize(
    "soql",
    [
        "SELECT Id, (SELECT Id FROM Contacts) FROM Account",
        "SELECT Id FROM Lead WHERE Id IN (SELECT LeadId FROM CampaignMember)",
        "SELECT toLabel(Status) FROM Lead",
        "SELECT TYPEOF Owner WHEN User THEN Id END FROM Lead",
        "SELECT Id FROM Lead WITH SECURITY_ENFORCED",
        "SELECT Id FROM Lead FOR UPDATE",
        "SELECT COUNT(Id) FROM Lead GROUP BY ROLLUP(Company)",
        "SELECT Id FROM Lead WHERE CreatedDate = THIS_FISCAL_YEAR",
        "SELECT Id FROM Lead WHERE CALENDAR_YEAR(CreatedDate) = 2026",
    ],
)
def test_what_is_not_built_says_so_with_a_501_and_is_listed(org: SalesforceClient, soql: str) -> None:
    before = len(org.violations())
    answer = org.call("GET", "query", params={"q": soql})
    assert (answer.status_code, answer.json()["field"]) == (501, "path")
    assert len(org.violations()) == before + 1


def test_an_error_shows_the_place_as_the_vendor_does(org: SalesforceClient) -> None:
    message = org.call("GET", "query", params={"q": "SELECT Id, BadField FROM Lead"}).json()[0]["message"]
    lines = message.split("\n")
    assert lines[3] == "ERROR at Row:1:Column:12"
    assert lines[1][lines[2].index("^") :].startswith("BadField")
    assert lines[4].startswith("No such column 'BadField' on entity 'Lead'.")


def test_a_plus_sign_that_was_not_percent_encoded_breaks_a_datetime(org: SalesforceClient) -> None:
    soql = "SELECT+Id+FROM+Lead+WHERE+CreatedDate+>+2026-01-01T00:00:00+01:00"
    headers = {"Authorization": f"Bearer {org.token}"}
    url = f"{org.base}/services/data/v60.0/query?q={soql}"
    assert org.refused(org.session.get(url, headers=headers, timeout=30)) == (400, "MALFORMED_QUERY")


def test_order_by_takes_several_fields_and_puts_nulls_where_told(org: SalesforceClient) -> None:
    def ordered(order: str) -> list[str]:
        return [row["LastName"] for row in org.rows(f"SELECT LastName FROM Lead ORDER BY {order}")]

    assert ordered("Score__c NULLS LAST, LastName DESC")[:3] == ["Adams", "O'Neil", "Brown"]
    assert ordered("Score__c DESC NULLS LAST, LastName DESC") == ["Brown", "O'Neil", "Adams", "Young", "100%_sure"]
    assert ordered("Score__c, LastName")[:3] == ["100%_sure", "Young", "Adams"]
    assert ordered("Owner.Name, LastName LIMIT 2 OFFSET 1") == ["Adams", "Brown"]


def test_count_and_aggregates_answer_in_the_vendors_shapes(org: SalesforceClient) -> None:
    assert org.get("query", q="SELECT COUNT() FROM Lead WHERE Score__c > 10") == {
        "totalSize": 2, "done": True, "records": [],
    }  # fmt: skip
    (row,) = org.rows("SELECT COUNT(Id), COUNT(Email) mails, MAX(Score__c), AVG(Score__c) mean FROM Lead")
    assert row == {
        "attributes": {"type": "AggregateResult"}, "expr0": 5, "mails": 2, "expr1": 90.0, "mean": (10 + 90 + 50.5) / 3,
    }  # fmt: skip
    grouped = org.rows("SELECT DoNotCall, COUNT(Id) n FROM Lead GROUP BY DoNotCall HAVING COUNT(Id) > 1")
    assert [(row["DoNotCall"], row["n"]) for row in grouped] == [(False, 4)]


def test_fields_groups_and_parents_are_answered_with_canonical_names(org: SalesforceClient) -> None:
    (row,) = org.rows("select id, LASTNAME, owner.name, MasterRecord.Name from lead where lastname = 'Young'")
    assert list(row) == ["attributes", "Id", "LastName", "Owner", "MasterRecord"]
    assert row["Owner"]["Name"] == "Integration User"
    assert row["MasterRecord"] is None
    custom = org.rows("SELECT Id, FIELDS(CUSTOM) FROM Lead WHERE LastName = 'Young' LIMIT 1")[0]
    assert custom["Tags__c"] == "webinar"
    assert "Email" not in custom
    standard = org.rows("SELECT FIELDS(STANDARD) FROM Lead WHERE LastName = '100%_sure' LIMIT 200")[0]
    assert standard["Address"]["city"] == "Köln"
    assert "Tags__c" not in standard


@pytest.mark.parametrize(
    ("word", "n", "first", "after"),
    [
        ("yesterday", None, "2026-02-28", "2026-03-01"),
        ("today", None, "2026-03-01", "2026-03-02"),
        ("tomorrow", None, "2026-03-02", "2026-03-03"),
        ("this_week", None, "2026-03-01", "2026-03-08"),
        ("last_week", None, "2026-02-22", "2026-03-01"),
        ("next_week", None, "2026-03-08", "2026-03-15"),
        ("this_month", None, "2026-03-01", "2026-04-01"),
        ("last_month", None, "2026-02-01", "2026-03-01"),
        ("this_quarter", None, "2026-01-01", "2026-04-01"),
        ("last_quarter", None, "2025-10-01", "2026-01-01"),
        ("next_quarter", None, "2026-04-01", "2026-07-01"),
        ("this_year", None, "2026-01-01", "2027-01-01"),
        ("last_year", None, "2025-01-01", "2026-01-01"),
        ("last_90_days", None, "2025-12-01", "2026-03-02"),
        ("next_90_days", None, "2026-03-02", "2026-05-31"),
        ("last_n_days", 1, "2026-02-28", "2026-03-02"),
        ("next_n_days", 3, "2026-03-02", "2026-03-05"),
        ("n_days_ago", 2, "2026-02-27", "2026-02-28"),
        ("last_n_months", 2, "2026-01-01", "2026-03-01"),
        ("next_n_years", 1, "2027-01-01", "2028-01-01"),
    ],
)
def test_a_date_literal_covers_the_documented_days(word: str, n: int | None, first: str, after: str) -> None:
    got = date_range(word, n, dt.date(2026, 3, 1))
    assert [day.isoformat() for day in got] == [first, after]


def test_datetime_literals_keep_milliseconds_and_zones() -> None:
    assert parse_datetime("1970-01-01T00:00:01.5Z") == 1500
    assert parse_datetime("1970-01-01T01:00:00+01:00") == 0
    assert parse_datetime("1969-12-31T16:00:00.007-0800") == 7
