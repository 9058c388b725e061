"""A two-way plan is written so many records at a time; what concerns several of them holds across its parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import polars as pl
import pytest

from sync_platform.engine.desired import prepare
from sync_platform.engine.twoway.changes import Decided, Row
from sync_platform.engine.twoway.holding import REPEATED, Holding
from sync_platform.engine.twoway.noted import Noted
from sync_platform.engine.twoway.planned_rows import PlannedRows
from sync_platform.engine.twoway.planning import plan_both
from sync_platform.engine.twoway.terms import pairing_of
from sync_platform.ledger.plans import PlanFiles
from tests.unit.twoway.couple import Couple


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as made:
        yield made


def test_ids_are_noted(con: duckdb.DuckDBPyConnection) -> None:
    noted = Noted(con, "some")
    assert noted.among(["a"]) == {}
    noted.add({"a": "1", "b": "2"})
    noted.add({"b": "3", "c'": "4"})
    noted.add({})
    assert noted.among(["a", "b", "c'", "d", "a"]) == {"a": "1", "b": "2", "c'": "4"}
    assert noted.among([]) == {}
    assert Noted(con, "others").among(["a"]) == {}
    assert Noted(con, "some").among(["a"]) == {}, "another plan knows nothing"


def create(side: str, number: int, name: str, email: str | None) -> Row:
    """A row that makes a record."""
    return {
        "_side": side, "_op": "create", "_key": f"k{number}", "_target_id": None, "_partner": None, "_reason": None,
        "_changed": True, "_fields": [name], "_relink": False, "_replaces": None, f"new:{name}": email,
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "side", "name"), [("changes", "target", "email"), ("back", "source", "Email")])
def test_creates_of_different_parts_that_share_their_match_values_are_held(
    couple: Couple, kind: str, side: str, name: str
) -> None:
    emails = [["a@x.org", "b@x.org"], ["c@x.org", " A@x.org"], ["d@x.org", None], [None, "B@X.org", "b@x.org"]]
    with couple.session() as session, couple.lake.connect() as con:
        files = PlanFiles(couple.database.home.lake, "11111111-1111-4111-8111-111111111111")
        place = Holding(session, couple.spec, {"email"}, con)
        rows = PlannedRows(files=files, pairing=pairing_of(session, couple.spec), match=couple.spec.match)
        for number, some in enumerate(emails):
            made = [create(side, 10 * number + n, name, email) for n, email in enumerate(some)]
            rows.write(Decided(target=made) if side == "target" else Decided(source=made), place)
        rows.finish(place)
    told = pl.concat(list(files.parts(kind)))
    assert told["_key"].to_list() == ["k0", "k1", "k10", "k11", "k20", "k21", "k30", "k31", "k32"], "none is lost"
    held = told.filter(pl.col("_op") == "hold")
    assert held["_key"].to_list() == ["k0", "k1", "k11", "k31", "k32"]
    assert set(held["_reason"]) == {REPEATED}


def test_a_plan_without_anything_has_its_parts(couple: Couple) -> None:
    planned = couple.planned()
    files = PlanFiles(couple.database.home.lake, planned.plan_id)
    assert [len(files.paths(kind)) for kind in ("changes", "back", "invalid")] == [1, 1, 0]


def test_what_is_decided_in_slices_is_what_is_decided_at_once(couple: Couple) -> None:
    for n in range(12):
        couple.crm.put(Email=f"p{n}@x.org", Name=f"P{n}")
    for n in range(6, 18):
        couple.hub.put(email=f"p{n}@x.org", phone=str(n))
    couple.crm.put(Email="p0@x.org", Name="again")  # two creates share an e-mail, far from each other
    couple.hub.put(email="p17@x.org")
    couple.crm.put(Email="P8@x.org", Name="twin")  # two records claim one, and one may be two
    couple.hub.put(email="p9@x.org")
    couple.stage()
    whole = planned(couple, 1_000)
    assert {(one["side"], one["op"]) for one in whole} == {
        ("target", "create"), ("target", "update"), ("target", "hold"),
        ("source", "create"), ("source", "update"), ("source", "hold"),
    }  # fmt: skip
    assert planned(couple, 2) == whole


def planned(couple: Couple, at_once: int) -> list[dict[str, Any]]:
    """What a plan would write or holds, by key, when it is decided so many records at a time."""
    with couple.session() as session:
        made = plan_both(session, couple.spec, prepare(session, couple.spec), at_once=at_once)
    return sorted(couple.changes(made), key=lambda one: (one["side"], one["key"], one["op"]))
