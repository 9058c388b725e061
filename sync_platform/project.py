"""A project: the folders a user edits (`assets/`, `resources/`, `checks/`), read from where they lie."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sync_platform.errors import ConfigError

if TYPE_CHECKING:
    from sync_platform.components.attributes import SourceAttributes, StreamOptions, SyncAttributes
    from sync_platform.connectors.connector import Connector, Shared
    from sync_platform.engine.spec import Endpoint, SyncSpec

PROJECT_VARIABLE = "SYNC_PROJECT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in the project something is written."""

    file: str
    lines: Mapping[str, int]  # dotted path of a key -> line

    def line(self, path: str) -> int | None:
        """The line of the nearest enclosing key of `path`."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path.rpartition(".")[0]
        return self.lines.get("")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredSync:
    """A sync and the file that declares it."""

    spec: SyncSpec
    attributes: SyncAttributes
    place: Place


@dataclass
class Project:
    """One project folder. Nothing is read before it is asked for."""

    root: Path
    _connected: dict[str, Connector] = field(default_factory=dict, repr=False)

    @classmethod
    def current(cls) -> Project:
        """The project of `SYNC_PROJECT` or of the current directory (one object per folder)."""
        return _project_at(Path(os.environ.get(PROJECT_VARIABLE) or ".").resolve())

    def load_environment(self) -> None:
        """Takes the variables of the project's `.env`; the real environment beats them."""
        path = self.root / ".env"
        if not path.is_file():
            return
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            name, separator, value = text.partition("=")
            if not separator:
                raise ConfigError(
                    f"{text!r} is not KEY=value",
                    file=path.name,
                    line=number,
                    mend="write KEY=value, no export, no quotes",
                )
            os.environ.setdefault(name.strip(), value.strip())

    def importable(self) -> None:
        """Puts the project's folder first on the import path, so that `checks.x` is this project's."""
        text = str(self.root)
        if sys.path[:1] != [text]:
            if text in sys.path:
                sys.path.remove(text)
            sys.path.insert(0, text)

    def load(self, dotted: str, *, field_name: str) -> Any:
        """The object a dotted name of the project means, e.g. `checks.hubspot.Contact`."""
        self.importable()
        module, _, name = dotted.rpartition(".")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"{dotted!r} cannot be loaded: {error}",
                field=field_name,
                value=dotted,
                mend="name a Python object of the project, e.g. checks.hubspot.Contact",
            ) from error

    @cached_property
    def connectors(self) -> Mapping[str, Connector]:
        """The connections of `resources/*.py` by name, their variables not yet resolved."""
        from sync_platform.connectors.connector import Connector

        self.importable()
        found: dict[str, Connector] = {}
        for path in sorted((self.root / "resources").glob("*.py")):
            if path.stem.startswith("_"):
                continue
            try:
                module = importlib.import_module(f"resources.{path.stem}")
            except ImportError as error:
                raise ConfigError(
                    f"it cannot be imported: {error}", file=f"resources/{path.name}", mend="correct that import"
                ) from error
            found |= {name: value for name, value in vars(module).items() if isinstance(value, Connector)}
        return found

    def connector(self, name: str) -> Connector:
        """The connection of that name, its variables not yet resolved; ConfigError if there is none."""
        try:
            return self.connectors[name]
        except KeyError:
            known = sorted(self.connectors)
            near = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"there is no connection {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                field="connection",
                value=name,
                mend="define it in resources/, or use one of: " + ", ".join(known),
            ) from None

    def connect(self, name: str, shared: Shared) -> Connector:
        """A connection ready for use: variables resolved, tokens and quota shared. One object per name."""
        if name not in self._connected:
            from dagster import DagsterError

            connector = _without_unset(self.connector(name))
            missing = _missing_variables(connector)
            if missing:
                raise ConfigError(
                    f"connection {name!r} lacks the environment variable(s) {', '.join(missing)}",
                    field=missing[0],
                    file=".env",
                    mend="set them in .env or the environment (the sandbox's: `sync-platform sandbox --env`)",
                )
            try:
                ready = _resolved(connector)
            except DagsterError as error:
                raise ConfigError(
                    f"connection {name!r} is not configured: {error}", field=name, mend="see its class in resources/"
                ) from error
            ready._shared = shared
            self._connected[name] = ready
        return self._connected[name]

    def _documents(self) -> Iterator[tuple[Path, Any, Place]]:
        from sync_platform.project_yaml import read_documents

        for path in sorted((self.root / "assets").rglob("defs.yaml")):
            shown = str(path.relative_to(self.root))
            for document, lines in read_documents(path, shown=shown):
                yield path, document, Place(file=shown, lines=lines)

    @cached_property
    def syncs(self) -> Mapping[str, DeclaredSync]:
        """Every sync of the project by name; ConfigError with file and line for the first wrong key."""
        from sync_platform.components.attributes import SyncAttributes
        from sync_platform.project_yaml import validated

        found: dict[str, DeclaredSync] = {}
        for path, document, place in self._documents():
            if document.get("type") != "sync_platform.Sync":
                continue
            attributes = validated(SyncAttributes, document, place)
            spec = attributes.to_spec(path.parent.name)
            if spec.name in found:
                raise ConfigError(
                    f"two syncs are called {spec.name!r} (the other: {found[spec.name].place.file})",
                    file=place.file,
                    field="name",
                    value=spec.name,
                    mend="give one of them another `name`",
                )
            found[spec.name] = DeclaredSync(spec=spec, attributes=attributes, place=place)
        return found

    def sync(self, name: str) -> DeclaredSync:
        """The sync of that name; ConfigError naming the near ones."""
        try:
            return self.syncs[name]
        except KeyError:
            near = difflib.get_close_matches(name, list(self.syncs), n=1)
            raise ConfigError(
                f"there is no sync {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                field="sync",
                value=name,
                mend="use one of: " + ", ".join(sorted(self.syncs)) if self.syncs else "add assets/<name>/defs.yaml",
            ) from None

    @cached_property
    def sources(self) -> Mapping[str, SourceAttributes]:
        """Every declared source by connection."""
        from sync_platform.components.attributes import SourceAttributes
        from sync_platform.project_yaml import validated

        return {
            attributes.connection: attributes
            for _, document, place in self._documents()
            if document.get("type") == "sync_platform.Source"
            for attributes in [validated(SourceAttributes, document, place)]
        }

    def stream_options(self, endpoint: Endpoint) -> StreamOptions:
        """How a stream is extracted: as its Source declares, else everything."""
        from sync_platform.components.attributes import StreamOptions

        source = self.sources.get(endpoint.connection)
        for options in source.streams if source else ():
            if options.object == endpoint.object:
                return options
        return StreamOptions(object=endpoint.object)


_projects: dict[Path, Project] = {}


def _project_at(root: Path) -> Project:
    if root not in _projects:
        _projects[root] = Project(root)
    return _projects[root]


def _without_unset(connector: Connector) -> Connector:
    """The connector with the default in place of every optional variable that is not set."""
    from sync_platform.connectors.variables import OptionalEnvVar

    given = dict(connector)
    unset = {
        name
        for name, value in given.items()
        if isinstance(value, OptionalEnvVar) and not os.environ.get(value.env_var_name)
    }
    return (
        type(connector)(**{name: value for name, value in given.items() if name not in unset}) if unset else connector
    )


def _resolved(connector: Connector) -> Connector:
    """The connector with the values of its variables, as Dagster gives it to a run.

    Dagster's own call for that makes an instance with a database in memory each time, whose modules take longer to
    import than a small source to answer.
    """
    from dagster import DagsterInvalidConfigError, InitResourceContext
    from dagster._config.post_process import post_process_config
    from dagster._core.definitions.scoped_resources_builder import ScopedResourcesBuilder

    done = post_process_config(connector._config_schema.config_type, connector._convert_to_config_dictionary())
    if not done.success:
        raise DagsterInvalidConfigError(  # type: ignore[no-untyped-call]
            "Errors while initializing resource", done.errors, done
        )
    context = InitResourceContext(
        resource_config=done.value,
        resources=ScopedResourcesBuilder.build_empty(),
        resource_def=None,
        all_resource_defs={},
    )
    with connector.from_resource_context_cm(context, nested_resources=connector.nested_resources) as ready:
        assert isinstance(ready, type(connector))
        return ready


def _missing_variables(connector: Connector) -> list[str]:
    import dagster as dg

    names = [value.env_var_name for value in dict(connector).values() if isinstance(value, dg.EnvVar)]
    return [name for name in names if not os.environ.get(name)]
