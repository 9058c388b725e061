"""Reading Salesforce: every row once or more, never none, whatever moves meanwhile."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from local_server import Asked, Clock, LocalServer, Reply, serving
from salesforce_org import ROOT, START, Org, refusal, stamp

from sync_platform.connectors.salesforce import Salesforce
from sync_platform.connectors.salesforce.bulk import Waiting
from sync_platform.errors import AuthError, ConfigError, ContractError, RateLimitError, TransientError
from sync_platform.model import Deletes, Field, Page, Position

HOUR = 3_600_000


class Account:
    """A connector, the org it talks to, and the clock both go by."""

    def __init__(self, server: LocalServer, org: Org, **options: Any) -> None:
        self.server, self.org = server, org
        org.url = server.url
        self.clock = Clock(START.timestamp() + 2 * 3600)
        self.connector = self.connect(**options)

    def connect(self, **options: Any) -> Salesforce:
        settings = {"client_id": "app", "client_secret": "org-secret", "base_url": self.server.url, **options}
        made = Salesforce(**settings)
        made._waiting = Waiting(clock=self.clock, sleep=self.clock.sleep)
        http = made.http
        http._clock, http._sleep = self.clock, self.clock.sleep
        return made

    def read(self, since: Position | None = None, **options: Any) -> list[Page]:
        return list(self.connector.read("Lead", since, **options))


@pytest.fixture
def account() -> Iterator[Account]:
    org = Org()
    with serving(org) as server:
        yield Account(server, org)


def ids(pages: Sequence[Page]) -> list[str]:
    return [key for page in pages for key in page.table["Id"].to_pylist()]


def soql(server: LocalServer) -> list[str]:
    return [one.query["q"] for one in server.asked if "q" in one.query]


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


def test_get_returns_live_records_and_leaves_out_what_is_gone(account: Account) -> None:
    keys = [account.org.lead(number, number, Email=f"{number}@example.com") for number in range(700)]
    account.org.rows[keys[3]]["IsDeleted"] = True
    table = account.connector.get("Lead", [*keys, "00Q000000999999AAA"], ["Email"])
    assert set(table.column_names) == {"Id", "Email"}
    assert set(table["Id"].to_pylist()) == set(keys) - {keys[3]}


def test_find_escapes_its_values_and_ignores_case(account: Account) -> None:
    nasty = 'o\'brien\\ "x"\n@example.com'
    account.org.lead(1, 1, Email=nasty, FirstName="Pat")
    account.org.lead(2, 2, Email="OTHER@example.com", FirstName="Sam")
    table = account.connector.find("Lead", "Email", [nasty, "other@example.com", "none@example.com"], ["FirstName"])
    assert sorted(table["FirstName"].to_pylist()) == ["Pat", "Sam"]
    assert account.connector.find("Lead", "Email", [], ["FirstName"]).num_rows == 0


def test_find_by_many_long_values_keeps_every_address_short(account: Account) -> None:
    values = [f"{number}-{'x' * 120}@example.com" for number in range(400)]
    for number, value in enumerate(values):
        account.org.lead(number, number, Email=value)
    assert account.connector.find("Lead", "Email", values, []).num_rows == 400
    assert max(len(one) for one in soql(account.server)) < 14_000
    assert len(soql(account.server)) > 3


def test_find_by_a_number_or_an_unfilterable_field(account: Account) -> None:
    account.org.lead(1, 1, Staff=7)
    assert account.connector.find("Lead", "Staff", ["7", "not a number"], []).num_rows == 1
    with pytest.raises(ConfigError, match="Notes"):
        account.connector.find("Lead", "Notes", ["x"], [])
