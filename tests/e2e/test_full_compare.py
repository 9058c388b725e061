"""Rows deleted without a trace: only a complete read finds them, asked for by hand (`--full`) or by a cron line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.project_files import lay_out
from tests.world import World

RESOURCES = """
from dagster import EnvVar

from sync_platform.connectors.postgres import Postgres

shop = Postgres(url=EnvVar("SHOP_URL"))
copy = Postgres(url=EnvVar("COPY_URL"))
"""
SYNC = """
type: sync_platform.Sync
attributes:
  source: {connection: shop, object: customers, on_leave: delete}
  target: {connection: copy, object: customers, match: [id]}
  first_sync: create
  mode: mirror
  mapping: {id: id, email: email, changed_at: changed_at}
"""
SOURCE = """
type: sync_platform.Source
attributes:
  connection: shop
  streams:
    - {object: customers, full_read: 0 0 * * *}
"""
TABLE = "CREATE TABLE customers (id int PRIMARY KEY, email text, changed_at timestamptz NOT NULL DEFAULT now())"


@pytest.fixture
def urls(new_database: Callable[[str], str]) -> tuple[str, str]:
    """Two databases with a table of customers; the first holds nine."""
    shop, copy = new_database("shop"), new_database("copy")
    for url in (shop, copy):
        with psycopg.connect(url) as own:
            own.execute(TABLE)
            own.execute("CREATE INDEX ON customers (changed_at)")
    _change(shop, "INSERT INTO customers SELECT g, 'c' || g || '@example.com' FROM generate_series(1, 9) g")
    return shop, copy


def _change(url: str, statement: str) -> None:
    with psycopg.connect(url) as own:
        own.execute(statement.encode())


def _ids(url: str) -> list[int]:
    with psycopg.connect(url) as own:
        return [row[0] for row in own.execute("SELECT id FROM customers ORDER BY id")]


def test_what_was_deleted_without_a_trace_is_found_by_a_full_compare(
    world: World, urls: tuple[str, str], tmp_path: Path
) -> None:
    shop, copy = urls
    world.extra = {"SHOP_URL": shop, "COPY_URL": copy}
    world.project = lay_out(tmp_path / "project", {"resources/systems.py": RESOURCES, "assets/copied/defs.yaml": SYNC})
    assert world.run("copied").code == 0
    notes = world.cli("check", "--json").json["notes"]
    assert ["full_read" in note for note in notes if "deletions" in note] == [True], notes
    _change(shop, "DELETE FROM customers WHERE id IN (3, 5)")
    assert world.run("copied").json["sync_summary"]["records_processed"] == 0, "nothing tells of a deleted row"

    planned = world.cli("plan", "copied", "--full", "--json")
    assert planned.json["summary"]["delete"] == 2, planned.json
    assert sorted(change["key"] for change in planned.json["changes"]) == ["3", "5"]
    assert _ids(copy) == list(range(1, 10)), "a plan writes nothing"

    done = world.cli("run", "copied", "--full", "--json")
    assert done.code == 0, done.err
    assert done.json["sync_summary"]["records_processed"] == 2
    assert _ids(copy) == _ids(shop)
    again = world.cli("run", "copied", "--full", "--json")
    assert again.json["sync_summary"]["records_processed"] == 0, "what agrees is not written again"


def test_a_full_run_writes_what_changed_unseen_and_reads_only_the_blocks_of_it(
    world: World, urls: tuple[str, str], tmp_path: Path
) -> None:
    shop, copy = urls
    world.extra = {"SHOP_URL": shop, "COPY_URL": copy}
    world.project = lay_out(tmp_path / "project", {"resources/systems.py": RESOURCES, "assets/copied/defs.yaml": SYNC})
    old = "SELECT g, 'c' || g || '@example.com', timestamptz '2020-01-01Z' FROM generate_series(10, 3000) g"
    _change(shop, f"INSERT INTO customers {old}")
    assert world.run("copied").code == 0
    quiet = world.cli("run", "copied", "--full", "--json")
    assert quiet.json["sync_summary"]["records_processed"] == 0
    assert "3,000 rows compared by digests, 0 of them read" in quiet.err

    _change(shop, "UPDATE customers SET email = upper(email) WHERE id IN (70, 1500, 2999)")
    _change(shop, "DELETE FROM customers WHERE id = 40")
    assert world.run("copied").json["sync_summary"]["records_processed"] == 0, "no cursor moved"
    done = world.cli("run", "copied", "--full", "--json")
    assert done.json["sync_summary"]["records_processed"] == 4, done.err
    told = re.search(r"2,999 rows compared by digests, (\d+) of them read", done.err)
    assert told is not None, done.err
    assert 3 <= int(told[1]) < 700
    assert _ids(copy) == _ids(shop)
    assert _emails(copy) == _emails(shop)


def _emails(url: str) -> list[str]:
    with psycopg.connect(url) as own:
        return [row[0] for row in own.execute("SELECT email FROM customers ORDER BY id")]


def test_a_stream_is_read_completely_once_after_each_tick_of_its_full_read(
    world: World, urls: tuple[str, str], tmp_path: Path
) -> None:
    shop, copy = urls
    world.extra = {"SHOP_URL": shop, "COPY_URL": copy}
    files = {"resources/systems.py": RESOURCES, "assets/copied/defs.yaml": SYNC, "assets/shop/defs.yaml": SOURCE}
    world.project = lay_out(tmp_path / "project", files)
    assert world.run("copied").code == 0
    assert not [note for note in world.cli("check", "--json").json["notes"] if "deletions" in note]
    _change(shop, "DELETE FROM customers WHERE id = 3")
    assert world.run("copied").json["sync_summary"]["records_processed"] == 0, "no tick has passed"

    _a_day_passes(world)
    assert world.run("copied").json["sync_summary"]["records_processed"] == 1
    assert _ids(copy) == _ids(shop)
    _change(shop, "DELETE FROM customers WHERE id = 5")
    assert world.run("copied").json["sync_summary"]["records_processed"] == 0, "one complete read a tick"


def _a_day_passes(world: World) -> None:
    """The installation's loads are a day older."""
    _change(world.database_url, "UPDATE sync.loads SET started_at = started_at - interval '1 day'")
