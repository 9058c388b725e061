"""The patches of this folder: unified diffs under a header that says what they break and which test must notice."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
COPIED = (
    "sync_platform",
    "tests",
    "docs",
    "assets",
    "resources",
    "checks",
    "pyproject.toml",
    ".env.example",
    "workspace.yaml",
)


class PatchError(Exception):
    """A patch whose header is wrong or that no longer fits the product."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sabotage:
    """One patch: the promise it breaks and the test (a pytest node id) that must turn red."""

    file: Path
    promise: str
    red: str

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.file.stem

    @classmethod
    def read(cls, file: Path) -> Sabotage:
        """Parses the header: lines `promise: ...` and `red: tests/...::test_...` before the diff."""
        head = file.read_text(encoding="utf-8").partition("\n--- ")[0]
        told = dict(re.findall(r"^(promise|red): (.+)$", head, re.MULTILINE))
        if told.keys() != {"promise", "red"} or "::test_" not in told["red"]:
            raise PatchError(f"{file.name} must begin with `promise: ...` and `red: tests/...::test_...`")
        return cls(file=file, promise=told["promise"], red=told["red"].strip())


def all_patches() -> list[Sabotage]:
    """Every patch of this folder, by name."""
    return [Sabotage.read(file) for file in sorted(FOLDER.glob("*.patch"))]


def copy_tree(source: Path, target: Path) -> None:
    """Copies what the tests need, with its modification times, so that compiled bytecode stays good."""
    compiled = shutil.ignore_patterns("__pycache__") if source == ROOT else None
    for name in COPIED:
        one = source / name
        if one.is_dir():
            shutil.copytree(one, target / name, ignore=compiled)
        elif one.exists():
            shutil.copy2(one, target / name)


def apply(sabotage: Sabotage, tree: Path) -> None:
    """Applies a patch to a tree; PatchError when it does not fit or touches anything but the product."""
    done = subprocess.run(
        ["patch", "-p1", "--batch", "--forward", "--fuzz=2", "--no-backup-if-mismatch", "-i", str(sabotage.file)],
        cwd=tree,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise PatchError(f"{sabotage.file.name} does not apply: {done.stdout.strip()}")
    touched = re.findall(r"^patching file '?(.+?)'?$", done.stdout, re.MULTILINE)
    if not touched or not all(name.startswith("sync_platform/") for name in touched):
        raise PatchError(f"{sabotage.file.name} must change sync_platform/ and nothing else, got {touched}")
    for name in touched:
        path = tree / name
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()
