"""The docs say what is so: commands, keys, examples, shapes, variables and links."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from sync_platform.cli import app
from sync_platform.components import scaffolding
from sync_platform.components.attributes import (
    ConstantRule,
    LookupRule,
    SourceAttributes,
    SyncAttributes,
    TransformRule,
    ValueMapRule,
)
from sync_platform.engine.report import Measured, Tally, build_report
from sync_platform.sandbox.server import env_lines
from tests.docs.cli_reference import FILE, commands, reference

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
MODELS: dict[str, type[BaseModel]] = {"sync_platform.Sync": SyncAttributes, "sync_platform.Source": SourceAttributes}


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted keys of a model as YAML has them; a list's or a rule's inner keys follow its name."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        inner = [one for one in _models(field.annotation) if path not in {"mapping", "back"}]
        if inner:
            for one in inner:
                yield from keys(one, f"{path}.")
        else:
            yield path


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) if part is not type(None) for found in _models(part)]


def table_keys(text: str) -> set[str]:
    """The code words of a table's first column."""
    rows = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next of its kind."""
    text = (ROOT / page).read_text(encoding="utf-8")
    start = text.index(heading + "\n")
    level = heading.split(" ")[0]
    end = re.search(rf"^{level} ", text[start + len(heading) :], re.MULTILINE)
    return text[start:] if end is None else text[start : start + len(heading) + end.start()]


def structure(value: Any) -> Any:
    """The keys of a JSON value, at every depth; an empty list stands for any list."""
    if isinstance(value, dict):
        return {key: structure(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [structure(value[0])] if value and isinstance(value[0], dict) else []
    return None


def test_the_command_line_page_is_what_the_command_line_says() -> None:
    assert FILE.read_text(encoding="utf-8") == reference(), "write it again: python -m tests.docs.cli_reference"


def test_every_command_and_option_is_documented() -> None:
    page = FILE.read_text(encoding="utf-8")
    listed = commands(typer.main.get_command(app))
    assert len(listed) > 15
    for path, command in listed:
        assert f"## `sync-platform {' '.join(path)}" in page
        for option in command.params:
            assert option.help, f"{' '.join(path)} {option.name} has no help"
            assert option.opts[0] in page or option.param_type_name == "argument"
        assert command.help


def test_every_command_in_a_code_block_of_the_readme_exists() -> None:
    known = {path[0] for path, _ in commands(typer.main.get_command(app))}
    used = set(re.findall(r"sync-platform ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert used
    assert used - {"is", "keeps"} <= known
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8"))) <= targets, page


@pytest.mark.parametrize("name", NAMES)
def test_every_yaml_example_is_accepted(name: str) -> None:
    for block in blocks(ROOT / name, "yaml"):
        document = yaml.safe_load(block)
        if "type" in document:
            MODELS[document["type"]].model_validate(document["attributes"])
        else:
            ends = {"source": {"connection": "a", "object": "b"}, "target": {"connection": "c", "object": "d"}}
            SyncAttributes.model_validate({**ends, **document})


def test_there_are_yaml_examples_of_both_components() -> None:
    documents = [yaml.safe_load(block) for page in PAGES for block in blocks(page, "yaml")]
    assert {one["type"] for one in documents if "type" in one} == set(MODELS)


@pytest.mark.parametrize(
    ("heading", "model"), [("# Every key of a sync", SyncAttributes), ("# Every key of a source", SourceAttributes)]
)
def test_the_table_of_keys_is_the_model(heading: str, model: type[BaseModel]) -> None:
    assert table_keys(section("docs/sync.md", heading).partition("Rules of a mapping")[0]) == set(keys(model))


def test_what_is_scaffolded_is_accepted() -> None:
    for text, name in ((scaffolding.SYNC, "sync_platform.Sync"), (scaffolding.SOURCE, "sync_platform.Source")):
        document = yaml.safe_load(text)
        assert document["type"] == name
        MODELS[name].model_validate(document["attributes"])


def test_an_editor_takes_a_share_as_number_or_percentage_and_nothing_else() -> None:
    share = SyncAttributes.model_json_schema()["$defs"]["GuardRules"]["properties"]["max_invalid"]
    checker = Draft202012Validator(share)
    assert [value for value in (0.5, "5%", " 12.5 % ", None, 5, "half", "5", []) if checker.is_valid(value)] == [
        0.5,
        "5%",
        " 12.5 % ",
        None,
    ]


def test_every_kind_of_mapping_rule_is_shown() -> None:
    shown = yaml.safe_load(next(one for one in blocks(ROOT / "docs/sync.md", "yaml") if one.startswith("mapping")))
    told = section("docs/sync.md", "# Every key of a sync")
    for model in (ValueMapRule, ConstantRule, LookupRule, TransformRule):
        names = {field.alias or name for name, field in model.model_fields.items()}
        used = {key for rule in shown["mapping"].values() if isinstance(rule, dict) for key in rule}
        assert {name for name in names - used if f"`{name}`" not in told} == set(), model.__name__


@pytest.mark.parametrize("name", NAMES)
def test_every_link_to_a_file_leads_somewhere(name: str) -> None:
    page = ROOT / name
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in link and not link.startswith("mailto:"):
            assert (page.parent / link).exists(), link


def test_the_documented_report_is_the_one_that_is_built() -> None:
    spec = SyncAttributes.model_validate(
        {
            "source": {"connection": "a", "object": "b"},
            "target": {"connection": "c", "object": "d"},
            "mapping": {"x": "X"},
        }
    ).to_spec("s")
    steps = dict.fromkeys(("extract", "transform", "plan", "deliver"), 0.0)
    measured = Measured(seconds=1.0, seconds_by_step=steps, api_calls=0, bytes_sent=0, seconds_waiting_for_quota=0.0)
    built = build_report(
        spec,
        run_id="r",
        plan_id="p",
        lane="batch",
        tally=Tally(),
        counts={"processed": 0, "unchanged": 0, "invalid": 0, "duplicates": 0},
        completeness=1.0,
        missing=[],
        open_letters=0,
        measured=measured,
        next_sync=None,
    )
    documented = json.loads(blocks(ROOT / "docs/interfaces.md", "json")[0])
    told = structure(documented)
    assert told["errors"] == [dict.fromkeys(("key", "field", "reason", "resolution"))]
    assert told["refused"] == [dict.fromkeys(("key", "target_id", "field", "planned_old", "found"))]
    assert {**told, "errors": [], "refused": []} == structure(built)
    explained = table_keys((ROOT / "docs/report.md").read_text(encoding="utf-8"))
    flat = set(documented) | {key for value in documented.values() if isinstance(value, dict) for key in value}
    assert explained <= flat


def test_every_variable_of_the_program_and_of_the_sandbox_is_documented() -> None:
    read = {
        name
        for path in (ROOT / "sync_platform").rglob("*.py")
        for name in re.findall(r"\"(SYNC_[A-Z_]+)\"", path.read_text(encoding="utf-8"))
    }
    assert table_keys(section("docs/interfaces.md", "## The environment")) == read
    printed = {line.partition("=")[0] for line in env_lines(1)}
    assert table_keys(section("docs/interfaces.md", "## The sandbox's variables")) == printed
