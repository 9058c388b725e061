"""Laws of trouble on the way: limits, failures, lost answers, expired tokens, and what must stay secret."""

from __future__ import annotations

import contextlib
import logging
import uuid
from typing import Any

import pytest
from other_side import Subject, new_record, text_field
from staged import keys_in

from sync_platform.errors import AuthError, SyncError, TransientError, UnknownOutcome
from sync_platform.model import Change, Op, Page, Repeat, Status
from tests.law_table import law

pytestmark = pytest.mark.over_http

SETTLED = 60.0


def created(connector: Any, subject: Subject, record: dict[str, Any]) -> Any:
    change = Change(op=Op.CREATE, key="source-1", token=uuid.uuid4().hex, fields=record)
    (outcome,) = connector.write(subject.stream, [change])
    return outcome


def prepared(subject: Subject, side: Any) -> tuple[Any, dict[str, Any], str]:
    """A connection that knows its stream, a record to create, and the text field."""
    key = side.seed(subject.stream, 1)[0]
    side.later(SETTLED)
    connector, example = side.connector(), side.truth(subject.stream)[key]
    stream = connector.stream(subject.stream)
    return connector, new_record(connector, stream, example), text_field(connector, stream, example)


@pytest.mark.parametrize("kind", ["429", "500", "503", "disconnect_before", "disconnect_after"])
def test_a_read_survives_what_passes(subject: Subject, side: Any, kind: str) -> None:
    keys = side.seed(subject.stream, 700)
    connector = side.connector()
    connector.discover(subject.stream)
    with law(f"a read survives {kind}", str(subject)) as met:
        before = side.clock.now
        side.fault(kind, times=2)
        pages = list(connector.read(subject.stream))
        assert set(keys_in(connector.stream(subject.stream), pages)) == set(keys)
        side.fault(kind, times=2)
        side.later(SETTLED)
        list(connector.read(subject.stream, pages[-1].position))
        assert side.clock.now > before
        met.case(side.hits())


def test_a_system_that_never_recovers_ends_within_bounds(subject: Subject, side: Any) -> None:
    side.seed(subject.stream, 3)
    connector = side.connector()
    connector.discover(subject.stream)
    with law("5xx for ever ends", str(subject)) as met:
        for kind in ("500", "503", "429"):
            side.fault(kind, rate=1.0)
            asked, began = len(side.log()), side.clock.now
            with pytest.raises(TransientError):
                list(connector.read(subject.stream))
            assert len(side.log()) - asked <= 12
            assert side.clock.now - began <= 900
            side.fault(kind, times=0)
            met.case(len(side.log()) - asked)
        side.later(3600)
        assert list(connector.read(subject.stream))


@pytest.mark.parametrize("kind", ["disconnect_after", "disconnect_before", "500", "503"])
def test_a_create_whose_fate_is_unknown_is_never_repeated(subject: Subject, side: Any, kind: str) -> None:
    connector, record, text = prepared(subject, side)
    stream = connector.stream(subject.stream)
    existing = side.truth(subject.stream).keys()
    with law(f"a create is not repeated blindly: {kind}", str(subject)) as met:
        with contextlib.suppress(SyncError):  # whatever a look-up before the write may need
            connector.find(subject.stream, text, ["nobody"], [text])
        asked = len(side.log())
        side.fault_writes(kind, times=1)
        problem: SyncError | None = None
        try:
            created(connector, subject, record)
        except (UnknownOutcome, TransientError) as told:
            problem = told
        writes = [each for each in side.log()[asked:] if each["method"] != "GET"]
        posts = [each for each in writes if each["method"] == "POST"]
        stored = side.truth(subject.stream).keys() - existing
        assert len(posts) <= 1, "a POST was repeated blindly"
        assert len(stored) <= 1, "stored twice"
        if posts:  # a write addressed by a key of ours (PUT, PATCH) may be repeated: it stores the same once
            assert len(writes) == 1, [f"{each['method']} {each['path']}" for each in writes]
            assert problem is not None
            assert len(stored) == (1 if kind == "disconnect_after" else 0)
            if kind.startswith("disconnect"):
                assert isinstance(problem, UnknownOutcome), "the answer was lost: nobody may say nothing was stored"
        if stored and stream.repeat is Repeat.LOOKUP:
            side.later(stream.lookup_lag.total_seconds())
            field = (stream.natural_keys or (text,))[0]
            found = connector.find(subject.stream, field, [str(record[field])], [text])
            assert found.num_rows == 1, "after its lag the look-up must see what was stored"
        met.case(side.hits())


def test_a_create_turned_away_by_the_limit_is_stored_once(subject: Subject, side: Any) -> None:
    connector, record, _ = prepared(subject, side)
    before = len(side.truth(subject.stream))
    with law("a create survives 429", str(subject)) as met:
        side.fault_writes("429", times=2)
        assert created(connector, subject, record).status is Status.APPLIED
        assert len(side.truth(subject.stream)) == before + 1
        met.case(side.hits())


def test_half_a_batch_refused_leaves_the_other_half_stored(subject: Subject, side: Any) -> None:
    key = side.seed(subject.stream, 1)[0]
    side.later(SETTLED)
    connector = side.connector()
    stream, example = connector.stream(subject.stream), side.truth(subject.stream)[key]
    records = [new_record(connector, stream, example) for _ in range(10)]
    with law("half a batch refused", str(subject)) as met:
        side.fault_writes("partial", times=1)
        wanted = [Change(op=Op.CREATE, key=str(n), token=uuid.uuid4().hex, fields=r) for n, r in enumerate(records)]
        outcomes = list(connector.write(stream.name, wanted))
        assert [each.key for each in outcomes] == [change.key for change in wanted]
        applied = {each.target_id for each in outcomes if each.status is Status.APPLIED}
        assert applied == side.truth(subject.stream).keys() - {key}
        assert 0 < len(applied) < 10
        assert all(each.reason for each in outcomes if each.status is not Status.APPLIED)
        met.case(side.hits())


def test_a_token_that_expires_in_the_middle_of_a_read_is_renewed_or_named(subject: Subject, side: Any) -> None:
    keys = side.seed(subject.stream, 4_100)
    renewable = "access_token" if "access_token" in side.settings else None
    with law("a token expires in the middle of a read", str(subject)) as met:
        for without in dict.fromkeys((None, renewable)):
            connector = side.connector(without=(without,) if without else ())
            read: list[Page] = []
            problem: AuthError | None = None
            connector.discover(subject.stream)
            side.fault("expire_token", times=1)
            try:
                for page in connector.read(subject.stream):
                    read.append(page)
                    if len(read) == 1:
                        side.fault("expire_token", times=1)
            except AuthError as refused:
                problem = refused
            side.fault("expire_token", times=0)
            seen = set(keys_in(connector.stream(subject.stream), read))
            if problem is None:
                assert seen == set(keys)
            else:
                assert without is None, "what can be renewed must be renewed"
                assert renewable is not None
                assert problem.mend
                assert not any(page.complete for page in read)
            refused_calls = [each for each in side.log() if each["status"] == 401]
            assert len(refused_calls) <= 4, "a refused token is tried again at most once"
            met.case(len(refused_calls))


def test_secrets_show_nowhere(subject: Subject, side: Any, caplog: pytest.LogCaptureFixture) -> None:
    side.seed(subject.stream, 2)
    caplog.set_level(logging.DEBUG)
    with law("secrets show nowhere", str(subject)) as met:
        shown: list[str] = []
        connector = side.connector()
        connector.discover(subject.stream)
        secrets = [*side.secrets(), "wrong-secret-value"]
        assert len(secrets) > 1, "no setting is hidden"
        for kind in ("429", "500", "disconnect_before"):
            side.fault(kind, rate=1.0)
            with pytest.raises(SyncError) as problem:
                list(connector.read(subject.stream))
            side.fault(kind, times=0)
            side.later(3600)
            shown += [str(problem.value), repr(problem.value), repr(problem.value.to_json())]
        list(connector.read(subject.stream))
        hidden = {name: "wrong-secret-value" for name, each in subject.kind.model_fields.items() if each.repr is False}
        wrong = side.connector(
            without=tuple(hidden), **{name: hidden[name] for name in hidden if name in side.settings}
        )
        with pytest.raises(AuthError) as refused:
            list(wrong.read(subject.stream))
        shown += [str(refused.value), repr(connector), str(connector), repr(wrong), repr(connector.http), caplog.text]
        leaked = [secret[:6] for secret in secrets for text in shown if secret in text]
        assert leaked == []
        met.case(len(shown))


def test_nothing_goes_anywhere_but_to_the_base_url(subject: Subject, side: Any) -> None:
    side.seed(subject.stream, 2)
    with law("the base URL is a setting", str(subject)) as met:
        default = subject.kind.model_fields["base_url"].default
        assert (
            default is None
            or str(default).startswith("https://")
            or subject.kind.model_fields["base_url"].is_required()
        )
        connector = side.connector()
        connector.check()
        list(connector.read(subject.stream))
        assert connector.traffic.api_calls == len(side.log())
        met.case(connector.traffic.api_calls)
