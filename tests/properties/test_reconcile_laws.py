"""Laws of plans, against a plain Python reading of the same rules."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_platform.engine.matching import match
from sync_platform.engine.reconcile import Rules, desired_hash, plan, plan_left
from tests.properties import reference as ref

FIELDS = ("email", "name", "score")
TYPES: dict[str, Any] = {"email": pl.String, "name": pl.String, "score": pl.Int64}
VALUES = st.fixed_dictionaries(
    {
        "email": st.sampled_from([None, "", "a@x", "b@x"]),
        "name": st.sampled_from([None, "", "Ann", "ann"]),
        "score": st.sampled_from([None, 0, 1, 2]),
    }
)
DESIRED = st.dictionaries(st.sampled_from("abcdefgh"), VALUES, max_size=8)
TARGET = st.dictionaries(st.sampled_from(["t1", "t2", "t3", "t4", "t5"]), VALUES, max_size=5)
MODES = st.sampled_from(["insert", "update", "upsert", "mirror", "archive", "fill_empty"])


def frame(rows: dict[str, dict[str, Any]], key: str) -> pl.DataFrame:
    return pl.DataFrame([{key: k, **v} for k, v in rows.items()], schema={key: pl.String, **TYPES})


@st.composite
def situations(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """What is desired, what the target holds, and links: some to records that are gone."""
    desired, target = draw(DESIRED), draw(TARGET)
    ids = draw(st.permutations(["t1", "t2", "t3", "t4", "t5"]))
    linked = draw(st.lists(st.sampled_from(sorted(desired)), unique=True, max_size=5)) if desired else []
    return desired, target, dict(zip(linked, ids, strict=False))


def made(desired: dict[str, Any], target: dict[str, Any], links: dict[str, str], rules: Rules) -> list[dict[str, Any]]:
    known = pl.DataFrame(list(links.items()), schema={"_key": pl.String, "_target_id": pl.String}, orient="row")
    rows, current = frame(desired, "_key"), frame(target, "_target_id")
    return plan(match(rows, known, current, ()), current, rules).to_dicts()


def sent(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[f"new:{name}"] for name in row["_fields"]}


def apply(rows: list[dict[str, Any]], target: dict[str, Any], links: dict[str, str]) -> None:
    for row in rows:
        if row["_op"] == "create":
            links[row["_key"]] = f"new-{row['_key']}"
            target[links[row["_key"]]] = dict.fromkeys(FIELDS) | sent(row)
        elif row["_op"] == "update":
            target[row["_target_id"]] |= sent(row)


@settings(max_examples=80, deadline=None)
@given(situations(), MODES, st.booleans())
def test_a_plan_is_what_the_reference_plans(situation: Any, mode: Any, empty_is_null: bool) -> None:
    desired, target, links = situation
    rules = Rules(mode=mode, fields=FIELDS, empty_is_null=empty_is_null)
    got = {r["_key"]: (r["_op"], sent(r)) for r in made(desired, target, links, rules)}
    assert got == ref.planned(desired, links, target, mode=mode, empty_is_null=empty_is_null)


@settings(max_examples=80, deadline=None)
@given(situations(), MODES, st.booleans())
def test_planning_again_after_applying_is_empty(situation: Any, mode: Any, empty_is_null: bool) -> None:
    desired, target, links = situation
    rules = Rules(mode=mode, fields=FIELDS, empty_is_null=empty_is_null)
    apply(made(desired, target, links, rules), target, links)
    assert {r["_op"] for r in made(desired, target, links, rules)} <= {"skip"}


@settings(max_examples=100, deadline=None)
@given(situations(), MODES, st.randoms())
def test_the_order_of_rows_and_columns_changes_nothing(situation: Any, mode: Any, random: Any) -> None:
    desired, target, links = situation
    rules = Rules(mode=mode, fields=FIELDS)
    shuffled = list(desired)
    random.shuffle(shuffled)
    turned = {k: dict(reversed(list(desired[k].items()))) for k in shuffled}
    one = sorted(made(desired, target, links, rules), key=lambda r: r["_key"])
    other = sorted(made(turned, dict(reversed(list(target.items()))), links, rules), key=lambda r: r["_key"])
    assert one == other


@settings(max_examples=100, deadline=None)
@given(situations())
def test_fill_empty_never_overwrites_and_absent_fields_are_never_sent(situation: Any) -> None:
    desired, target, links = situation
    rules = Rules(mode="fill_empty", fields=FIELDS, empty_is_null=True)
    for row in made(desired, target, links, rules):
        if row["_op"] == "update":
            assert all(row[f"old:{n}"] in (None, "") for n in row["_fields"])
    partial = {k: {"email": v["email"]} for k, v in desired.items()}
    known = pl.DataFrame(list(links.items()), schema={"_key": pl.String, "_target_id": pl.String}, orient="row")
    rows = frame(desired, "_key").select("_key", "email")
    current = frame(target, "_target_id")
    told = plan(match(rows, known, current, ()), current, Rules(mode="upsert", fields=FIELDS))
    assert {name for names in told["_fields"].to_list() for name in names} <= {"email"}
    assert told.height == len(partial)


@settings(max_examples=100, deadline=None)
@given(situations(), st.sampled_from(["mirror", "archive"]))
def test_what_left_is_removed_only_where_we_wrote_it(situation: Any, mode: Any) -> None:
    gone, target, links = situation
    left = pl.DataFrame(
        [{"_key": k, "_why": "filter", "_changed": True, "_target_id": links.get(k)} for k in gone],
        schema={"_key": pl.String, "_why": pl.String, "_changed": pl.Boolean, "_target_id": pl.String},
    )
    told = plan_left(left, frame(target, "_target_id"), Rules(mode=mode, fields=FIELDS))
    removed = {r["_target_id"] for r in told.to_dicts() if r["_op"] != "skip"}
    assert removed == {links[k] for k in gone if links.get(k) in target}
    assert told.height == len(gone)


@settings(max_examples=100, deadline=None)
@given(DESIRED, TARGET)
def test_matching_by_key_never_gives_two_records_one_target(desired: Any, target: Any) -> None:
    none = pl.DataFrame(schema={"_key": pl.String, "_target_id": pl.String})
    told = match(frame(desired, "_key"), none, frame(target, "_target_id"), ("email",), {"email"})
    taken = told["_target_id"].drop_nulls().to_list()
    assert len(taken) == len(set(taken))
    for row in told.to_dicts():
        same = sorted(i for i, t in target.items() if t["email"] and t["email"] == row["email"])
        rivals = [k for k, d in desired.items() if d["email"] and d["email"] == row["email"] and k != row["_key"]]
        assert (row["_matched"] == "none") == (not same)
        assert (row["_matched"] == "key") == (len(same) == 1 and not rivals)
        if same:
            assert row["_candidates"] == same


TEXT = st.one_of(st.none(), st.text(max_size=30))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, st.one_of(st.none(), st.integers(-(2**40), 2**40))), min_size=1, max_size=6))
def test_hashes_follow_the_values_alone(rows: list[tuple[Any, ...]]) -> None:
    told = pl.DataFrame(rows, schema=TYPES, orient="row")
    hashes = desired_hash(told, FIELDS).to_list()
    assert desired_hash(told.select(reversed(told.columns)), tuple(reversed(FIELDS))).to_list() == hashes
    for at, one in enumerate(hashes):
        assert desired_hash(told[at : at + 1], FIELDS).to_list() == [one]
        for other, hashed in enumerate(hashes):
            if "\x1e" not in str(rows) and "\x1f" not in str(rows):
                assert (one == hashed) == (rows[at] == rows[other])
