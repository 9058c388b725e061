"""The backlog sensor: when a run takes over from the workers, and what it says otherwise."""

from __future__ import annotations

import uuid
from dataclasses import replace

import dagster as dg
import pytest

from sync_platform.components.draining import drain_job_name
from sync_platform.realtime import circuit, queue
from tests.unit.components.place import Place
from tests.world import SYNC

SENSOR = f"{SYNC}_backlog"


def drained(place: Place, status: dg.DagsterRunStatus) -> str:
    """A run of the drain job that is or ended so."""
    fails = status is dg.DagsterRunStatus.FAILURE

    @dg.op
    def work() -> None:
        if fails:
            raise dg.Failure("it broke")

    @dg.job(name=drain_job_name(SYNC))
    def job() -> None:
        work()

    if status in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE):
        return job.execute_in_process(instance=place.instance, raise_on_error=False).run_id
    return place.instance.create_run_for_job(job_def=job, status=status).run_id


def test_nothing_waits(place: Place) -> None:
    assert place.evaluate(SENSOR).skip_message == "no backlog"


def test_a_young_backlog_is_left_to_the_workers(place: Place) -> None:
    place.event("a", age=3)
    assert place.evaluate(SENSOR).skip_message == "backlog is 3 s old, max_lag 30 s"


def test_a_backlog_older_than_max_lag_requests_one_run(place: Place) -> None:
    seq = place.event("a", age=31)
    place.event("b", age=2)
    (request,) = place.evaluate(SENSOR).run_requests
    assert request.run_key == f"event {seq}, after first"


def test_max_lag_of_the_sync_decides(place: Place) -> None:
    place.event("a", age=3)
    spec = replace(place.spec, max_lag=2.0)
    assert len(place.evaluate(SENSOR, spec=spec).run_requests) == 1


def test_the_events_of_other_syncs_are_not_its_backlog(place: Place) -> None:
    place.event("a", age=600, sync="another")
    assert place.evaluate(SENSOR).skip_message == "no backlog"


def test_events_that_a_living_worker_has_claimed_are_left_to_it(place: Place) -> None:
    place.event("a", age=31)
    assert queue.claim(place.database, place.worker(), [SYNC], 10) is not None
    assert place.evaluate(SENSOR).skip_message == "a worker is alive and works on it: here (pid 7)"


def test_events_of_a_worker_that_died_are_nobodys(place: Place) -> None:
    place.event("a", age=600)
    assert queue.claim(place.database, place.worker(silent=40), [SYNC], 10) is not None
    place.sql("UPDATE sync.queue SET lease_until = now() - interval '1 second'")
    assert len(place.evaluate(SENSOR).run_requests) == 1


def test_a_worker_that_catches_up_is_left_alone_and_one_that_falls_behind_gets_help(place: Place) -> None:
    place.worker()
    place.event("a", age=100)
    first = place.evaluate(SENSOR)
    assert first.skip_message == "a worker is alive and catches up: here (pid 7), 100 s behind"
    assert "catches up" in place.evaluate(SENSOR, cursor="130.0").skip_message
    assert len(place.evaluate(SENSOR, cursor=first.cursor).run_requests) == 1


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_one_run_at_a_time(place: Place, status: dg.DagsterRunStatus) -> None:
    place.event("a", age=31)
    run = drained(place, status)
    assert place.evaluate(SENSOR).skip_message == f"a run is in progress: {run} ({status.value.lower()})"


def test_what_a_finished_run_left_is_requested_under_another_key(place: Place) -> None:
    place.event("a", age=31)
    (first,) = place.evaluate(SENSOR).run_requests
    run = drained(place, dg.DagsterRunStatus.SUCCESS)
    (second,) = place.evaluate(SENSOR).run_requests
    assert second.run_key.endswith(f"after {run}")
    assert second.run_key != first.run_key


def test_after_a_failed_run_the_next_one_waits(place: Place) -> None:
    place.event("a", age=31)
    drained(place, dg.DagsterRunStatus.FAILURE)
    told = place.evaluate(SENSOR).skip_message
    assert told.startswith("the last run failed; the next one may start in ")


def test_a_system_that_is_away_is_not_tried_by_a_run(place: Place) -> None:
    place.event("a", age=31)
    circuit.failed(place.database, "hubspot", "503 for two minutes", wait=20)
    assert place.evaluate(SENSOR).skip_message == (
        "backlog is 31 s old and waits: hubspot does not answer: 503 for two minutes"
    )
    place.sql("UPDATE sync.circuits SET retry_at = now()")  # a trial is due, and nobody else makes it
    assert len(place.evaluate(SENSOR).run_requests) == 1


def test_events_that_wait_for_their_next_try_need_no_run(place: Place) -> None:
    place.event("a", age=31)
    worker = str(uuid.uuid4())
    queue.claim(place.database, worker, [SYNC], 10)
    queue.release(place.database, worker, SYNC, ["a"], delay=20, counted=True, reason="busy")
    assert place.evaluate(SENSOR).skip_message == "events wait for their next try in 20 s"


def test_a_sync_that_is_not_realtime_has_no_sensor(place: Place) -> None:
    from sync_platform.components.sync import sync_definitions

    made = sync_definitions(replace(place.spec, frequency="0 * * * *"))
    assert list(made.sensors or ()) == []
    assert len(list(made.jobs or ())) == 1
