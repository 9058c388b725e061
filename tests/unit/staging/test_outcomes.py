"""Outcomes of bulk deliveries: each part once, whatever is repeated, whatever the target's types become."""

from __future__ import annotations

from typing import Any

import polars as pl

from sync_platform.staging.lake import Lake
from sync_platform.staging.outcomes import lake_outcomes_of, write_lake_outcomes
from sync_platform.state.database import Database


def write(lake: Lake, part: str, **values: Any) -> None:
    """Two applied creates of one part: keys a and b, with these new values for each."""
    keys = ["a", "b"]
    settled = pl.DataFrame(
        {"source_key": keys, "target_id": keys, "op": "create", "status": "applied", "reason": None},
        schema_overrides={"reason": pl.String},
    )
    rows = pl.DataFrame({"_key": keys, **{f"new:{name}": [value] * 2 for name, value in values.items()}})
    write_lake_outcomes(lake, "s", settled, rows.reverse(), run_id="r", plan_id="p", part=part)


def fields(lake: Lake, key: str = "a") -> list[dict[str, Any]]:
    with lake.connect() as con:
        return [row["fields"] for row in lake_outcomes_of(con, "s", key)]


def test_a_part_written_again_replaces_itself(fresh_state: Database) -> None:
    lake = Lake(fresh_state)
    write(lake, "0:create", name="old")
    write(lake, "1:create", name="other")
    write(lake, "0:create", name="new")
    assert sorted(one["name"][1] for one in fields(lake)) == ["new", "other"]
    assert len(fields(lake, "b")) == 2


def test_outcomes_outlive_a_field_that_came_and_a_type_that_changed(fresh_state: Database) -> None:
    lake = Lake(fresh_state)
    write(lake, "0:create", size="7")
    write(lake, "1:create", size=8, colour="red")
    assert sorted((one["size"][1], one["colour"][1]) for one in fields(lake) if one["colour"][1]) == [("8", "red")]
    assert sorted(one["size"][1] for one in fields(lake)) == ["7", "8"]
