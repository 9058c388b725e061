"""A two-way sync and the match plan: neither side is given a record that the other one may have already."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from sync_platform.engine.spec import Matching, SyncSpec
from sync_platform.ledger.plans import latest_plan
from sync_platform.matching.applying import apply_decisions
from sync_platform.matching.decisions import MATCHES, accepted
from sync_platform.matching.forms import fields_of
from sync_platform.matching.proposing import propose
from tests.unit.twoway.couple import Couple, a_two_way_sync
from tests.unit.twoway.desk import Desk

MATCHING = Matching(fields=fields_of(("email", "name")))


@pytest.fixture
def couple(couple_of: Callable[[SyncSpec], Couple]) -> Couple:
    """Both sides know Ann; Eve has another e-mail on each; Nobody and Somebody are on one side only."""
    made = couple_of(a_two_way_sync(first_sync="match", matching=MATCHING, compare="target"))
    made.crm.put(Email="ann@x.example", Name="Ann Hallberg", Phone="1")
    made.hub.put(email="ann@x.example", name="Ann Hallberg", phone=None)
    made.crm.put(Email="eve.martinson@z.example", Name="Eve Martinson", Phone=None)
    made.hub.put(email="eve.martinson@y.example", name="Eve Martinson", phone=None)
    made.crm.put(Email="new@x.example", Name="Nobody Elsewhere", Phone=None)
    made.hub.put(email="other@x.example", name="Somebody There", phone=None)
    return made


def match(couple: Couple) -> pl.DataFrame:
    """`match SYNC`: the rows of its file, nothing decided yet."""
    couple.planned()
    with couple.session() as session:
        with couple.database.connection() as connection:
            plan = latest_plan(connection, couple.spec.name)
        assert plan is not None
        return propose(session, couple.spec, plan.plan_id, pl.DataFrame(schema=MATCHES))


def apply(couple: Couple, rows: pl.DataFrame) -> None:
    """`match SYNC --apply`."""
    with couple.session() as session:
        apply_decisions(session, couple.spec, rows)


def test_nothing_is_created_on_either_side_before_the_match_plan_is_applied(couple: Couple) -> None:
    report = couple.run()
    assert report["sync_summary"]["created"] == 0
    assert report["first_sync_held"] == 4
    assert (len(couple.crm.rows), len(couple.hub.rows)) == (3, 3)


def test_what_may_be_the_same_waits_on_both_sides_and_what_is_new_is_created(couple: Couple) -> None:
    rows = accepted(match(couple), ["exact", "unmatched"])
    classes = {str(told).split(" | ")[-1]: name for told, name in rows.select("source", "class").iter_rows()}
    assert classes.pop("Eve Martinson") in ("likely", "ambiguous")
    assert classes == {"Ann Hallberg": "exact", "Nobody Elsewhere": "unmatched"}
    apply(couple, rows)
    report = couple.run()
    assert report["sync_summary"]["created"] == 2, "Nobody at the target and Somebody at the source"
    assert sorted(row["Name"] for row in couple.crm.rows.values()) == [
        "Ann Hallberg", "Eve Martinson", "Nobody Elsewhere", "Somebody There"
    ]  # fmt: skip
    assert sorted(row["name"] for row in couple.hub.rows.values()) == [
        "Ann Hallberg", "Eve Martinson", "Nobody Elsewhere", "Somebody There"
    ]  # fmt: skip
    assert couple.silent()


def test_an_accepted_pair_is_merged_and_not_created_again(couple: Couple) -> None:
    rows = match(couple)
    couple_ids = rows.filter(pl.col("source").str.contains("Eve"))
    assert couple_ids.height == 1
    apply(couple, rows.with_columns(decision=pl.lit("accept")).filter(pl.col("target_id").is_not_null()))
    couple.run()
    assert couple.links()[couple_ids["source_key"][0]] == couple_ids["target_id"][0]
    assert sum("Eve" in row["Name"] for row in couple.crm.rows.values()) == 1
    assert sum("Eve" in row["name"] for row in couple.hub.rows.values()) == 1
    assert couple.silent()


def test_after_the_first_day_a_new_look_alike_is_held_on_both_sides(couple: Couple) -> None:
    apply(couple, accepted(match(couple), ["exact", "likely", "unmatched"]))
    couple.run()
    couple.crm.put(Email="zoe.winterbottom@a.example", Name="Zoe Winterbottom", Phone=None)
    couple.hub.put(email="zoe.winterbottom@b.example", name="Zoe Winterbottom", phone=None)
    report = couple.run()
    assert report["sync_summary"]["created"] == 0
    assert report["sync_summary"]["held"] >= 1
    assert sum("Zoe" in row["Name"] for row in couple.crm.rows.values()) == 1
    assert sum("Zoe" in row["name"] for row in couple.hub.rows.values()) == 1


def test_an_event_about_a_new_record_leaves_it_to_the_run_that_can_compare(couple: Couple) -> None:
    apply(couple, accepted(match(couple), ["exact", "likely", "unmatched"]))
    couple.run()
    desk = Desk(couple)
    desk.event("crm", couple.crm.put(Email="new@a.example", Name="Ida Newcomer", Phone=None), "created")
    desk.event("hub", couple.hub.put(email="far@b.example", name="Otto Faraway", phone=None), "created")
    before = len(couple.crm.rows), len(couple.hub.rows)
    desk.work()
    assert (len(couple.crm.rows), len(couple.hub.rows)) == before
    assert couple.run()["sync_summary"]["created"] == 2
    assert couple.silent()
