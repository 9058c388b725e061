"""What workers tell Dagster, and what is purged of it, on Dagster's real storage."""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import dagster as dg
from dagster import AssetCheckKey, AssetKey
from psycopg.types.json import Jsonb

from sync_platform.components.installation import Installation
from sync_platform.components.purging import purge as purge_job
from sync_platform.components.purging import purge_schedule
from sync_platform.engine.report import Measured, Tally, build_report
from sync_platform.realtime.purge import purge
from sync_platform.realtime.telling import Teller, tell
from tests.unit.components.place import Place
from tests.world import SYNC

DELIVERED = AssetKey([SYNC, "delivered"])


def report_of(place: Place, *, invalid: int = 0, processed: int = 3) -> dict[str, Any]:
    """A window's report, as `Windows` builds it; kept in the state."""
    run_id = str(uuid.uuid4())
    built = build_report(
        place.spec,
        run_id=run_id,
        plan_id=None,
        lane="realtime",
        tally=Tally(),
        counts={"processed": processed, "unchanged": processed - invalid, "invalid": invalid, "duplicates": 0},
        completeness=0.99,
        missing=[],
        open_letters=invalid,
        measured=Measured(seconds=0.1, seconds_by_step={}, api_calls=1, bytes_sent=9, seconds_waiting_for_quota=0.0),
        next_sync=None,
    )
    report = built | {"events": 7, "latency_ms": {"p50": 4.0, "p99": 9.5}}
    place.sql(
        "INSERT INTO sync.reports (run_id, sync, lane, report) VALUES (%s, %s, 'realtime', %s)",
        run_id, SYNC, Jsonb(report),
    )  # fmt: skip
    return report


def teller_of(place: Place, said: list[str] | None = None) -> Teller:
    specs = {SYNC: place.spec}
    say = (said if said is not None else []).append
    return Teller(place.database, lambda: specs, lambda: place.instance, say)


def materializations(place: Place) -> list[dict[str, Any]]:
    """The metadata of every materialisation of `delivered`, newest first."""
    records = place.instance.fetch_materializations(DELIVERED, limit=100).records
    return [dict(one.asset_materialization.metadata) for one in records if one.asset_materialization]


def check(place: Place, step: str, name: str) -> bool:
    """Whether the newest evaluation of a check passed."""
    key = AssetCheckKey(AssetKey([SYNC, step]), name)
    record = place.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    assert record.event is not None
    evaluation = record.event.asset_check_evaluation
    assert evaluation is not None
    return bool(evaluation.passed)


def eventually(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_window_is_a_materialisation_with_its_report_and_the_checks_of_a_run(place: Place) -> None:
    report = report_of(place)
    with teller_of(place) as teller:
        teller.publish(SYNC, report)
    (told,) = materializations(place)
    assert told["report"].value == json.loads(json.dumps(report))
    assert SYNC in told["report_markdown"].value
    numbers = {name: told[name].value for name in ("records_processed", "events", "latency_p50_ms", "latency_p99_ms")}
    assert numbers == {"records_processed": 3, "events": 7, "latency_p50_ms": 4.0, "latency_p99_ms": 9.5}
    assert [check(place, "desired", name) for name in ("contract", "completeness", "duplicates")] == [True] * 3
    assert not check(place, "delivered", "freshness")  # the source was never read


def test_what_a_run_found_wrong_stays_red_while_it_waits(place: Place) -> None:
    place.sql("INSERT INTO sync.dead_letters (sync, source_key, kind) VALUES (%s, 'a', 'contract')", SYNC)
    tell(place.instance, place.database, {SYNC: place.spec}, SYNC, report_of(place))
    assert not check(place, "desired", "contract")
    place.sql("UPDATE sync.dead_letters SET state = 'settled'")
    tell(place.instance, place.database, {SYNC: place.spec}, SYNC, report_of(place))
    assert check(place, "desired", "contract")


def test_reports_wait_while_dagsters_storage_is_away_and_none_is_lost(place: Place) -> None:
    said: list[str] = []
    place.sql("ALTER SCHEMA dagster RENAME TO away")
    teller = teller_of(place, said)
    begun = time.monotonic()
    for processed in (1, 2, 3):
        teller.publish(SYNC, report_of(place, processed=processed))
    assert time.monotonic() - begun < 5  # nobody waited for the storage
    eventually(lambda: bool(said))
    place.sql("ALTER SCHEMA away RENAME TO dagster")
    teller.close(patience=30)
    assert [one["records_processed"].value for one in materializations(place)] == [3, 2, 1]
    assert "storage is away" in said[0]


def aged(place: Place, days: float) -> None:
    """Makes everything told so far this much older."""
    age = dt.timedelta(days=days)
    place.sql("UPDATE dagster.event_logs SET timestamp = timestamp - %s", age)
    place.sql(
        "UPDATE dagster.asset_check_executions SET evaluation_event_timestamp = evaluation_event_timestamp - %s", age
    )
    place.sql("UPDATE sync.inbox SET received_at = received_at - %s", age)
    place.sql("UPDATE sync.queue SET finished_at = finished_at - %s", age)
    place.sql("UPDATE sync.observed SET observed_at = observed_at - %s", age)


def purged(place: Place) -> dict[str, int]:
    return {name: count for name, count in purge(place.database, dt.datetime.now(dt.UTC)).items() if count}


def test_old_traces_in_dagster_go_and_the_newest_of_each_stays(place: Place) -> None:
    for days in (20.0, 5.0, 0.0):  # told 25, 5 and 0 days ago
        tell(place.instance, place.database, {SYNC: place.spec}, SYNC, report_of(place))
        aged(place, days)
    place.instance.report_runless_asset_event(dg.AssetMaterialization(["somebody", "elses"]))
    aged(place, 60)  # now 85, 65 and 60 days ago, and another one's
    assert purged(place) == {"dagster_checks": 8, "dagster_materializations": 2}
    assert place.sql("SELECT count(*) FROM dagster.event_logs") == [(1 + 4 + 1,)]
    assert len(materializations(place)) == 1
    assert check(place, "desired", "contract")
    assert place.instance.get_latest_materialization_event(DELIVERED) is not None
    assert place.instance.get_latest_materialization_event(AssetKey(["somebody", "elses"])) is not None
    assert purged(place) == {}


def test_events_younger_than_two_weeks_stay_in_dagster(place: Place) -> None:
    for days in (13.9, 0.0):
        tell(place.instance, place.database, {SYNC: place.spec}, SYNC, report_of(place))
        aged(place, days)
    assert purged(place) == {}
    aged(place, 0.2)
    assert purged(place) == {"dagster_checks": 4, "dagster_materializations": 1}


def test_delivered_events_go_and_waiting_ones_stay(place: Place) -> None:
    delivered, waiting, dead = (place.event(key, age=0) for key in "abc")
    place.sql("UPDATE sync.queue SET state = 'done', finished_at = now() WHERE seq = %s", delivered)
    place.sql("UPDATE sync.queue SET state = 'dead', finished_at = now() WHERE seq = %s", dead)
    aged(place, 15)
    assert purged(place) == {"queue": 2, "inbox": 2}
    assert place.sql("SELECT seq FROM sync.inbox JOIN sync.queue USING (seq)") == [(waiting,)]


def test_hints_of_a_followed_log_go_within_hours(place: Place) -> None:
    hint, waiting = (place.event(key, age=0) for key in "ab")
    place.sql("UPDATE sync.queue SET state = 'done', finished_at = now() WHERE seq = %s", hint)
    aged(place, 0.3)
    assert purged(place) == {}, "somebody sent it, and it is kept for people to look at"
    place.sql("INSERT INTO sync.captures (connection) SELECT DISTINCT connection FROM sync.inbox")
    assert purged(place) == {"hints_queue": 1, "hints": 1}
    assert place.sql("SELECT seq FROM sync.inbox") == [(waiting,)]


def test_the_hourly_job_purges_and_says_how_much(place: Place) -> None:
    seq = place.event("a", age=0)
    place.sql("UPDATE sync.queue SET state = 'done', finished_at = now() WHERE seq = %s", seq)
    aged(place, 15)
    defs = dg.Definitions(jobs=[purge_job], schedules=[purge_schedule], resources={"installation": Installation()})
    done = defs.resolve_job_def("purge_runless_events").execute_in_process(instance=place.instance)
    assert done.success
    assert place.sql("SELECT count(*) FROM sync.inbox") == [(0,)]
    said = [one.user_message for one in place.instance.all_logs(done.run_id)]
    assert any("1 queue, 1 inbox" in text for text in said)
    assert purge_schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_observed_rows_go_once_staging_has_them(place: Place) -> None:
    place.sql(
        """INSERT INTO sync.observed (connection, stream, key, row, deleted, version_read_at, observed_at)
           SELECT 'salesforce', 'Lead', key, '{}', key = 'deleted', 0, now()
           FROM unnest(ARRAY['live', 'deleted']) AS key"""
    )
    aged(place, 15)
    assert purged(place) == {}  # no load began since
    load = (
        "INSERT INTO sync.loads (load_id, connection, stream, state, complete)"
        " VALUES (%s, 'salesforce', 'Lead', %s, %s)"
    )
    place.sql(load, "1", "failed", True)
    assert purged(place) == {}
    place.sql(load, "2", "finished", False)
    assert purged(place) == {"observed": 1}
    assert place.sql("SELECT key FROM sync.observed") == [("deleted",)]  # absence shows in a complete read only
    place.sql(load, "3", "finished", True)
    assert purged(place) == {"observed": 1}
