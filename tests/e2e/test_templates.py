"""Every template that ships: listed, written into a project, checked, and run on local systems with no account."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_platform.commands.scaffold import write_project
from sync_platform.commands.templates import templates
from sync_platform.project import Project
from tests.private_mariadb import install
from tests.world import World

NAMES = sorted(templates())
#: What users ask for by these names.
WANTED = {
    "postgres-to-hubspot-realtime", "mysql-to-postgres", "postgres-to-mysql", "postgres-to-salesforce",
    "hubspot-to-mysql",
}  # fmt: skip


@pytest.fixture
def user(world: World, tmp_path: Path) -> World:
    """A user with a new project."""
    write_project(tmp_path / "project")
    world.project = tmp_path / "project"
    return world


def test_every_template_is_listed_with_what_it_needs(user: World) -> None:
    listed = user.cli("new", "--json")
    assert listed.code == 0, listed.err
    told = {one["name"]: one for one in listed.json["templates"]}
    assert set(told) == set(NAMES) >= WANTED
    assert all(one["description"] and one["frequency"] and one["variables"] for one in told.values())
    assert told["postgres-to-salesforce"]["source"] == "postgres/people"
    assert "POSTGRES_URL" in told["postgres-to-salesforce"]["variables"]
    assert told["postgres-to-hubspot-realtime"]["frequency"] == "realtime"


def test_a_template_is_written_once_and_its_connections_only_where_they_are_missing(user: World) -> None:
    made = user.cli("new", "--template", "postgres-to-salesforce", "--json")
    assert made.code == 0, made.out + made.err
    assert made.json["sync"] == "postgres_to_salesforce"
    assert made.json["written"] == [
        "assets/postgres_to_salesforce/defs.yaml",
        "assets/postgres_to_salesforce/postgres.sql",
        "resources/postgres.py",
    ]
    assert made.json["assumed"] == ["salesforce is the connection of that name in resources/, as it is"]
    assert Project(user.project).sync("postgres_to_salesforce").spec.target.object == "Lead"
    unset = user.cli("check", "--json", POSTGRES_URL="").json["problems"]
    assert [one["message"] for one in unset if "POSTGRES_URL" in one["message"]], "its connection is known"
    again = user.cli("new", "--template", "postgres-to-salesforce", "--json")
    assert again.code == 2
    assert "exists already" in again.json["error"]["message"]
    unknown = user.cli("new", "--template", "postgres-to-salesfarce", "--json")
    assert unknown.code == 2
    assert "postgres-to-salesforce" in unknown.json["error"]["mend"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[] if one == "mysql-to-postgres" else pytest.mark.slow) for one in NAMES]
)
def test_a_template_runs_on_local_systems_with_no_account(user: World, name: str, tmp_path: Path) -> None:
    install()  # what a user does once: the system's package mariadb-server
    done = user.cli("demo", "--template", name, "--json", seconds=600, SYNC_HOME=str(tmp_path / "home"))
    assert done.code == 0, done.out[-3000:] + done.err[-3000:]
    told = done.json
    assert told["rows"] == told["first"]["sync_summary"]["created"] > 0
    assert told["second"]["sync_summary"]["records_processed"] == 0
    assert told["violations"] == []
    if name.endswith("-realtime"):
        assert told["seconds_to_target"] > 0
