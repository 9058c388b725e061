"""Plans: one situation at a time."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest

from sync_platform.engine.hashing import hash_rows
from sync_platform.engine.matching import match
from sync_platform.engine.reconcile import Rules, plan, plan_left
from sync_platform.errors import ContractError

FIELDS = ("email", "name")
COLUMNS = [
    "_op", "_key", "_target_id", "_reason", "_cursor", "_read_at", "_desired_hash", "_dedupe_key", "_changed",
    "_fields", "new:email", "new:name", "old:email", "old:name",
]  # fmt: skip


def rules(mode: Any = "upsert", **more: Any) -> Rules:
    return Rules(mode=mode, fields=FIELDS, **more)


def rows(*given: tuple[Any, ...], key: str = "_key") -> pl.DataFrame:
    return pl.DataFrame(given, schema={key: pl.String, "email": pl.String, "name": pl.String}, orient="row")


def matched(desired: pl.DataFrame, **links: str) -> pl.DataFrame:
    known = pl.DataFrame(list(links.items()), schema={"_key": pl.String, "_target_id": pl.String}, orient="row")
    return match(desired, known, pl.DataFrame(schema={"_target_id": pl.String}), ())


def one(told: pl.DataFrame) -> tuple[Any, ...]:
    assert told.height == 1
    return told.select("_op", "_target_id", "_reason", "_fields").row(0)


def target(*given: tuple[Any, ...]) -> pl.DataFrame:
    return rows(*given, key="_target_id")


def test_only_the_fields_that_differ_are_sent() -> None:
    told = plan(matched(rows(("a", "x", "new")), a="t"), target(("t", "x", "old")), rules())
    assert one(told) == ("update", "t", None, ["name"])
    assert told.columns == COLUMNS
    assert told.select("new:name", "old:name", "old:email").row(0) == ("new", "old", "x")


def test_a_create_sends_what_has_a_value() -> None:
    assert one(plan(matched(rows(("a", "x", None))), target(), rules())) == ("create", None, None, ["email"])
    assert one(plan(matched(rows(("a", "x", ""))), target(), rules()))[3] == ["email", "name"]
    assert one(plan(matched(rows(("a", "x", ""))), target(), rules(empty_is_null=True)))[3] == ["email"]


def test_null_clears_and_empty_equals_null_only_where_the_target_says_so() -> None:
    cleared = plan(matched(rows(("a", "x", None)), a="t"), target(("t", "x", "old")), rules())
    assert one(cleared) == ("update", "t", None, ["name"])
    same = plan(matched(rows(("a", "x", "")), a="t"), target(("t", "x", None)), rules(empty_is_null=True))
    assert one(same) == ("skip", "t", "unchanged", [])
    unlike = plan(matched(rows(("a", "x", "")), a="t"), target(("t", "x", None)), rules())
    assert one(unlike)[3] == ["name"]


def test_case_makes_no_difference_where_the_target_folds() -> None:
    there = target(("t", "x@y", "n"))
    assert one(plan(matched(rows(("a", "X@Y", "n")), a="t"), there, rules(folded=frozenset({"email"}))))[0] == "skip"
    assert one(plan(matched(rows(("a", "X@Y", "n")), a="t"), there, rules()))[3] == ["email"]


def test_values_are_compared_in_the_desired_type() -> None:
    desired = pl.DataFrame({"_key": ["a"], "n": [7], "at": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)]})
    there = pl.DataFrame({"_target_id": ["t"], "n": ["7"], "at": ["2026-01-01T00:00:00Z"]})
    settings = Rules(mode="upsert", fields=("n", "at"))
    assert one(plan(matched(desired, a="t"), there, settings))[0] == "skip"
    odd = there.with_columns(n=pl.lit("seven"))
    assert one(plan(matched(desired, a="t"), odd, settings))[3] == ["n"]


@pytest.mark.parametrize(
    ("mode", "linked", "free"),
    [
        ("insert", "skip", "create"),
        ("update", "update", "skip"),
        ("upsert", "update", "create"),
        ("mirror", "update", "create"),
        ("archive", "update", "create"),
        ("fill_empty", "skip", "create"),
    ],
)
def test_modes(mode: str, linked: str, free: str) -> None:
    told = plan(matched(rows(("a", "x", "n"), ("b", "y", "n")), a="t"), target(("t", "old", "n")), rules(mode))
    assert told["_op"].to_list() == [linked, free]


@pytest.mark.parametrize(
    ("on_delete", "mode", "op", "says"),
    [
        ("recreate", "upsert", "create", "created again"),
        ("recreate", "update", "skip", "creates nothing"),
        ("hold", "upsert", "hold", "was deleted there"),
        ("ignore", "upsert", "skip", "left so"),
    ],
)
def test_a_linked_record_that_is_gone(on_delete: Any, mode: Any, op: str, says: str) -> None:
    desired, settings = matched(rows(("a", "x", "n")), a="t"), rules(mode, on_target_delete=on_delete)
    flagged = target(("t", "x", "n")).with_columns(_gone=pl.lit(True))
    for current in (target(), flagged):
        told = plan(desired, current, settings)
        assert told["_op"].to_list() == [op]
        assert says in told["_reason"][0]
        assert (told["_target_id"][0] is None) == (op == "create")


def test_a_first_sync_holds_creates_and_only_those() -> None:
    desired = matched(rows(("a", "x", "n"), ("b", "y", "n")), a="t")
    told = plan(desired, target(("t", "old", "n")), rules(first_sync_hold=True))
    assert told["_op"].to_list() == ["update", "hold"]
    assert told["_reason"][1] == "first sync: waiting for the match plan"


def test_doubt_is_held_and_names_the_candidates() -> None:
    there = target(("t1", "x", "n"), ("t2", "x", "n"), ("t3", "z", "n"))
    none = pl.DataFrame(schema={"_key": pl.String, "_target_id": pl.String})
    told = plan(match(rows(("a", "x", "n"), ("b", "z", "n"), ("c", "z", "m")), none, there, ["email"]), there, rules())
    assert told["_op"].to_list() == ["hold"] * 3
    assert told["_reason"].to_list() == [
        "several target records match: t1, t2",
        "the target record t3 is also claimed by c",
        "the target record t3 is also claimed by b",
    ]


def test_a_column_the_target_does_not_show_is_sent_only_when_the_record_moved() -> None:
    there = target(("t", "x", "n")).drop("name")
    desired = matched(rows(("a", "x", "n")), a="t")
    assert one(plan(desired, there, rules()))[3] == ["name"]
    same = desired.with_columns(_base=hash_rows(desired, FIELDS).reinterpret(signed=True))
    assert one(plan(same, there, rules()))[0] == "skip"
    assert one(plan(desired, there, rules("fill_empty")))[0] == "skip"


def test_bad_keys_are_refused() -> None:
    twice = pl.concat([matched(rows(("a", "x", "n")))] * 2)
    with pytest.raises(ContractError, match="more than once"):
        plan(twice, target(), rules())
    with pytest.raises(ContractError, match="more than once"):
        plan(matched(rows(("a", "x", "n"))), target(("t", "x", "n"), ("t", "x", "n")), rules())


@pytest.mark.parametrize(
    ("mode", "on_leave", "op"),
    [
        ("mirror", "keep", "delete"),
        ("archive", "keep", "archive"),
        ("upsert", "keep", "skip"),
        ("upsert", "archive", "archive"),
        ("upsert", "delete", "delete"),
    ],
)
def test_what_left_follows_the_mode_then_on_leave(mode: Any, on_leave: Any, op: str) -> None:
    left = pl.DataFrame({"_key": ["a"], "_why": ["filter"], "_changed": [True], "_target_id": ["t"]})
    told = plan_left(left, target(("t", "x", "n")), rules(mode, on_leave=on_leave))
    assert told["_op"].to_list() == [op]
    assert "no longer inside the filter" in told["_reason"][0]
    assert told.columns == COLUMNS
    assert told["old:email"].to_list() == ["x"]


def test_what_left_stays_when_it_was_not_ours_is_gone_or_goes_on_as_another() -> None:
    left = pl.DataFrame(
        {"_key": list("abc"), "_why": ["deleted"] * 3, "_changed": [True] * 3, "_target_id": [None, "gone", "t"]}
    )
    told = plan_left(left, target(("t", "x", "n")), rules("mirror"), taken=["t"])
    assert told["_op"].to_list() == ["skip"] * 3
    assert [r.split("; ")[1] for r in told["_reason"].to_list()] == [
        "it was never written",
        "the target record is gone already",
        "its target record goes on",
    ]


def test_more_than_sixty_two_fields_are_named_right() -> None:
    names = tuple(f"f{n:03d}" for n in range(130))
    desired = pl.DataFrame({"_key": ["a"], **{n: ["new"] for n in names}})
    there = pl.DataFrame({"_target_id": ["t"], **{n: ["old" if int(n[1:]) % 7 == 0 else "new"] for n in names}})
    told = plan(matched(desired, a="t"), there, Rules(mode="upsert", fields=names))
    assert told["_fields"][0].to_list() == [n for n in names if int(n[1:]) % 7 == 0]


def test_hashes_are_the_same_in_every_version() -> None:
    frame = pl.DataFrame({"b": ["x", "", None], "a": [1, None, None]})
    assert hash_rows(frame, ("a", "b", "absent")).to_list() == PINNED
    assert hash_rows(frame.with_columns(c=pl.lit(None, dtype=pl.String)), ("c", "b", "a")).to_list() == PINNED


def test_a_change_of_a_microsecond_is_another_hash_and_milliseconds_hash_as_ever() -> None:
    at = dt.datetime(2024, 1, 31, 10, 0, 0, 123_000, tzinfo=dt.UTC)
    times = [
        at,
        at.replace(microsecond=123_456),
        at.replace(microsecond=123_457),
        None,
        at.replace(microsecond=123_456),
    ]
    micros = hash_rows(pl.DataFrame({"at": times}, schema={"at": pl.Datetime("us", "UTC")}), ["at"]).to_list()
    assert len(set(micros)) == 4
    assert micros[1] == micros[4]
    for unit in ("ms", "us", "ns"):
        alone = pl.DataFrame({"at": [at]}, schema={"at": pl.Datetime(unit, "UTC")})
        assert hash_rows(alone, ["at"]).to_list() == micros[:1]


#: Links in databases hold such hashes: a change here re-sends every record.
PINNED = [17783829739178319294, 17310589546241993195, 3746585686858627171]
