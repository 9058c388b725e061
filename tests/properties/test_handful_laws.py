"""A few linked records are planned row by row exactly as frames of them are."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import NamedTuple

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_platform.engine.handful import plan_linked
from sync_platform.engine.matching import match
from sync_platform.engine.reconcile import Rules, desired_hash, plan

FIELDS = {
    "email": pl.String,
    "name": pl.String,
    "age": pl.Int64,
    "vip": pl.Boolean,
    "born": pl.Date,
    "seen": pl.Datetime("us", "UTC"),
    "owed": pl.Decimal(12, 2),
}
TEXTS = st.sampled_from([None, "", "a", "A", "ß", "SS", "İ", "Ünal", "ÜNAL", "ΣΑΣ", "σας", " a"])
VALUES = {
    "email": TEXTS,
    "name": TEXTS,
    "age": st.none() | st.integers(0, 2),
    "vip": st.none() | st.booleans(),
    "born": st.none() | st.dates(dt.date(2020, 1, 1), dt.date(2020, 1, 2)),
    "seen": st.none() | st.sampled_from([dt.datetime(2026, 1, n, tzinfo=dt.UTC) for n in (1, 2)]),
    "owed": st.none() | st.sampled_from([Decimal("1.00"), Decimal("1.10")]),
}
ROW = st.fixed_dictionaries(VALUES)


class Link(NamedTuple):
    """As the ledger tells it."""

    target_id: str
    base: int | None


@st.composite
def cases(draw: st.DrawFn) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Link], Rules]:
    count = draw(st.integers(1, 5))
    keys = [f"k{n}" for n in range(count)]
    desired = pl.DataFrame([draw(ROW) for _ in keys], schema=FIELDS).with_columns(
        _key=pl.Series(keys), _cursor=pl.lit(7, dtype=pl.Int64), _read_at=pl.lit(8, dtype=pl.Int64),
        _dedupe_key=pl.lit(None, dtype=pl.String), _changed=pl.lit(True),
    )  # fmt: skip
    targets = draw(st.lists(st.sampled_from(["t0", "t1", "t2", "t3", "t4"]), unique=True, max_size=5))
    current = pl.DataFrame([draw(ROW) for _ in targets], schema=FIELDS).with_columns(
        _target_id=pl.Series(targets, dtype=pl.String)
    )
    bases = [hashed - 2**64 if hashed >= 2**63 else hashed for hashed in desired_hash(desired, list(FIELDS))]
    links = {
        key: Link(draw(st.sampled_from(["t0", "t1", "t2", "t3", "t4"])), draw(st.sampled_from([None, 1, base])))
        for key, base in zip(keys, bases, strict=True)
        if draw(st.booleans())
    }
    rules = Rules(
        mode=draw(st.sampled_from(["upsert", "update", "mirror", "archive", "insert", "fill_empty"])),
        fields=tuple(FIELDS),
        folded=draw(st.sampled_from([frozenset(), frozenset({"email"})])),
        empty_is_null=draw(st.booleans()),
    )
    return desired, current, links, rules


@settings(deadline=None, max_examples=300)
@given(cases())
def test_row_by_row_is_as_frame_by_frame(case: tuple[pl.DataFrame, pl.DataFrame, dict[str, Link], Rules]) -> None:
    desired, current, links, rules = case
    rows, rest = plan_linked(desired, current, links, rules)
    linked = pl.DataFrame(
        {"_key": list(links), "_target_id": [one.target_id for one in links.values()]},
        schema={"_key": pl.String, "_target_id": pl.String},
    )
    frames = {row["_key"]: row for row in plan(match(desired, linked, current, (), ()), current, rules).to_dicts()}
    assert {row["_key"] for row in rows} | set(rest["_key"]) == set(frames)
    assert not {row["_key"] for row in rows} & set(rest["_key"])
    for row in rows:
        wanted = frames[row["_key"]]
        for name in ("_op", "_target_id", "_reason", "_cursor", "_read_at", "_changed"):
            assert row[name] == wanted[name], name
        assert sorted(row["_fields"]) == sorted(wanted["_fields"])
        hashed = wanted["_desired_hash"]
        assert row["_base"] == (hashed - 2**64 if hashed >= 2**63 else hashed)
        assert row["_relink"] == (links[row["_key"]].base != row["_base"])
        for name in FIELDS:
            assert (row[f"new:{name}"], row[f"old:{name}"]) == (wanted[f"new:{name}"], wanted[f"old:{name}"])


@settings(deadline=None, max_examples=50)
@given(cases())
def test_a_record_alone_on_its_target_is_a_plain_case(
    case: tuple[pl.DataFrame, pl.DataFrame, dict[str, Link], Rules],
) -> None:
    desired, current, links, rules = case
    rows, _ = plan_linked(desired, current, links, rules)
    ids = [one.target_id for one in links.values()]
    alone = {
        key for key, one in links.items() if ids.count(one.target_id) == 1 and one.target_id in current["_target_id"]
    }
    plain = rules.mode not in ("insert", "fill_empty")
    assert {row["_key"] for row in rows} == (alone if plain else set())
