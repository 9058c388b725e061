"""Real input: a PostgreSQL table of messy customers into HubSpot, and the contacts into another PostgreSQL table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.e2e.customers import customers, load
from tests.project_files import lay_out
from tests.world import World

RESOURCES = """
from dagster import EnvVar

from sync_platform.connectors.hubspot import HubSpot
from sync_platform.connectors.postgres import Postgres

shop = Postgres(url=EnvVar("SHOP_URL"))
warehouse = Postgres(url=EnvVar("WAREHOUSE_URL"))
hubspot = HubSpot(base_url=EnvVar("HUBSPOT_BASE_URL"), access_token=EnvVar("HUBSPOT_ACCESS_TOKEN"))
"""

CHECKS = """
import pandera.polars as pa


class Contact(pa.DataFrameModel):
    email: str = pa.Field(str_matches=r"^[^@\\s]+@[^@\\s]+\\.[^@\\s.]+$")
"""

TO_HUBSPOT = """
type: sync_platform.Sync
attributes:
  source: {connection: shop, object: customers}
  target: {connection: hubspot, object: contacts, match: [email]}
  first_sync: create
  mapping:
    email: lower(trim(email))
    firstname: first_name
    lastname: last_name
    company: nullif(trim(company), '')
    lifecyclestage: {from: status, values: {new: lead, open: opportunity, won: customer}, default: other}
  dedupe: {by: lower(trim(email)), keep: newest}
  contract: checks.contacts.Contact
"""

TO_WAREHOUSE = """
type: sync_platform.Sync
attributes:
  source: {connection: hubspot, object: contacts}
  target: {connection: warehouse, object: contacts, match: [email]}
  first_sync: create
  mapping:
    email: email
    first_name: firstname
    last_name: lastname
    company: company
    stage: lifecyclestage
"""


@pytest.fixture
def databases(new_database: Callable[[str], str]) -> tuple[str, str]:
    """Two empty databases on the session's server: (shop, warehouse)."""
    return new_database("shop"), new_database("warehouse")


def write_project(folder: Path) -> Path:
    """A project of its own with both syncs."""
    files = {
        "assets/customers_to_contacts/defs.yaml": TO_HUBSPOT,
        "assets/contacts_to_warehouse/defs.yaml": TO_WAREHOUSE,
        "resources/systems.py": RESOURCES,
        "checks/contacts.py": CHECKS,
    }
    return lay_out(folder, files)


@pytest.mark.parametrize("rows", [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(1500)
def test_customers_become_contacts_and_contacts_a_table(
    world: World, databases: tuple[str, str], tmp_path: Path, rows: int
) -> None:
    shop, warehouse = databases
    table, truth = customers(rows)
    load(shop, table)
    with psycopg.connect(warehouse) as connection:
        connection.execute(
            "CREATE TABLE contacts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text UNIQUE NOT NULL,"
            " first_name text, last_name text, company text, stage text)"
        )
    world.project = write_project(tmp_path / "project")
    world.extra = {"SHOP_URL": shop, "WAREHOUSE_URL": warehouse}

    there = world.run("customers_to_contacts", seconds=1200)
    assert there.code == 1, there.out[-3000:] + there.err[-3000:]
    summary = there.json["sync_summary"]
    assert summary["created"] == truth.distinct
    assert summary["duplicates_skipped"] == truth.duplicates
    assert summary["records_processed"] == rows - truth.duplicates
    contacts = {one["fields"]["email"]: one["fields"] for one in world.records("hubspot/contacts")}
    assert len(contacts) == truth.distinct

    back = world.run("contacts_to_warehouse", seconds=1200)
    assert back.code == 0, back.out[-3000:] + back.err[-3000:]
    with psycopg.connect(warehouse) as connection:
        stored = connection.execute("SELECT email, first_name, last_name, company, stage FROM contacts").fetchall()
    assert len(stored) == truth.distinct
    names = ("firstname", "lastname", "company", "lifecyclestage")
    expected = {(email, *(fields.get(name) for name in names)) for email, fields in contacts.items()}
    assert set(stored) == expected

    mark = world.mark()
    assert world.run("customers_to_contacts", seconds=1200).json["sync_summary"]["records_processed"] == 0
    again = world.run("contacts_to_warehouse", seconds=1200)
    assert again.json["sync_summary"]["created"] == 0
    assert again.json["sync_summary"]["updated"] == 0
    assert world.written(mark) == []
    assert world.violations() == []
