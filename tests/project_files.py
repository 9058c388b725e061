"""A user's project on disk, for tests and benches: what every project has, and the files that make it this one."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from sync_platform.commands.scaffold import PYPROJECT

_EVERY = {"pyproject.toml": PYPROJECT, **{f"{folder}/__init__.py": "" for folder in ("assets", "resources", "checks")}}


def lay_out(folder: Path, files: Mapping[str, str]) -> Path:
    """Writes a project with these files (path -> text, which may be indented as a whole); returns its folder."""
    for name, text in {**_EVERY, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    return folder
