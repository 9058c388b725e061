"""A followed PostgreSQL table into HubSpot in real time, and a PostgreSQL table into Salesforce, at both simulators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.captured import SETTINGS, Captured, captured
from tests.private_postgres import PrivateServer
from tests.world import World

RESOURCES = """
    from dagster import EnvVar

    from sync_platform.connectors.hubspot import HubSpot
    from sync_platform.connectors.postgres import Postgres
    from sync_platform.connectors.salesforce import Salesforce

    shop = Postgres(url=EnvVar("SHOP_URL"), capture=True)
    ledger = Postgres(url=EnvVar("LEDGER_URL"))
    hubspot = HubSpot(base_url=EnvVar("HUBSPOT_BASE_URL"), access_token=EnvVar("HUBSPOT_ACCESS_TOKEN"))
    salesforce = Salesforce(
        base_url=EnvVar("SALESFORCE_BASE_URL"),
        client_id=EnvVar("SALESFORCE_CLIENT_ID"),
        client_secret=EnvVar("SALESFORCE_CLIENT_SECRET"),
    )
    """
TO_HUBSPOT = """
    type: sync_platform.Sync
    attributes:
      source: {connection: shop, object: people}
      target: {connection: hubspot, object: contacts, match: [email]}
      mode: mirror
      first_sync: create
      frequency: realtime
      guards: {max_deletes: 100}
      mapping:
        email: lower(trim(email))
        firstname: first_name
        lastname: last_name
        lifecyclestage: {from: status, values: {new: lead, won: customer}, default: other}
      dedupe: {by: lower(trim(email)), keep: newest}
    """
TO_SALESFORCE = """
    type: sync_platform.Sync
    attributes:
      source: {connection: shop, object: people}
      target: {connection: salesforce, object: Lead, match: [Email]}
      first_sync: create
      mapping:
        Email: lower(trim(email))
        FirstName: first_name
        LastName: last_name
        Company: coalesce(company, 'none')
    """
PEOPLE = """
    CREATE TABLE people (id int PRIMARY KEY, email text, first_name text, last_name text, company text,
        status text NOT NULL DEFAULT 'new', updated_at timestamptz NOT NULL DEFAULT clock_timestamp())
"""
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
    """Both syncs, and forty people."""
    with captured(world, shop_server, tmp_path / "logs") as made:
        files = {
            "resources/systems.py": RESOURCES,
            "assets/people_to_contacts/defs.yaml": TO_HUBSPOT,
            "assets/people_to_leads/defs.yaml": TO_SALESFORCE,
        }
        made.prepare(files=files)
        made.sell(PEOPLE, SOME.format(1, 40))
        yield made


def contacts(shop: Captured) -> dict[str, tuple[str | None, str | None]]:
    """First name and stage by address."""
    found = [one["fields"] for one in shop.world.records("hubspot/contacts")]
    return {one["email"]: (one.get("firstname"), one.get("lifecyclestage")) for one in found}


def test_people_of_a_followed_table_are_contacts_within_the_worker_s_batch(shop: Captured) -> None:
    shop.start("capture")
    shop.until(lambda: ("people",) in shop.rows("SELECT stream FROM sync.owed_reads"), "the table is followed")
    done = shop.world.run("people_to_contacts")
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
    first = shop.world.run("people_to_leads")
    assert first.code == 0, first.out[-2000:] + first.err[-2000:]
    assert first.json["sync_summary"]["created"] == 40
    edit = "UPDATE people SET company = 'Edited & Co', updated_at = clock_timestamp() WHERE id = 7"
    leads = {one["fields"]["Email"]: one["fields"] for one in shop.world.records("salesforce/Lead")}
    assert leads["person7@example.com"]["Company"] == "Company 7"
    shop.sell(edit, SOME.format(41, 41))
    second = shop.world.run("people_to_leads").json["sync_summary"]
    assert (second["created"], second["updated"]) == (1, 1)
    mark = shop.world.mark()
    assert shop.world.run("people_to_leads").json["sync_summary"]["records_processed"] == 0
    assert shop.world.written(mark, "salesforce") == []
    assert shop.world.violations() == []
