"""Settling: a million new links take a short way into the ledger, and it ends where the long way ends."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from sync_platform.engine.spec import Endpoint
from sync_platform.ledger.links import has_links, links_of
from sync_platform.ledger.settle import SETTLED, settle
from sync_platform.state.database import Database
from tests.unit.engine.workshop import a_sync

MANY = 1_200


def created(keys: list[str], **columns: Any) -> pl.DataFrame:
    """Settled creates of these keys; the target's id is the key with a `t`."""
    nothing = dict.fromkeys(SETTLED)
    rows = [nothing | {"source_key": k, "target_id": f"t{k}", "op": "create", "status": "applied"} for k in keys]
    return pl.DataFrame([row | columns for row in rows], schema=SETTLED)


def settled(state: Database, rows: pl.DataFrame, **spec: Any) -> None:
    """Settles rows whose outcomes are in the lake already."""
    with state.connection() as connection:
        settle(connection, a_sync(**spec), rows, run_id="r", plan_id="p", record_outcomes=False)


def links(state: Database, keys: list[str], **spec: Any) -> dict[str, tuple[str, int | None]]:
    """Target id and base by source key."""
    found = links_of(state, a_sync(**spec), keys)
    return {key: (target, base) for key, target, base in found.select("_key", "_target_id", "_base").iter_rows()}


def rows(state: Database, query: str) -> list[tuple[Any, ...]]:
    with state.connection() as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]  # constants of this file


def test_many_new_links_are_all_there_with_what_was_written(fresh_state: Database) -> None:
    keys = [str(n) for n in range(MANY)]
    assert not has_links(fresh_state, a_sync())
    settled(fresh_state, created(keys, base=7, version_cursor=1))
    assert has_links(fresh_state, a_sync())
    assert links(fresh_state, keys) == {key: (f"t{key}", 7) for key in keys}


def test_links_that_were_there_before_are_renewed_among_many_new_ones(fresh_state: Database) -> None:
    settled(fresh_state, created(["1"], base=1))
    settled(fresh_state, created([str(n) for n in range(MANY)], base=2))
    assert links(fresh_state, ["0", "1"]) == {"0": ("t0", 2), "1": ("t1", 2)}
    assert rows(fresh_state, "SELECT count(*) FROM sync.links") == [(MANY,)]


@pytest.mark.parametrize("waiting", ["letter", "hold"])
def test_what_waited_is_closed_although_its_link_is_one_of_many(fresh_state: Database, waiting: str) -> None:
    with fresh_state.connection() as connection:
        if waiting == "letter":
            connection.execute(
                "INSERT INTO sync.dead_letters (sync, source_key, kind) VALUES ('leads','5','transient')"
            )
        else:
            connection.execute("INSERT INTO sync.held (sync, source_key, kind) VALUES ('leads', '5', 'refused')")
    settled(fresh_state, created([str(n) for n in range(MANY)]))
    assert rows(fresh_state, "SELECT 1 FROM sync.dead_letters WHERE state IN ('open', 'retry')") == []
    assert rows(fresh_state, "SELECT 1 FROM sync.held") == []


def test_refused_rows_among_many_new_links_become_letters(fresh_state: Database) -> None:
    refused = created(["x"], status="failed", target_id=None, kind="rejected", reason="not welcome")
    settled(fresh_state, pl.concat([created([str(n) for n in range(MANY)]), refused]))
    assert rows(fresh_state, "SELECT source_key, kind, state FROM sync.dead_letters") == [("x", "rejected", "open")]
    assert rows(fresh_state, "SELECT count(*) FROM sync.links") == [(MANY,)]


def test_what_another_sync_of_the_two_objects_linked_stands_in_until_it_is_taken_over(fresh_state: Database) -> None:
    settled(fresh_state, created(["1"], base=1))
    assert has_links(fresh_state, a_sync(name="names"))
    assert links(fresh_state, ["1", "2"], name="names") == {"1": ("t1", None)}
    assert rows(fresh_state, "SELECT source_key, target_id FROM sync.identities") == [("1", "t1")]
    settled(fresh_state, created(["9"], target_id="t1"), name="names")
    assert links(fresh_state, ["1"], name="names") == {}


def test_a_sync_of_other_objects_has_no_part_in_an_identity(fresh_state: Database) -> None:
    settled(fresh_state, created(["1"]))
    elsewhere = {"name": "names", "target": Endpoint(connection="shop", object="companies")}
    assert not has_links(fresh_state, a_sync(**elsewhere))
    assert links(fresh_state, ["1"], **elsewhere) == {}


def test_a_sync_that_is_pointed_to_other_objects_forgets_its_links(fresh_state: Database) -> None:
    settled(fresh_state, created(["1", "2"]))
    moved = {"target": Endpoint(connection="shop", object="companies")}
    assert links(fresh_state, ["1"], **moved) == {}
    settled(fresh_state, created(["2"], target_id="c2"), **moved)
    assert links(fresh_state, ["1", "2"], **moved) == {"2": ("c2", None)}
    assert rows(fresh_state, "SELECT source_key FROM sync.links") == [("2",)]
