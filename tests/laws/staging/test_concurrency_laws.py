"""Several loads at once."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from typing import Any

from sync_platform.staging.chunks import Limits
from sync_platform.staging.lake import Lake
from sync_platform.staging.load import stage
from tests.laws.staging.loader import generated
from tests.laws.staging.scripted import ITEM, RATE, Scripted, page
from tests.laws.staging.test_resume_laws import start, whole

Rows = Callable[..., list[dict[str, Any]]]


def at_once(*works: Callable[[], object]) -> None:
    """Runs all of them in threads and raises the first error."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    if errors:
        raise errors[0]


def test_five_processes_loading_one_stream_at_once_lose_and_double_nothing(lake: Lake, rows: Rows) -> None:
    loaders = [start(lake, total=60, size=10, chunk=20, version=version, full=True) for version in range(5)]
    loads = [json.loads(loader.communicate(timeout=240)[0].splitlines()[-1]) for loader in loaders]
    assert [loader.returncode for loader in loaders] == [0] * 5
    whole(rows, 60)
    assert rows('SELECT DISTINCT split_part("Value", \':\', 1) AS version FROM lake.crm."Lead"') == [{"version": "4"}]
    spans = sorted((load["started_at"], load["finished_at"]) for load in loads)
    assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(spans))


def test_five_threads_loading_one_stream_at_once_lose_and_double_nothing(lake: Lake, rows: Rows) -> None:
    def load(version: int) -> Callable[[], object]:
        source = generated(60, 10, version)
        return lambda: stage(Lake(lake.db), source, "crm", "Lead", full=True, limits=Limits(rows=20))

    at_once(*[load(version) for version in range(5)])
    whole(rows, 60)
    assert rows('SELECT DISTINCT split_part("Value", \':\', 1) AS version FROM lake.crm."Lead"') == [{"version": "4"}]


def test_different_streams_loading_at_once_do_not_meet(lake: Lake, rows: Rows) -> None:
    def items(stream: str, mark: str) -> Callable[[], object]:
        records = [{"Id": f"{mark}{n}", "Region": mark, "Code": n, "Value": mark} for n in range(30)]
        pages = [page(records[start : start + 10], complete=start == 20) for start in (0, 10, 20)]
        return lambda: stage(lake, Scripted.of(*pages), "crm", stream, limits=Limits(rows=10))

    at_once(
        lambda: stage(lake, generated(60, 10), "crm", "Lead", limits=Limits(rows=10)),
        items(ITEM.name, "i"),
        items(RATE.name, "r"),
    )
    whole(rows, 60)
    for stream, mark in ((ITEM, "i"), (RATE, "r")):
        found = rows(f'SELECT count(*) AS n, count(DISTINCT _key) AS keys, min("Value") AS low, max("Value") AS high'
                     f' FROM lake.crm."{stream.name}"')  # fmt: skip
        assert found == [{"n": 30, "keys": 30, "low": mark, "high": mark}]


def test_readers_see_whole_loads_only(lake: Lake) -> None:
    stage(lake, generated(50, 50, 0), "crm", "Lead", full=True)
    seen: set[tuple[int, int]] = set()
    done = threading.Event()

    def read() -> None:
        with Lake(lake.db).connect() as con:
            while not done.is_set():
                row = con.execute(
                    'SELECT count(*), count(DISTINCT split_part("Value", \':\', 1)) FROM lake.crm."Lead"'
                ).fetchone()
                assert row is not None
                seen.add((int(row[0]), int(row[1])))

    def write() -> None:
        try:
            for version in range(1, 5):
                stage(lake, generated(50, 50, version), "crm", "Lead", full=True)
        finally:
            done.set()

    at_once(read, write)
    assert seen == {(50, 1)}
