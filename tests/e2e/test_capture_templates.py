"""A followed PostgreSQL table into HubSpot in real time, and a PostgreSQL table into Salesforce, at both simulators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_platform.commands.scaffold import write_project
from sync_platform.commands.templates import template
from tests.captured import SETTINGS, Captured, captured
from tests.private_postgres import PrivateServer
from tests.world import World

CONTACTS, LEADS = "postgres-to-hubspot-realtime", "postgres-to-salesforce"
SOME = """
    INSERT INTO people (id, email, first_name, last_name, company)
    SELECT n, ' Person' || n || '@Example.com', 'First ' || n, 'Last ' || n, 'Company ' || n
    FROM generate_series({}, {}) n
"""


@pytest.fixture(scope="module")
def shop_server() -> Iterator[PrivateServer]:
    """A server whose log can be followed."""
    with PrivateServer(settings=SETTINGS) as server:
        yield server


@pytest.fixture
def shop(world: World, shop_server: PrivateServer, tmp_path: Path) -> Iterator[Captured]:
    """Both templates in a new project, and forty people."""
    with captured(world, shop_server, tmp_path / "logs") as made:
        world.project = tmp_path / "project"
        write_project(world.project)
        world.extra = {"POSTGRES_URL": made.shop}
        for name in (CONTACTS, LEADS):
            done = world.cli("new", "--template", name, "--json")
            assert done.code == 0, done.out + done.err
        table = template(CONTACTS).statements("postgres")
        made.sell(*table, SOME.format(1, 40))
        yield made


def contacts(shop: Captured) -> dict[str, tuple[str | None, str | None]]:
    """First name and stage by address."""
    found = [one["fields"] for one in shop.world.records("hubspot/contacts")]
    return {one["email"]: (one.get("firstname"), one.get("lifecyclestage")) for one in found}


def test_people_of_a_followed_table_are_contacts_within_the_worker_s_batch(shop: Captured) -> None:
    shop.start("capture")
    shop.until(lambda: ("people",) in shop.rows("SELECT stream FROM sync.owed_reads"), "the table is followed")
    done = shop.world.run("postgres_to_hubspot_realtime")
    assert done.code == 0, done.out[-2000:] + done.err[-2000:]
    assert len(contacts(shop)) == 40
    shop.start("worker")
    runs = shop.rows("SELECT count(*) FROM sync.loads")
    shop.sell(
        "UPDATE people SET first_name = 'Ada', status = 'won', updated_at = clock_timestamp() WHERE id = 1",
        "DELETE FROM people WHERE id = 2",
        SOME.format(41, 45),
    )

    def arrived() -> bool:
        there = contacts(shop)
        return (
            there.get("person1@example.com") == ("Ada", "customer")
            and "person2@example.com" not in there
            and "person45@example.com" in there
            and not shop.waiting()
        )

    shop.until(arrived, "the contacts follow")
    assert len(contacts(shop)) == 44
    assert shop.rows("SELECT count(*) FROM sync.loads") == runs, "no run was needed"
    assert shop.world.violations() == []


def test_people_of_a_table_are_leads_and_the_second_run_sends_nothing(shop: Captured) -> None:
    first = shop.world.run("postgres_to_salesforce")
    assert first.code == 0, first.out[-2000:] + first.err[-2000:]
    assert first.json["sync_summary"]["created"] == 40
    edit = "UPDATE people SET company = 'Edited & Co', updated_at = clock_timestamp() WHERE id = 7"
    leads = {one["fields"]["Email"]: one["fields"] for one in shop.world.records("salesforce/Lead")}
    assert leads["person7@example.com"]["Company"] == "Company 7"
    shop.sell(edit, SOME.format(41, 41))
    second = shop.world.run("postgres_to_salesforce").json["sync_summary"]
    assert (second["created"], second["updated"]) == (1, 1)
    mark = shop.world.mark()
    assert shop.world.run("postgres_to_salesforce").json["sync_summary"]["records_processed"] == 0
    assert shop.world.written(mark, "salesforce") == []
    assert shop.world.violations() == []
