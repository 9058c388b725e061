"""Reading Salesforce by Bulk API: when it is used, half files, killed and lost jobs."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest
from local_server import Asked, Reply
from salesforce_account import Account, ids, soql
from salesforce_org import ROOT

from sync_platform.errors import ConfigError, TransientError
from sync_platform.model import Position


def test_a_count_probe_carries_the_filter_and_decides_for_bulk(account: Account) -> None:
    account.connector = account.connect(bulk_above=3)
    for number in range(5):
        account.org.lead(number, number, Status="Open" if number < 4 else "Closed")
    assert len(ids(account.read(where="Status = 'Open'"))) == 4
    assert "WHERE Status = 'Open'" in soql(account.server)[0]
    assert "COUNT()" in soql(account.server)[0]
    assert len(account.server.of("POST", f"{ROOT}/jobs/query")) == 1
    assert len(ids(account.read(where="Status = 'Closed'"))) == 1
    assert len(account.server.of("POST", f"{ROOT}/jobs/query")) == 1


def test_a_bulk_file_keeps_newlines_quotes_emoji_and_tells_null_from_text(account: Account) -> None:
    account.connector = account.connect(bulk_above=0)
    text = 'line one\nline "two", 😀\ttab'
    account.org.lead(1, 1, FirstName=text, Budget__c="12345678901234567.89", Staff=3, Born__c="2000-01-31")
    account.org.lead(2, 2, FirstName="null", Notes="x" * 150_000)
    account.org.lead(3, 3, IsDeleted=True)
    (page,) = account.read()
    rows = {row["Id"][12:15]: row for row in page.table.to_pylist()}
    assert rows["001"]["FirstName"] == text
    assert rows["001"]["Budget__c"] == Decimal("12345678901234567.89")
    assert rows["001"]["Email"] is None
    assert rows["002"]["FirstName"] == "null"
    assert len(rows["002"]["Notes"]) == 150_000
    assert rows["003"]["_deleted"] is True
    assert page.complete
    assert page.position == Position({"cursor": "2026-03-01T12:00:00.003Z"})


def test_bulk_and_rest_give_the_same_tables(account: Account) -> None:
    for number in range(50):
        account.org.lead(number, number, FirstName=f"n{number}", Budget__c=number * 1.25, Staff=number, Score__c=0.1)
    rest = pa.concat_tables([page.table for page in account.read()])
    account.connector = account.connect(bulk_above=0)
    bulk = pa.concat_tables([page.table for page in account.read()])
    assert bulk.schema == rest.schema
    assert bulk.sort_by("Id").to_pylist() == rest.sort_by("Id").to_pylist()


def test_half_a_bulk_file_is_noticed_and_asked_for_again(account: Account) -> None:
    account.connector = account.connect(bulk_above=0)
    for number in range(20):
        account.org.lead(number, number)
    halves = []

    def half(asked: Asked) -> Reply | None:
        if asked.path.endswith("/results") and not halves:
            account.org.before.clear()
            whole = account.org(asked)
            halves.append(1)
            body = b"\n".join((whole.body or b"").split(b"\n")[:11]) + b"\n"  # whole lines, too few of them
            return Reply(body=body, headers=whole.headers)
        return None

    account.org.before.append(half)
    assert len(ids(account.read())) == 20
    assert halves == [1]


def test_a_bulk_job_that_gives_fewer_rows_than_it_promised_moves_no_position(account: Account) -> None:
    account.connector = account.connect(bulk_above=0)
    for number in range(20):
        account.org.lead(number, number)

    def promise(asked: Asked) -> Reply | None:
        if asked.method == "GET" and "/jobs/query/" in asked.path and not asked.path.endswith("/results"):
            return Reply(data={"state": "JobComplete", "numberRecordsProcessed": 21})
        return None

    account.org.before.append(promise)
    with pytest.raises(TransientError, match="promised 21 rows and gave 20"):
        account.read()


def test_a_killed_bulk_read_goes_on_with_the_next_part_of_the_same_job(account: Account) -> None:
    account.connector = account.connect(bulk_above=0)
    account.org.part = 30
    for number in range(100):
        account.org.lead(number, number)
    first = next(account.connector.read("Lead"))
    assert first.position is not None
    account.org.lead(5, 99_000)
    rest = account.read(first.position)
    assert len(account.server.of("POST", f"{ROOT}/jobs/query")) == 1
    assert sorted(ids([first, *rest])) == sorted(account.org.rows)
    assert account.org.lead(5, 99_000) in ids(account.read(rest[-1].position))


def test_a_bulk_job_that_is_gone_is_begun_again(account: Account) -> None:
    account.connector = account.connect(bulk_above=0)
    account.org.part = 30
    for number in range(100):
        account.org.lead(number, number)
    position = next(account.connector.read("Lead")).position
    account.org.jobs.clear()
    assert sorted(ids(account.read(position))) == sorted(account.org.rows)


def test_a_bulk_job_is_not_resumed_under_another_filter(account: Account) -> None:
    account.connector = account.connect(bulk_above=0)
    account.org.part = 30
    for number in range(100):
        account.org.lead(number, number, Status="Open" if number % 2 else "Closed")
    position = next(account.connector.read("Lead")).position
    assert len(ids(account.read(position, where="Status = 'Open'"))) == 50


def test_a_failed_bulk_job_is_an_error_with_its_reason(account: Account) -> None:
    account.connector = account.connect(bulk_above=0)
    account.org.lead(1, 1)

    def fail(asked: Asked) -> Reply | None:
        if asked.method == "GET" and "/jobs/query/" in asked.path:
            return Reply(data={"state": "Failed", "errorMessage": "INVALIDFIELD: No such column 'Nope__c'"})
        return None

    account.org.before.append(fail)
    with pytest.raises(ConfigError, match="Nope__c"):
        account.read()
