"""Which syncs an event feeds, read anew whenever a `defs.yaml` of the project changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from sync_platform.project import Project
from sync_platform.realtime.inbox import TARGET_SIDE, Routes

_Print: TypeAlias = tuple[tuple[str, int, int], ...]


@dataclass(kw_only=True)
class RouteTable:
    """The routes of a project's folder. `routes` is what was read last; `refresh` looks at the files."""

    root: Path
    routes: Routes = field(default_factory=dict)
    _seen: _Print | None = None

    def refresh(self) -> bool:
        """Reads the syncs again if a file has changed since; whether it had.

        ConfigError when they cannot be read: the routes stay as they were until the files change again.
        """
        seen = _print_of(self.root)
        if seen == self._seen:
            return False
        self._seen = seen
        self.routes = routes_of(Project(self.root))
        return True


def routes_of(project: Project) -> Routes:
    """The realtime syncs by the stream they read."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for name, declared in project.syncs.items():
        if declared.spec.frequency == "realtime":
            ends = [(declared.spec.source, name)]
            if declared.spec.two_way is not None:
                ends.append((declared.spec.target, TARGET_SIDE + name))
            for end, route in ends:
                stream = (end.connection, end.object.lower())
                found[stream] = (*found.get(stream, ()), route)
    return found


def _print_of(root: Path) -> _Print:
    """Path, time and size of every `defs.yaml`: what tells that one was written, added or removed."""
    found = []
    for path in sorted((root / "assets").rglob("defs.yaml")):
        try:
            state = path.stat()
        except FileNotFoundError:  # removed between the listing and the look
            continue
        found.append((str(path), state.st_mtime_ns, state.st_size))
    return tuple(found)
