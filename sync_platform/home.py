"""The folder that holds all state of one installation (`$SYNC_HOME`, `.sync` by default)."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sync_platform.errors import AccessError, ConfigError


@dataclass(frozen=True, slots=True)
class Home:
    """One installation's folder. Two homes with equal roots are the same installation.

    Nothing is made on disk before `create`.
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(os.path.abspath(self.root)))

    @classmethod
    def current(cls) -> Home:
        """The home named by `SYNC_HOME`, else `.sync` under the current directory."""
        return cls(Path(os.environ.get("SYNC_HOME") or ".sync").expanduser())

    @property
    def lake(self) -> Path:
        """Where the data files of the staging lake are."""
        return self.root / "lake"

    @property
    def logs(self) -> Path:
        """Where our services write their logs."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Where pid files and locks of running services are."""
        return self.root / "run"

    def create(self) -> Home:
        """Makes the folders that are missing, private to this user; existing ones keep their rights.

        As root the top folder can be passed through (not listed) by others, because the embedded
        PostgreSQL gives up root and must still reach its own folder below.
        """
        try:
            if not self.root.is_dir():
                self.root.mkdir(parents=True, exist_ok=True)
                self.root.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for folder in (self.lake, self.logs, self.run):
                folder.mkdir(mode=0o700, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigError(
                f"SYNC_HOME must be a folder, but {error.filename} is a file",
                field="SYNC_HOME",
                value=str(self.root),
                mend="set SYNC_HOME to a folder, or move that file away",
            ) from None
        except OSError as error:
            raise unwritable(error, self.root) from None
        return self

    def kept(self, name: str) -> str | None:
        """The text of a small private file of ours, or None when there is none."""
        try:
            return (self.root / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unwritable(error, self.root / name) from None

    def keep(self, name: str, text: str) -> None:
        """Replaces a small private file (mode 0600) in one step: readers see the old text or the new."""
        self._put(name, text, replace=True)

    def keep_first(self, name: str, text: str) -> str:
        """Writes a private file unless it exists, and returns what it then holds.

        Of several processes that try at once exactly one text wins, and all get that one.
        """
        self._put(name, text, replace=False)
        return self.kept(name) or text

    def _put(self, name: str, text: str, *, replace: bool) -> None:
        path = self.root / name
        draft = None
        try:
            handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(draft, path)
                draft = None
            else:
                with contextlib.suppress(FileExistsError):
                    os.link(draft, path)
        except OSError as error:
            raise unwritable(error, path) from None
        finally:
            if draft is not None:
                with contextlib.suppress(OSError):
                    os.unlink(draft)


def unwritable(error: OSError, path: Path) -> AccessError:
    """An operating system's refusal as our error: which path, why, and what to do."""
    cause = error.strerror or type(error).__name__
    mend = "free some space there" if error.errno == 28 else "give this user the right to read and write it"
    return AccessError(f"{error.filename or path} cannot be used: {cause}", mend=f"{mend}, or set SYNC_HOME elsewhere")
