"""Bad input gets one sentence with cause and mend, the right exit code, and costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_platform.commands.scaffold import write_project
from sync_platform.engine.spec import ValueMap
from sync_platform.errors import ConfigError
from sync_platform.project import Project
from tests.world import SYNC, World


def line_of(world: World, number: int) -> str:
    """A line of the reference sync's defs.yaml, numbered from 1."""
    return (world.project / "assets" / SYNC / "defs.yaml").read_text().splitlines()[number - 1]


@pytest.mark.parametrize(
    ("old", "new", "field", "value", "mend"),
    [
        ("mode: upsert", "mode: upset", "mode", "upset", "upsert"),
        ("mode: upsert", "modus: upsert", "modus", "upsert", "mode"),
        ("frequency: realtime", "frequency: often", "frequency", "often", "cron"),
        ("object: Lead,", "object: Lead, timezone: Mars,", "source.timezone", "Mars", "Europe/Berlin"),
        ("match: [email]", "match: [mail]", "target.match", "mail", "mapping"),
        ("max_invalid: 10%", "max_invalid: half", "guards.max_invalid", "half", ""),
        ("Closed - Converted: customer", "Yes: customer", "mapping.lifecyclestage.values.True", True, "quotes"),
        ("Closed - Converted: customer", "No: customer", "mapping.lifecyclestage.values.False", False, "quotes"),
        ("Closed - Converted: customer", "Old: on", "mapping.lifecyclestage.values.Old", True, "quotes"),
        ("default: lead", "default: off", "mapping.lifecyclestage.default", False, "quotes"),
        ("firstname: FirstName", "on: FirstName", "mapping.True", True, "quotes"),
        ("company: Company", "company: {lookup: Account, on: Id, value: Name}", "mapping.company.True", True, "quotes"),
    ],
)
def test_a_wrong_setting_is_named_with_file_line_value_and_mend(
    tmp_path: Path, old: str, new: str, field: str, value: object, mend: str
) -> None:
    write_project(tmp_path)
    file = tmp_path / "assets" / SYNC / "defs.yaml"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ConfigError) as found:
        Project(tmp_path).syncs  # noqa: B018
    error = found.value
    assert (error.file, error.field, error.value) == (f"assets/{SYNC}/defs.yaml", field, value)
    assert error.line is not None
    assert new in file.read_text().splitlines()[error.line - 1]
    assert error.mend
    assert mend in error.mend


@pytest.mark.parametrize(
    "spoilt",
    [
        [("mode: upsert", "mode: upset", "mode", "upset")],
        [
            ("connection: hubspot", "connection: hubspott", "connection", "hubspott"),
            ("object: Lead", "object: Leed", "object", "Leed"),
        ],
        [
            ("filter: LastModifiedDate > YESTERDAY", "filter: LastModifiedDat > YESTERDAY", "LastModifiedDat", ""),
            ("by: lower(trim(Email))", "by: lower(trim(Emial))", "Emial", ""),
            ("contract: checks.hubspot.Contact", "contract: checks.hubspot.Contract", "contract", "Contract"),
            ("firstname: FirstName", "firstname: FirstNme", "firstname", "FirstNme"),
            ("lastname: LastName", "lastnam: LastName", "lastnam", "lastnam"),
            ("company: Company", "hs_object_id: Company", "hs_object_id", "hs_object_id"),
            ("default: lead", "default: leed", "lifecyclestage", "leed"),
        ],
        [
            ("Closed - Converted: customer", "Closed - Converted: custommer", "lifecyclestage", "custommer"),
            (
                "firstname: FirstName",
                "firstname: {lookup: Acount, by: ConvertedAccountId, value: Name}",
                "firstname",
                "Acount",
            ),
            (
                "lastname: LastName",
                "lastname: {lookup: Account, by: ConvertedAccountId, value: Nam}",
                "lastname",
                "Nam",
            ),
            (
                "company: Company",
                "company: {lookup: Account, by: ConvertedAccuntId, value: Name}",
                "company",
                "ConvertedAccuntId",
            ),
        ],
    ],
    ids=["setting", "places", "fields", "lookups"],
)
def test_check_names_file_line_field_value_and_mend(own: World, spoilt: list[tuple[str, str, str, str]]) -> None:
    for old, new, _, _ in spoilt:
        own.spoil(old, new)
    found = own.cli("check", "--json")
    assert found.code == 2, found.out + found.err
    told = found.json["problems"]
    for _, new, field, value in spoilt:
        (problem, *_) = [one for one in told if field in str(one["field"])] or [told]
        assert isinstance(problem, dict), (field, told)
        assert problem["file"] == f"assets/{SYNC}/defs.yaml"
        assert new in line_of(own, problem["line"]), problem
        assert value in str(problem["value"])
        assert problem["value"]
        assert problem["message"]
        assert problem["mend"]
    assert own.written() == []


def test_check_is_content_with_the_reference_project_and_tells_its_defaults(world: World) -> None:
    found = world.cli("check", "--json")
    assert found.code == 0, found.out + found.err
    assert found.json["problems"] == []
    assert found.json["defaults"][SYNC]["source.timezone"] == "UTC"


def test_two_syncs_owning_one_field_are_found(own: World) -> None:
    other = own.project / "assets" / "other_sync"
    other.mkdir()
    text = (own.project / "assets" / SYNC / "defs.yaml").read_text()
    (other / "defs.yaml").write_text(text)
    found = own.cli("check", "--json")
    assert found.code == 2
    assert any("already written by" in one["message"] for one in found.json["problems"])


def test_quoted_words_of_a_value_map_are_the_texts_they_are(tmp_path: Path) -> None:
    write_project(tmp_path)
    file = tmp_path / "assets" / SYNC / "defs.yaml"
    file.write_text(file.read_text().replace("Closed - Converted: customer", "'Yes': 'off'"))
    rule = Project(tmp_path).sync(SYNC).spec.mapping["lifecyclestage"]
    assert isinstance(rule, ValueMap)
    assert rule.values["Yes"] == "off"


def test_malformed_yaml_names_its_file_within_the_project_and_its_line(own: World) -> None:
    own.spoil("mode: upsert", "mode: [upsert")
    found = own.cli("check", "--json")
    assert found.code == 2
    (problem,) = found.json["problems"]
    assert problem["file"] == f"assets/{SYNC}/defs.yaml"
    assert "mode: [upsert" in line_of(own, problem["line"] - 1)  # where the bracket's end is missed
    assert problem["mend"]


def test_resources_and_environment_files_are_named_within_the_project(tmp_path: Path) -> None:
    write_project(tmp_path)
    (tmp_path / "resources" / "broken.py").write_text("import no_such_module\n")
    (tmp_path / ".env").write_text("# mine\nexport\n")
    spoilt = Project(tmp_path)
    with pytest.raises(ConfigError) as found:
        spoilt.connectors  # noqa: B018
    assert (found.value.file, "no_such_module" in found.value.message) == ("resources/broken.py", True)
    with pytest.raises(ConfigError) as found:
        spoilt.load_environment()
    assert (found.value.file, found.value.line) == (".env", 2)


def test_wrong_credentials_exit_with_3_and_the_next_run_goes_on(world: World) -> None:
    world.seed_leads(5)
    refused = world.run(SALESFORCE_CLIENT_SECRET="wrong")
    assert refused.code == 3, refused.out
    assert refused.json["error"]["mend"]
    assert "wrong" not in refused.out + refused.err
    assert world.run().code == 0
    assert world.disagreements() == []


def test_a_missing_variable_is_named(world: World) -> None:
    refused = world.run(HUBSPOT_ACCESS_TOKEN="")
    assert refused.code == 2, refused.out
    assert "HUBSPOT_ACCESS_TOKEN" in refused.json["error"]["message"]


def test_a_source_that_cannot_be_reached_exits_with_3(world: World) -> None:
    refused = world.run(SALESFORCE_BASE_URL="http://127.0.0.1:9/salesforce")
    assert refused.code == 3, refused.out
    assert refused.json["error"]["mend"]


def test_state_that_is_down_exits_with_3_and_names_no_password(world: World) -> None:
    refused = world.run(SYNC_DATABASE_URL="postgresql://someone:secret-word@127.0.0.1:9/none")
    assert refused.code == 3, refused.out
    assert "secret-word" not in refused.out + refused.err


def test_a_token_that_expires_mid_read_is_renewed(world: World) -> None:
    world.seed_leads(30)
    world.control.post("faults", {"system": "salesforce", "kind": "expire_token", "times": 1, "match": "/query"})
    assert world.run().code == 0
    assert world.disagreements() == []


def test_a_record_the_target_rejects_is_set_aside_and_the_rest_arrives(world: World) -> None:
    ids = world.seed_leads(20)
    world.edit("salesforce/Lead", {"id": ids[4], "fields": {"Email": "someone@no-dot.example.invalid-"}})
    report = world.run()
    summary = report.json["sync_summary"]
    assert summary["successful_transfers"] + summary["failed_transfers"] == 20
    assert summary["failed_transfers"] <= 1
    assert len(world.records("hubspot/contacts")) == summary["created"]


def test_a_target_that_fails_for_a_while_loses_nothing(world: World) -> None:
    world.seed_leads(15)
    world.control.post("faults", {"system": "hubspot", "kind": "503", "times": 2, "match": "batch/create"})
    assert world.run().code == 0
    assert world.disagreements() == []


def test_usage_errors_exit_with_2() -> None:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "sync_platform.cli", "run", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert '"error"' in done.stdout
