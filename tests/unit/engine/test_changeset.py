"""Change sets: single situations that the laws also cover, by name."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest

from sync_platform.engine.changeset import ChangeSet, open_change_set
from sync_platform.engine.reconcile import Rules, plan_left
from sync_platform.engine.spec import Dedupe, Endpoint, Lookup, SyncSpec
from sync_platform.errors import ConfigError
from sync_platform.staging.lake import extension_file
from tests.properties.reference import Staged
from tests.properties.staged_lake import LEADS, USERS, connect, microseconds, stage

NOW = dt.datetime(2026, 1, 15, 12, tzinfo=dt.UTC)


def spec(**settings: Any) -> SyncSpec:
    return SyncSpec(
        name="leads",
        source=Endpoint(connection="crm", object="Lead"),
        target=Endpoint(connection="hub", object="contacts"),
        **{"mapping": {}, **settings},
    )


def opened(con: duckdb.DuckDBPyConnection, sync: SyncSpec, since: int = 0, **more: Any) -> ChangeSet:
    settings = {
        "positions": {"crm/Lead": since, "crm/User": 10**6},
        "evaluated_at": NOW,
        "now": NOW,
        "settled_members": lambda keys: pl.DataFrame(schema={"source_key": pl.String, "dedupe_key": pl.String}),
    }
    return open_change_set(con, sync, **{**settings, **more})


def lead(leads: Staged, key: str, email: str | None, day: int = 1, **more: Any) -> None:
    at = dt.datetime(2026, 1, day, tzinfo=dt.UTC)
    leads.put(key, microseconds(at), **{"Email": email, "Stage": None, "OwnerId": None, "Modified": at, **more})


def lake(*leads: tuple[Any, ...]) -> tuple[duckdb.DuckDBPyConnection, Staged]:
    staged = Staged()
    for one in leads:
        lead(staged, *one)
    con = connect()
    stage(con, "Lead", staged, LEADS)
    return con, staged


def keys(changes: ChangeSet) -> list[str]:
    return sorted(k for frame in changes.frames() for k in frame["_key"])


def test_null_and_empty_dedupe_keys_are_never_duplicates() -> None:
    con, _ = lake(("a", None), ("b", None), ("c", ""), ("d", " "), ("e", "x@y"), ("f", "X@Y "))
    with opened(con, spec(dedupe=Dedupe(by="lower(trim(email))"))) as changes:
        assert keys(changes) == ["a", "b", "c", "d", "f"]
        assert changes.duplicates.rows() == [("e", "f", "x@y", True)]


@pytest.mark.parametrize(("keep", "winner"), [("newest", "c"), ("oldest", "a"), ("most_complete", "b")])
def test_the_keep_rule_picks_the_winner(keep: str, winner: str) -> None:
    staged = Staged()
    lead(staged, "a", "x@y", 1)
    lead(staged, "b", "x@y", 2, Stage="open", OwnerId="u")
    lead(staged, "c", "x@y", 3)
    con = connect()
    stage(con, "Lead", staged, LEADS)
    with opened(con, spec(dedupe=Dedupe(by="Email", keep=keep))) as changes:
        assert keys(changes) == [winner]
        assert set(changes.duplicates["_winner_key"]) == {winner}


def test_a_winner_that_changes_its_e_mail_hands_over_to_the_loser() -> None:
    con, staged = lake(("a", "x@y", 2), ("b", "x@y", 1))
    before = staged.seq
    lead(staged, "a", "new@y", 3)
    stage(con, "Lead", staged, LEADS)
    settled = pl.DataFrame({"source_key": ["a"], "dedupe_key": ["x@y"]})
    with opened(con, spec(dedupe=Dedupe(by="Email")), before, settled_members=lambda keys: settled) as changes:
        told = {k: c for f in changes.frames() for k, c in zip(f["_key"], f["_changed"], strict=True)}
    assert told == {"a": True, "b": False}


def test_an_older_duplicate_that_arrives_later_does_not_flip_the_contact() -> None:
    con, staged = lake(("a", "x@y", 5))
    before = staged.seq
    lead(staged, "b", "x@y", 2)
    stage(con, "Lead", staged, LEADS)
    with opened(con, spec(dedupe=Dedupe(by="Email")), before) as changes:
        assert keys(changes) == ["a"]
        assert changes.left.rows() == [("b", "duplicate", True)]


def test_a_row_leaves_a_dated_filter_as_time_passes() -> None:
    con, staged = lake(("a", "x@y", 14))
    sync = spec(filter="Modified >= YESTERDAY")
    with opened(con, sync, staged.seq) as same_day:
        assert keys(same_day) == []
        assert same_day.left.height == 0
    with opened(con, sync, staged.seq, now=NOW + dt.timedelta(hours=12, minutes=1)) as next_day:
        assert keys(next_day) == []
        assert next_day.left.rows() == [("a", "filter", True)]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize("on_leave", ["keep", "archive", "delete"])
def test_a_record_that_time_moves_out_of_the_filter_at_midnight_follows_on_leave(on_leave: Any, zone: str) -> None:
    home = ZoneInfo(zone)
    edited = dt.datetime(2026, 1, 13, 8, tzinfo=home)  # "after yesterday's start" until the 14th ends
    staged = Staged()
    lead(staged, "a", "x@y", Modified=edited.astimezone(dt.UTC))
    con = connect()
    stage(con, "Lead", staged, LEADS)
    sync = spec(filter="Modified > YESTERDAY", timezone=zone, on_leave=on_leave)
    delivered = dt.datetime(2026, 1, 14, 9, tzinfo=home).astimezone(dt.UTC)
    late, early = (dt.datetime(2026, 1, day, *at, tzinfo=home) for day, at in ((14, (23, 59)), (15, (0, 1))))
    with opened(con, sync, staged.seq, evaluated_at=delivered, now=late.astimezone(dt.UTC)) as before_midnight:
        assert (keys(before_midnight), before_midnight.left.height) == ([], 0)
    with opened(con, sync, staged.seq, evaluated_at=late, now=early.astimezone(dt.UTC)) as after_midnight:
        assert keys(after_midnight) == []
        assert after_midnight.left.rows() == [("a", "filter", True)]
        left = after_midnight.left.with_columns(_target_id=pl.lit("t"))
    current = pl.DataFrame({"_target_id": ["t"], "email": ["x@y"]})
    told = plan_left(left, current, Rules(mode="upsert", fields=("email",), on_leave=on_leave))
    wanted = {"keep": "skip", "archive": "archive", "delete": "delete"}[on_leave]
    assert told.select("_op", "_key", "_target_id").rows() == [(wanted, "a", "t")]
    with opened(con, sync, staged.seq, evaluated_at=early, now=early.astimezone(dt.UTC)) as afterwards:
        assert (keys(afterwards), afterwards.left.height) == ([], 0)


def test_a_comparison_with_null_is_outside_and_so_is_its_opposite() -> None:
    con, _ = lake(("a", None), ("b", "x@y"))
    for text in ("Email = 'x@y'", "NOT (Email = 'q')"):
        with opened(con, spec(filter=text)) as changes:
            assert keys(changes) == ["b"]


def test_rows_of_a_changed_lookup_are_pulled_in() -> None:
    staged, users = Staged(), Staged()
    lead(staged, "a", "x@y", OwnerId="u1")
    lead(staged, "b", "x@z", OwnerId="u2")
    users.put("u1", 0, Name="Ann")
    seen = users.seq
    users.put("u2", 0, Name="Bob")
    con = connect()
    stage(con, "Lead", staged, LEADS)
    stage(con, "User", users, USERS)
    sync = spec(mapping={"owner": Lookup(connection="crm", object="User", on="OwnerId", key="id", value="Name")})
    with opened(con, sync, staged.seq, positions={"crm/Lead": staged.seq, "crm/User": seen}) as changes:
        assert keys(changes) == ["b"]
    by_name = spec(mapping={"owner": Lookup(connection="crm", object="User", on="OwnerId", key="Name", value="Id")})
    with opened(con, by_name, staged.seq, positions={"crm/Lead": staged.seq, "crm/User": seen}) as changes:
        assert keys(changes) == ["a", "b"]  # what the moved user was called before is not known


def test_nothing_moved_gives_an_empty_set() -> None:
    con, staged = lake(("a", "x@y"), ("b", "x@y"))
    with opened(con, spec(dedupe=Dedupe(by="Email"), filter="Email IS NOT NULL"), staged.seq) as changes:
        assert keys(changes) == []
        assert dict(changes.counts) == {"closed": 0, "winners": 0, "duplicates": 0, "left": 0, "missing": 0}
        assert not changes.full


def test_what_cannot_be_known_makes_the_set_full() -> None:
    con, staged = lake(("a", "x@y"))
    with opened(con, spec(filter="Modified > TODAY"), staged.seq, evaluated_at=None) as changes:
        assert changes.full
    with opened(con, spec(dedupe=Dedupe(by="Email")), staged.seq, settled_members=None) as changes:
        assert changes.full


def test_frames_carry_every_column_and_the_dedupe_key() -> None:
    con, _ = lake(("a", "X@Y"))
    with opened(con, spec(dedupe=Dedupe(by="normalize_email(Email)"))) as changes:
        (frame,) = changes.frames()
    assert frame.columns == [*LEADS, "_dedupe_key", "_changed"]
    assert frame["_dedupe_key"].to_list() == ["x@y"]
    assert frame.schema["Modified"] == pl.Datetime("us", "UTC")


def test_a_stream_that_was_never_staged_is_named() -> None:
    with pytest.raises(ConfigError, match="crm/Lead is not staged yet"):
        opened(connect(), spec())


def test_a_wrong_dedupe_key_or_lookup_field_is_named() -> None:
    con, staged = lake(("a", "x"))
    stage(con, "User", Staged(), USERS)
    with pytest.raises(ConfigError, match="did you mean Email"):
        opened(con, spec(dedupe=Dedupe(by="lower(Emial)")))
    wrong = Lookup(connection="crm", object="User", on="OwnerId", key="Nmae", value="Name")
    with pytest.raises(ConfigError, match="did you mean Name"):
        opened(con, spec(mapping={"owner": wrong}), staged.seq)


def test_on_ducklake_a_change_set_is_one_snapshot_whatever_is_loaded_meanwhile(tmp_path: Path) -> None:
    con = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    con.execute(f"LOAD '{extension_file('ducklake')}'")
    con.execute(f"ATTACH 'ducklake:{tmp_path}/catalog.ducklake' AS lake (DATA_PATH '{tmp_path}/data')")
    con.execute("CREATE SCHEMA lake.crm")
    staged = Staged()
    for key in ("a", "b", "c"):
        lead(staged, key, f"{key}@y")
    stage(con, "Lead", staged, LEADS)
    with opened(con, spec(filter="Email <> 'c@y'")) as changes:
        con.execute("UPDATE lake.crm.\"Lead\" SET \"Email\" = 'c@y', _seq = 9 WHERE _key = 'a'")
        assert keys(changes) == ["a", "b"]
        assert changes.left["_key"].to_list() == ["c"]
    with opened(con, spec(filter="Email <> 'c@y'")) as changes:
        assert keys(changes) == ["b"]
