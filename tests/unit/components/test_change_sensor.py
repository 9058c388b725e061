"""The change sensor: a source that sends no events is asked whether it changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from sync_platform.commands.scaffold import write_project
from sync_platform.connectors.postgres import Postgres
from sync_platform.engine.spec import Endpoint, SyncSpec
from sync_platform.project import PROJECT_VARIABLE, Project
from sync_platform.run_tags import SYNC as SYNC_TAG
from tests.unit.components.place import Place
from tests.world import SYNC

SENSOR = f"{SYNC}_changes"


@pytest.fixture
def shop(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncSpec]:
    """The reference sync with a PostgreSQL table as its source, in a project that knows the connection."""
    write_project(tmp_path / "project")
    monkeypatch.setenv(PROJECT_VARIABLE, str(tmp_path / "project"))
    monkeypatch.setenv("SHOP_URL", place.database.url)
    project = Project.current()
    project.__dict__["connectors"] = {**project.connectors, "shop": Postgres(url=dg.EnvVar("SHOP_URL"))}
    place.sql("CREATE SCHEMA IF NOT EXISTS public")
    place.sql("CREATE TABLE public.leads (id int PRIMARY KEY, updated_at timestamptz)")
    place.sql("CREATE INDEX ON public.leads (updated_at)")
    yield replace(place.spec, source=Endpoint(connection="shop", object="leads"))
    for connector in project._connected.values():
        if isinstance(connector, Postgres):
            connector.close()


def tick(place: Place, spec: SyncSpec, cursor: str | None) -> Any:
    return place.evaluate(SENSOR, cursor=cursor, spec=spec)


def write(place: Place, day: int) -> None:
    """A row written in a connection of its own."""
    with psycopg.connect(place.database.url, autocommit=True) as person:
        person.execute("INSERT INTO public.leads VALUES (%s, make_date(2026, 1, %s))", (day, day))


def test_a_run_is_requested_at_the_first_look_and_then_only_when_the_table_changed(
    place: Place, shop: SyncSpec
) -> None:
    first = tick(place, shop, None)
    assert len(first.run_requests) == 1  # nobody knows what happened before
    assert first.run_requests[0].tags[SYNC_TAG] == SYNC
    quiet = tick(place, shop, first.cursor)
    assert (quiet.skip_message, quiet.run_requests) == ("shop/leads did not change", [])
    write(place, 1)
    moved = tick(place, shop, first.cursor)
    assert len(moved.run_requests) == 1
    assert moved.run_requests[0].run_key != first.run_requests[0].run_key
    assert tick(place, shop, moved.cursor).skip_message == "shop/leads did not change"


def test_a_change_during_a_run_is_not_forgotten(place: Place, shop: SyncSpec) -> None:
    cursor = tick(place, shop, None).cursor

    @dg.op
    def work() -> None:
        """Nothing."""

    @dg.job(name=SYNC)
    def job() -> None:
        work()

    run = place.instance.create_run_for_job(job_def=job, status=dg.DagsterRunStatus.STARTED)
    write(place, 1)
    busy = tick(place, shop, cursor)
    assert busy.skip_message == f"a run is in progress: {run.run_id} (started)"
    assert busy.cursor in (None, cursor)  # the run may have read before the change
    place.instance.report_run_failed(run)
    place.sql("UPDATE dagster.runs SET end_time = end_time - 120")
    assert len(tick(place, shop, cursor).run_requests) == 1


def test_a_source_that_cannot_be_asked_is_told(place: Place, shop: SyncSpec) -> None:
    place.sql("DROP TABLE public.leads")
    told = tick(place, shop, "before").skip_message
    assert told.startswith("shop/leads cannot be asked: ")


def captured(place: Place, *, silent: float = 0.0) -> None:
    """Somebody follows the shop's log, and last said so a while ago."""
    place.sql(
        """INSERT INTO sync.captures (connection, position, owner, updated_at)
           VALUES ('shop', '0/1', gen_random_uuid(), now() - make_interval(secs => %s))""",
        silent,
    )


def test_a_source_whose_log_is_followed_is_not_asked_until_nobody_follows_it(place: Place, shop: SyncSpec) -> None:
    captured(place)
    assert tick(place, shop, None).skip_message == "capture tells what changes in shop/leads"
    place.sql("DELETE FROM sync.captures")
    captured(place, silent=60)
    assert len(tick(place, shop, None).run_requests) == 1


def test_a_stream_that_owes_a_compare_gets_a_run_although_its_log_is_followed(place: Place, shop: SyncSpec) -> None:
    captured(place)
    place.sql("INSERT INTO sync.owed_reads (connection, stream, reason) VALUES ('shop', 'leads', 'lost')")
    (request,) = tick(place, shop, None).run_requests
    assert request.tags[SYNC_TAG] == SYNC
    assert "shop/leads owes a compare since" in request.run_key
    place.sql("DELETE FROM sync.owed_reads")
    assert tick(place, shop, None).run_requests == []
