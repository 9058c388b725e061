"""Links by their target record: those with one key in both systems are found as well as those with two."""

from __future__ import annotations

import pytest

from sync_platform.engine.twoway.merges import _links, _move
from sync_platform.ledger.bases import BasePatch, move_bases
from sync_platform.ledger.links import links_of, owners_of
from sync_platform.ledger.settle import settle, settled_frame
from sync_platform.realtime.settling import settle_usual
from sync_platform.state.database import Database
from tests.unit.engine.workshop import a_sync

PLAN = "0190b5a0-0000-7000-8000-000000000001"
MANY = 20_000  # enough that PostgreSQL chooses an index where it has one


def written(key: str, target: str) -> dict[str, str]:
    """The outcome of an update."""
    return {"op": "update", "status": "applied", "source_key": key, "target_id": target}


def link(state: Database, *pairs: tuple[str, str], sync: str = "leads") -> None:
    """Links source keys to target ids."""
    with state.connection() as connection:
        rows = settled_frame([written(*pair) for pair in pairs])
        settle(connection, a_sync(name=sync), rows, run_id="r", plan_id=PLAN)


def linked(state: Database) -> dict[str, str]:
    with state.connection() as connection:
        return dict(connection.execute("SELECT source_key, target_id FROM sync.links").fetchall())


def test_owners_are_found_whether_or_not_the_keys_differ(fresh_state: Database) -> None:
    link(fresh_state, ("1", "1"), ("2", "t2"), ("3", "3"))
    found = owners_of(fresh_state, a_sync(), ["1", "t2", "4"])
    assert sorted(found.iter_rows()) == [("1", "1"), ("t2", "2")]


@pytest.mark.parametrize("before", ["7", "9"], ids=["one key", "two keys"])
def test_a_target_record_taken_over_is_nobody_elses(fresh_state: Database, before: str) -> None:
    link(fresh_state, (before, "7"), ("3", "3"))
    link(fresh_state, ("8", "7"))
    assert linked(fresh_state) == {"8": "7", "3": "3"}


@pytest.mark.parametrize("before", ["7", "9"], ids=["one key", "two keys"])
def test_a_target_record_that_an_event_took_over_is_nobody_elses(fresh_state: Database, before: str) -> None:
    link(fresh_state, (before, "7"), ("3", "3"))
    run = {"run_id": "r", "plan_id": PLAN, "worker": PLAN}
    settle_usual(fresh_state, a_sync(), [written("8", "7")], **run, done={}, members={}, claims=[])
    assert linked(fresh_state) == {"8": "7", "3": "3"}


@pytest.mark.parametrize("before", ["7", "9"], ids=["one key", "two keys"])
def test_another_syncs_identity_stands_in_only_while_nobody_here_has_its_target(
    fresh_state: Database, before: str
) -> None:
    link(fresh_state, ("1", "7"), ("2", "t2"), sync="others")
    link(fresh_state, (before, "7"))
    found = links_of(fresh_state, a_sync(), ["1", "2", before])
    assert sorted(found.select("_key", "_target_id").iter_rows()) == [("2", "t2"), (before, "7")]


@pytest.mark.parametrize("before", ["7", "9"], ids=["one key", "two keys"])
def test_a_base_of_one_pair_leaves_no_other_link_of_its_target(fresh_state: Database, before: str) -> None:
    link(fresh_state, (before, "7"), ("3", "3"))
    patch = BasePatch(key="8", target_id="7", source={}, target={}, cursor=None, read_at=None)
    with fresh_state.connection() as connection:
        move_bases(connection, a_sync(), [patch])
    assert linked(fresh_state) == {"3": "3"}


@pytest.mark.parametrize("before", ["7", "9"], ids=["one key", "two keys"])
def test_a_link_follows_its_target_record_into_another(fresh_state: Database, before: str) -> None:
    link(fresh_state, (before, "7"), ("3", "3"))
    with fresh_state.connection() as connection:
        assert _links(connection, a_sync(), "target", ["7"]) == {"7": before}
        _move(connection, a_sync(), "target", "7", "5")
    assert linked(fresh_state) == {before: "5", "3": "3"}


def test_a_list_of_target_ids_is_looked_up_by_index(fresh_state: Database) -> None:
    with fresh_state.session() as connection:
        connection.execute(
            "INSERT INTO sync.links (sync, source_key, target_id) SELECT 'leads', n, CASE n %% 2 WHEN 0 THEN n ELSE -n"
            " END FROM generate_series(1, %s) n", [MANY],
        )  # fmt: skip
        connection.execute("ANALYZE sync.links")
        plan = connection.execute(
            "EXPLAIN SELECT source_key FROM sync.links_by_target WHERE sync = 'leads' AND target_id = ANY(%s)",
            [["4", "-5"]],
        ).fetchall()
    assert "Seq Scan" not in str(plan), plan


@pytest.mark.parametrize("before", ["7", "9"], ids=["one key", "two keys"])
def test_of_many_updates_each_takes_over_its_own_target_alone(fresh_state: Database, before: str) -> None:
    link(fresh_state, (before, "7"), ("3", "3"), ("other", "t"))
    link(fresh_state, (before, "7"), sync="others")
    link(fresh_state, ("8", "7"), *((f"k{number}", f"t{number}") for number in range(1_500)))
    with fresh_state.connection() as connection:
        found = connection.execute("SELECT sync, source_key FROM sync.links WHERE source_key !~ '^k'").fetchall()
    assert sorted(found) == [("leads", "3"), ("leads", "8"), ("leads", "other"), ("others", before)]
