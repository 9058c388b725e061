"""Batches written to a HubSpot account, and what is said about each change."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hubspot_portal import TOKEN, Portal, Reply, Request, error
from local_server import Clock

from sync_platform.connectors.hubspot import HubSpot
from sync_platform.connectors.quota import MemoryQuota
from sync_platform.errors import AuthError, ConfigError, ContractError, RateLimitError, TransientError, UnknownOutcome
from sync_platform.model import Change, Op, Outcome, Repeat, Status


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture
def hubspot(portal: Portal, clock: Clock) -> HubSpot:
    made = HubSpot(base_url=portal.url, access_token=TOKEN, calls_per_10_seconds=100_000)
    made._quota = MemoryQuota(clock=clock, sleep=clock.sleep)
    made.http._clock, made.http._sleep = clock, clock.sleep
    return made


def create(key: str, **fields: Any) -> Change:
    return Change(op=Op.CREATE, key=key, token=f"plan-{key}", fields=fields)


def update(target_id: str, **fields: Any) -> Change:
    return Change(op=Op.UPDATE, key=f"k{target_id}", token=f"plan-{target_id}", target_id=target_id, fields=fields)


def written(hubspot: HubSpot, changes: Sequence[Change]) -> list[Outcome]:
    return list(hubspot.write("contacts", changes))


def test_results_are_matched_by_trace_id_although_they_come_in_another_order(portal: Portal, hubspot: HubSpot) -> None:
    changes = [create(f"k{n}", email=f"p{n}@example.com", age=n) for n in range(100)]
    outcomes = written(hubspot, changes)
    assert [each.key for each in outcomes] == [change.key for change in changes]
    assert {each.status for each in outcomes} == {Status.APPLIED}
    for number, outcome in enumerate(outcomes):
        assert outcome.target_id is not None
        assert portal.records[outcome.target_id]["properties"]["age"] == str(number)
        assert outcome.record is not None
        assert outcome.record["age"] == str(number)
        assert isinstance(outcome.record["lastmodifieddate"], dt.datetime)


@pytest.mark.parametrize("field", ["email", "ext_id", "firstname"])
def test_without_trace_ids_in_the_answer_results_are_matched_by_key_or_content(
    portal: Portal, hubspot: HubSpot, field: str
) -> None:
    portal.traced_results = False
    changes = [create(f"k{n}", **{field: f"Value{n}@example.com"}) for n in range(20)]
    for change, outcome in zip(changes, written(hubspot, changes), strict=True):
        assert outcome.target_id is not None
        assert portal.records[outcome.target_id]["properties"][field] == change.fields[field]


def test_equal_creates_without_trace_ids_each_get_a_record_of_their_own(portal: Portal, hubspot: HubSpot) -> None:
    portal.traced_results = False
    outcomes = written(hubspot, [create(f"k{n}", firstname="Same") for n in range(3)])
    assert {each.target_id for each in outcomes} == set(portal.records)


def test_a_result_that_cannot_be_told_apart_is_unknown_and_never_guessed(portal: Portal, hubspot: HubSpot) -> None:
    results = [{"id": str(n), "properties": {"createdate": None}} for n in (1, 2)]
    portal.script = lambda r: Reply(201, {"results": results}) if r.path.endswith("create") else None
    outcomes = written(hubspot, [create("a", firstname="A"), create("b", firstname="B")])
    assert [(each.status, each.target_id) for each in outcomes] == [(Status.UNKNOWN, None)] * 2


def test_updates_are_matched_by_id_and_clear_with_an_empty_text(portal: Portal, hubspot: HubSpot) -> None:
    portal.traced_results = False
    keys = [portal.add(firstname="old", age="1") for _ in range(5)]
    outcomes = written(hubspot, [update(key, firstname=None, age=int(key)) for key in keys])
    assert [each.target_id for each in outcomes] == keys
    assert [portal.records[key]["properties"]["age"] for key in keys] == keys
    assert portal.sent("batch/update")[0].body["inputs"][0]["properties"]["firstname"] == ""
    assert outcomes[0].record is not None
    assert outcomes[0].record["firstname"] is None


def test_a_create_does_not_overwrite_a_contact_made_in_between(portal: Portal, hubspot: HubSpot) -> None:
    key = portal.add(email="anna@example.com", firstname="By hand")
    outcomes = written(hubspot, [create("a", email="anna@example.com", firstname="Ours"), create("b", email="b@x.y")])
    assert [each.status for each in outcomes] == [Status.RETRY, Status.APPLIED]
    assert key in (outcomes[0].reason or "")
    assert outcomes[0].target_id is None
    assert portal.records[key]["properties"]["firstname"] == "By hand"


@pytest.mark.parametrize("multi_status", [True, False])
def test_one_bad_record_does_not_stop_the_rest(portal: Portal, hubspot: HubSpot, multi_status: bool) -> None:
    portal.multi_status = multi_status
    changes = [create(f"k{n}", email=f"p{n}@x.y", age="old" if n in (3, 17) else n) for n in range(40)]
    outcomes = written(hubspot, changes)
    failed = [each for each in outcomes if each.status is Status.FAILED]
    assert [each.key for each in failed] == ["k3", "k17"]
    assert len(portal.records) == 38
    assert failed[0].field == "age"
    assert failed[0].reason == '"old" was not a valid number.'
    assert failed[0].request_id == "c0ffee"
    assert failed[0].resolution
    ids = {each.key: each.target_id for each in outcomes if each.status is Status.APPLIED}
    assert all(portal.records[target or ""]["properties"]["email"] == f"p{key[1:]}@x.y" for key, target in ids.items())


def test_two_hundred_with_errors_inside_is_read_like_two_hundred_and_seven(portal: Portal, hubspot: HubSpot) -> None:
    def dated(request: Request) -> Reply | None:
        if not request.path.endswith("create"):
            return None
        reply = portal._create(request)
        return Reply(200, reply.body)

    portal.script = dated
    outcomes = written(hubspot, [create("a", age="x"), create("b", age="1")])
    assert [each.status for each in outcomes] == [Status.FAILED, Status.APPLIED]


def test_a_property_that_does_not_exist_fails_its_records_without_splitting(portal: Portal, hubspot: HubSpot) -> None:
    portal.multi_status = False
    changes = [create(f"k{n}", **({"nope": "x"} if n % 2 else {"firstname": "x"})) for n in range(100)]
    outcomes = written(hubspot, changes)
    assert [each.status for each in outcomes] == [Status.APPLIED, Status.FAILED] * 50
    assert outcomes[1].field == "nope"
    assert len(portal.sent("batch/create")) == 2


def test_an_error_that_names_nobody_belongs_to_the_record_without_a_result(portal: Portal, hubspot: HubSpot) -> None:
    def nameless(request: Request) -> Reply | None:
        if not request.path.endswith("create"):
            return None
        reply = portal._create(request)
        return Reply(207, {**reply.body, "errors": [{**each, "context": {}} for each in reply.body["errors"]]})

    portal.script = nameless
    outcomes = written(hubspot, [create("a", age="1"), create("b", age="x"), create("c", age="2")])
    assert [each.status for each in outcomes] == [Status.APPLIED, Status.FAILED, Status.APPLIED]


def test_an_update_of_a_record_that_is_gone_names_it_and_the_others_go_on(portal: Portal, hubspot: HubSpot) -> None:
    portal.multi_status = False
    key = portal.add(age="1")
    outcomes = written(hubspot, [update("9999", age=2), update(key, age=2)])
    assert [each.status for each in outcomes] == [Status.FAILED, Status.APPLIED]
    assert "9999" in (outcomes[0].reason or "")


def test_an_address_taken_by_another_contact_fails_the_update_for_good(portal: Portal, hubspot: HubSpot) -> None:
    other, key = portal.add(email="a@x.y"), portal.add(email="b@x.y")
    (outcome,) = written(hubspot, [update(key, email="a@x.y")])
    assert outcome.status is Status.FAILED
    assert other in (outcome.reason or "")


@pytest.mark.parametrize("op", [Op.DELETE, Op.ARCHIVE])
def test_deleting_archives(portal: Portal, hubspot: HubSpot, op: Op) -> None:
    keys = [portal.add() for _ in range(3)]
    outcomes = written(hubspot, [Change(op=op, key=key, token=key, target_id=key) for key in keys[:2]])
    assert [each.status for each in outcomes] == [Status.APPLIED, Status.APPLIED]
    assert list(portal.live()) == [keys[2]]


def test_a_value_without_a_form_fails_its_record_before_anything_is_sent(portal: Portal, hubspot: HubSpot) -> None:
    outcomes = written(hubspot, [create("a", age=float("nan")), create("b", age=1)])
    assert [(each.status, each.field) for each in outcomes] == [(Status.FAILED, "age"), (Status.APPLIED, None)]


def test_text_is_sent_in_the_form_of_its_property(portal: Portal, hubspot: HubSpot) -> None:
    written(hubspot, [create("a", age="1500.0", when="2026-01-02 03:04:05.000000", firstname="1.0")])
    (request,) = portal.sent("batch/create")
    sent = {"age": "1500", "when": "2026-01-02T03:04:05Z", "firstname": "1.0"}
    assert request.body["inputs"] == [{"properties": sent, "objectWriteTraceId": "plan-a"}]


def test_a_lifecycle_stage_moves_back_by_clearing_only_the_records_that_kept_it(
    portal: Portal, hubspot: HubSpot
) -> None:
    back, forward, other = (portal.add(lifecyclestage=stage) for stage in ("customer", "lead", "customer"))
    outcomes = written(
        hubspot,
        [
            update(back, lifecyclestage="lead", age=7),
            update(forward, lifecyclestage="customer"),
            update(other, firstname="Otto"),
        ],
    )
    assert [each.status for each in outcomes] == [Status.APPLIED] * 3
    assert [each.target_id for each in outcomes] == [back, forward, other]
    assert [portal.records[key]["properties"]["lifecyclestage"] for key in (back, forward, other)] == [
        "lead",
        "customer",
        "customer",
    ]
    assert outcomes[0].record is not None
    assert (outcomes[0].record["lifecyclestage"], outcomes[0].record["age"]) == ("lead", "7")
    again = [request.body["inputs"] for request in portal.sent("batch/update")[1:]]
    assert [[(each["id"], each["properties"]) for each in inputs] for inputs in again] == [
        [(back, {"lifecyclestage": ""})],
        [(back, {"lifecyclestage": "lead"})],
    ]


def test_a_lifecycle_stage_that_will_not_move_fails_with_a_sentence(portal: Portal, hubspot: HubSpot) -> None:
    key = portal.add(lifecyclestage="customer")
    portal.stage_stuck = True
    (outcome,) = written(hubspot, [update(key, lifecyclestage="lead")])
    assert (outcome.status, outcome.field) == (Status.FAILED, "lifecyclestage")
    assert "stays None although it was cleared and set to 'lead'" in (outcome.reason or "")
    assert outcome.resolution


def test_a_stage_whose_second_half_is_refused_is_tried_again_by_the_next_run(portal: Portal, hubspot: HubSpot) -> None:
    key, other = portal.add(lifecyclestage="customer"), portal.add(lifecyclestage="lead")
    replies = iter([None, None, error(401, "expired", "EXPIRED_AUTHENTICATION")])
    portal.script = lambda request: next(replies, None) if "batch/update" in request.path else None
    outcomes = written(hubspot, [update(key, lifecyclestage="lead"), update(other, lifecyclestage="customer")])
    assert [each.status for each in outcomes] == [Status.RETRY, Status.APPLIED]
    assert portal.records[key]["properties"]["lifecyclestage"] == ""
    assert [each.status for each in written(hubspot, [update(key, lifecyclestage="lead")])] == [Status.APPLIED]
    assert portal.records[key]["properties"]["lifecyclestage"] == "lead"


def lost(request: Request, part: str) -> Reply | None:
    return Reply(0, drop=True) if part in request.path else None


def test_a_create_whose_answer_is_lost_is_sent_once_and_unknown(portal: Portal, hubspot: HubSpot) -> None:
    portal.script = lambda request: lost(request, "batch/create")
    with pytest.raises(UnknownOutcome):
        written(hubspot, [create("a", firstname="A")])
    assert len(portal.sent("batch/create")) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, 521])
def test_a_create_is_not_repeated_after_a_server_error(portal: Portal, hubspot: HubSpot, status: int) -> None:
    portal.script = lambda request: Reply(status, {}) if "batch/create" in request.path else None
    with pytest.raises(UnknownOutcome):
        written(hubspot, [create("a", firstname="A")])
    assert len(portal.sent("batch/create")) == 1


def test_an_update_is_repeated_because_that_changes_nothing_more(portal: Portal, hubspot: HubSpot) -> None:
    key = portal.add()
    replies = iter([Reply(502, {}), Reply(0, drop=True)])
    portal.script = lambda request: next(replies, None) if "batch/update" in request.path else None
    (outcome,) = written(hubspot, [update(key, age=5)])
    assert outcome.status is Status.APPLIED
    assert len(portal.sent("batch/update")) == 3


@pytest.mark.parametrize(
    ("status", "headers", "body", "least"),
    [
        (429, {}, {"message": "You have reached your secondly limit.", "category": "RATE_LIMITS"}, 1.0),
        (429, {"Retry-After": "7"}, {"category": "RATE_LIMITS", "policyName": "SECONDLY"}, 7.0),
        (429, {}, {"category": "RATE_LIMITS", "policyName": "TEN_SECONDLY_ROLLING"}, 10.0),
        (423, {}, {"message": "locked"}, 2.0),
        (477, {"Retry-After": "30"}, {"message": "migrating"}, 30.0),
    ],
)
def test_a_create_that_was_turned_away_is_sent_again_after_the_wait(
    portal: Portal, hubspot: HubSpot, clock: Clock, status: int, headers: dict[str, str], body: Any, least: float
) -> None:
    replies = iter([Reply(status, body, headers)])
    portal.script = lambda request: next(replies, None) if "batch/create" in request.path else None
    (outcome,) = written(hubspot, [create("a", firstname="A")])
    assert outcome.status is Status.APPLIED
    assert len(portal.records) == 1
    assert least <= sum(clock.slept) < least * 2 + 1


def test_a_used_up_daily_limit_is_not_waited_for(portal: Portal, hubspot: HubSpot, clock: Clock) -> None:
    portal.script = lambda r: error(429, "daily", "RATE_LIMITS", policyName="DAILY") if "create" in r.path else None
    with pytest.raises(RateLimitError) as refused:
        written(hubspot, [create("a", firstname="A")])
    assert refused.value.retry_after == 3600
    assert clock.slept == []


def test_a_server_that_never_recovers_ends_a_read_within_bounds(portal: Portal, hubspot: HubSpot, clock: Clock) -> None:
    portal.script = lambda request: Reply(503, {})
    with pytest.raises(TransientError):
        list(hubspot.read("contacts"))
    assert sum(clock.slept) < 300


def split_then(portal: Portal, reply: Reply) -> None:
    """The whole batch is refused, its first half stored, and the second half meets `reply`."""
    portal.multi_status = False
    replies: Iterator[Reply | None] = iter([error(400, "one of them is bad"), None, reply])
    portal.script = lambda request: next(replies, reply) if "batch/create" in request.path else None


def test_a_lost_answer_in_the_middle_of_a_split_leaves_what_was_stored_settled(
    portal: Portal, hubspot: HubSpot
) -> None:
    split_then(portal, Reply(0, drop=True))
    outcomes = written(hubspot, [create(f"k{n}", firstname=f"n{n}") for n in range(4)])
    assert [each.status for each in outcomes] == [Status.APPLIED, Status.APPLIED, Status.UNKNOWN, Status.UNKNOWN]


def test_a_refusal_in_the_middle_of_a_split_leaves_the_rest_for_the_next_run(portal: Portal, hubspot: HubSpot) -> None:
    split_then(portal, error(401, "expired", "EXPIRED_AUTHENTICATION"))
    outcomes = written(hubspot, [create(f"k{n}", firstname=f"n{n}") for n in range(4)])
    assert [each.status for each in outcomes] == [Status.APPLIED, Status.APPLIED, Status.RETRY, Status.RETRY]
    assert "expired" in (outcomes[2].reason or "")


def test_refused_credentials_are_an_error_of_the_whole_batch(portal: Portal, hubspot: HubSpot) -> None:
    portal.script = lambda r: error(403, "no", "MISSING_SCOPES") if "create" in r.path else None
    with pytest.raises(AuthError):
        written(hubspot, [create("a", firstname="A")])


def test_an_object_type_nobody_knows_is_a_setting_to_change(portal: Portal, hubspot: HubSpot) -> None:
    portal.script = lambda r: error(404, "Unable to infer object type") if "create" in r.path else None
    with pytest.raises(ConfigError):
        written(hubspot, [create(f"k{n}", firstname="A") for n in range(4)])
    assert len(portal.sent("batch/create")) == 1


def test_a_batch_is_one_op_and_at_most_a_hundred(portal: Portal, hubspot: HubSpot) -> None:
    assert written(hubspot, []) == []
    for changes in ([create("a"), update("1")], [create(str(n)) for n in range(101)]):
        with pytest.raises(ContractError):
            written(hubspot, changes)
    assert portal.requests == portal.sent("/properties/")


def test_how_a_repeated_create_is_made_harmless_is_declared(hubspot: HubSpot) -> None:
    contacts, deals = hubspot.stream("contacts"), hubspot.stream("deals")
    assert (contacts.repeat, contacts.lookup_lag) == (Repeat.LOOKUP, dt.timedelta(0))
    assert (deals.repeat, deals.lookup_lag) == (Repeat.LOOKUP, dt.timedelta(seconds=15))
    assert contacts.natural_keys == ("email",)
