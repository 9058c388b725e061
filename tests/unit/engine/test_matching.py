"""Matching: link, natural key, and what a person has to decide."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from sync_platform.engine.matching import match
from sync_platform.errors import ConfigError, ContractError

LINKS = {"_key": pl.String, "_target_id": pl.String}


def desired(*rows: tuple[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"_key": pl.String, "email": pl.String}, orient="row")


def links(**pairs: str) -> pl.DataFrame:
    return pl.DataFrame(list(pairs.items()), schema=LINKS, orient="row")


def targets(*rows: tuple[str, Any, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"_target_id": pl.String, "email": pl.String, "_key": pl.String}, orient="row")


def told(*args: Any, **more: Any) -> list[tuple[Any, ...]]:
    return match(*args, **more).select("_key", "_target_id", "_matched", "_candidates").rows()


def test_a_link_wins_over_a_natural_key() -> None:
    got = told(desired(("a", "x@y")), links(a="t9"), targets(("t1", "x@y", None)), ["email"])
    assert got == [("a", "t9", "link", [])]


def test_keys_are_trimmed_and_folded_only_where_the_vendor_folds() -> None:
    rows, there = desired(("a", " X@y ")), targets(("t1", "x@Y", None))
    assert told(rows, links(), there, ["email"], {"email"}) == [("a", "t1", "key", ["t1"])]
    assert told(rows, links(), there, ["email"]) == [("a", None, "none", [])]


def test_null_and_empty_keys_never_match() -> None:
    there = targets(("t1", None, None), ("t2", "", None), ("t3", " ", None))
    got = told(desired(("a", None), ("b", ""), ("c", " ")), links(), there, ["email"])
    assert [row[2] for row in got] == ["none"] * 3


def test_several_targets_are_ambiguous_and_named() -> None:
    got = told(desired(("a", "x")), links(), targets(("t2", "x", None), ("t1", "x", None)), ["email"])
    assert got == [("a", None, "ambiguous", ["t1", "t2"])]


def test_a_target_that_belongs_to_another_desired_record_is_not_up_for_grabs() -> None:
    rows = desired(("a", "x"), ("b", "y"))
    assert told(rows, links(), targets(("t1", "x", "z")), ["email"])[0][2] == "none"  # owned by a record elsewhere
    assert told(rows, links(b="t1"), targets(("t1", "x", None)), ["email"])[0][2] == "none"  # linked in this frame
    assert told(rows, links(), targets(("t1", "x", "a")), ["email"])[0][:3] == ("a", "t1", "key")  # its own


def test_two_records_that_are_one_target_are_held_and_told_of_each_other() -> None:
    by_key = match(desired(("a", "x"), ("b", "X")), links(), targets(("t1", "x", None)), ["email"], {"email"})
    by_link = match(desired(("a", "x"), ("b", "y")), links(a="t1", b="t1"), targets(), ["email"])
    for got in (by_key, by_link):
        assert got.select("_target_id", "_matched", "_candidates", "_rivals").rows() == [
            (None, "ambiguous", ["t1"], ["b"]),
            (None, "ambiguous", ["t1"], ["a"]),
        ]


def test_all_fields_of_the_key_must_match_also_across_types() -> None:
    rows = pl.DataFrame({"_key": ["a", "b"], "email": ["x", "x"], "number": [1, 2]})
    there = pl.DataFrame({"_target_id": ["t1", "t2"], "email": ["x", "x"], "number": ["1", "3"]})
    assert told(rows, links(), there, ["email", "number"]) == [("a", "t1", "key", ["t1"]), ("b", None, "none", [])]


def test_order_and_columns_are_kept() -> None:
    rows = desired(("c", "1"), ("a", "2"), ("b", "3"))
    got = match(rows, links(a="t"), targets(("q", "3", None)), ["email"])
    assert got["_key"].to_list() == ["c", "a", "b"]
    assert got.columns == ["_key", "email", "_target_id", "_matched", "_candidates", "_rivals"]


def test_bad_keys_are_refused_before_anything() -> None:
    with pytest.raises(ContractError, match="occur more than once"):
        match(desired(("a", "x"), ("a", "y")), links(), targets(), ["email"])
    with pytest.raises(ContractError, match="have no _key"):
        match(desired((None, "x")), links(), targets(), ["email"])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="which the target does not hold"):
        match(desired(("a", "x")), links(), pl.DataFrame({"_target_id": ["t"], "e_mail": ["x"]}), ["email"])
