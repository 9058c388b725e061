"""While a chunk lands, the next is sifted already: never with another result than if it had waited."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sync_platform.errors import AccessError
from sync_platform.model import KEY, Page
from sync_platform.staging.chunks import Limits
from sync_platform.staging.lake import Lake
from sync_platform.staging.landing import Landing
from sync_platform.staging.load import stage
from sync_platform.staging.merge import adopt
from sync_platform.staging.sieve import Sieve
from tests.laws.staging.loader import generated
from tests.laws.staging.scripted import Scripted, lead, page, table

Leads = Callable[..., dict[str, Any]]
Rows = Callable[..., list[dict[str, Any]]]

#: Every chunk is worth being sifted ahead; a page of two rows makes one.
AHEAD = Limits(rows=2, ahead_from=1)


@pytest.mark.parametrize(
    "keys",
    [
        ("ab", "cd", "ef", "gh"),  # as a table is read: nothing stands against it
        ("ab", "bc", "cd", "de"),  # what lands is in the next chunk again
        ("cd", "ab", "ef", "bc"),  # the next one lies before it, and a later one among both
    ],
)
def test_every_record_is_staged_once_and_is_its_newest(lake: Lake, rows: Rows, keys: Sequence[str]) -> None:
    pages = [page([lead(key, at, Value=f"{at}") for key in two], at) for at, two in enumerate(keys)]
    done = stage(lake, Scripted.of(*pages), "crm", "Lead", limits=AHEAD)
    found = rows(f'SELECT {KEY} AS key, "Value" AS value FROM lake.crm."Lead" ORDER BY _seq, key')
    newest = {key: f"{at}" for at, two in enumerate(keys) for key in two}
    assert {row["key"]: row["value"] for row in found} == newest
    assert len(found) == len(newest)
    assert [row["value"] for row in found] == sorted(row["value"] for row in found), "a later chunk has a lower number"
    assert done.rows_read == 8


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

    def hardly_ending() -> Iterator[Page]:
        nonlocal taken
        yield page([lead("a", 0, Value="v"), lead("b", 1, Value="v")], 1)
        yield page([lead("c", 2, Value="v")], 2)
        while taken < 400:  # nothing that would fill a chunk
            taken += 1
            time.sleep(0.02)
            yield page(lead_table.slice(0, 0), 3)

    def full(landing: Landing, *given: Any) -> None:
        raise AccessError("the disk is full", mend="free space")

    lead_table = table([lead("d", 3, Value="v")])
    monkeypatch.setattr(Landing, "store", full)
    before = threading.active_count()
    with pytest.raises(AccessError, match="the disk is full"):
        stage(lake, Scripted.by(lambda since: hardly_ending()), "crm", "Lead", limits=AHEAD)
    assert threading.active_count() <= before
    assert taken < 200
