"""`init`: a new project, the same files as the reference project."""

from __future__ import annotations

import shutil
from pathlib import Path

from sync_platform.errors import ConfigError

PARTS = ("assets", "resources", "checks")

PYPROJECT = """\
[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "assets"
defs_module = "assets"
code_location_target_module = "sync_platform.definitions"
registry_modules = ["sync_platform"]
"""

WORKSPACE = """\
load_from:
  - python_module:
      module_name: sync_platform.definitions
      location_name: sync_platform
"""

GITIGNORE = ".env\n.sync/\n__pycache__/\n"


def write_project(folder: Path) -> list[str]:
    """Writes the project; refuses a folder that already holds one. Returns the files written."""
    taken = [name for name in (*PARTS, "pyproject.toml") if (folder / name).exists()]
    if taken:
        raise ConfigError(
            f"{folder} already has {', '.join(taken)}", field="DIR", value=str(folder), mend="choose an empty folder"
        )
    template = template_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        shutil.copytree(template / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(template / ".env.example", folder / ".env.example")
    for name, text in (("pyproject.toml", PYPROJECT), ("workspace.yaml", WORKSPACE), (".gitignore", GITIGNORE)):
        (folder / name).write_text(text, encoding="utf-8")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def template_folder() -> Path:
    """The reference project: inside the installed wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    packaged = package / "templates" / "project"
    return packaged if packaged.is_dir() else package.parent
