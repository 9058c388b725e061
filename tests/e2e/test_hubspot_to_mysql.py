"""HubSpot's contacts in a MariaDB table: created, edited, and silent when nothing changed, by the command line."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sync_platform.commands.scaffold import write_project
from sync_platform.commands.templates import template
from tests.private_mariadb import PrivateMariaDB, shared
from tests.world import World

TEMPLATE = "hubspot-to-mysql"
SYNC = "hubspot_to_mysql"
COUNT = 250


@pytest.fixture
def maria() -> Iterator[PrivateMariaDB]:
    """The session's MariaDB with an empty table `people`."""
    shared().create("people_shop")
    with shared().person("people_shop") as db, db.cursor() as cursor:
        for statement in template(TEMPLATE).statements("mysql"):
            cursor.execute(statement)
    yield shared()
    shared().drop("people_shop")


def people(maria: PrivateMariaDB) -> dict[str, tuple[Any, ...]]:
    with maria.person("people_shop") as db, db.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        cursor.execute("SELECT hubspot_id, email, first_name, last_name, stage, created_at FROM people")
        return {str(row[0]): row[1:] for row in cursor.fetchall()}


def contacts(world: World) -> dict[str, tuple[Any, ...]]:
    found = {}
    for record in world.records("hubspot/contacts"):
        told = record["fields"]
        created = dt.datetime.fromisoformat(told["createdate"]).replace(tzinfo=None)
        found[str(record["id"])] = (
            told["email"], told.get("firstname"), told.get("lastname"), told.get("lifecyclestage"), created,
        )  # fmt: skip
    return found


@pytest.mark.timeout(900)
def test_contacts_are_copied_and_edits_follow_and_the_last_run_writes_nothing(
    world: World, maria: PrivateMariaDB, tmp_path: Path
) -> None:
    world.project = tmp_path / "project"
    write_project(world.project)
    world.extra = {"MYSQL_URL": maria.url("people_shop")}
    assert world.cli("new", "--template", TEMPLATE).code == 0
    ids = world.edit(
        "hubspot/contacts",
        *[
            {"fields": {"email": f"person{n}@example.com", "firstname": "Zoë 😀", "lastname": f"O'Neil {n}"}}
            for n in range(COUNT)
        ],
    )
    first = world.run(SYNC, seconds=400)
    assert first.code == 0, first.out[-3000:] + first.err[-3000:]
    assert first.json["sync_summary"]["created"] == COUNT
    assert people(maria) == contacts(world)
    world.edit("hubspot/contacts", {"id": ids[0], "fields": {"firstname": "Anna", "lastname": ""}})
    world.control.post("clock", {"advance_seconds": 600})  # the vendor's index lags
    second = world.run(SYNC, seconds=400)
    assert second.code == 0, second.out[-3000:] + second.err[-3000:]
    assert second.json["sync_summary"]["updated"] == 1
    assert people(maria)[ids[0]][:2] == ("person0@example.com", "Anna")
    last = world.run(SYNC, seconds=400).json["sync_summary"]
    assert [last[name] for name in ("created", "updated", "deleted")] == [0, 0, 0]
