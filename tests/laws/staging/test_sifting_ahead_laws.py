"""While a chunk lands, the next is sifted already: never with another result than if it had waited."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_platform.errors import AccessError
from sync_platform.model import KEY, Page
from sync_platform.staging.chunks import Limits
from sync_platform.staging.lake import Lake
from sync_platform.staging.landing import Landing
from sync_platform.staging.load import stage
from sync_platform.staging.merge import adopt
from sync_platform.staging.sieve import Sieve
from tests.laws.staging.loader import generated
from tests.laws.staging.scripted import Scripted, lead, page

Leads = Callable[..., dict[str, Any]]

#: Every chunk is worth being sifted ahead; a page of two rows makes one.
AHEAD = Limits(rows=2, ahead_from=1)
_names = (f"c{number}" for number in itertools.count())

#: A page: the first key of its rows, and how far apart they are; the pages mostly rise, as a table's do.
drawn_page = st.tuples(st.integers(0, 3), st.sampled_from([1, 1, 1, 0]), st.integers(1, 3))


def pages_of(drawn: list[tuple[int, int, int]]) -> list[list[tuple[str, float]]]:
    """The keys and times of the rows, page by page: each is newer than those before it."""
    rows, high = list[list[tuple[str, float]]](), 50
    for back, step, count in drawn:
        start = high - back
        rows.append([(f"{start + step * n:03d}", len(rows) * 10 + n) for n in range(count)])
        high = max(high, start + step * count)
    return rows


@settings(
    max_examples=12, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(drawn=st.lists(drawn_page, min_size=3, max_size=6))
def test_every_record_is_staged_once_and_is_its_newest(lake: Lake, drawn: list[tuple[int, int, int]]) -> None:
    name, rows = next(_names), pages_of(drawn)
    pages = [page([lead(k, m, Value=str(m)) for k, m in one], n) for n, one in enumerate(rows)]
    done = stage(lake, Scripted.of(*pages), name, "Lead", limits=AHEAD)
    newest = {key: str(minutes) for one in rows for key, minutes in one}
    with lake.connect() as con:
        found = con.execute(f'SELECT {KEY}, "Value", _seq FROM lake."{name}"."Lead"').fetchall()
    assert sorted((key, value) for key, value, _ in found) == sorted(newest.items())
    assert done.rows_read == sum(map(len, rows))
    stages = [seq for _, _, seq in sorted(found, key=lambda row: int(row[1]))]
    assert stages == sorted(stages), "a row that was read later has the lower number"


def test_the_next_chunk_is_sifted_while_one_lands(lake: Lake, leads: Leads, monkeypatch: pytest.MonkeyPatch) -> None:
    sifted, in_time = threading.Event(), list[bool]()
    write, store = Sieve.write, Landing.store

    def watched(sieve: Sieve, files: Sequence[Path], chunk: int, seq: int) -> Any:
        told = write(sieve, files, chunk, seq)
        if chunk == 2:
            sifted.set()
        return told

    def waiting(landing: Landing, *given: Any) -> None:
        if not in_time:
            in_time.append(sifted.wait(20))
        store(landing, *given)

    monkeypatch.setattr(Sieve, "write", watched)
    monkeypatch.setattr(Landing, "store", waiting)
    pages = [page([lead(f"{n:02d}{m}", n, Value="v") for m in "ab"], n + 1, complete=n == 4) for n in range(5)]
    stage(lake, Scripted.of(*pages), "crm", "Lead", limits=AHEAD)
    assert in_time == [True]
    assert len(leads('"Value"')) == 10


def test_a_chunk_sifted_ahead_that_landed_only_is_merged_by_the_next_load(
    lake: Lake, leads: Leads, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count(1)

    def dying(*given: Any, **named: Any) -> Any:
        if next(calls) == 2:
            raise AccessError("the process dies here", mend="run again")
        return adopt(*given, **named)

    monkeypatch.setattr("sync_platform.staging.load.adopt", dying)
    with pytest.raises(AccessError, match="dies here"):
        stage(lake, generated(12, 2), "crm", "Lead", limits=AHEAD)
    source = generated(12, 2)
    stage(lake, source, "crm", "Lead", limits=AHEAD)
    assert source.asked[0]["since"] == {"next": 4}
    assert leads('"Value"') == {str(n): f"0:{n}" for n in range(12)}


def test_a_landing_that_fails_ends_what_is_read_ahead(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0

    def endless() -> Iterator[Page]:
        nonlocal taken
        for number in itertools.count():
            taken = number
            yield page([lead(f"{number:06d}", number, Value="v")], number + 1)

    def full(landing: Landing, *given: Any) -> None:
        raise AccessError("the disk is full", mend="free space")

    monkeypatch.setattr(Landing, "store", full)
    before = threading.active_count()
    with pytest.raises(AccessError, match="the disk is full"):
        stage(lake, Scripted.by(lambda since: endless()), "crm", "Lead", limits=AHEAD)
    assert threading.active_count() <= before
    assert taken < 1000
