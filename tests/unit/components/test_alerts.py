"""Alerts: who is told what, once per change of state."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import dagster as dg
import pytest

from sync_platform.commands import checking
from sync_platform.components.alert_sensors import _failed_runs, _stale, _waiting
from sync_platform.components.alerts import Told, address_of, label_of, tell, understood
from sync_platform.components.draining import drain_job_name
from sync_platform.connectors.capture import Behind
from sync_platform.engine.spec import ErrorHandling, SyncSpec
from sync_platform.errors import ConfigError
from sync_platform.ledger import captures
from sync_platform.project import Project
from sync_platform.realtime import circuit
from sync_platform.session import Session
from tests.unit.components.place import Place
from tests.webhook_sink import Sink
from tests.world import SYNC

OWNER = "8d5cf5b1-3a2e-4e0e-9c53-0d1f6c1f5f10"


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as made:
        yield made


def told_to(place: Place, *entries: str) -> SyncSpec:
    """The reference sync, telling these."""
    return replace(place.spec, errors=ErrorHandling(alert=entries))


def look(place: Place, what: Any, *specs: SyncSpec, cursor: str | None = None) -> Told:
    """One look of a sensor at these syncs."""
    context = dg.build_sensor_context(instance=place.instance, cursor=cursor)
    return tell(place.database, what(context, place.database, list(specs)))


def run(place: Place, *, fails: bool, name: str = SYNC) -> str:
    """A run that ends so."""

    @dg.op
    def deliver() -> None:
        if fails:
            raise dg.Failure("hubspot refused the login", metadata={"mend": "renew HUBSPOT_ACCESS_TOKEN"})

    @dg.job(name=name)
    def job() -> None:
        deliver()

    return job.execute_in_process(instance=place.instance, raise_on_error=False).run_id


def test_failures_are_one_message_and_so_is_the_recovery(place: Place, sink: Sink) -> None:
    spec = told_to(place, sink.url)
    run(place, fails=False)
    look(place, _failed_runs, spec)
    assert sink.titles == []  # it never failed: that is no news
    failed = run(place, fails=True)
    look(place, _failed_runs, spec)
    for _ in range(2):
        run(place, fails=True)
        look(place, _failed_runs, spec)
    assert sink.titles == [f"{SYNC}: the last run failed"]
    happened, reason, mend, following = sink.got[0]["message"].splitlines()
    assert failed in happened
    assert (reason, mend) == ("Reason: hubspot refused the login", "What to do: renew HUBSPOT_ACCESS_TOKEN")
    assert following.startswith("Next: The next run starts at ")
    assert sink.got[0]["type"] == "failure"
    run(place, fails=False)
    for _ in range(2):
        look(place, _failed_runs, spec)
    assert sink.titles[1:] == [f"{SYNC}: runs succeed again"]
    assert sink.got[1]["type"] == "success"
    run(place, fails=True)
    look(place, _failed_runs, spec)
    assert len(sink.got) == 3


def test_a_failing_drain_is_a_subject_of_its_own(place: Place, sink: Sink) -> None:
    spec = told_to(place, sink.url)
    run(place, fails=True)
    run(place, fails=False, name=drain_job_name(SYNC))
    look(place, _failed_runs, spec)
    run(place, fails=True, name=drain_job_name(SYNC))
    look(place, _failed_runs, spec)
    assert len(sink.got) == 2
    assert drain_job_name(SYNC) in sink.got[1]["message"]


def test_a_recipient_that_was_away_is_told_later_and_the_others_not_again(
    place: Place, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"json://127.0.0.1:{probe.getsockname()[1]}/"
    spec = told_to(place, nobody, sink.url)
    run(place, fails=True)
    first = look(place, _failed_runs, spec)
    assert (len(first.sent), len(first.unreached)) == (1, 1)
    sink.refusing = True
    other = told_to(place, "env:OTHER_CHANNEL", sink.url)
    monkeypatch.setenv("OTHER_CHANNEL", sink.url)
    assert len(look(place, _failed_runs, other).unreached) == 1  # a channel that answers 500 was not reached
    sink.refusing = False
    assert look(place, _failed_runs, other).sent == (f"told env:OTHER_CHANNEL: {SYNC}: the last run failed",)
    assert len(sink.got) == 2


def test_a_source_that_is_not_read_in_time_is_told_once_and_so_is_the_next_read(place: Place, sink: Sink) -> None:
    spec = told_to(place, sink.url)
    place.sql(
        "INSERT INTO sync.loads (load_id, connection, stream, started_at, finished_at, state)"
        " VALUES ('old', 'salesforce', 'Lead', now() - interval '31 minutes', now(), 'finished')"
    )
    for _ in range(3):
        look(place, _stale, spec)
    assert sink.titles == [f"{SYNC}: not up to date"]
    assert "salesforce/Lead was last read 31 minutes ago; 30 minutes are allowed." in sink.got[0]["message"]
    place.sql(
        "INSERT INTO sync.loads (load_id, connection, stream, started_at, finished_at, state)"
        " VALUES ('broken', 'salesforce', 'Lead', now(), now(), 'failed')"
    )
    look(place, _stale, spec)
    assert len(sink.got) == 1  # a read that failed makes nothing fresh
    place.sql("UPDATE sync.loads SET state = 'finished' WHERE load_id = 'broken'")
    for _ in range(2):
        look(place, _stale, spec)
    assert sink.titles[1:] == [f"{SYNC}: up to date again"]


def test_a_sync_that_never_ran_is_stale_only_after_its_time(place: Place, sink: Sink) -> None:
    spec = told_to(place, sink.url)
    look(place, _stale, spec)
    assert sink.titles == []
    look(place, _stale, spec, cursor=json.dumps({SYNC: 0.0}))
    assert sink.titles == [f"{SYNC}: not up to date"]
    on_demand = replace(spec, name="now_and_then", frequency="on_demand")
    look(place, _stale, on_demand, cursor=json.dumps({"now_and_then": 0.0}))
    assert len(sink.got) == 1


def test_dead_letters_are_told_when_the_first_appears_and_when_none_is_left(place: Place, sink: Sink) -> None:
    spec = told_to(place, sink.url)
    for key in ("a", "b"):
        place.sql(
            "INSERT INTO sync.dead_letters (sync, source_key, kind, reason) VALUES (%s, %s, 'contract', 'no e-mail')",
            SYNC, key,
        )  # fmt: skip
        look(place, _waiting, spec)
    assert sink.titles == [f"{SYNC}: 1 record was set aside"]
    assert "e.g. no e-mail" in sink.got[0]["message"]
    place.sql("UPDATE sync.dead_letters SET state = 'settled'")
    look(place, _waiting, spec)
    assert sink.titles[1:] == [f"{SYNC}: no dead letters left"]


def test_a_system_that_is_away_is_one_message_for_all_its_syncs(place: Place, sink: Sink) -> None:
    one = told_to(place, sink.url)
    two = replace(one, name="another")
    circuit.failed(place.database, "hubspot", "503", wait=1)
    look(place, _waiting, one, two)
    assert sink.titles == []  # a blip of a second
    place.sql("UPDATE sync.circuits SET opened_at = now() - interval '61 seconds'")
    for _ in range(2):
        look(place, _waiting, one, two)
    assert sink.titles == ["hubspot does not answer"]
    assert f"{SYNC}, another" in sink.got[0]["message"]
    assert circuit.worked(place.database, "hubspot")
    look(place, _waiting, one, two)
    assert sink.titles[1:] == ["hubspot answers again"]


def test_a_log_kept_beyond_its_limit_is_told_once_and_so_is_that_it_is_over(place: Place, sink: Sink) -> None:
    one = replace(told_to(place, sink.url), frequency="realtime")
    two = replace(one, name="another")
    name = one.source.connection
    behind = partial(captures.beat, place.database, name, OWNER)
    with place.database.connection() as connection:
        captures.begin(connection, name, OWNER, "0/1", ["Lead"])
    look(place, _waiting, one, two)
    assert sink.titles == []
    for size in (2_000, 3_000):
        behind(Behind(size=size, warn=1_000), "loud")
        look(place, _waiting, one, two)
    assert sink.titles == [f"the log of {name} is kept beyond its limit"]
    assert "2,000 bytes" in sink.got[0]["message"]
    assert f"{SYNC}, another" in sink.got[0]["message"]
    captures.troubled(place.database, name, OWNER, "waiting", "the server is away")
    look(place, _waiting, one, two)
    assert len(sink.titles) == 1, "to try again is no news"
    for _ in range(2):
        behind(Behind(size=10, warn=1_000), None)
        look(place, _waiting, one, two)
    assert sink.titles[1:] == [f"the log of {name} is followed again as it should be"]


def test_a_log_that_nobody_follows_or_may_follow_is_told(place: Place, sink: Sink) -> None:
    spec = replace(told_to(place, sink.url), frequency="realtime")
    name = spec.source.connection
    with place.database.connection() as connection:
        captures.begin(connection, name, OWNER, "0/1", ["Lead"])
    captures.stopped(place.database, name, OWNER)
    look(place, _waiting, spec)
    assert sink.titles == []  # another process may be about to begin
    place.sql("UPDATE sync.captures SET updated_at = now() - interval '61 seconds'")
    for _ in range(2):
        look(place, _waiting, spec)
    assert sink.titles == [f"nobody follows the log of {name}"]
    captures.troubled(place.database, name, OWNER, "refused", "wal_level is replica")
    look(place, _waiting, spec)
    assert sink.titles[1:] == [f"the log of {name} cannot be followed"]
    assert "wal_level is replica" in sink.got[-1]["message"]
    with place.database.connection() as connection:
        assert captures.forget(connection, name)
    look(place, _waiting, spec)
    assert sink.titles[2:] == [f"the log of {name} is followed again as it should be"]


def test_names_are_looked_up_and_urls_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_ALERT_OPS_TEAM", "json://127.0.0.1:1/")
    monkeypatch.setenv("PAGER", "json://127.0.0.1:2/")
    monkeypatch.delenv("SYNC_ALERT_NOBODY", raising=False)
    assert [address_of(one) for one in ("ops-team", "env:PAGER", "json://h/", "nobody")] == [
        "json://127.0.0.1:1/",
        "json://127.0.0.1:2/",
        "json://h/",
        None,
    ]
    assert "secret" not in label_of("slack://secret@host/")
    assert label_of("slack://a/") != label_of("slack://b/")
    assert [understood(one) for one in ("json://127.0.0.1/", "nonsense://x")] == [True, False]


@pytest.mark.parametrize("name", ["alert_run_failures", "alert_freshness", "alert_waiting"])
def test_without_anybody_to_tell_the_sensors_say_so(place: Place, name: str) -> None:
    assert place.evaluate(name).skip_message == "no sync names anybody to tell (errors.alert)"


def test_check_says_which_alert_reaches_nobody_and_which_is_no_url(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = replace(Project.current().sync(SYNC), spec=told_to(place, "ops", "env:PAGER"))
    monkeypatch.delenv("PAGER", raising=False)
    notes = [note for note in checking._notes(Project.current(), declared) if "alert" in note]
    assert notes == [
        f"{SYNC}: alert 'ops' reaches nobody; set SYNC_ALERT_OPS to an apprise URL",
        f"{SYNC}: alert 'env:PAGER' reaches nobody; set PAGER to an apprise URL",
    ]
    monkeypatch.setenv("SYNC_ALERT_OPS", "json://127.0.0.1/")
    monkeypatch.setenv("PAGER", "somewhere://secret")
    with (
        Session.open(Project.current()) as session,
        pytest.raises(ConfigError, match="env:PAGER is not an apprise URL"),
    ):
        checking._alert(session, declared, {})
