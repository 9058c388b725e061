"""What a load leaves when it is killed, and what the next one makes of it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sync_platform.model import KEY
from sync_platform.staging import ledger
from sync_platform.staging.chunks import Limits
from sync_platform.staging.lake import Lake
from sync_platform.staging.landing import Landing
from sync_platform.staging.load import stage
from sync_platform.staging.merge import describe, next_seq
from sync_platform.staging.reading import Reading
from sync_platform.staging.sieve import Sieve
from tests.laws.staging.loader import generated
from tests.laws.staging.scripted import Scripted, lead, page

ROOT = Path(__file__).parents[3]
Rows = Callable[..., list[dict[str, Any]]]
Leads = Callable[..., dict[str, Any]]


def start(lake: Lake, crash_at: str | None = None, **options: Any) -> subprocess.Popen[str]:
    """A loader process on the same state."""
    env = {**os.environ, "SYNC_HOME": str(lake.db.home.root), "SYNC_DATABASE_URL": lake.db.url}
    if crash_at:
        env["SYNC_CRASH_AT"] = crash_at
    command = [sys.executable, "-m", "tests.laws.staging.loader", json.dumps(options)]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)


def whole(rows: Rows, total: int) -> None:
    """Asserts that every record is staged exactly once, as the source has it."""
    found = rows(f'SELECT {KEY} AS key, "Value" AS value FROM lake.crm."Lead"')
    assert len(found) == total
    assert {int(row["key"]): int(row["value"].split(":")[1]) for row in found} == {n: n for n in range(total)}


def test_a_load_killed_after_a_chunk_resumes_behind_it(lake: Lake, rows: Rows) -> None:
    killed = start(lake, "staging_loaded:2", total=40, size=5, chunk=10)
    out, _ = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert out.splitlines() == ["chunk 1 15"]
    source = generated(40, 5)
    done = stage(lake, source, "crm", "Lead")
    assert source.asked[0]["since"] == {"next": 20}
    assert (done.rows_read, done.rows_changed, done.complete) == (20, 20, False)
    whole(rows, 40)
    with lake.db.connection() as pg:
        states = pg.execute("SELECT state FROM sync.loads ORDER BY started_at").fetchall()
    assert states == [("failed",), ("finished",)]


@pytest.mark.parametrize("ahead", [False, True], ids=["one by one", "the next one sifted ahead"])
def test_a_load_killed_anywhere_loses_and_doubles_nothing(lake: Lake, rows: Rows, ahead: bool) -> None:
    dice = random.Random(20260101)
    for _ in range(3):
        loader = start(lake, total=600, size=10, chunk=20, **({"ahead_from": 1, "width": 3} if ahead else {}))
        assert loader.stdout is not None
        for _ in range(dice.randrange(1, 4)):
            loader.stdout.readline()
        time.sleep(dice.random())
        loader.send_signal(signal.SIGKILL)
        loader.communicate(timeout=60)
        staged = rows('SELECT count(*) AS n, count(DISTINCT _key) AS keys FROM lake.crm."Lead"')[0]
        assert staged["n"] == staged["keys"] >= 10
    stage(lake, generated(600, 10, width=3 if ahead else 0), "crm", "Lead")
    whole(rows, 600)


def land_without_merging(lake: Lake, records: list[dict[str, Any]], position: int) -> None:
    """Does what a load does up to the point where the landed rows and their position are stored."""
    ledger.start(lake.db, "crm", "Lead")
    with lake.connect() as con, Landing(lake, "crm", "Lead") as landing:
        rows = page(records).table
        rows = rows.append_column("_deleted", [[False] * len(rows)])
        rows = rows.append_column("_read_at", [[10**17] * len(rows)]).append_column("_ord", [list(range(len(rows)))])
        with Sieve(con, rows, describe(con, "crm", "Lead"), ["Id"], "Modified") as sieve:
            written, schema = sieve.write(landing.files(landing.next_chunk), landing.next_chunk, next_seq(lake))
        landing.store(schema, written, Reading(position={"next": position}, finished=True, columns=list(records[0])))


def test_rows_that_landed_before_a_kill_are_merged_first_and_not_read_again(lake: Lake, leads: Leads) -> None:
    stage(lake, Scripted.of(page([lead("a", 1, Name="a", Note="kept")], 1)), "crm", "Lead")
    land_without_merging(lake, [lead("a", 2, Name="landed"), lead("b", 2, Name="landed")], 2)
    assert leads("Name") == {"a": "a"}
    source = Scripted.of(page([lead("c", 3, Name="c", Note="c")], 3))
    done = stage(lake, source, "crm", "Lead")
    assert source.asked[0]["since"] == {"next": 2}
    assert leads("Name") == {"a": "landed", "b": "landed", "c": "c"}
    assert leads("Note") == {"a": "kept", "b": None, "c": "c"}
    assert done.rows_changed == 3
    assert stage(lake, source, "crm", "Lead").rows_changed == 0


def test_landed_rows_without_a_stored_position_are_dropped_and_read_again(lake: Lake, rows: Rows, leads: Leads) -> None:
    stage(lake, Scripted.of(page([lead("a", 1, Name="a")], 1)), "crm", "Lead")
    land_without_merging(lake, [lead("b", 2, Name="b")], 2)
    with lake.connect() as con:  # as if dlt had been killed before it completed that package
        con.execute('DELETE FROM lake."landing__crm__Lead"._dlt_loads WHERE load_id ='
                    ' (SELECT max(load_id) FROM lake."landing__crm__Lead"._dlt_loads)')  # fmt: skip
    source = Scripted.of(page([lead("b", 3, Name="b, read again")], 3))
    stage(lake, source, "crm", "Lead")
    assert source.asked[0]["since"] == {"next": 1}
    assert leads("Name") == {"a": "a", "b": "b, read again"}
    assert rows('SELECT count(*) AS n FROM lake."landing__crm__Lead".rows') == [{"n": 0}]


def test_nothing_of_a_killed_loads_working_directory_is_used(lake: Lake, leads: Leads) -> None:
    stage(lake, Scripted.of(page([lead("a", 1, Name="a")], 1)), "crm", "Lead")
    work = lake.db.home.run / "landing" / "crm__Lead"
    assert not work.exists()
    (work / "crm__Lead").mkdir(parents=True)
    (work / "crm__Lead" / "state.json").write_text("{not json")
    stage(lake, Scripted.of(page([lead("b", 2, Name="b")], 2)), "crm", "Lead")
    assert leads("Name") == {"a": "a", "b": "b"}
    assert not work.exists()


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_the_size_of_chunks_does_not_matter(lake: Lake, rows: Rows, chunk: int) -> None:
    stage(lake, generated(30, 3), "crm", "Lead", limits=Limits(rows=chunk))
    whole(rows, 30)


def test_a_long_read_of_slow_pages_is_committed_by_time(lake: Lake) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 25.0
        return now[0]

    chunks: list[int] = []
    stage(
        lake, generated(40, 5), "crm", "Lead",
        limits=Limits(seconds=60, clock=clock), on_progress=lambda step: chunks.append(step.rows_read),
    )  # fmt: skip
    assert len(chunks) > 1
    assert chunks[-1] == 40


def test_a_large_page_is_committed_by_bytes(lake: Lake) -> None:
    chunks: list[int] = []
    stage(
        lake,
        generated(40, 5),
        "crm",
        "Lead",
        limits=Limits(bytes=1),
        on_progress=lambda step: chunks.append(step.chunks),
    )
    assert chunks == list(range(1, 9))
