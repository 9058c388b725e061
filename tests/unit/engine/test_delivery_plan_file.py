"""The plan as a file: what it says, and that nobody can alter it unnoticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sync_platform.commands.plan_file import PlanDocument, digest_of, read_plan_file, refuse_foreign
from sync_platform.errors import ConfigError
from sync_platform.ledger.plans import Plan, load_plan
from tests.unit.engine.workshop import Workshop


def written(workshop: Workshop, file: Path) -> tuple[dict[str, Any], Plan]:
    """A plan of one create, as a file; its document and its row."""
    workshop.lead("l0", "l0@x", "Lead 0")
    with workshop.session() as session:
        planned = workshop.plan(session)
        with file.open("wb") as out:
            PlanDocument(session, workshop.spec, planned.plan_id).write(out)
    with workshop.database.connection() as connection:
        return json.loads(file.read_text()), load_plan(connection, planned.plan_id)


def test_a_plan_file_says_every_change_and_is_taken_as_it_was_written(workshop: Workshop, tmp_path: Path) -> None:
    document, plan = written(workshop, tmp_path / "plan.json")
    assert document["changes"] == [
        {
            "op": "create",
            "key": "l0",
            "target_id": None,
            "fields": [{"name": "email", "old": None, "new": "l0@x"}, {"name": "name", "old": None, "new": "Lead 0"}],
            "reason": None,
        }
    ]
    read = read_plan_file(tmp_path / "plan.json", workshop.database.home.lake)
    assert "changes" not in read, "a file as it was written is never read whole"
    assert read["digest"] == plan.digest == digest_of(document)
    refuse_foreign(read, plan, tmp_path / "plan.json")


def test_an_altered_plan_file_is_refused_by_its_digest(workshop: Workshop, tmp_path: Path) -> None:
    document, _ = written(workshop, tmp_path / "plan.json")
    document["changes"][0]["fields"][0]["new"] = "mallory@x"
    (tmp_path / "plan.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="was altered"):
        read_plan_file(tmp_path / "plan.json", workshop.database.home.lake)


def test_an_altered_plan_file_with_a_digest_to_match_is_not_the_plan_we_made(
    workshop: Workshop, tmp_path: Path
) -> None:
    document, plan = written(workshop, tmp_path / "plan.json")
    document["changes"][0]["fields"][0]["new"] = "mallory@x"
    document["digest"] = digest_of(document)
    (tmp_path / "plan.json").write_text(json.dumps(document))
    read = read_plan_file(tmp_path / "plan.json", workshop.database.home.lake)
    with pytest.raises(ConfigError, match="was altered"):
        refuse_foreign(read, plan, tmp_path / "plan.json")


def test_a_plan_file_that_was_only_laid_out_anew_is_the_same_plan(workshop: Workshop, tmp_path: Path) -> None:
    document, plan = written(workshop, tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text(json.dumps(document, sort_keys=True, indent=7))
    refuse_foreign(read_plan_file(tmp_path / "plan.json", workshop.database.home.lake), plan, tmp_path / "plan.json")


@pytest.mark.parametrize("altered", ["cut", "longer", "one byte"])
def test_bytes_that_were_not_written_are_noticed(workshop: Workshop, tmp_path: Path, altered: str) -> None:
    _, plan = written(workshop, tmp_path / "plan.json")
    text = (tmp_path / "plan.json").read_bytes()
    changed = {"cut": text[:-3], "longer": text + b"{}", "one byte": text.replace(b"l0@x", b"l1@x")}[altered]
    (tmp_path / "plan.json").write_bytes(changed)
    with pytest.raises(ConfigError, match=r"was altered|is not a plan"):
        refuse_foreign(
            read_plan_file(tmp_path / "plan.json", workshop.database.home.lake), plan, tmp_path / "plan.json"
        )
