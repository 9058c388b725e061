"""Reading Salesforce: every row once or more, never none, whatever moves meanwhile."""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal

import pyarrow as pa
import pytest
from local_server import Asked, Reply, serving
from salesforce_account import Account, ids, soql
from salesforce_org import ROOT, START, Org, refusal, stamp

from sync_platform.errors import AuthError, ConfigError, ContractError, RateLimitError
from sync_platform.model import Deletes, Field, Position

HOUR = 3_600_000


def test_a_describe_becomes_a_schema_with_flags(account: Account) -> None:
    schema = account.connector.discover("Lead")
    fields = {arrow.name: Field.from_arrow(arrow) for arrow in schema}
    assert "Address" not in fields
    assert "Photo__c" not in fields
    assert fields["Budget__c"].type == pa.decimal128(38, 9)
    assert fields["SystemModstamp"].type == pa.timestamp("us", "UTC")
    assert fields["SystemModstamp"].readonly
    assert fields["Born__c"].type == pa.date32()
    assert fields["Staff"].type == pa.int64()
    assert fields["FirstName"].required
    assert not fields["Email"].required
    assert fields["Email"].folded
    assert fields["Ext__c"].unique
    assert fields["Status"].values == ("Open",)
    assert fields["FirstName"].max_length == 80


def test_a_field_hidden_by_security_is_absent_and_not_null(account: Account) -> None:
    account.org.hidden = frozenset({"Email"})
    account.org.lead(1, 0, FirstName="Ann")
    (page,) = account.read()
    assert "Email" not in page.table.column_names


def test_a_small_object_is_read_whole_by_rest_with_its_types(account: Account) -> None:
    account.org.lead(1, 5, FirstName="Ann", Budget__c=19.99, Score__c=1.5, Staff=7, Born__c="1990-02-03")
    account.org.lead(2, 6, IsDeleted=True)
    (page,) = account.read()
    first = page.table.to_pylist()[0]
    assert first["Budget__c"] == Decimal("19.99")
    assert first["Born__c"] == dt.date(1990, 2, 3)
    assert first["SystemModstamp"] == START + dt.timedelta(milliseconds=5)
    assert page.table["_deleted"].to_pylist() == [False, True]
    assert page.complete
    assert page.read_at.tzinfo is not None
    assert account.server.of("POST", ROOT + "/jobs") == []


def test_ties_at_a_page_boundary_are_all_read_once(account: Account) -> None:
    for number in range(4500):
        account.org.lead(number, number // 2500)  # two instants, thousands of rows each
    account.connector = account.connect(bulk_above=10_000)
    pages = account.read()
    assert sorted(ids(pages)) == sorted(account.org.rows)
    assert len(ids(pages)) == 4500
    assert [page.complete for page in pages] == [False, False, True]


def test_a_server_that_answers_smaller_parts_is_followed_by_key_and_not_by_its_cursor(account: Account) -> None:
    account.org.batch = 200
    for number in range(1000):
        account.org.lead(number, number % 7)
    pages = account.read()
    assert sorted(ids(pages)) == sorted(account.org.rows)
    assert account.server.of("GET", f"{ROOT}/query/") == []


@pytest.mark.parametrize("seed", range(5))
def test_rows_that_move_while_we_read_are_never_lost(account: Account, seed: int) -> None:
    chance = random.Random(seed)
    account.org.batch = 50
    for number in range(400):
        account.org.lead(number, number // 3)
    later = [1000]

    def shuffle(asked: Asked) -> Reply | None:
        if asked.path.endswith("/queryAll"):
            for key in chance.sample(sorted(account.org.rows), 5):
                later[0] += 1
                account.org.rows[key]["SystemModstamp"] = stamp(later[0])
                account.org.rows[key]["FirstName"] = f"v{later[0]}"
            if later[0] > 1100:
                account.org.before.clear()
        return None

    account.org.before.append(shuffle)
    seen = {row["Id"]: row["FirstName"] for page in account.read() for row in page.table.to_pylist()}
    assert seen == {key: row["FirstName"] for key, row in account.org.rows.items()}


def test_an_incremental_read_brings_only_what_moved_and_its_ties(account: Account) -> None:
    for number in range(10):
        account.org.lead(number, number)
    position = account.read()[-1].position
    assert position == Position({"cursor": "2026-03-01T12:00:00.009Z"})
    moved = account.org.lead(3, 20)
    gone = account.org.lead(4, 21, IsDeleted=True)
    (page,) = account.read(position)
    assert set(ids([page])) == {moved, gone, account.org.lead(9, 9)}
    assert not page.complete
    assert dict(zip(page.table["Id"].to_pylist(), page.table["_deleted"].to_pylist(), strict=True))[gone]


def test_a_row_committed_late_is_found_within_the_lag(account: Account) -> None:
    now = 2 * HOUR
    account.org.lead(1, now - 1000)
    first = account.read()[-1]
    assert first.position == Position({"cursor": "2026-03-01T13:50:00.000Z"})
    late = account.org.lead(2, now - 300_000)  # stamped before row 1, visible only now
    account.clock.now += 60
    assert late in ids(account.read(first.position))


def test_a_position_never_goes_back_and_never_passes_what_was_seen(account: Account) -> None:
    account.org.lead(1, 2 * HOUR - 1000)
    position = account.read()[-1].position
    account.clock.now -= 1800  # our clock was set back
    again = account.read(position)[-1].position
    assert again == position
    account.clock.now += 10 * 3600  # and far ahead
    ahead = account.read(position)[-1].position
    assert ahead is not None
    assert ahead.value["cursor"] == "2026-03-01T13:59:59.000Z"


def test_a_killed_full_read_resumes_and_then_goes_on_incrementally_without_a_gap(account: Account) -> None:
    account.org.batch = 100
    for number in range(450):
        account.org.lead(number, number // 4)
    pages = account.connector.read("Lead")
    seen = [next(pages), next(pages)]  # and then the process is killed
    account.org.lead(1, 5000)  # moves while nobody reads
    rest = account.read(seen[-1].position)
    assert set(ids(seen)) | set(ids(rest)) == set(account.org.rows)
    assert len(ids(rest)) == 251
    assert not any(page.complete for page in rest)
    account.org.lead(2, 6000)
    assert account.org.lead(2, 6000) in ids(account.read(rest[-1].position))


def test_a_token_that_expires_in_mid_read_is_renewed_once(account: Account) -> None:
    account.org.batch = 100
    for number in range(300):
        account.org.lead(number, number)
    pages = account.connector.read("Lead")
    seen = ids([next(pages)])
    account.org.valid.clear()
    seen += ids(list(pages))
    assert sorted(seen) == sorted(account.org.rows)
    assert account.org.tokens == 2


def test_wrong_credentials_are_an_auth_error_that_says_what_to_check() -> None:
    org = Org()
    with serving(org) as server:
        account = Account(server, org, client_secret="wrong-one")
        with pytest.raises(AuthError) as caught:
            account.connector.check()
    assert "client_secret" in str(caught.value.mend)
    assert "wrong-one" not in f"{caught.value}{account.connector!r}"


def test_check_says_who_we_are_and_whether_the_version_is_served(account: Account) -> None:
    health = account.connector.check()
    assert health.ok
    assert health.account == "00D000000000001EAA/005000000000001AAA"
    assert health.api_version == "66.0"


def test_the_usage_header_is_a_gauge_that_slows_nobody(account: Account) -> None:
    account.org.lead(1, 1)
    account.read()
    assert account.connector.traffic.seconds_waiting_for_quota == 0.0
    assert account.connector.quota.peek("daily").rate > 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "code", "message", "error"),
    [
        (403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", RateLimitError),
        (403, "INSUFFICIENT_ACCESS", "no access to Lead", AuthError),
        (403, "API_DISABLED_FOR_ORG", "not enabled", AuthError),
        (400, "INVALID_FIELD", "No such column 'Nope'", ConfigError),
        (400, "INVALID_TYPE", "sObject type 'Lead' is not supported.", ConfigError),
        (410, "UNSUPPORTED_API_VERSION", "version retired", ConfigError),
        (400, "SOMETHING_NEW", "who knows", ContractError),
    ],
)
def test_a_refused_query_names_who_acts(
    account: Account, status: int, code: str, message: str, error: type[Exception]
) -> None:
    account.org.before.append(lambda asked: refusal(status, code, message) if "/query" in asked.path else None)
    with pytest.raises(error, match=code):
        account.read()
    assert len(soql(account.server)) == 1


def test_too_many_calls_at_once_are_tried_again_within_seconds(account: Account) -> None:
    account.org.lead(1, 1)
    refused = iter([refusal(403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded."), None])
    account.org.before.append(lambda asked: next(refused, None) if "/query" in asked.path else None)
    assert len(ids(account.read())) == 1
    assert sum(account.clock.slept) < 5


def test_half_a_page_is_read_again(account: Account) -> None:
    account.org.lead(1, 1, FirstName="x" * 70)
    cut = iter([Reply(body=b'{"totalSize": 1, "done": true, "records": [{"Id": "00Q', framed=False)])
    account.org.before.append(lambda asked: next(cut, None) if "/query" in asked.path else None)
    assert len(ids(account.read())) == 1


def test_a_value_that_does_not_fit_its_type_names_field_and_value(account: Account) -> None:
    account.org.lead(1, 1, Staff="many")
    with pytest.raises(ContractError, match="Staff answered 'many'"):
        account.read()


def test_only_the_asked_fields_travel_with_what_the_platform_needs(account: Account) -> None:
    account.org.lead(1, 1, Email="a@example.com", FirstName="Ann")
    (page,) = account.read(fields=["Email"])
    assert set(page.table.column_names) == {"Id", "SystemModstamp", "Email", "_deleted"}


def test_an_unknown_field_or_object_is_a_config_error(account: Account) -> None:
    with pytest.raises(ConfigError, match="Emial"):
        account.read(fields=["Emial"])
    with pytest.raises(ConfigError):
        list(account.connector.read("Leed"))
    with pytest.raises(ConfigError):
        account.connector.stream("Robert'); DROP")


def test_an_empty_object_is_complete_and_read_from_the_beginning_again(account: Account) -> None:
    (page,) = account.read()
    assert page.table.num_rows == 0
    assert page.complete
    assert page.position == Position({"cursor": None})


def test_the_streams_say_how_they_behave(account: Account) -> None:
    lead = account.connector.stream("Lead")
    assert lead.deletes is Deletes.TOMBSTONE
    assert lead.cursor is not None
    assert lead.cursor.lag == dt.timedelta(seconds=600)
