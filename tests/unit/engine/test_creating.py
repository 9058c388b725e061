"""A part of nothing but creates is its desired part: what is read of it is what the comparison would have planned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sync_platform.engine.creating import creates_everything, without_names
from sync_platform.engine.looking import look
from sync_platform.engine.planning import changes_of
from sync_platform.engine.reconcile import HASHED, Rules, desired_hash
from sync_platform.ledger.plans import PlanFiles
from sync_platform.model import Op

NO_KEYS = pl.DataFrame(schema={"_key": pl.String})
NO_LINKS = pl.DataFrame(
    schema={
        "_key": pl.String, "_target_id": pl.String, "_base": pl.Int64, "_link_cursor": pl.Int64,
        "_link_read_at": pl.Int64,
    }
)  # fmt: skip


def desired() -> pl.DataFrame:
    """Records with nulls, empty texts and every technical column."""
    rows = pl.DataFrame(
        {
            "_key": ["1", "10", "2"], "_cursor": [5, None, 7], "_read_at": [9, 9, 9], "_dedupe_key": ["a", None, "b"],
            "_changed": [True, True, False], "email": ["a@x", "", None], "amount": [None, 2, 3],
        }
    )  # fmt: skip
    return rows.with_columns(desired_hash(rows, ["email", "amount"]).alias(HASHED))


class Nowhere:
    """A target without any record, of which nothing may be asked but who owns one: nobody."""

    vacant, linked, compare, left, known = True, False, "links", frozenset[str](), None
    fields, folded = ("email", "amount"), frozenset[str]()

    def __init__(self, workshop: Any) -> None:
        self.session, self.spec = workshop.session(), workshop.spec

    def rows(self, desired: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
        """None."""
        return pl.DataFrame(schema={"_target_id": pl.String})


@pytest.mark.parametrize("mode", ["upsert", "insert", "mirror", "archive", "fill_empty"])
def test_a_desired_part_read_as_changes_is_what_the_comparison_plans(workshop: Any, tmp_path: Path, mode: Any) -> None:
    target, rules = Nowhere(workshop), Rules(mode=mode, fields=Nowhere.fields)
    files = PlanFiles(tmp_path, "a-plan")
    files.write("desired", 0, desired())
    planned = without_names(changes_of(target, look(target, desired(), NO_LINKS), rules, NO_KEYS, {}), rules)  # type: ignore[arg-type]

    files.create_all(0, files.paths("desired")[0])

    assert creates_everything(target, rules)
    assert_frame_equal(next(files.parts("changes")), planned)
    assert files.fields() == Nowhere.fields
    assert [found["_op"].to_list() for found in files.chosen("changes", pl.col("_key") == "2")] == [[str(Op.CREATE)]]
    assert list(files.chosen("changes", pl.col("_op") == str(Op.HOLD))) == []
    assert [(number, found.height) for number, found in files.numbered("changes", pl.lit(False))] == [(0, 0)]


def test_where_anything_may_be_held_or_skipped_nothing_is_taken_for_a_create(workshop: Any) -> None:
    target, rules = Nowhere(workshop), Rules(mode="upsert", fields=Nowhere.fields)
    assert not creates_everything(target, replace(rules, mode="update"))
    assert not creates_everything(target, replace(rules, first_sync_hold=True))
    assert not creates_everything(target, replace(rules, empty_is_null=True))
    target.vacant = False
    assert not creates_everything(target, rules)


def test_a_part_of_changes_that_is_written_anew_leaves_the_desired_part_alone(tmp_path: Path) -> None:
    files = PlanFiles(tmp_path, "a-plan")
    files.write("desired", 0, desired())
    files.create_all(0, files.paths("desired")[0])
    before = files.digest()

    files.write("changes", 0, desired().head(1).with_columns(_op=pl.lit(str(Op.SKIP))))

    assert files.digest() != before
    assert_frame_equal(next(files.parts("desired")), desired())
    files.create_all(0, files.paths("desired")[0])
    assert files.digest() == before
