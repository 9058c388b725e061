"""Laws of change sets: planning only what moved gives what planning everything gives."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_platform.engine.changeset import ChangeSet, open_change_set
from sync_platform.engine.mapping import compile_mapping
from sync_platform.engine.matching import match
from sync_platform.engine.reconcile import Rules, plan, plan_left
from sync_platform.engine.spec import Dedupe, Endpoint, Expression, Lookup, SyncSpec
from tests.properties import reference as ref
from tests.properties.staged_lake import LEADS, USERS, connect, microseconds, stage

VENDOR = ("Email", "Stage", "OwnerId", "Modified")
START = dt.datetime(2026, 3, 27, 9, 30, tzinfo=dt.UTC)  # Europe and America change their clocks around it
ZONE = "Europe/Berlin"

FILTERS: dict[str | None, ref.Predicate | None] = {
    None: None,
    "Stage <> 'closed'": lambda r, now: ref.sql_not(ref.equal(r["Stage"], "closed")),
    "Modified > YESTERDAY": lambda r, now: ref.greater(r["Modified"], ref.start_of_day(now, ZONE, -1)),
    "Modified > LAST_N_DAYS:2 AND (Stage = 'open' OR Stage IS NULL)": lambda r, now: ref.sql_and(
        ref.greater(r["Modified"], ref.start_of_day(now, ZONE, -2)),
        ref.sql_or(ref.equal(r["Stage"], "open"), r["Stage"] is None),
    ),
    "NOT (Modified > TODAY) OR Stage = 'open'": lambda r, now: ref.sql_or(
        ref.sql_not(ref.greater(r["Modified"], ref.start_of_day(now, ZONE, 0))), ref.equal(r["Stage"], "open")
    ),
}
KEYS = st.sampled_from([f"k{n}" for n in range(6)])
EMAILS = st.sampled_from(["a@x", " A@X ", "b@x", "", None])
STAGES = st.sampled_from(["open", "closed", None])
OWNERS = st.sampled_from(["u1", "u2", None])
EDIT = st.tuples(st.just("edit"), KEYS, EMAILS, STAGES, OWNERS)
STEP = st.one_of(
    EDIT,
    EDIT,
    EDIT,
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("wait"), st.sampled_from([1, 7, 23, 40])),
    st.tuples(st.just("user"), st.sampled_from(["u1", "u2"]), st.sampled_from(["Ann", "Bob"])),
    st.tuples(st.just("sync"), st.booleans()),
)


def spec_of(sql: str | None, keep: str | None) -> SyncSpec:
    return SyncSpec(
        name="leads",
        source=Endpoint(connection="crm", object="Lead"),
        target=Endpoint(connection="hub", object="contacts"),
        mapping={
            "email": Expression(sql="lower(trim(Email))"),
            "stage": Expression(sql="Stage"),
            "owner": Lookup(connection="crm", object="User", on="OwnerId", key="Id", value="Name"),
        },
        filter=sql,
        timezone=ZONE,
        mode="mirror",
        dedupe=Dedupe(by="lower(trim(Email))", keep=keep) if keep else None,  # type: ignore[arg-type]
    )


class World:
    """A source, its lake, and a target that a sync keeps in step."""

    def __init__(self, spec: SyncSpec) -> None:
        self.spec, self.con, self.now = spec, connect(), START
        self.leads, self.users = ref.Staged(), ref.Staged()
        for user in ("u1", "u2"):
            self.users.put(user, 0, Name=user)
        source = pa.schema([(n, pa.string()) for n in ("Id", "Email", "Stage", "OwnerId")])
        target = pa.schema([(n, pa.string()) for n in ("email", "stage", "owner")])
        self.mapping = compile_mapping(spec, source, target)
        self.rules = Rules(mode="mirror", fields=("email", "stage", "owner"))
        self.positions: dict[str, int] = {}
        self.evaluated_at: dt.datetime | None = None
        self.members: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.target: dict[str, dict[str, Any]] = {}

    def step(self, action: tuple[Any, ...]) -> None:
        self.now += dt.timedelta(minutes=7)
        match action:
            case ("edit", key, email, stage_, owner):
                self.leads.put(key, microseconds(self.now), Email=email, Stage=stage_, OwnerId=owner, Modified=self.now)
            case ("delete", key):
                self.leads.delete(key)
            case ("wait", hours):
                self.now += dt.timedelta(hours=hours)
            case ("user", key, name):
                self.users.put(key, 0, Name=name)

    def stage(self) -> None:
        stage(self.con, "Lead", self.leads, LEADS)
        stage(self.con, "User", self.users, USERS)

    def open(self, *, full: bool, extra: tuple[str, ...] = ()) -> ChangeSet:
        return open_change_set(
            self.con, self.spec, positions=self.positions, evaluated_at=self.evaluated_at, now=self.now,
            extra_keys=extra, full=full, settled_members=self.settled,
        )  # fmt: skip

    def settled(self, keys: Any) -> pl.DataFrame:
        rows = [(k, self.members[k]) for k in keys if k in self.members]
        return pl.DataFrame(rows, schema={"source_key": pl.String, "dedupe_key": pl.String}, orient="row")

    def changes(self, changes: ChangeSet) -> dict[str, tuple[Any, ...]]:
        """The plan of a change set, without skips: key -> (op, fields sent)."""
        frames = list(changes.frames(3))
        current = pl.DataFrame(
            [{"_target_id": i, **row} for i, row in self.target.items()],
            schema={"_target_id": pl.String, "email": pl.String, "stage": pl.String, "owner": pl.String},
        )
        known = pl.DataFrame(
            list(self.links.items()), schema={"_key": pl.String, "_target_id": pl.String}, orient="row"
        )
        names = pl.DataFrame(
            [(k, r["Name"]) for k, r in self.users.rows.items()], schema={"key": pl.String, "value": pl.String},
            orient="row",
        )  # fmt: skip
        parts = [plan_left(changes.left.join(known, on="_key", how="left"), current, self.rules)]
        for frame in frames:
            desired = self.mapping.apply(frame, {"owner": names}).drop("_unmapped")
            parts.append(plan(match(desired, known, current, ()), current, self.rules))
        told: dict[str, tuple[Any, ...]] = {}
        for part in parts:
            for row in part.filter(pl.col("_op") != "skip").to_dicts():
                assert row["_key"] not in told, "one record is planned twice"
                told[row["_key"]] = (row["_op"], {n: row[f"new:{n}"] for n in row["_fields"]}, row["_dedupe_key"])
        return told

    def apply(self, told: Mapping[str, tuple[Any, ...]]) -> None:
        for key, (op, fields, _) in told.items():
            if op == "delete":
                self.target.pop(self.links.pop(key))
            elif op == "create":
                self.links[key] = f"t{len(self.links)}-{key}-{self.now:%d%H%M}"
                self.target[self.links[key]] = dict.fromkeys(("email", "stage", "owner")) | fields
            else:
                self.target[self.links[key]] |= fields

    def settle(self, changes: ChangeSet) -> None:
        """What a delivered plan leaves behind: positions, time and dedupe keys."""
        for row in changes.duplicates.to_dicts():
            self.members[row["_key"]] = row["_dedupe_key"]
        for row in changes.left.filter(pl.col("_why") != "duplicate").to_dicts():
            self.members.pop(row["_key"], None)
        for frame in changes.frames(100):
            for row in frame.to_dicts():
                self.members.pop(row["_key"], None)
                if row["_dedupe_key"] is not None:
                    self.members[row["_key"]] = row["_dedupe_key"]
        self.positions = {"crm/Lead": self.leads.seq, "crm/User": self.users.seq}
        self.evaluated_at = self.now

    def desired(self) -> dict[str, tuple[Any, ...]]:
        keep = self.spec.dedupe.keep if self.spec.dedupe else None
        keys = ref.wanted(self.leads.rows.values(), FILTERS[self.spec.filter], self.now, keep, VENDOR)
        rows = {k: self.leads.rows[k] for k in keys}
        names = {k: r["Name"] for k, r in self.users.rows.items()}
        return {
            k: (None if r["Email"] is None else r["Email"].strip(" ").lower(), r["Stage"], names.get(r["OwnerId"]))
            for k, r in rows.items()
        }

    def held(self) -> dict[str, tuple[Any, ...]]:
        return {k: tuple(self.target[i][n] for n in ("email", "stage", "owner")) for k, i in self.links.items()}


@pytest.mark.parametrize("sql", list(FILTERS))
@settings(max_examples=12, deadline=None)
@given(
    keep=st.sampled_from([None, "newest", "oldest", "most_complete"]), history=st.lists(STEP, min_size=3, max_size=22)
)
def test_a_closed_incremental_plan_is_the_full_compare_plan(
    sql: str | None, keep: str | None, history: list[tuple[Any, ...]]
) -> None:
    world = World(spec_of(sql, keep))
    for action in [*history, ("sync", True)]:
        world.step(action)
        if action[0] == "sync":
            sync(world, delivered=action[1])


def sync(world: World, *, delivered: bool) -> None:
    """Plans both ways, compares, and (unless the plan is dropped) delivers and remembers it."""
    world.stage()
    with world.open(full=False) as incremental, world.open(full=True) as full:
        told = world.changes(incremental)
        assert told == world.changes(full)
        if delivered:
            world.apply(told)
            world.settle(incremental)
            assert world.held() == world.desired()


CROWDED = st.one_of(
    st.tuples(st.just("edit"), st.sampled_from("abc"), st.sampled_from(["x", "y"]), STAGES, st.none()),
    st.tuples(st.just("edit"), st.sampled_from("abc"), st.sampled_from(["x", "y", None]), STAGES, st.none()),
    st.tuples(st.just("delete"), st.sampled_from("abc")),
)


@settings(max_examples=25, deadline=None)
@given(
    keep=st.sampled_from(["newest", "oldest", "most_complete"]),
    history=st.lists(st.tuples(CROWDED, st.integers(0, 2)), min_size=4, max_size=9),
)
def test_duplicates_that_move_between_groups_hand_over_as_in_a_full_compare(
    keep: str, history: list[tuple[tuple[Any, ...], int]]
) -> None:
    world = World(spec_of(None, keep))
    for action, then in history:
        world.step(action)
        if then:
            sync(world, delivered=then == 2)


@settings(max_examples=25, deadline=None)
@given(
    keep=st.sampled_from([None, "newest", "oldest", "most_complete"]),
    sql=st.sampled_from(list(FILTERS)),
    history=st.lists(STEP, min_size=1, max_size=15),
    asked=st.sets(KEYS),
)
def test_a_change_set_splits_every_row_into_wanted_or_left_as_the_reference_does(
    keep: str | None, sql: str | None, history: list[tuple[Any, ...]], asked: set[str]
) -> None:
    world = World(spec_of(sql, keep))
    for action in history:
        world.step(action)
    world.stage()
    with world.open(full=True) as changes:
        got = {k for frame in changes.frames(2) for k in frame["_key"]}
        left = set(changes.left["_key"])
        assert got == set(world.desired())
        assert got.isdisjoint(left)
        assert got | left == set(world.leads.rows)
        assert set(changes.desired_keys(sorted(asked))) == got & asked
        losers = set(changes.left.filter(pl.col("_why") == "duplicate")["_key"])
        assert losers == set(changes.duplicates["_key"])
        assert set(changes.duplicates["_winner_key"]) <= got
        assert changes.counts["winners"] == len(got)
        assert changes.counts["closed"] == len(world.leads.rows)


@settings(max_examples=14, deadline=None)
@given(history=st.lists(STEP, min_size=1, max_size=12), extra=st.sets(KEYS, max_size=3))
def test_extra_keys_are_looked_at_though_nothing_moved(history: list[tuple[Any, ...]], extra: set[str]) -> None:
    world = World(spec_of(None, "newest"))
    for action in history:
        world.step(action)
    world.stage()
    with world.open(full=False) as changes:
        world.apply(world.changes(changes))
        world.settle(changes)
    with world.open(full=False, extra=tuple(sorted(extra))) as again:
        seen = {k: c for f in again.frames(10) for k, c in zip(f["_key"], f["_changed"], strict=True)}
        seen |= dict(zip(again.left["_key"], again.left["_changed"], strict=True))
        assert extra & set(world.leads.rows) <= {k for k, changed in seen.items() if changed}
        assert not {k for k, changed in seen.items() if changed} - extra
        assert again.counts["missing"] == len(extra - set(world.leads.rows))
        assert world.changes(again) == {}


def test_the_reader_leaves_the_callers_connection_free() -> None:
    world = World(spec_of(None, None))
    for key in ("k1", "k2", "k3"):
        world.step(("edit", key, "a@x", None, None))
    world.stage()
    con: duckdb.DuckDBPyConnection = world.con
    con.begin()
    with world.open(full=True) as changes:
        seen = []
        for frame in changes.frames(1):
            assert con.execute("SELECT 1").fetchall() == [(1,)]
            seen += frame["_key"].to_list()
    con.rollback()
    assert sorted(seen) == ["k1", "k2", "k3"]
