"""`new --template`: ready syncs that ship with the package, written into a project for the user to edit.

A template is a folder of `sync_platform/templates/syncs`: its `defs.yaml`, and for every database it needs
`<connection>.sql` (the tables it expects), `<connection>.example.sql` (rows to try it with) and
`<connection>.edit.sql` (what a person does next). Its connections come from `templates/connections`, or from a
`connections` folder of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from sync_platform.errors import ConfigError

if TYPE_CHECKING:
    from sync_platform.project import Project

_FOLDER: Final = Path(__file__).resolve().parent.parent / "templates"
_VARIABLE: Final = re.compile(r'EnvVar\("(\w+)"\)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A ready sync; `name` is what `--template` takes, `sync` what the sync is called."""

    name: str
    folder: Path
    attributes: dict[str, Any]

    @property
    def sync(self) -> str:
        """The name of the sync it makes."""
        return self.name.replace("-", "_")

    @property
    def connections(self) -> tuple[str, ...]:
        """The connections it uses: the source's, then the target's."""
        return tuple(str(self.attributes[side]["connection"]) for side in ("source", "target"))

    def connection_file(self, name: str) -> Path:
        """The Python file that defines a connection."""
        own = self.folder / "connections" / f"{name}.py"
        return own if own.is_file() else _FOLDER / "connections" / f"{name}.py"

    @property
    def variables(self) -> list[str]:
        """The environment variables its connections need."""
        texts = (self.connection_file(name).read_text(encoding="utf-8") for name in self.connections)
        return [variable for text in texts for variable in _VARIABLE.findall(text)]

    def statements(self, connection: str, kind: str = "") -> list[str]:
        """The statements of `<connection>[.<kind>].sql`; none when there is no such file."""
        path = self.folder / f"{connection}{'.' + kind if kind else ''}.sql"
        if not path.is_file():
            return []
        return [one.strip() for one in path.read_text(encoding="utf-8").split(";\n") if one.strip()]

    def to_json(self) -> dict[str, Any]:
        """As `new --json` lists it."""
        ends = {side: f"{self.attributes[side]['connection']}/{self.attributes[side]['object']}" for side in _SIDES}
        return {
            "name": self.name,
            "description": self.attributes["description"],
            **ends,
            "frequency": self.attributes["frequency"],
            "variables": self.variables,
        }


_SIDES: Final = ("source", "target")


def templates() -> dict[str, Template]:
    """Every template by name."""
    found = {}
    for path in sorted((_FOLDER / "syncs").glob("*/defs.yaml")):
        attributes = yaml.safe_load(path.read_text(encoding="utf-8"))["attributes"]
        found[path.parent.name] = Template(name=path.parent.name, folder=path.parent, attributes=attributes)
    return found


def template(name: str) -> Template:
    """The template of that name; ConfigError if there is none."""
    known = templates()
    if name not in known:
        raise ConfigError(
            f"there is no template {name!r}", field="template", value=name, mend="use one of: " + ", ".join(known)
        )
    return known[name]


def from_template(project: Project, name: str) -> dict[str, Any]:
    """Writes a template into a project; `{"sync", "file", "written", "assumed", "problems"}`.

    A connection that the project has is used as it is. Raises ConfigError where a file is in the way.
    """
    wanted = template(name)
    if not (project.root / "assets").is_dir():
        raise ConfigError(
            f"{project.root} is no project", field="project", value=str(project.root), mend="`sync-platform init DIR`"
        )
    folder = project.root / "assets" / wanted.sync
    files = {folder / "defs.yaml": wanted.folder / "defs.yaml"}
    files |= {folder / path.name: path for path in wanted.folder.glob("*.sql") if path.name.count(".") == 1}
    assumed = []
    for connection in dict.fromkeys(wanted.connections):
        if connection in project.connectors:
            assumed.append(f"{connection} is the connection of that name in resources/, as it is")
        else:
            files[project.root / "resources" / f"{connection}.py"] = wanted.connection_file(connection)
    for target in files:
        if target.exists():
            raise ConfigError(
                f"{target.relative_to(project.root)} exists already", field="template", value=name,
                mend="move it away, or edit it",
            )  # fmt: skip
    for target, source in files.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    if wanted.attributes["frequency"] == "realtime":
        assumed.append(
            "a log is followed where its connection has capture=True; `sync-platform check` says what it needs"
        )
    return {
        "sync": wanted.sync,
        "file": f"assets/{wanted.sync}/defs.yaml",
        "written": sorted(str(target.relative_to(project.root)) for target in files),
        "assumed": assumed,
        "problems": [],
        "variables": wanted.variables,
    }


def show_templates(listed: list[dict[str, Any]]) -> None:
    """Prints the templates."""
    from sync_platform.commands.output import table

    table("templates", ["name", "description"], [[one["name"], one["description"]] for one in listed])
    print("next: sync-platform new --template NAME, or try one without an account: sync-platform demo --template NAME")


def show_written(made: dict[str, Any]) -> None:
    """Prints what was written and what is still to do."""
    for one in made["written"]:
        print(f"wrote {one}")
    for one in made["assumed"]:
        print(f"  assumed: {one}")
    print(
        f"next: set {', '.join(made['variables'])} in .env, make the tables of assets/{made['sync']}/*.sql fit yours,"
    )
    print(f"then sync-platform check, then sync-platform plan {made['sync']}")
