"""Writing Salesforce: one outcome for each change, in order, and nothing created twice."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from local_server import Asked, Reply
from salesforce_account import Account
from salesforce_org import ROOT, refusal

from sync_platform.errors import ConfigError, RateLimitError, UnknownOutcome
from sync_platform.model import Change, Op, Outcome, Status

BUSY = refusal(503, "SERVER_UNAVAILABLE", "busy")
LOCKED = {"statusCode": "UNABLE_TO_LOCK_ROW", "message": "unable to obtain exclusive access", "fields": []}
BAD_MAIL = {"statusCode": "INVALID_EMAIL_ADDRESS", "message": "Email: invalid email address: x", "fields": ["Email"]}


def change(op: Op, key: str, target_id: str | None = None, **fields: Any) -> Change:
    return Change(op=op, key=key, token=f"token-{key}", target_id=target_id, fields=fields)


def write(account: Account, *changes: Change) -> list[Outcome]:
    return list(account.connector.write("Lead", changes))


def calls(account: Account) -> list[Asked]:
    return [one for one in account.server.asked if one.path.startswith(f"{ROOT}/composite")]


def test_creates_without_an_external_id_are_posted_and_give_ids(account: Account) -> None:
    outcomes = write(account, *(change(Op.CREATE, f"k{n}", FirstName=f"n{n}") for n in range(3)))
    assert [outcome.status for outcome in outcomes] == [Status.APPLIED] * 3
    assert [account.org.rows[str(outcome.target_id)]["FirstName"] for outcome in outcomes] == ["n0", "n1", "n2"]
    (call,) = calls(account)
    assert call.method == "POST"
    assert call.json["allOrNone"] is False


def test_a_refused_record_names_field_reason_and_mend_and_the_rest_goes_on(account: Account) -> None:
    account.org.item_errors = {"bad": BAD_MAIL, "locked": LOCKED}
    names = ["a", "bad", "b", "locked", "c"]
    outcomes = write(account, *(change(Op.CREATE, name, FirstName=name) for name in names))
    assert [outcome.key for outcome in outcomes] == names
    assert [outcome.status for outcome in outcomes] == [
        Status.APPLIED,
        Status.FAILED,
        Status.APPLIED,
        Status.RETRY,
        Status.APPLIED,
    ]
    assert outcomes[1].field == "Email"
    assert "invalid email" in str(outcomes[1].reason)
    assert outcomes[1].resolution == "correct the e-mail address at the source"


@pytest.mark.parametrize("fault", [BUSY, Reply(hang_up=True)], ids=["503", "lost"])
def test_a_plain_create_is_never_sent_twice(account: Account, fault: Reply) -> None:
    account.connector.discover("Lead")
    account.org.before.append(lambda asked: fault if asked.path.startswith(f"{ROOT}/composite") else None)
    with pytest.raises(UnknownOutcome):
        write(account, change(Op.CREATE, "k", FirstName="x"))
    assert len(calls(account)) == 1


@pytest.mark.parametrize("fault", [BUSY, Reply(hang_up=True)], ids=["503", "lost"])
def test_a_create_by_external_id_is_repeated_and_stored_once(account: Account, fault: Reply) -> None:
    account.connector.discover("Lead")

    def stored_but_unanswered(asked: Asked) -> Reply | None:
        if asked.method == "PATCH":
            account.org.before.clear()
            account.org(asked)
            return fault
        return None

    account.org.before.append(stored_but_unanswered)
    (outcome,) = write(account, change(Op.CREATE, "k", Ext__c="e-1", FirstName="x"))
    assert outcome.status is Status.APPLIED
    assert [one.path for one in calls(account)] == [f"{ROOT}/composite/sobjects/Lead/Ext__c"] * 2
    assert len(account.org.rows) == 1


def test_two_records_of_a_batch_with_one_external_id_are_not_merged_in_silence(account: Account) -> None:
    outcomes = write(
        account,
        change(Op.CREATE, "a", Ext__c="E-1", FirstName="x"),
        change(Op.CREATE, "b", Ext__c="e-1", FirstName="y"),
    )
    assert [outcome.status for outcome in outcomes] == [Status.APPLIED, Status.FAILED]
    assert outcomes[1].field == "Ext__c"
    assert [row["FirstName"] for row in account.org.rows.values()] == ["x"]


def test_creates_with_and_without_external_id_come_back_in_the_order_given(account: Account) -> None:
    outcomes = write(
        account,
        *(change(Op.CREATE, f"k{n}", FirstName=f"n{n}", **({"Ext__c": f"e{n}"} if n % 2 else {})) for n in range(6)),
    )
    names = [account.org.rows[str(outcome.target_id)]["FirstName"] for outcome in outcomes]
    assert names == [f"n{n}" for n in range(6)]
    assert sorted(one.method for one in calls(account)) == ["PATCH", "POST"]


def test_a_second_call_of_a_batch_that_fails_does_not_hide_what_the_first_did(account: Account) -> None:
    account.org.before.append(
        lambda asked: Reply(hang_up=True) if asked.method == "POST" and "composite" in asked.path else None
    )
    outcomes = write(
        account, change(Op.CREATE, "a", Ext__c="e-1", FirstName="x"), change(Op.CREATE, "b", FirstName="y")
    )
    assert [outcome.status for outcome in outcomes] == [Status.APPLIED, Status.UNKNOWN]


def test_updates_send_only_their_fields_null_clears_and_values_keep_their_kind(account: Account) -> None:
    key = account.org.lead(1, 1, FirstName="old", Email="a@example.com")
    (outcome,) = write(
        account,
        change(
            Op.UPDATE,
            "k",
            key,
            Email=None,
            Budget__c=Decimal("0.10"),
            Born__c=dt.date(2000, 1, 31),
            SystemModstamp=dt.datetime(2026, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        ),
    )
    assert outcome.status is Status.APPLIED
    (call,) = calls(account)
    assert call.json["records"] == [
        {
            "attributes": {"type": "Lead"},
            "id": key,
            "Email": None,
            "Budget__c": 0.1,
            "Born__c": "2000-01-31",
            "SystemModstamp": "2026-01-01T00:00:00.000Z",
        }
    ]
    assert b'"Budget__c":0.10' in call.body


def test_a_delete_that_was_already_done_is_a_noop(account: Account) -> None:
    here, gone = account.org.lead(1, 1), account.org.lead(2, 2, IsDeleted=True)
    outcomes = write(account, change(Op.DELETE, "a", here), change(Op.DELETE, "b", gone))
    assert [outcome.status for outcome in outcomes] == [Status.APPLIED, Status.NOOP]


def test_a_large_batch_is_cut_into_calls_of_200(account: Account) -> None:
    outcomes = write(account, *(change(Op.CREATE, f"k{n}", FirstName=f"n{n}") for n in range(450)))
    assert [outcome.key for outcome in outcomes] == [f"k{n}" for n in range(450)]
    assert [len(one.json["records"]) for one in calls(account)] == [200, 200, 50]


def test_the_day_used_up_is_a_rate_limit_that_says_when_to_come_back(account: Account) -> None:
    account.connector.discover("Lead")
    account.org.before.append(lambda asked: refusal(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."))
    with pytest.raises(RateLimitError) as caught:
        write(account, change(Op.CREATE, "k", FirstName="x"))
    assert caught.value.retry_after == 900
    assert len(calls(account)) == 1


def test_an_update_without_an_id_fails_before_anything_is_sent(account: Account) -> None:
    (outcome,) = write(account, change(Op.UPDATE, "k", None, FirstName="x"))
    assert outcome.status is Status.FAILED
    assert calls(account) == []
    with pytest.raises(ConfigError):
        write(account, change(Op.HOLD, "k"))


def test_fewer_answers_than_records_leave_a_create_unknown(account: Account) -> None:
    account.connector.discover("Lead")
    account.org.before.append(lambda asked: Reply(data=[]) if "composite" in asked.path else None)
    with pytest.raises(UnknownOutcome):
        write(account, change(Op.CREATE, "k", FirstName="x"))


def test_what_was_written_is_read_back_at_once(account: Account) -> None:
    (outcome,) = write(account, change(Op.CREATE, "k", FirstName="Ann", Email="ann@example.com"))
    found = account.connector.find("Lead", "Email", ["ANN@example.com"], ["FirstName"])
    assert found.to_pylist() == [{"Id": outcome.target_id, "FirstName": "Ann", "Email": "ann@example.com"}]
