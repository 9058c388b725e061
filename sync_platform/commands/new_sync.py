"""`new --from-json`: a JSON configuration becomes a checked `defs.yaml`, saying what was assumed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sync_platform.errors import ConfigError

if TYPE_CHECKING:
    from sync_platform.project import Project

KNOWN = ("name", "source", "target", "sync_frequency", "data_mapping", "sync_conditions", "description")

#: What people call a system -> (system, the object meant when they name none as source / as target, its match field)
SYSTEMS: dict[str, tuple[str, str, str, str | None]] = {
    "salesforce": ("salesforce", "Lead", "Lead", None),
    "hubspot": ("hubspot", "contacts", "contacts", "email"),
}

FREQUENCIES = {
    "real-time": "realtime",
    "realtime": "realtime",
    "hourly": "0 * * * *",
    "daily": "0 3 * * *",
    "weekly": "0 3 * * 1",
    "on-demand": "on_demand",
    "on demand": "on_demand",
    "manual": "on_demand",
}

#: Salesforce's lead states and HubSpot's life-cycle stages do not share a value; this is how they correspond.
STAGES = {
    "Open - Not Contacted": "lead",
    "Working - Contacted": "marketingqualifiedlead",
    "Closed - Converted": "customer",
    "Closed - Not Converted": "other",
}


def from_json_file(project: Project, path: Path) -> dict[str, Any]:
    """Writes `assets/<name>/defs.yaml`; returns `{"sync", "file", "assumed": [...], "problems": [...]}`.

    Raises ConfigError for unknown keys and systems; never overwrites a sync.
    """
    told = _read(path)
    assumed: list[str] = []
    attributes = _attributes(told, path, assumed)
    name = told.get("name") or _name(attributes)
    folder = project.root / "assets" / name
    if (folder / "defs.yaml").exists():
        raise ConfigError(
            f"the sync {name!r} exists already", file=f"assets/{name}/defs.yaml", mend='give the JSON another "name"'
        )
    text = yaml.safe_dump(
        {"type": "sync_platform.Sync", "attributes": attributes}, sort_keys=False, allow_unicode=True, width=110
    )
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "defs.yaml"
    target.write_text("".join(f"# assumed: {one}\n" for one in assumed) + text, encoding="utf-8")
    problems = _validate(project, name)
    return {"sync": name, "file": str(target.relative_to(project.root)), "assumed": assumed, "problems": problems}


def _validate(project: Project, name: str) -> list[str]:
    from sync_platform.project import Project as Fresh

    try:
        Fresh(project.root).sync(name)
    except ConfigError as error:
        return [str(error)]
    return []


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", file=str(path)) from error
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path} is not JSON: {error.msg}", file=str(path), line=error.lineno, mend="correct that line"
        ) from error
    if not isinstance(told, dict):
        raise ConfigError(f"{path} must hold one JSON object", file=str(path), line=1)
    for key in told:
        if key not in KNOWN:
            raise ConfigError(
                f"unknown key {key!r}", file=str(path), field=key, value=told[key], mend="use: " + ", ".join(KNOWN)
            )
    for key in ("source", "target", "data_mapping"):
        if not told.get(key):
            raise ConfigError(f"{key} is required", file=str(path), field=key, mend=f'add "{key}"')
    if not isinstance(told["data_mapping"], dict):
        raise ConfigError("data_mapping must map source fields to target fields", file=str(path), field="data_mapping")
    return told


def _attributes(told: dict[str, Any], path: Path, assumed: list[str]) -> dict[str, Any]:
    source, source_object, _, _ = _system(told["source"], path, "source")
    target, _, target_object, key = _system(told["target"], path, "target")
    assumed.append(f"connections are named {source} and {target}, as in resources/")
    assumed.append(f"the source object is {source_object}, the target object {target_object}")
    mapping = {to: _rule(source_field, to, assumed) for source_field, to in told["data_mapping"].items()}
    attributes: dict[str, Any] = {
        "description": told.get("description") or f"{source_object} of {source} become {target_object} of {target}.",
        "source": {"connection": source, "object": source_object},
        "target": {"connection": target, "object": target_object},
        "mode": "upsert",
        "first_sync": "create",
        "mapping": mapping,
    }
    assumed.append("first_sync: create, since the configuration asks for records to be pushed")
    if told.get("sync_conditions"):
        attributes["source"]["filter"] = told["sync_conditions"]
        assumed.append("date words are days in UTC (source.timezone)")
    if key and key in mapping:
        by = next(source_field for source_field, to in told["data_mapping"].items() if to == key)
        attributes["target"]["match"] = [key]
        mapping[key] = f"lower(trim({by}))"
        attributes["dedupe"] = {"by": f"lower(trim({by}))", "keep": "newest"}
        assumed.append(f"{key} identifies a record: matched and deduplicated by lower(trim({by})), the newest is kept")
        if (target, target_object) == ("hubspot", "contacts") and "lifecyclestage" in mapping:
            attributes["contract"] = "checks.hubspot.Contact"
            assumed.append("records must fit the contract checks.hubspot.Contact")
    attributes["frequency"] = _frequency(told.get("sync_frequency", "on-demand"), path)
    return attributes


def _rule(source_field: str, target_field: str, assumed: list[str]) -> Any:
    if source_field == "Status" and target_field == "lifecyclestage":
        assumed.append("Status becomes lifecyclestage by a table of values; any other status is a lead")
        return {"from": "Status", "values": dict(STAGES), "default": "lead"}
    return source_field


def _system(text: object, path: Path, field: str) -> tuple[str, str, str, str | None]:
    words = re.sub(r"[^a-z]+", " ", str(text).lower()).split()
    for name, known in SYSTEMS.items():
        if name in words or name in "".join(words):
            return known
    raise ConfigError(
        f"{field} names a system that is not known: {text!r}",
        file=str(path),
        field=field,
        value=text,
        mend="use one of: " + ", ".join(sorted(SYSTEMS)),
    )


def _frequency(text: str, path: Path) -> str:
    wanted = FREQUENCIES.get(text.strip().lower())
    if wanted:
        return wanted
    if len(text.split()) == 5:
        return text
    raise ConfigError(
        f"sync_frequency {text!r} is not known",
        file=str(path),
        field="sync_frequency",
        value=text,
        mend="use a cron line or one of: " + ", ".join(sorted(FREQUENCIES)),
    )


def _name(attributes: dict[str, Any]) -> str:
    def plural(text: str) -> str:
        return text.lower() if text.lower().endswith("s") else f"{text.lower()}s"

    source, target = attributes["source"], attributes["target"]
    return f"{source['connection']}_{plural(source['object'])}_to_{target['connection']}_{plural(target['object'])}"


def show_new(made: dict[str, Any]) -> None:
    """Prints what was written and assumed."""
    print(f"wrote {made['file']}")
    for one in made["assumed"]:
        print(f"  assumed: {one}")
    for one in made["problems"]:
        print(f"  problem: {one}")
    print(f"next: sync-platform check, then sync-platform plan {made['sync']}")
